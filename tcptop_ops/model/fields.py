"""The fields of the records that the kernel's side writes. Numpy's dtypes and the C structs are both made from them.

Imports nothing, so that the BPF programs can be compiled before numpy is imported.

A field is (name, kind) or (name, kind, shape): ``u1`` to ``u8`` unsigned, ``S16`` bytes, or the name of another record.
Times are microseconds and sizes bytes unless a name says otherwise. A value that struct tcp_info has
(include/uapi/linux/tcp.h) has its name, without the prefix ``tcpi_``.
"""

from __future__ import annotations

Field = tuple[str, str] | tuple[str, str, tuple[int, ...]]
Fields = tuple[Field, ...]

OPERATORS = 22
"""Number of sock_ops operators that are counted: those of Linux 6.18, and the last for any that is unknown."""

SOCKET: Fields = (
    ("cookie", "u8"),
    ("inode", "u8"),  # of the socket's file; 0: none, since it is not accepted yet, or closed by its process
    ("cgroup_id", "u8"),  # inode of the cgroup v2 directory in which the socket was created; 0: unknown
    ("bytes_sent", "u8"),  # payload, retransmissions included
    ("bytes_acked", "u8"),  # payload, and 1 each for SYN and FIN
    ("bytes_received", "u8"),  # payload, and 1 for the FIN
    ("pacing_rate", "u8"),  # bytes a second at which it may send; all ones: no limit; 0: not known
    ("laddr", "u1", (16,)),  # IPv4 as ::ffff:a.b.c.d
    ("raddr", "u1", (16,)),
    ("lport", "u2"),
    ("rport", "u2"),
    ("family", "u1"),  # AF_INET or AF_INET6 of the socket itself, which with a mapped address is AF_INET6
    ("state", "u1"),  # TCP_ESTABLISHED = 1 ...: State
    ("ca_state", "u1"),  # TCP_CA_Open = 0 ... TCP_CA_Loss = 4
    ("retransmits", "u1"),  # icsk_retransmits: consecutive timeouts without an acknowledgement
    ("probes", "u1"),  # icsk_probes_out: unanswered window or keepalive probes
    ("backoff", "u1"),  # icsk_backoff: how often the timeout has doubled
    ("timer", "u1"),  # Timer
    ("cb_flags", "u1"),  # sock_ops callback flags that were set when the socket was read
    ("options", "u1"),  # TCPI_OPT_* bits
    ("wscale", "u1"),  # window scale: that of the peer's window | ours << 4
    ("app_limited", "u1"),  # 1: limited by an application that has little to send
    ("mptcp", "u1"),  # 1: a subflow of an MPTCP connection
    ("pacing_capped", "u1"),  # 1: the pacing rate is that of SO_MAX_PACING_RATE
    ("nonagle", "u1"),  # 8: known, + 1: TCP_NODELAY, + 2: TCP_CORK, which a pass over descriptors alone tells
    ("ecn_mode", "u1"),  # EcnMode
    ("ecn_fail", "u1"),  # bits of TCP_ACCECN_*_FAIL_*: what of accurate ECN has failed
    ("netns", "u4"),  # inode number of the network namespace; 0: unknown
    ("uid", "u4"),
    ("ifindex", "u4"),  # device that the socket is bound to, which is the scope of a link-local address; 0: none
    ("timer_us", "u8"),  # until the timer expires
    ("srtt_us", "u4"),
    ("rttvar_us", "u4"),
    ("min_rtt_us", "u4"),
    ("last_rtt_us", "u4"),  # the last sample (rack.rtt_us), which tcp_info lacks
    ("rto_us", "u4"),
    ("cwnd", "u4"),  # segments
    ("ssthresh", "u4"),  # segments
    ("mss", "u4"),
    ("rcv_mss", "u4"),
    ("pmtu", "u4"),  # path MTU as the kernel knows it: icsk_pmtu_cookie
    ("snd_wnd", "u4"),
    ("rcv_wnd", "u4"),
    ("rcv_ssthresh", "u4"),  # most that is offered as a window, as far as the memory allows
    ("rcvbuf", "u4"),  # sk_rcvbuf: limit of the memory of what was received
    ("rmem", "u4"),  # sk_rmem_alloc: memory of what was received and not read, with its overhead
    ("unacked", "u4"),  # segments in flight
    ("notsent", "u4"),  # bytes written by the process and not sent yet
    ("recv_q", "u4"),  # as in ss: unread bytes; of a listener, the connections that wait for accept()
    ("send_q", "u4"),  # as in ss: unacknowledged and unsent bytes; of a listener, the limit of its accept queue
    ("segs_in", "u4"),
    ("segs_out", "u4"),
    ("data_segs_in", "u4"),
    ("data_segs_out", "u4"),
    ("retrans_segs", "u4"),  # tcpi_total_retrans: retransmitted segments so far
    ("retrans_out", "u4"),  # retransmitted segments in flight
    ("lost", "u4"),  # segments in flight that are marked lost
    ("sacked", "u4"),  # segments in flight that the peer has received out of order
    ("reordering", "u4"),  # by how many segments the path is expected to reorder
    ("dsack_dups", "u4"),  # segments that the peer reported as duplicates (RFC 2883)
    ("reord_seen", "u4"),  # how often reordering was noticed
    ("ooo_in", "u4"),  # tcpi_rcv_ooopack: segments received out of order
    ("delivered", "u4"),  # segments
    ("delivered_ce", "u4"),  # of those, the ones that the peer reported as marked by a router (ECN CE)
    ("received_ce", "u4"),  # segments received that a router had marked (6.18)
    ("rate_delivered", "u4"),  # segments delivered within rate_interval_us
    ("rate_interval_us", "u4"),
    ("total_rto", "u4"),  # retransmission timeouts so far (6.7)
    ("total_rto_ms", "u4"),  # time in recovery from them
    ("busy_us", "u4"),  # time with data to send or in flight
    ("rwnd_limited_us", "u4"),  # part of it: limited by the peer's window
    ("sndbuf_limited_us", "u4"),  # part of it: limited by the send buffer
    ("last_sent_us", "u8"),  # how long ago data was last sent
    ("last_received_us", "u8"),  # how long ago data was last received
    ("last_ack_received_us", "u8"),  # how long ago an acknowledgement was last received
    ("drops", "u4"),  # sk_drops: of a listener, dropped handshakes among others
    ("cc", "S16"),  # name of the congestion control
)
"""A socket's state when it was read: by a pass over descriptors, by sock_diag or, of a closed one, at its close.

Counters run since the socket's birth and wrap; a value that the kernel lacks is UNKNOWN_U32, of times in 64 bits
UNKNOWN_U64: the greatest of its kind.
"""

EVENTS: Fields = (
    ("first_ns", "u8"),  # CLOCK_MONOTONIC: its birth, if that was seen, else when it was adopted; 0: no events of it
    ("cgroup_id", "u8"),  # of the task that called connect(), listen() or close(); 0: unknown
    ("comm", "S16"),  # name of the calling thread
    ("pid", "u4"),  # tgid of the caller; 0: unknown
    ("connect_us", "u4"),  # from connect() until it was established or had failed; 0: not known
    ("last_rtt_us", "u4"),  # sample of the last RTT_CB; 0: none seen
    ("rto_events", "u4"),  # calls of RTO_CB
    ("rto_us", "u4"),  # the timeout of the last RTO_CB
    ("rto_wait_us", "u4"),  # sum of all those timeouts
    ("syn_wait_us", "u4"),  # of that, what was waited for answers to SYNs
    ("retrans", "u4", (4,)),  # retransmitted segments, by RetransClass
    ("retrans_calls", "u4"),  # calls of RETRANS_CB that reported success
    ("retrans_failed", "u4"),  # calls of RETRANS_CB that reported an error: nothing was sent
    ("error", "u4"),  # errno that the application was told of, or would be if it asked; 0: none (on_error of sockops.c)
    ("states", "u2"),  # bit mask (1 << State) of the states that it was in
    ("state_changes", "u2"),
    ("backoff", "u1"),  # icsk_backoff at the last RTO_CB
    ("gave_up", "u1"),  # 1: an RTO_CB reported that the connection is given up
    ("direction", "u1"),  # Direction
    ("origin", "u1"),  # Origin
    ("found", "u1"),  # callback flags that the socket had before this program set its own
    ("owner", "u1"),  # OwnerKind of pid
    ("closed", "u1"),  # 1: it has ended, but the ring was full, so that this row waits in the map
    ("told", "u1"),  # 1: it has a story in the map ``stories``
    ("waiting", "u1"),  # 1: a timeout expired, and no RTT sample has shown an acknowledgement since
    ("resets", "u1"),  # bit mask of ResetSeen
    ("syn_retrans", "u1"),  # SYNs that were sent again; of an accepted connection 0
    ("soft_error", "u1"),  # errno of an ICMP message, as of the last timeout since it was established (sk_err_soft)
)
"""What only callbacks of sock_ops and tracepoints report: the value of the BPF map ``conns``, by socket cookie."""

ENDING: Fields = (
    ("end_ns", "u8"),  # CLOCK_MONOTONIC
    ("error", "u4"),  # sk_err at the close, an errno; UNKNOWN_U32 where the kernel does not tell
    ("from_state", "u1"),  # State before CLOSE; 0: its final record was lost
)
"""How and when a connection ended."""

FINAL: Fields = (("socket", "socket"), ("events", "events"), ("ending", "ending"))
"""The final record of a connection, written at its close into the ring buffer ``done``."""

OWNER: Fields = (
    ("cookie", "u8"),
    ("inode", "u8"),
    ("start_ns", "u8"),
    ("pid", "u4"),
    ("fd", "u4"),  # UNKNOWN_U32: no descriptor, see below
    ("comm", "S16"),  # name of its first thread
    ("image", "u8"),  # mm->start_stack: random where a program is executed, kept over fork(); 0: not known
)
"""A process's descriptor of a TCP socket. ``start_ns``: CLOCK_BOOTTIME at which the process started.

``cookie`` is 0 where the row is from a scan of /proc, which shows inodes only. Where ``fd`` is UNKNOWN_U32 the row
tells of a connection that waits to be accepted: ``cookie`` is its own, ``inode`` the cookie of its listener.
"""

MET: Fields = (
    ("cookie", "u8"),  # 0: no TCP socket, but one of MPTCP, whose subflows have its inode
    ("inode", "u8"),
    ("pid", "u4"),
    ("fd", "u4"),  # UNKNOWN_U32: of a connection that waits to be accepted, as in OWNER
    ("kind", "u1"),  # Met
    ("state", "u1"),
    ("cb_flags", "u1"),
    ("record", "u1"),  # HasRecord
    ("segs_in", "u4"),
    ("segs_out", "u4"),
    ("timer", "u4"),  # Timer in the upper 4 bits, and in the others how many milliseconds it has left
    ("pad", "u4", (2,)),  # a row is as long as MET_PROCESS
)
"""A descriptor of a socket that a pass over all descriptors has met: what of a socket at rest can change."""

MET_PROCESS: Fields = (
    ("start_ns", "u8"),  # these are those of OWNER
    ("image", "u8"),
    ("pid", "u4"),
    ("threads", "u4"),  # 0: not used
    ("kind", "u1"),  # Met.PROCESS
    ("pad", "u1", (3,)),
    ("comm", "S16"),
)
"""A process that a pass has met, before the descriptors that it holds: as long as MET."""

WALK: Fields = (
    ("since", "u8"),  # jiffies: a socket at which something happened later has moved; 0: all have
    ("began", "u8"),  # jiffies at the first row of the pass, written by the program
    ("number", "u4"),  # of the pass: it tells a record of this pass from one of an earlier one, and whose turn it is
    ("last_pid", "u4"),  # process that was told of last; 0: none
)
"""What steers a pass over all descriptors, and what it remembers: the only value of the BPF map ``walk``."""

TURNS = 32
"""A socket at rest is told of in full once in so many passes: a setsockopt() changes what only that shows."""

HAPPENINGS = 64
"""Happenings that a story keeps, the newest; a power of two, since bpf/story.h masks the index."""

HAPPENING: Fields = (
    ("first_ns", "u8"),  # CLOCK_MONOTONIC
    ("last_ns", "u8"),  # of the last, where several are merged into this one
    ("a", "u4"),
    ("b", "u4"),
    ("kind", "u1"),  # Happening, which says what a, b and detail are
    ("detail", "u1"),
    ("times", "u2"),  # how many are merged into this one
)
"""One event of a connection's story."""

STORY: Fields = (
    ("told", "u8"),  # happenings so far, of which the newest HAPPENINGS are kept
    ("srtt_us", "u8"),  # smoothed RTT with which the next is compared
    ("happenings", "happening", (HAPPENINGS,)),
)
"""The story of a connection from its first bad event on: the value of the BPF map ``stories``, by socket cookie."""

RTT_BUCKETS = 32
"""Buckets of the RTT histogram, one per power of two."""

SEEN: Fields = (
    ("calls", "u8", (OPERATORS,)),
    ("last_ns", "u8", (OPERATORS,)),  # CLOCK_MONOTONIC_COARSE of the last call; 0: never
    ("args", "u4", (OPERATORS, 3)),  # of the last call; of the whole host: of the first in the last jiffy with a call
    ("rtt", "u8", (RTT_BUCKETS,)),  # number of RTT_CB samples of 2^k us and more, less than 2^(k+1), for bucket k
)
"""Calls by operator: one record for the whole host, one for the watched connection.

``calls`` counts for the watched connection only: those of the host are in COUNTERS.
"""

CONTROL: Fields = (
    ("watched", "u8"),  # cookie of the connection that is looked at: its flags do not retire; 0: none
    ("beside", "u4"),  # 1: another program has come, so that nothing is asked for that it would notice without need
    ("light", "u4"),  # 1: so many connections come that new ones are asked for events alone
    ("reader", "u4"),  # tgid of who runs passes over all descriptors, written by the iterator; 0: not yet
    ("setter", "u4"),  # tgid of who duplicates descriptors to set flags, written by adoption.c; 0: not yet
)
"""What the monitor tells the BPF programs: the only value of the BPF map ``control``."""

OUR_LEVEL, OUR_OPTION = 0x54434F50, 0x464C4147
"""Level and name of the option, made up, by which callback flags of an open socket are set: bpf/adoption.c."""

FLAG_ASK: Fields = (
    ("cookie", "u8"),
    ("before_ns", "u8"),  # FlagRequest.STRIP: only if its life began before
    ("pid", "u4"),
    ("fd", "u4"),
    ("flags", "u4"),  # FlagRequest.ADOPT: those that it is to have at least
    ("what", "u4"),  # FlagRequest
)
"""What is asked of the helper: to do something to the callback flags of a socket, and who holds it."""

FLAG_REQUEST: Fields = (
    ("token", "u8"),  # tells the program who asks
    ("cookie", "u8"),
    ("before_ns", "u8"),
    ("flags", "u4"),
    ("what", "u4"),
)
"""The value of the option: not more than 32 bytes, for which the kernel need not allocate memory."""

FLAG_SETTER: Fields = (
    ("token", "u8"),  # who knows it may ask
    ("sk", "u8"),  # used by the program for a moment
)
"""The only value of the BPF map ``setter``."""

COUNTERS: Fields = (
    ("calls", "u8", (OPERATORS,)),
    ("requests", "u8", (OPERATORS,)),  # of the calls, those for request sockets
    ("untracked", "u8"),  # connections without a row, since the map ``conns`` was full
    ("ring_full", "u8"),  # final records that the ring had no room for: the row waits in the map
    ("time_wait", "u8"),  # 0: older recordings have TIME-WAIT sockets that an iterator met
    ("syn_recv", "u8"),  # request sockets, alike
    ("adopted", "u8"),  # sockets adopted
)
"""Per-CPU counters of the BPF programs since they were attached."""

CPU: Fields = (
    ("counters", "counters"),
    ("seen", "seen"),  # of the whole host
    ("jiffies", "u8", (OPERATORS,)),  # when ``seen`` was last written, by operator: once a jiffy is enough
    ("second", "u8"),  # jiffies / HZ of the last birth
    ("births", "u8"),  # births in that second of which all was asked
)
"""What the sock_ops program keeps for each CPU: the value of the BPF map ``counters``."""
