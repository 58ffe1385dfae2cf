"""What the kernel says now: the records a Source returns, one numpy row a socket.

The dtypes are the layout of the records in memory, for the kernel's side too: ``bpf/records.py`` writes the C structs
from them. Times are microseconds and sizes bytes unless a name says otherwise. Names are those of struct tcp_info
(include/uapi/linux/tcp.h), less the prefix, where it has the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]
"""A structured array."""

UNKNOWN_U32 = 0xFFFFFFFF
"""What a 32-bit field holds where the kernel does not tell (its own convention for min RTT: ``tcp_min_rtt``)."""

INFINITE_SSTHRESH = 0x7FFFFFFF
"""TCP_INFINITE_SSTHRESH of include/net/tcp.h: slow start was never left."""

SOCKET = np.dtype(
    [
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
    ],
    align=True,
)
"""A socket's present state, from the TCP iterator, from sock_diag, or (a closed one) from the final record."""

EVENTS = np.dtype(
    [
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
    ],
    align=True,
)
"""What only events tell: the value of the BPF map ``conns``."""

ENDING = np.dtype(
    [
        ("end_ns", "u8"),
        ("error", "u4"),  # sk_err at the close, an errno; UNKNOWN_U32 where the kernel does not tell
        ("from_state", "u1"),  # the state it left for CLOSE
    ],
    align=True,
)
"""How and when a connection ended."""

FINAL = np.dtype([("socket", SOCKET), ("events", EVENTS), ("ending", ENDING)], align=True)
"""The final record of a connection: what the ring buffer ``done`` carries."""

OWNER = np.dtype(
    [("cookie", "u8"), ("inode", "u8"), ("start_ns", "u8"), ("pid", "u4"), ("fd", "u4"), ("comm", "S16")], align=True
)
"""A descriptor of a TCP socket. ``start_ns``: CLOCK_BOOTTIME at which the process started."""

OWNED = np.dtype([("pid", "u4"), ("holders", "u4"), ("start_ns", "u8"), ("name", "S32"), ("how", "u1")])
"""Whose a row is; pid 0 unknown. ``holders``: how many processes hold it; ``how``: OwnerKind."""

OPERATORS = 22
"""Operators counted: those of 6.18, and room for one that nobody knows (the last)."""

COUNTERS = np.dtype(
    [
        ("calls", "u8", (OPERATORS,)),
        ("requests", "u8", (OPERATORS,)),  # of the calls, those for request sockets
        ("untracked", "u8"),  # births that the full map turned away
        ("ring_full", "u8"),  # final records that the full ring turned away: the row waits in the map
        ("time_wait", "u8"),  # sockets met by the TCP iterator, all passes together
        ("syn_recv", "u8"),
        ("adopted", "u8"),
    ],
    align=True,
)
"""Per-CPU counters of the program, since it was attached."""


class State(IntEnum):
    """TCP states, include/net/tcp_states.h."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12
    UNSEEN = 15  # no state of the kernel's: ``from_state`` of a socket whose end nobody told


STATE_NAMES: dict[int, str] = {
    State.ESTABLISHED: "ESTAB",
    State.SYN_SENT: "SYN-SENT",
    State.SYN_RECV: "SYN-RECV",
    State.FIN_WAIT1: "FIN-WAIT-1",
    State.FIN_WAIT2: "FIN-WAIT-2",
    State.TIME_WAIT: "TIME-WAIT",
    State.CLOSE: "UNCONN",
    State.CLOSE_WAIT: "CLOSE-WAIT",
    State.LAST_ACK: "LAST-ACK",
    State.LISTEN: "LISTEN",
    State.CLOSING: "CLOSING",
}
"""As ss names them (misc/ss.c, sstate_name)."""


class Timer(IntEnum):
    """What ``timer_us`` waits for: idiag_timer of inet_diag, and the two of ICSK_TIME that it folds into 1."""

    NONE = 0
    RETRANSMIT = 1
    KEEPALIVE = 2
    TIME_WAIT = 3
    PERSIST = 4
    LOSS_PROBE = 5
    REORDER = 6


class Direction(IntEnum):
    """Who opened the connection."""

    UNKNOWN = 0
    OUT = 1
    IN = 2
    LISTEN = 3


class Origin(IntEnum):
    """How much of a socket's life was seen."""

    LISTED = 0
    NEW = 1
    ADOPTED = 2


class OwnerKind(IntEnum):
    """How an owner is known. The kernel's side knows CALLER and CLOSER."""

    UNKNOWN = 0
    HOLDER = 1  # has the descriptor
    CALLER = 2  # called connect() or listen()
    CLOSER = 3  # closed the accepted socket
    LISTENER = 4  # listens where the connection came in, and has not accepted it yet


class RetransClass(IntEnum):
    """Why a segment was sent again."""

    RTO = 0
    RECOVERY = 1
    PROBE = 2
    OTHER = 3


@dataclass(frozen=True)
class Snapshot:
    """One instant. All arrays belong to the Source and hold until its second next poll.

    ``events[i]`` and ``owners[i]`` belong to ``sockets[i]``; a row of ``events`` with ``first_ns`` 0, or of ``owners``
    with ``pid`` 0, tells nothing. ``closed`` (FINAL) ended since the last snapshot.
    """

    time: float  # CLOCK_REALTIME, seconds
    now_ns: int  # CLOCK_MONOTONIC
    source: str
    sockets: Records
    events: Records
    owners: Records  # OWNED
    closed: Records
    counters: Records  # one COUNTERS, all CPUs together
    closed_owners: Records | None = None  # OWNED, aligned with closed; None: as the events tell
    callbacks_mode: str = ""
    opened: int = 0  # since the last snapshot
    time_wait: int = 0
    syn_recv: int = 0
    half_open: Records = field(default_factory=lambda: np.zeros(0, SOCKET))  # those: addresses and ports alone
    namespaces: int = 1
    missing: frozenset[str] = field(default_factory=frozenset)  # fields that this source can't tell
    notes: tuple[str, ...] = ()  # what a user should know about this source, a line each
    users: Mapping[int, str] = field(default_factory=dict)  # uid -> name
    cgroups: Mapping[int, str] = field(default_factory=dict)  # cgroup id -> path below the mount
    devices: Mapping[int, str] = field(default_factory=dict)  # device_keys -> name
    poll_s: float = 0.0


def gather(records: Records, which: NDArray[Any]) -> Records:
    """``records[which]``, whole rows at a time: numpy would copy a structured row member by member."""
    if not records.flags.c_contiguous:
        copied: Records = records[which]
        return copied
    opaque: Records = records.view(f"V{records.dtype.itemsize}")
    found: Records = opaque[which].view(records.dtype)
    return found


def bound_to(sockets: Records) -> NDArray[np.uint64]:
    """Namespace and local port, as one number: what a connection that comes in has in common with its listener."""
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(16) | sockets["lport"]
    return keys


def device_keys(sockets: Records) -> NDArray[np.uint64]:
    """Namespace and interface index as one number; 0 where the socket is not bound to a device."""
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(32) | sockets["ifindex"]
    keys[sockets["ifindex"] == 0] = 0
    return keys
