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
)
"""Names of counters since the namespace was made, each the name of /proc/net/netstat in snake case."""

GAUGES = (
    "tw",  # sockets in TIME-WAIT now, of this namespace
    "orphans",  # sockets that no process holds now, of the whole host: tcp_orphan_count is one for all namespaces
)
"""Names of numbers of now, of /proc/net/sockstat (sockstat_seq_show(), net/ipv4/proc.c)."""

LIMITS = (
    "port_low",  # net.ipv4.ip_local_port_range, the first port
    "port_high",  # its last port, which is included
    "somaxconn",  # net.core.somaxconn: the most that listen() grants
    "syn_backlog",  # net.ipv4.tcp_max_syn_backlog
    "tw_reuse",  # net.ipv4.tcp_tw_reuse: 0 never, 1 always, 2 on loopback
    "syncookies",  # net.ipv4.tcp_syncookies: 0 never, 1 where the backlog is full, 2 always
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
