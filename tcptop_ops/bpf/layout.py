"""Which members of which kernel structs the C reads: macro, and the chain of members that leads to its offset.

Where kernels differ, chains stand in the order newest first; what a kernel lacks stays undefined and the C does
without it.
"""

from __future__ import annotations

from tcptop_ops.bpf.btf import Btf, Wanted, offsets
from tcptop_ops.errors import Unsupported


def _plain(struct: str, prefix: str, *members: str) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(
            prefix + name.removeprefix("sk_").removeprefix("skc_").removeprefix("icsk_").upper(),
            ((f"{struct}.{name}",),),
        )
        for name in members
    )


WANTED: tuple[Wanted, ...] = (
    *_plain(
        "sock_common",
        "SKC_",
        "skc_family",
        "skc_state",
        "skc_bound_dev_if",
        "skc_net",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
    ),
    *_plain(
        "sock",
        "SK_",
        "sk_uid",
        "sk_err",
        "sk_socket",
        "sk_drops",
        "sk_ack_backlog",
        "sk_max_ack_backlog",
        "sk_ino",
        "sk_protocol",
    ),
    Wanted("SK_CGROUP", (("sock.sk_cgrp_data", "sock_cgroup_data.cgroup"),)),
    Wanted(
        "SK_TIMER_PPREV",
        (
            ("sock.sk_timer", "timer_list.entry", "hlist_node.pprev"),
            ("sock..sk_timer", "timer_list.entry", "hlist_node.pprev"),  # 6.1: in a union with MPTCP's timer
        ),
    ),
    Wanted(
        "SK_TIMER_EXPIRES",
        (("sock.sk_timer", "timer_list.expires"), ("sock..sk_timer", "timer_list.expires")),
    ),
    Wanted("NET_INUM", (("net.ns", "ns_common.inum"),)),
    Wanted("CGROUP_KN", (("cgroup.kn",),)),
    Wanted("CGROUP_LEVEL", (("cgroup.level",),)),
    Wanted("CGROUP_ANCESTORS", (("cgroup.ancestors",),)),
    Wanted("CGROUP_ANCESTOR_IDS", (("cgroup.ancestor_ids",),)),
    Wanted("KN_ID", (("kernfs_node.id",),)),
    Wanted("SOCKET_SK", (("socket.sk",),)),
    Wanted("SOCKET_FILE", (("socket.file",),)),
    Wanted("FILE_INODE", (("file.f_inode",),)),
    Wanted("INODE_INO", (("inode.i_ino",),)),
    Wanted("TASK_TGID", (("task_struct.tgid",),)),
    Wanted("TASK_COMM", (("task_struct.comm",),)),
    Wanted("TASK_START_BOOTTIME", (("task_struct.start_boottime",),)),
    Wanted("CA_NAME", (("tcp_congestion_ops.name",),)),
    Wanted(
        "ICSK_TIMEOUT",
        (
            ("sock.tcp_retransmit_timer", "timer_list.expires"),
            ("inet_connection_sock.icsk_timeout",),
            ("inet_connection_sock.icsk_retransmit_timer", "timer_list.expires"),
        ),
    ),
    Wanted("ICSK_LRCVTIME", (("inet_connection_sock.icsk_ack", ".lrcvtime"),)),
    *_plain(
        "inet_connection_sock",
        "ICSK_",
        "icsk_pending",
        "icsk_rto",
        "icsk_ca_state",
        "icsk_retransmits",
        "icsk_probes_out",
        "icsk_backoff",
        "icsk_ca_ops",
    ),
    *_plain(
        "tcp_sock",
        "TP_",
        "srtt_us",
        "mdev_us",
        "rtt_min",
        "lsndtime",
        "chrono_stat",
        "chrono_start",
        "chrono_type",
        "write_seq",
        "snd_nxt",
        "snd_una",
        "rcv_nxt",
        "copied_seq",
        "packets_out",
        "total_retrans",
        "retrans_out",
        "lost_out",
        "sacked_out",
        "reordering",
        "dsack_dups",
        "reord_seen",
        "rcv_ooopack",
        "total_rto",
        "total_rto_time",
        "snd_cwnd",
        "snd_ssthresh",
        "mss_cache",
        "snd_wnd",
        "rcv_wnd",
        "app_limited",
        "bytes_sent",
        "bytes_acked",
        "bytes_received",
        "segs_in",
        "segs_out",
        "data_segs_in",
        "data_segs_out",
        "delivered",
        "delivered_ce",
        "rate_delivered",
        "rate_interval_us",
        "ecn_flags",
        "is_mptcp",
    ),
    Wanted("TP_RACK_RTT", (("tcp_sock.rack", "tcp_rack.rtt_us"), ("tcp_sock.rack", ".rtt_us"))),
    Wanted("TP_RX_OPT_BITS", (("tcp_sock.rx_opt", "tcp_options_received.saw_tstamp"),)),
    Wanted("TP_CB_FLAGS", (("tcp_sock.bpf_sock_ops_cb_flags",),)),
)

OPTIONAL = frozenset(
    {"SK_INO", "SK_CGROUP", "ICSK_LRCVTIME", "TP_TOTAL_RTO", "TP_TOTAL_RTO_TIME", "TP_IS_MPTCP", "SKC_V6_DADDR"}
    | {"SKC_V6_RCV_SADDR", "CGROUP_ANCESTORS", "CGROUP_ANCESTOR_IDS", "CGROUP_LEVEL", "CGROUP_KN", "KN_ID"}
    | {"SOCKET_FILE", "FILE_INODE", "INODE_INO"}
)

CB_FLAGS, CB_FLAGS_NUMBER = "TCP_BPF_SOCK_OPS_CB_FLAGS", 1008
"""The socket option that sets callback flags (linux/bpf.h, 6.12). The verifier does not look at the option's number, so
that only its name in the BTF tells whether this kernel has it."""


def kernel_offsets() -> dict[str, int]:
    """The definitions for this kernel: offsets in bytes, and CB_FLAGS where it has the option.

    Raises Unsupported without BTF, or a member that nothing replaces.
    """
    btf = Btf.of_kernel()
    found = offsets(btf, WANTED)
    missing = [want.macro for want in WANTED if want.macro not in found and want.macro not in OPTIONAL]
    if missing:
        raise Unsupported(f"the kernel's BTF lacks {', '.join(missing)}")
    if btf.names(CB_FLAGS):
        found[CB_FLAGS] = CB_FLAGS_NUMBER
    return found
