"""What the kernel says now: the records a Source returns, one numpy row a socket.

The dtypes are the layout of the records in memory, for the kernel's side too; ``fields`` says what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import fields

Records = NDArray[Any]
"""A structured array."""

UNKNOWN_U32 = 0xFFFFFFFF
"""What a 32-bit field holds where the kernel does not tell (its own convention for min RTT: ``tcp_min_rtt``)."""

INFINITE_SSTHRESH = 0x7FFFFFFF
"""TCP_INFINITE_SSTHRESH of include/net/tcp.h: slow start was never left."""


def _dtype(listed: fields.Fields) -> np.dtype[np.void]:
    return np.dtype(list(listed), align=True)


SOCKET = _dtype(fields.SOCKET)
EVENTS = _dtype(fields.EVENTS)
ENDING = _dtype(fields.ENDING)
FINAL = np.dtype([("socket", SOCKET), ("events", EVENTS), ("ending", ENDING)], align=True)
OWNER = _dtype(fields.OWNER)
OWNED = np.dtype([("pid", "u4"), ("holders", "u4"), ("start_ns", "u8"), ("name", "S32"), ("how", "u1")])
"""Whose a row is; pid 0 unknown. ``holders``: how many processes hold it; ``how``: OwnerKind."""


COUNTERS = _dtype(fields.COUNTERS)
HAPPENING = _dtype(fields.HAPPENING)
STORY = np.dtype([("told", "u8"), ("srtt_us", "u8"), ("happenings", HAPPENING, (fields.HAPPENINGS,))], align=True)
SEEN = _dtype(fields.SEEN)


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
    """What ``timer_us`` waits for: idiag_timer of inet_diag up to 4, and the two of ICSK_TIME that it folds into 1.

    Its 5, of Linux 7.1 and later, is DELACK here.
    """

    NONE = 0
    RETRANSMIT = 1
    KEEPALIVE = 2
    TIME_WAIT = 3
    PERSIST = 4
    LOSS_PROBE = 5
    REORDER = 6
    DELACK = 7


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


class Happening(IntEnum):
    """What happened to a connection, and what the fields of HAPPENING say of it."""

    CONNECT = 1
    ESTABLISHED = 2
    STATE = 3  # a: from, b: to (State)
    RTO = 4  # a: the how manieth in a row, from 1; b: how long was waited, us
    RETRANS = 5  # a: segments, all together; detail: RetransClass; times: calls
    RECOVERED = 6  # an acknowledgement after timeouts; a: srtt, us
    SRTT = 7  # it grew or fell by half or more; a: before, b: after, us
    CLOSE = 8  # a: error (errno, UNKNOWN_U32 where not told); b: from (State)
    ADOPTED = 9  # met in the middle of its life; a: a bit mask of State, with the one it was in then


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
    watched: int = 0  # the cookie of the connection that is looked at
    story: Records = field(default_factory=lambda: np.zeros(0, HAPPENING))  # its, the oldest first
    seen: Records = field(default_factory=lambda: np.zeros(2, SEEN))  # of the host, and of that connection
    poll_s: float = 0.0
    program_ns: int = 0  # what the kernel spent in the program so far, while that is measured (see Source.measure)
    program_calls: int = 0


def gather(records: Records, which: NDArray[Any]) -> Records:
    """``records[which]``, whole rows at a time: numpy would copy a structured row member by member."""
    if not records.flags.c_contiguous:
        copied: Records = records[which]
        return copied
    opaque: Records = records.view(f"V{records.dtype.itemsize}")
    found: Records = opaque[which].view(records.dtype)
    return found


def scatter(records: Records, which: NDArray[Any], values: Records) -> None:
    """``records[which] = values``, whole rows at a time."""
    opaque = f"V{records.dtype.itemsize}"
    records.view(opaque)[which] = np.ascontiguousarray(values).view(opaque)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """``np.unique`` without sorting all: most hosts have few namespaces, cgroup trees and users."""
    found: list[Any] = []
    rest = values
    while len(rest) and len(found) < 8:
        found.append(rest[0])
        rest = rest[rest != rest[0]]
    return np.unique(np.concatenate([np.array(found, values.dtype), rest]))


def bound_to(sockets: Records) -> NDArray[np.uint64]:
    """Namespace and local port, as one number: what a connection that comes in has in common with its listener."""
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(16) | sockets["lport"]
    return keys


def device_keys(sockets: Records) -> NDArray[np.uint64]:
    """Namespace and interface index as one number; 0 where the socket is not bound to a device."""
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(32) | sockets["ifindex"]
    keys[sockets["ifindex"] == 0] = 0
    return keys
