"""The fields of the records that cross from the kernel: numpy's dtypes and the C structs are both made of them.

Imports nothing, so that the program can be compiled before numpy is there.

A field is (name, kind) or (name, kind, shape): ``u1`` to ``u8`` unsigned, ``S16`` bytes, or the name of another record.
Times are microseconds and sizes bytes unless a name says otherwise. Names are those of struct tcp_info
(include/uapi/linux/tcp.h), less the prefix, where it has the value.
"""

from __future__ import annotations

Field = tuple[str, str] | tuple[str, str, tuple[int, ...]]
Fields = tuple[Field, ...]

OPERATORS = 22
"""Operators counted: those of 6.18, and room for one that nobody knows (the last)."""

SOCKET: Fields = (
    ("cookie", "u8"),
    ("inode", "u8"),  # 0: no descriptor (yet, or any more)
    ("cgroup_id", "u8"),  # inode of the cgroup v2 directory that the socket was made in; 0 unknown
    ("bytes_sent", "u8"),
    ("bytes_acked", "u8"),
    ("bytes_received", "u8"),
    ("laddr", "u1", (16,)),  # IPv4 as ::ffff:a.b.c.d
    ("raddr", "u1", (16,)),
    ("lport", "u2"),
    ("rport", "u2"),
    ("family", "u1"),  # AF_INET or AF_INET6, of the socket: a mapped address is AF_INET6
    ("state", "u1"),  # TCP_ESTABLISHED = 1 ...: State
    ("ca_state", "u1"),  # TCP_CA_Open = 0 ... TCP_CA_Loss = 4
    ("retransmits", "u1"),  # of the segment at the head, in a row
    ("probes", "u1"),
    ("backoff", "u1"),
    ("timer", "u1"),  # Timer
    ("cb_flags", "u1"),  # sock_ops callback flags found by this pass
    ("options", "u1"),  # tcpi_options: Option
    ("wscale", "u1"),  # snd | rcv << 4
    ("app_limited", "u1"),
    ("mptcp", "u1"),
    ("netns", "u4"),  # inode number of the network namespace; 0 unknown
    ("uid", "u4"),
    ("ifindex", "u4"),  # device the socket is bound to: the scope of a link-local address
    ("timer_us", "u4"),  # until the timer fires
    ("srtt_us", "u4"),
    ("rttvar_us", "u4"),
    ("min_rtt_us", "u4"),
    ("last_rtt_us", "u4"),
    ("rto_us", "u4"),
    ("cwnd", "u4"),
    ("ssthresh", "u4"),
    ("mss", "u4"),
    ("rcv_mss", "u4"),
    ("snd_wnd", "u4"),
    ("rcv_wnd", "u4"),
    ("unacked", "u4"),  # segments
    ("notsent", "u4"),  # bytes
    ("recv_q", "u4"),  # as ss: bytes unread; of a listener, connections not yet accepted
    ("send_q", "u4"),  # as ss: bytes unacknowledged and unsent; of a listener, the limit of its queue
    ("segs_in", "u4"),
    ("segs_out", "u4"),
    ("data_segs_in", "u4"),
    ("data_segs_out", "u4"),
    ("retrans_segs", "u4"),  # tcpi_total_retrans
    ("retrans_out", "u4"),
    ("lost", "u4"),
    ("sacked", "u4"),
    ("reordering", "u4"),
    ("dsack_dups", "u4"),
    ("reord_seen", "u4"),
    ("ooo_in", "u4"),  # tcpi_rcv_ooopack
    ("delivered", "u4"),
    ("delivered_ce", "u4"),
    ("rate_delivered", "u4"),  # segments, in
    ("rate_interval_us", "u4"),
    ("total_rto", "u4"),
    ("total_rto_ms", "u4"),
    ("busy_us", "u4"),
    ("rwnd_limited_us", "u4"),
    ("sndbuf_limited_us", "u4"),
    ("last_sent_us", "u4"),  # ago
    ("last_received_us", "u4"),  # ago
    ("drops", "u4"),
    ("cc", "S16"),
)
"""A socket's present state, from the TCP iterator, from sock_diag, or (a closed one) from the final record."""

EVENTS: Fields = (
    ("first_ns", "u8"),  # CLOCK_MONOTONIC: birth where it was seen, else when the socket was first met; 0: no row
    ("cgroup_id", "u8"),  # of the task at connect or listen; 0 unknown
    ("comm", "S16"),
    ("pid", "u4"),  # tgid; 0 unknown
    ("connect_us", "u4"),  # from the connect to its end, whichever; 0 not known
    ("last_rtt_us", "u4"),  # RTT_CB; 0: none seen
    ("rto_events", "u4"),
    ("rto_us", "u4"),  # of the last RTO_CB
    ("rto_wait_us", "u4"),  # their sum
    ("retrans", "u4", (4,)),  # segments, by RetransClass
    ("retrans_calls", "u4"),
    ("retrans_failed", "u4"),  # calls that could not be sent
    ("states", "u2"),  # bit mask of the states entered
    ("state_changes", "u2"),
    ("backoff", "u1"),  # of the last RTO_CB
    ("gave_up", "u1"),
    ("direction", "u1"),  # Direction
    ("origin", "u1"),  # Origin
    ("found", "u1"),  # callback flags that the socket had before ours
    ("owner", "u1"),  # OwnerKind of pid
    ("closed", "u1"),  # the ring was full at the close: the row waits in the map
    ("told", "u1"),  # it has a story
    ("waiting", "u1"),  # since a timeout, for an acknowledgement
)
"""What only events tell: the value of the BPF map ``conns``."""

ENDING: Fields = (
    ("end_ns", "u8"),
    ("error", "u4"),  # sk_err at the close, an errno; UNKNOWN_U32 where the kernel does not tell
    ("from_state", "u1"),  # the state it left for CLOSE
)
"""How and when a connection ended."""

FINAL: Fields = (("socket", "socket"), ("events", "events"), ("ending", "ending"))
"""The final record of a connection: what the ring buffer ``done`` carries."""

OWNER: Fields = (
    ("cookie", "u8"),
    ("inode", "u8"),
    ("start_ns", "u8"),
    ("pid", "u4"),
    ("fd", "u4"),
    ("comm", "S16"),
)
"""A descriptor of a TCP socket. ``start_ns``: CLOCK_BOOTTIME at which the process started."""

HAPPENINGS = 64
"""Of a story; a power of two."""

HAPPENING: Fields = (
    ("first_ns", "u8"),  # CLOCK_MONOTONIC
    ("last_ns", "u8"),  # of several that are told as one
    ("a", "u4"),
    ("b", "u4"),
    ("kind", "u1"),  # Happening, which says what a, b and detail are
    ("detail", "u1"),
    ("times", "u2"),  # how many are told as one
)
"""Something that happened to a connection."""

STORY: Fields = (
    ("told", "u8"),  # so far: the newest HAPPENINGS are kept
    ("srtt_us", "u8"),  # that was told last
    ("happenings", "happening", (HAPPENINGS,)),
)
"""The story of a connection, from its first bad event on: the value of the BPF map ``stories``, by cookie."""

RTT_BUCKETS = 32

SEEN: Fields = (
    ("calls", "u8", (OPERATORS,)),
    ("last_ns", "u8", (OPERATORS,)),  # CLOCK_MONOTONIC, coarse (a jiffy); 0: never
    ("args", "u4", (OPERATORS, 3)),  # of the last call
    ("rtt", "u8", (RTT_BUCKETS,)),  # samples of RTT_CB: bucket k is 2^k us and more, less than 2^(k+1)
)
"""What was seen of the operators: on the whole host, and on the connection that is looked at."""

COUNTERS: Fields = (
    ("calls", "u8", (OPERATORS,)),
    ("requests", "u8", (OPERATORS,)),  # of the calls, those for request sockets
    ("untracked", "u8"),  # births that the full map turned away
    ("ring_full", "u8"),  # final records that the full ring turned away: the row waits in the map
    ("time_wait", "u8"),  # sockets met by the TCP iterator, all passes together
    ("syn_recv", "u8"),
    ("adopted", "u8"),
)
"""Per-CPU counters of the program, since it was attached."""
