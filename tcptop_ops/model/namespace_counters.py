"""What the kernel counts for a whole network namespace, and the limits that hold in it: their dtypes."""

from __future__ import annotations

import numpy as np

from tcptop_ops.model.records import Records

COUNTERS = (
    "listen_overflows",  # ListenOverflows: the accept queue was full (tcp_conn_request(), tcp_v4_syn_recv_sock())
    "listen_drops",  # ListenDrops: a SYN or the handshake's last ACK was dropped by a listener, for any reason
    "req_q_full_drop",  # TCPReqQFullDrop: the SYN backlog was full, no cookie could be sent (tcp_syn_flood_action())
    "req_q_full_do_cookies",  # TCPReqQFullDoCookies: the SYN backlog was full, and a cookie was sent
    "syncookies_sent",  # SyncookiesSent
    "retrans_fail",  # TCPRetransFail: a retransmission could not be handed to the device or was dropped locally
    "prune_called",  # PruneCalled: a receive queue was to be shrunk, since its memory was used up (tcp_prune_queue())
    "rcv_collapsed",  # TCPRcvCollapsed: segments put together there, so that they take less memory (tcp_collapse())
    "rcv_q_drop",  # TCPRcvQDrop: a segment in order was dropped, since no memory was left (tcp_data_queue())
    "tw_overflow",  # TCPTimeWaitOverflow: closed without TIME-WAIT, tcp_max_tw_buckets were in use (tcp_time_wait())
    "memory_pressures",  # TCPMemoryPressures: how often all TCP sockets had reached the second figure of tcp_mem
    "abort_on_memory",  # TCPAbortOnMemory: connections reset, for too many orphans or no memory (tcp_check_oom())
    "out_segs",  # OutSegs: segments sent, retransmitted ones left out
    "retrans_segs",  # RetransSegs: segments retransmitted
    "in_errs",  # InErrs: segments received that were malformed or had a wrong checksum
    "out_rsts",  # OutRsts: resets sent
    "out_discards",  # OutDiscards: IPv4 packets of any protocol that this host dropped instead of sending them
    "conntrack_drops",  # packets for whose connection the table of connection tracking had no room
)
"""Names of counters since the namespace was made: all but the last as /proc/net/netstat or snmp has them."""

GAUGES = (
    "tw",  # sockets in TIME-WAIT now, of this namespace
    "orphans",  # sockets that no process holds now, of the whole host: tcp_orphan_count is one for all namespaces
    "conntrack",  # net.netfilter.nf_conntrack_count: connections tracked; 0 where that is not loaded
)
"""Names of numbers of now, the first two of /proc/net/sockstat (sockstat_seq_show(), net/ipv4/proc.c)."""

LIMITS = (
    "port_low",  # net.ipv4.ip_local_port_range, the first port
    "port_high",  # its last port, which is included
    "somaxconn",  # net.core.somaxconn: the most that listen() grants
    "syn_backlog",  # net.ipv4.tcp_max_syn_backlog
    "mtu_probing",  # net.ipv4.tcp_mtu_probing: 0 never, 1 after a stall of full segments, 2 always
    "tw_reuse",  # net.ipv4.tcp_tw_reuse: 0 never, 1 always, 2 on loopback
    "syncookies",  # net.ipv4.tcp_syncookies: 0 never, 1 where the backlog is full, 2 always
    "max_tw_buckets",  # net.ipv4.tcp_max_tw_buckets
    "conntrack_max",  # net.netfilter.nf_conntrack_max, one for all namespaces; 0: not loaded, or no limit
)
"""Names of sysctls of the namespace."""

NETNS = np.dtype(
    [("netns", "u4"), *((name, "u8") for name in (*COUNTERS, *GAUGES)), *((name, "u4") for name in LIMITS)], align=True
)
"""A row a network namespace (``netns``: its inode number) as it was read."""

NET = np.dtype(
    [("known", "u1"), *((name, "u8") for name in (*COUNTERS, *GAUGES)), *((name, "u4") for name in LIMITS)], align=True
)
"""What a rule is told of a row's namespace: COUNTERS as their growth within W, GAUGES and LIMITS as they are.

``known`` is 1 where the namespace was read, else 0, and so is everything else.
"""

NET_OF = np.dtype([("netns", "u4"), ("net", NET)], align=True)
"""NET by namespace."""


def none_known() -> Records:
    """Return NET_OF rows, none of them."""
    return np.zeros(0, NET_OF)
