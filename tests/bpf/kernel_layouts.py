"""BTF of kernels that never were: small structs laid out as those of real ones differ, and where each member is."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

Kernel = dict[str, Any]
"""Structs by name. A member is None (eight bytes), the name of a struct, that name behind an asterisk (a pointer), a
number (a bit field of so many bits, in two bytes of its own), or a dict: a struct without a name. A member whose own
name begins with an asterisk has none either."""

Member = tuple[str, Any, int, int]
"""Name, key of its type, bit, and width (0: not a bit field)."""
Type = tuple[str, int, list[Member], int]
"""Name, kind, members, size in bytes."""

INT, POINTER, STRUCT, UNION, ENUM, CONST = 1, 2, 4, 5, 6, 10
HEADER = struct.Struct("<HBBIIIII")

_SOCK_COMMON = dict.fromkeys(
    ("skc_family", "skc_state", "skc_bound_dev_if", "skc_v6_daddr", "skc_v6_rcv_saddr", "skc_cookie", "skc_flags"), None
)
_SOCK = dict.fromkeys(
    (
        "sk_uid",
        "sk_err",
        "sk_err_soft",
        "sk_lingertime",
        "sk_drops",
        "sk_ack_backlog",
        "sk_max_ack_backlog",
        "sk_protocol",
        "sk_rcvbuf",
        "sk_pacing_rate",
        "sk_max_pacing_rate",
    ),
    None,
)
_ICSK = dict.fromkeys(
    ("icsk_pending", "icsk_rto", "icsk_retransmits", "icsk_probes_out", "icsk_backoff", "icsk_pmtu_cookie"),
    None,
)
_TCP = dict.fromkeys(
    (
        *("srtt_us", "mdev_us", "rtt_min", "lsndtime", "chrono_stat", "chrono_start", "write_seq", "snd_nxt"),
        *("snd_una", "rcv_nxt", "copied_seq", "packets_out", "total_retrans", "retrans_out", "lost_out", "sacked_out"),
        *("reordering", "dsack_dups", "reord_seen", "rcv_ooopack", "total_rto", "total_rto_time", "snd_cwnd"),
        *("snd_ssthresh", "mss_cache", "snd_wnd", "rcv_wnd", "app_limited", "bytes_sent", "bytes_acked"),
        *("bytes_received", "segs_in", "segs_out", "data_segs_in", "data_segs_out", "delivered", "delivered_ce"),
        *("rate_delivered", "rate_interval_us", "ecn_flags", "is_mptcp", "bpf_sock_ops_cb_flags"),
        *("rto_stamp", "rcv_ssthresh", "rcv_tstamp", "received_ce"),
    ),
    None,
)

V6_18: Kernel = {
    "list_head": {"next": None, "prev": None},
    "hlist_node": {"next": None, "pprev": None},
    "timer_list": {"entry": "hlist_node", "expires": None},
    "ns_common": {"stashed": None, "inum": None},
    "net": {"passive": None, "ns": "ns_common"},
    "kernfs_node": {"count": None, "id": None},
    "cgroup": {"kn": "*kernfs_node", "level": None, "ancestors": None},
    "sock_cgroup_data": {"cgroup": "*cgroup", "classid": None},
    "inode": {"i_mode": None, "i_ino": None},
    "file": {"f_op": None, "f_inode": "*inode"},
    "socket": {"state": None, "file": "*file", "sk": "*sock"},
    "sock_common": {
        "*union": {"skc_addrpair": None, "*struct": {"skc_daddr": 32, "skc_rcv_saddr": 32}},
        "*ports": {"skc_dport": 16, "skc_num": 16},
        "skc_reuse": 4,
        "skc_reuseport": 1,
        **_SOCK_COMMON,
        "skc_net": {"net": "*net"},
    },
    "sock": {
        "__sk_common": "sock_common",
        **_SOCK,
        "sk_backlog": {"rmem_alloc": None, "len": None},
        "sk_timer": "timer_list",
        "sk_error_queue": {"*union": {"next": "*sk_buff", "prev": "*sk_buff"}, "qlen": None},
        "sk_socket": "*socket",
        "sk_ino": None,
        "sk_cgrp_data": "sock_cgroup_data",
    },
    "sk_buff": {"next": None, "cb": None},
    "sock_exterr_skb": {"header": None, "ee": None},
    "bpf_mem_alloc": {"caches": None},
    "inet_sock": {"sk": "sock", "pinet6": None},
    "tcp_congestion_ops": {"ssthresh": None, "name": None},
    "inet_connection_sock": {
        "icsk_inet": "inet_sock",
        "icsk_accept_queue": "request_sock_queue",
        "icsk_retransmit_timer": "timer_list",
        "icsk_delack_timer": "timer_list",
        **_ICSK,
        "icsk_ca_ops": "*tcp_congestion_ops",
        "icsk_ca_state": 5,
        "icsk_ack": {"pending": None, "quick": None, "lrcvtime": None, "rcv_mss": None},
    },
    "tcp_options_received": {"ts_recent": None, "saw_tstamp": 3},
    "tcp_rack": {"mstamp": None, "rtt_us": None},
    "tcp_sock": {
        "inet_conn": "inet_connection_sock",
        **_TCP,
        "chrono_type": 2,
        "syn_data_acked": 1,
        "nonagle": 4,
        "accecn_fail_mode": 4,
        "rack": "tcp_rack",
        "rx_opt": "tcp_options_received",
    },
    "mm_struct": {"count": None, "start_stack": None},
    "request_sock": {"count": None, "dl_next": "*request_sock", "sk": "*sock"},
    "request_sock_queue": {"qlen": None, "rskq_accept_head": "*request_sock"},
    "task_struct": {"start_boottime": None, "comm": None, "tgid": None, "group_leader": None, "mm": "*mm_struct"},
    "ipv6_pinfo": {"saddr": None},
}
"""One timer each for retransmits (icsk_retransmit_timer), keepalives (sk_timer) and delayed ACKs."""


def _changed(kernel: Kernel, without: Mapping[str, tuple[str, ...]], added: Kernel) -> Kernel:
    made = deepcopy(kernel)
    for name, members in without.items():
        for member in members:
            del made[name][member]
    for name, new in added.items():
        made[name] |= deepcopy(new)
    return made


_SINCE_6_18 = ("received_ce", "accecn_fail_mode")

V6_1 = _changed(
    V6_18,
    {"sock": ("sk_timer", "sk_ino"), "tcp_sock": ("total_rto", "total_rto_time", "rto_stamp", *_SINCE_6_18)},
    {
        "sock": {"*timers": {"*union": {"sk_timer": "timer_list", "mptcp_retransmit_timer": "timer_list"}}},
        "inet_connection_sock": {"icsk_timeout": None},
    },
)
V6_1["tcp_sock"]["rack"] = {"mstamp": None, "rtt_us": None}

V6_12_111 = _changed(
    V6_18, {"sock": ("sk_ino",), "tcp_sock": _SINCE_6_18}, {"inet_connection_sock": {"icsk_timeout": None}}
)
V6_12_118 = _changed(V6_12_111, {}, {"inet_connection_sock": {"icsk_keepalive_timer": "timer_list"}})

V7_2 = _changed(
    V6_18,
    {"sock": ("sk_timer",), "inet_connection_sock": ("icsk_retransmit_timer",), "cgroup": ("ancestors",)},
    {
        "sock": {"*union": {"sk_timer": "timer_list", "tcp_retransmit_timer": "timer_list"}},
        "inet_connection_sock": {"*union": {"icsk_keepalive_timer": "timer_list", "mptcp_tout_timer": "timer_list"}},
        "cgroup": {"*flexible": {"*empty": {}, "ancestors": None}},
    },
)

KERNELS: dict[str, Kernel] = {
    "6.1": V6_1,
    "6.12.111": V6_12_111,
    "6.12.118": V6_12_118,
    "6.18": V6_18,
    "7.2": V7_2,
}
OPTION = "TCP_BPF_SOCK_OPS_CB_FLAGS"


class Strings:
    """The strings of a file."""

    def __init__(self) -> None:
        """Begin with the empty one."""
        self.strings = b"\0"

    def string(self, text: str) -> int:
        """Return where it is; 0 for none."""
        if not text or text[0] == "*":
            return 0
        at = self.strings.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            at = len(self.strings) - 1
            self.strings += text.encode() + b"\0"
        return at + 1


def is_union(name: str) -> bool:
    """Return whether the members of what stands under this name share one place."""
    return name.startswith("*union")


def bits_of(kernel: Kernel, kind: Any, name: str = "") -> int:
    """Return how many a member of this kind takes."""
    if isinstance(kind, int):
        return max(16, kind)
    if kind is None or (isinstance(kind, str) and kind[0] == "*"):
        return 64
    members = kernel[kind] if isinstance(kind, str) else kind
    sizes = [bits_of(kernel, inner, inner_name) for inner_name, inner in members.items()]
    return max(sizes, default=0) if is_union(name) else sum(sizes)


def place(kernel: Kernel, path: str) -> int | None:
    """Return the bit of a member, by the path ``sock.sk_timer.expires``; None where this kernel does not have it."""
    root, *steps = path.split(".")
    members, bit = kernel.get(root), 0
    for step in steps:
        found = None if members is None else _inside(kernel, members, step)
        if found is None:
            return None
        bit, kind = bit + found[0], found[1]
        members = kernel.get(kind.lstrip("*")) if isinstance(kind, str) else kind if isinstance(kind, dict) else None
    return bit


def _inside(kernel: Kernel, members: Mapping[str, Any], wanted: str, union: bool = False) -> tuple[int, Any] | None:
    bit = 0
    for name, kind in members.items():
        if name == wanted:
            return bit, kind
        deeper = _inside(kernel, kind, wanted, is_union(name)) if name[0] == "*" else None
        if deeper is not None:
            return bit + deeper[0], deeper[1]
        bit += 0 if union else bits_of(kernel, kind, name)
    return None


def btf(kernel: Kernel, by_name: bool = False, option: bool = True) -> bytes:
    """Return the file. ``by_name``: types without a name first, then those that have one, by it: as from 7.0 on."""
    types: list[Type] = [("int", INT, [], 4)]
    numbers: dict[Any, int] = {}

    def add(key: Any, name: str, kind: int, members: list[Member], size: int) -> Any:
        numbers[key] = len(types)
        types.append((name, kind, members, size))
        return key

    def kind_key(name: str, kind: Any, way: tuple[str, ...]) -> Any:
        if kind is None or isinstance(kind, int):
            return "int"
        if isinstance(kind, dict):
            return compose(way, "", kind, is_union(name))
        if kind[0] != "*":
            return kind
        if ("const", kind) not in numbers:
            add(("const", kind), "", CONST, [("", kind[1:], 0, 0)], 0)
            add(kind, "", POINTER, [("", ("const", kind), 0, 0)], 0)
        return kind

    def compose(key: Any, name: str, members: Mapping[str, Any], union: bool = False) -> Any:
        listed: list[Member] = []
        bit = 0
        own = add(key, name, UNION if union else STRUCT, [], bits_of(kernel, members, "*union" if union else "") // 8)
        for member, kind in members.items():
            width = kind if isinstance(kind, int) else 0
            listed.append(
                (member, kind_key(member, kind, (*key, member) if name == "" else (name, member)), bit, width)
            )
            bit += 0 if union else bits_of(kernel, kind, member)
        types[numbers[own]] = (name, types[numbers[own]][1], listed, types[numbers[own]][3])
        return own

    numbers["int"] = 0
    for name, members in kernel.items():
        compose(name, name, members)
    order = sorted(range(len(types)), key=lambda i: types[i][0]) if by_name else list(range(len(types)))
    number = {key: order.index(i) + 1 for key, i in numbers.items()}
    return _written([types[i] for i in order], number, option)


def _written(types: list[Type], number: dict[Any, int], option: bool) -> bytes:
    table = Strings()
    written = b""
    for name, kind, members, size in types:
        at = table.string(name)
        if kind == INT:
            written += struct.pack("<IIII", at, INT << 24, size, size * 8)
        elif kind in (POINTER, CONST):
            written += struct.pack("<III", at, kind << 24, number[members[0][1]])
        else:
            fields = any(width for *_, width in members)
            written += struct.pack("<III", at, kind << 24 | len(members) | fields << 31, size)
            for member, key, bit, width in members:
                written += struct.pack("<III", table.string(member), number[key], width << 24 | bit)
    if option:
        written += struct.pack("<IIIII", 0, ENUM << 24 | 1, 4, table.string(OPTION), 1008)
    head = HEADER.pack(0xEB9F, 1, 0, HEADER.size, 0, len(written), len(written), len(table.strings))
    return head + written + table.strings
