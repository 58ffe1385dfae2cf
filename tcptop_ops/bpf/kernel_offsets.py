"""Which members of which kernel structs the C reads, and what is lost where a kernel lacks one. THE table: WANTED.

Where kernels differ, paths stand in the order newest first. What a kernel lacks has the offset LACKING, -1, which the C
asks for: it costs what the member feeds, and nothing else (``Layout``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from tcptop_ops.bpf.btf import LACKING, Btf, WantedOffset, offsets
from tcptop_ops.errors import Unsupported


def _plain(struct: str, prefix: str, feeds: Mapping[str, str]) -> tuple[WantedOffset, ...]:
    """Members whose macro is their name: each with the columns that it feeds."""
    return tuple(
        WantedOffset(
            prefix + name.removeprefix("sk_").removeprefix("skc_").removeprefix("icsk_").upper(),
            (f"{struct}.{name}",),
            feeds=tuple(columns.split()),
        )
        for name, columns in feeds.items()
    )


_KEEPALIVE = ("inet_connection_sock.icsk_keepalive_timer", "sock.sk_timer")
"""6.19, and the stable kernels from 6.12.112 on, which have both; up to there."""
_SHARED = "sock.tcp_retransmit_timer"
"""6.19: sk_timer lies in one union with it, and tells of retransmits."""

_RETRANSMIT = (
    "sock.tcp_retransmit_timer.expires",
    "inet_connection_sock.icsk_timeout",
    "inet_connection_sock.icsk_retransmit_timer.expires",
)
"""6.19; up to 6.14; between them."""

_DELACK = "inet_connection_sock.icsk_delack_timer"
_CHRONO = ("busy_pct", "rwnd_limited_pct", "sndbuf_limited_pct")

WANTED: tuple[WantedOffset, ...] = (
    *_plain(
        "sock_common",
        "SKC_",
        {
            "skc_family": "",
            "skc_state": "",
            "skc_daddr": "",
            "skc_rcv_saddr": "",
            "skc_dport": "",
            "skc_num": "",
            "skc_v6_daddr": "",
            "skc_v6_rcv_saddr": "",
            "skc_bound_dev_if": "",
            "skc_net": "netns",
            "skc_cookie": "",
            "skc_flags": "",
        },
    ),
    *_plain(
        "sock",
        "SK_",
        {
            "sk_uid": "uid user",
            "sk_err": "",
            "sk_err_soft": "",
            "sk_lingertime": "",
            "sk_error_queue": "",
            "sk_drops": "drops",
            "sk_ack_backlog": "backlog recv_q",
            "sk_max_ack_backlog": "backlog_max send_q",
            "sk_ino": "",  # 6.16 has it beside the longer way; a later one may have it alone
            "sk_protocol": "",
            "sk_rcvbuf": "",
            "sk_pacing_rate": "",
            "sk_max_pacing_rate": "",
        },
    ),
    WantedOffset("SK_RMEM", ("sock.sk_backlog.rmem_alloc",)),
    WantedOffset("SK_SOCKET", ("sock.sk_socket",), feeds=("inode",), unless="SK_INO"),
    WantedOffset("SOCKET_FILE", ("socket.file",), feeds=("inode",), unless="SK_INO"),
    WantedOffset("FILE_INODE", ("file.f_inode",), feeds=("inode",), unless="SK_INO"),
    WantedOffset("INODE_INO", ("inode.i_ino",), feeds=("inode",), unless="SK_INO"),
    WantedOffset("SK_ERROR_QUEUE_PREV", ("sock.sk_error_queue.prev",)),
    WantedOffset("SKB_CB", ("sk_buff.cb",)),
    WantedOffset("EXTERR_EE", ("sock_exterr_skb.ee",)),
    WantedOffset("SK_CGROUP", ("sock.sk_cgrp_data.cgroup",)),
    WantedOffset("KEEPALIVE_PPREV", tuple(f"{timer}.entry.pprev" for timer in _KEEPALIVE), _SHARED, feeds=("timer",)),
    WantedOffset("KEEPALIVE_EXPIRES", tuple(f"{timer}.expires" for timer in _KEEPALIVE), _SHARED),
    WantedOffset("DELACK_PPREV", (f"{_DELACK}.entry.pprev",)),
    WantedOffset("DELACK_EXPIRES", (f"{_DELACK}.expires",)),
    WantedOffset("ICSK_ACK_PENDING", ("inet_connection_sock.icsk_ack.pending",)),
    WantedOffset("NET_INUM", ("net.ns.inum",), feeds=("netns",)),
    WantedOffset("CGROUP_KN", ("cgroup.kn",)),
    WantedOffset("KN_ID", ("kernfs_node.id",)),
    WantedOffset("SOCKET_SK", ("socket.sk",)),
    WantedOffset("TASK_TGID", ("task_struct.tgid",)),
    WantedOffset("TASK_COMM", ("task_struct.comm",)),
    WantedOffset("TASK_GROUP_LEADER", ("task_struct.group_leader",)),
    WantedOffset("TASK_START_BOOTTIME", ("task_struct.start_boottime",)),
    WantedOffset("TASK_MM", ("task_struct.mm",)),
    WantedOffset("MM_START_STACK", ("mm_struct.start_stack",)),
    WantedOffset("SKC_REUSEPORT", ("sock_common.skc_reuseport",), bits=True),
    WantedOffset("SKC_COOKIE", ("sock_common.skc_cookie",)),
    WantedOffset("ACCEPT_HEAD", ("inet_connection_sock.icsk_accept_queue.rskq_accept_head",)),
    WantedOffset("REQUEST_NEXT", ("request_sock.dl_next",)),
    WantedOffset("REQUEST_SK", ("request_sock.sk",)),
    WantedOffset("CA_NAME", ("tcp_congestion_ops.name",), feeds=("cc",)),
    WantedOffset("ICSK_TIMEOUT", _RETRANSMIT),
    WantedOffset("ICSK_LRCVTIME", ("inet_connection_sock.icsk_ack.lrcvtime",), feeds=("idle_s",)),
    WantedOffset("ICSK_RCV_MSS", ("inet_connection_sock.icsk_ack.rcv_mss",)),
    WantedOffset("ICSK_CA_STATE", ("inet_connection_sock.icsk_ca_state",), bits=True),
    *_plain(
        "inet_connection_sock",
        "ICSK_",
        {
            "icsk_pending": "timer",
            "icsk_rto": "rto_us",
            "icsk_retransmits": "",
            "icsk_probes_out": "",
            "icsk_backoff": "backoff",
            "icsk_ca_ops": "cc",
            "icsk_pmtu_cookie": "",
        },
    ),
    *_plain(
        "tcp_sock",
        "TP_",
        {
            "srtt_us": "srtt_us mark_srtt_us",
            "mdev_us": "rttvar_us",
            "rtt_min": "min_rtt_us",
            "lsndtime": "idle_s",
            "write_seq": "send_q notsent",
            "snd_nxt": "notsent",
            "snd_una": "send_q",
            "rcv_nxt": "recv_q",
            "copied_seq": "recv_q",
            "packets_out": "unacked",
            "total_retrans": "retrans_segs retrans_win retrans_per_s retrans_pct mark_retrans",
            "retrans_out": "",
            "lost_out": "lost",
            "sacked_out": "sacked",
            "reordering": "",
            "dsack_dups": "dsack_dups",
            "reord_seen": "reord_seen",
            "rcv_ooopack": "ooo_in",
            "total_rto": "",  # 6.7; before, and without the next, events count alone
            "total_rto_time": "",
            "rto_stamp": "",
            "snd_cwnd": "cwnd",
            "snd_ssthresh": "ssthresh",
            "mss_cache": "mss delivery_bytes_per_s",
            "snd_wnd": "snd_wnd",
            "rcv_wnd": "rcv_wnd",
            "app_limited": "",
            "bytes_sent": "",
            "bytes_acked": "bytes_acked tx_bytes_per_s mark_sent",
            "bytes_received": "bytes_received rx_bytes_per_s mark_received",
            "segs_in": "",
            "segs_out": "",
            "data_segs_in": "",
            "data_segs_out": "retrans_pct",
            "delivered": "ce_pct",
            "delivered_ce": "ce_pct",
            "rate_delivered": "delivery_bytes_per_s",
            "rate_interval_us": "delivery_bytes_per_s",
            "ecn_flags": "ecn_mode",
            "rcv_ssthresh": "",
            "rcv_tstamp": "",
            "received_ce": "",  # 6.18; it tells by itself that it is not known
        },
    ),
    WantedOffset("TP_CHRONO_STAT", ("tcp_sock.chrono_stat",), feeds=_CHRONO),
    WantedOffset("TP_CHRONO_START", ("tcp_sock.chrono_start",), feeds=_CHRONO),
    WantedOffset("TP_CHRONO_TYPE", ("tcp_sock.chrono_type",), bits=True, feeds=_CHRONO),
    WantedOffset("TP_SYN_DATA_ACKED", ("tcp_sock.syn_data_acked",), bits=True),
    WantedOffset("TP_NONAGLE", ("tcp_sock.nonagle",), bits=True),
    WantedOffset("TP_ACCECN_FAIL_MODE", ("tcp_sock.accecn_fail_mode",), bits=True),  # 6.18
    WantedOffset("TP_IS_MPTCP", ("tcp_sock.is_mptcp",), bits=True),
    WantedOffset("TP_RACK_RTT", ("tcp_sock.rack.rtt_us",)),  # without it, RTT_CB tells the newest sample
    WantedOffset("TP_RX_OPT_BITS", ("tcp_sock.rx_opt.saw_tstamp",)),
    WantedOffset("TP_CB_FLAGS", ("tcp_sock.bpf_sock_ops_cb_flags",)),
)

WAYS = {
    "inet_connection_sock": "tcp_sock.inet_conn",
    "sock": "inet_connection_sock.icsk_inet.sk",
    "sock_common": "sock.__sk_common",
    "net": "sock_common.skc_net.net",
    "sk_buff": "sock.sk_error_queue.prev",
    "socket": "sock.sk_socket",
    "file": "socket.file",
    "inode": "file.f_inode",
    "cgroup": "sock.sk_cgrp_data.cgroup",
    "kernfs_node": "cgroup.kn",
    "mm_struct": "task_struct.mm",
    "request_sock": "inet_connection_sock.icsk_accept_queue.rskq_accept_head",
    "tcp_congestion_ops": "inet_connection_sock.icsk_ca_ops",
}
"""Where each struct is met, see ``btf.Finder``."""

CB_FLAGS, CB_FLAGS_NUMBER = "TCP_BPF_SOCK_OPS_CB_FLAGS", 1008
"""The socket option that sets callback flags (linux/bpf.h, 6.12). The verifier does not look at the option's number, so
that only its name in the BTF tells whether this kernel has it."""
CB_FLAGS_OPTION = "CB_FLAGS_OPTION"

ANY_CONTEXT = "bpf_mem_alloc"
"""The struct of the allocator of BPF maps that may be used in any context (6.1). Without it a tracing program that uses
a map whose rows are allocated one by one makes the kernel print a warning, which on some hosts is a panic
(check_map_prog_compatibility(), kernel/bpf/verifier.c): its name in the BTF tells whether it may be tried."""

SOCKET, DESCRIPTORS, ADOPTION = "socket", "descriptors", "adoption"
TRACEPOINTS = "tracepoints"
"""What needs members: reading a socket at all, an iterator of all descriptors, setting flags of open sockets, and
finding the row of a socket that a tracepoint is about."""

NAMES = {
    SOCKET: "reading sockets directly",
    DESCRIPTORS: "iterator of descriptors",
    ADOPTION: "adoption of open sockets",
    TRACEPOINTS: "tracepoints of errors and resets",
}
"""Of these features, as the doctor says them."""

CGROUP = ("SK_CGROUP", "CGROUP_KN", "KN_ID")
"""What tells of which cgroup a socket is: without them sock_diag has to, where the sockets of one are wanted."""

_ADDRESSES_V6 = ("SKC_V6_DADDR", "SKC_V6_RCV_SADDR")
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    SOCKET: (("SKC_FAMILY", "SKC_STATE", "SKC_DADDR", "SKC_RCV_SADDR", "SKC_DPORT", "SKC_NUM"),),
    DESCRIPTORS: (("SOCKET_SK", "TASK_TGID", "TASK_COMM", "TASK_START_BOOTTIME"),),
    ADOPTION: (("TP_CB_FLAGS", "SKC_COOKIE"),),
    TRACEPOINTS: (("SKC_COOKIE",),),
}
"""The few members without which a feature can't be: any of these sets is enough."""

HAS_NO = "the kernel's BTF has no"
"""How the reason begins that a feature is missing for."""

_BY_MACRO = {want.macro: want for want in WANTED}


@dataclass(frozen=True)
class KernelLayout:
    """What this kernel's BTF tells: ``offsets`` has every macro of WANTED; ``has_option``: it knows CB_FLAGS.

    ``has_ipv6``: it has the code for it. ``may_trace``: it has ANY_CONTEXT.
    """

    offsets: Mapping[str, int] = field(default_factory=dict)
    has_option: bool = False
    has_ipv6: bool = True
    may_trace: bool = False

    def lacks(self, macro: str) -> bool:
        """Return whether this kernel does not have that member."""
        return self.offsets.get(macro, LACKING) == LACKING

    def costs(self) -> dict[str, tuple[str, ...]]:
        """Return the members that are not there, by their names in the kernel's source, and what is lost with each."""
        lost: dict[str, list[str]] = {
            want.macro: [column for column in self._feeds(want) if not column.startswith("mark_")]
            for want in WANTED
            if self.lacks(want.macro)
        }
        for feature, name in NAMES.items():
            for macro in self.without(feature):
                lost[macro].append(name)
        return {_BY_MACRO[macro].member: tuple(names) for macro, names in lost.items() if names}

    def _feeds(self, want: WantedOffset) -> tuple[str, ...]:
        return want.feeds if not want.unless or self.lacks(want.unless) else ()

    @property
    def missing(self) -> frozenset[str]:
        """The columns that nothing feeds."""
        return frozenset(column for want in WANTED if self.lacks(want.macro) for column in self._feeds(want))

    def without(self, feature: str) -> tuple[str, ...]:
        """Return the macros whose lack keeps this feature from working; none: it works."""
        sets = [tuple(macro for macro in needed if self.lacks(macro)) for needed in NEEDS[feature]]
        found = min(sets, key=len)
        if feature == SOCKET and self.has_ipv6:
            found += tuple(macro for macro in _ADDRESSES_V6 if self.lacks(macro))
        return found

    def reason(self, feature: str) -> str:
        """Return why a feature does not work, by the members' names in the kernel's source; empty if it works."""
        names = [_BY_MACRO[macro].member for macro in self.without(feature)]
        return f"{HAS_NO} {', '.join(names)}" if names else ""

    def defines(self) -> dict[str, int]:
        """Return what the C is told of it."""
        return {**self.offsets, **({CB_FLAGS_OPTION: CB_FLAGS_NUMBER} if self.has_option else {})}


NOTHING = KernelLayout()
"""The layout of a kernel without BTF: every member is lacking."""


def layout_of(btf: Btf) -> KernelLayout:
    """Return the layout that a kernel's BTF describes. Raises Unsupported where it is damaged."""
    return KernelLayout(
        offsets(btf, WANTED, WAYS), btf.names(CB_FLAGS), btf.names("ipv6_pinfo"), btf.names(ANY_CONTEXT)
    )


@cache
def packs_ecn() -> bool | None:
    """Return whether the running kernel's struct tcp_info packs ``tcpi_ecn_mode`` into its last bytes, as 7.2 does.

    None: not known, without BTF. Takes 10 ms, once.
    """
    try:
        btf = Btf.of_kernel()
    except Unsupported:
        return None
    at = btf.struct_named("tcp_info")
    return None if at is None else "tcpi_ecn_mode" in btf.members_at(at)


def of_kernel() -> KernelLayout:
    """Return that of the running kernel. Raises Unsupported without BTF."""
    return layout_of(Btf.of_kernel())
