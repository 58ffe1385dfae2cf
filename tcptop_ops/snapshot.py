"""The kernel's TCP sockets at one instant: numpy record arrays, one row per socket, and the Snapshot that holds them.

The dtypes are made from ``fields``, which describes their members. They are also the layout of the C structs that the
BPF programs write (``bpf/records.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import fields

Records = NDArray[Any]
"""A structured array, a row per element; its dtype is one of this module's, or of ``tracker`` and ``diagnosis``."""

UNKNOWN_U32 = 0xFFFFFFFF
"""Value of a 32-bit field that the kernel did not report: shown as null.

The kernel's own convention for a minimum RTT that was never measured (``tcp_min_rtt()``).
"""

INFINITE_SSTHRESH = 0x7FFFFFFF
"""``ssthresh`` of a connection that never left slow start: TCP_INFINITE_SSTHRESH of include/net/tcp.h."""


def _dtype(listed: fields.Fields) -> np.dtype[np.void]:
    return np.dtype(list(listed), align=True)


SOCKET = _dtype(fields.SOCKET)
EVENTS = _dtype(fields.EVENTS)
ENDING = _dtype(fields.ENDING)
FINAL = np.dtype([("socket", SOCKET), ("events", EVENTS), ("ending", ENDING)], align=True)
"""A connection that ended: its socket at the close, its events, and how it ended (``fields.FINAL``)."""

OWNER = _dtype(fields.OWNER)
OWNED = np.dtype([("pid", "u4"), ("holders", "u4"), ("start_ns", "u8"), ("name", "S32"), ("how", "u1")])
"""The process that owns a socket. ``pid`` 0: unknown; ``how``: OwnerKind.

``holders``: number of processes with a descriptor of it; ``start_ns``: CLOCK_BOOTTIME at which the process started.
Both are 0 where the owner is not known from a descriptor.
"""


COUNTERS = _dtype(fields.COUNTERS)
CONTROL = _dtype(fields.CONTROL)
HAPPENING = _dtype(fields.HAPPENING)
STORY = np.dtype([("told", "u8"), ("srtt_us", "u8"), ("happenings", HAPPENING, (fields.HAPPENINGS,))], align=True)
"""``fields.STORY`` with the dtype of a happening in place of its name."""

SEEN = _dtype(fields.SEEN)


class State(IntEnum):
    """TCP states by the numbers of include/net/tcp_states.h; UNSEEN alone is this program's own."""

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
    UNSEEN = 15  # only as ``from_state``: the socket is gone, and no event reported how it ended


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
"""State names as ss prints them (``sstate_name`` of iproute2's misc/ss.c)."""


class Timer(IntEnum):
    """The timer that ``timer_us`` counts down: idiag_timer of struct inet_diag_msg up to PERSIST.

    inet_diag reports ICSK_TIME_LOSS_PROBE and ICSK_TIME_REO_TIMEOUT as RETRANSMIT too (``inet_sk_diag_fill()``); the
    BPF iterator tells them apart. idiag_timer 5, a delayed ACK since Linux 7.1, is DELACK here.
    """

    NONE = 0
    RETRANSMIT = 1
    KEEPALIVE = 2
    TIME_WAIT = 3
    PERSIST = 4  # zero window probes
    LOSS_PROBE = 5  # tail loss probe
    REORDER = 6  # RACK waits for segments that may only be reordered
    DELACK = 7  # delayed ACK


class Direction(IntEnum):
    """Which side opened the connection; LISTEN: a listener."""

    UNKNOWN = 0
    OUT = 1
    IN = 2
    LISTEN = 3


class Origin(IntEnum):
    """How much of a socket's life the sock_ops program has seen."""

    LISTED = 0  # nothing: it is only polled
    NEW = 1  # all, from its birth
    ADOPTED = 2  # all since the program started, when it was open already


class OwnerKind(IntEnum):
    """How the owner of a socket is known. The sock_ops program itself reports CALLER and CLOSER only."""

    UNKNOWN = 0
    HOLDER = 1  # has a descriptor of the socket
    CALLER = 2  # called connect() or listen()
    CLOSER = 3  # closed the accepted socket
    LISTENER = 4  # owns the listener that the connection came in through, and has not accepted it yet


class RetransClass(IntEnum):
    """Why a segment was retransmitted, as ``retrans_class()`` of bpf/sockops.c concludes from the socket's state."""

    RTO = 0  # after a retransmission timeout
    RECOVERY = 1  # loss recovery: later segments were SACKed, or segments are marked lost
    PROBE = 2  # tail loss probe (RFC 8985 7): sent before anything is known to be lost
    OTHER = 3  # in a state that sends no data, such as a SYN


class Happening(IntEnum):
    """What happened to a connection; the comments say what ``a``, ``b``, ``detail`` and ``times`` of HAPPENING hold."""

    CONNECT = 1
    ESTABLISHED = 2
    STATE = 3  # a: from, b: to (State)
    RTO = 4  # a: its number among consecutive timeouts, from 1; b: the timeout that expired, us
    RETRANS = 5  # a: segments in total; detail: RetransClass; times: calls of RETRANS_CB
    RECOVERED = 6  # acknowledged again after timeouts; a: srtt, us
    SRTT = 7  # the smoothed RTT grew by half or fell by a third, and by 20 ms at least; a: before, b: after, us
    CLOSE = 8  # a: error (errno, UNKNOWN_U32 where not told); b: from (State)
    ADOPTED = 9  # it was open when the program started; a: bit mask (1 << State) of the states it has been in since


class IteratorPass(IntEnum):
    """What a pass of the TCP iterator does to the callback flags of the sockets that it lists."""

    READ = 0  # nothing
    ADOPT = 1  # sets those that a socket lacks, and begins a row of events for it
    CLEAR = 2  # takes off those that this program set
    SURVEY = 3  # ADOPT, and also sockets that have all flags but no row: another program's, or an earlier monitor's
    STRIP = 4  # takes off the per-packet ones, of sockets born before another program came


class WritingOperator(IntEnum):
    """The sock_ops operators (enum in include/uapi/linux/bpf.h) at which the program writes a row of EVENTS."""

    TCP_CONNECT_CB = 3
    ACTIVE_ESTABLISHED_CB = 4
    PASSIVE_ESTABLISHED_CB = 5
    RTO_CB = 8
    RETRANS_CB = 9
    STATE_CB = 10
    TCP_LISTEN_CB = 11
    RTT_CB = 12


class SeenRow(IntEnum):
    """The rows of ``Snapshot.seen``."""

    HOST = 0  # the whole host
    WATCHED = 1  # the connection whose details are shown


@dataclass(frozen=True)
class Snapshot:
    """All TCP sockets at one instant. The Source owns the arrays and may write them again at its second next poll.

    What is to be kept for longer is a ``copy``. ``events[i]`` and ``owners[i]`` belong to ``sockets[i]``; where
    ``first_ns`` of events, or ``pid`` of owners, is 0 nothing is known. ``closed``: the connections that ended since
    the last snapshot.
    """

    time: float  # CLOCK_REALTIME, seconds
    now_ns: int  # CLOCK_MONOTONIC
    source: str  # name of the Source: sockops, sockdiag
    sockets: Records  # SOCKET
    events: Records  # EVENTS
    owners: Records  # OWNED
    closed: Records  # FINAL
    counters: Records  # a single COUNTERS, summed over the CPUs
    closed_owners: Records | None = None  # OWNED, aligned with closed; None: take those in closed["events"]
    callbacks_mode: str = ""  # a key of bpf.launch.MODES, or light; "" without a sock_ops program
    opened: int = 0  # connections since the last snapshot
    time_wait: int = 0  # sockets in TIME-WAIT, which have no row
    syn_recv: int = 0  # request sockets, which have no row
    half_open: Records = field(default_factory=lambda: np.zeros(0, SOCKET))  # request sockets: addresses and ports only
    namespaces: int = 1  # network namespaces seen
    missing: frozenset[str] = field(default_factory=frozenset)  # columns that this source cannot fill
    notes: tuple[str, ...] = ()  # what a user should know about this source, a line each
    users: Mapping[int, str] = field(default_factory=dict)  # uid -> name
    cgroups: Mapping[int, str] = field(default_factory=dict)  # cgroup id -> path below the mount
    devices: Mapping[int, str] = field(default_factory=dict)  # device_keys -> name
    watched: int = 0  # cookie of the connection whose details are shown; 0: none
    story: Records = field(default_factory=lambda: np.zeros(0, HAPPENING))  # of ``watched``, oldest first: a new array
    seen: Records = field(default_factory=lambda: np.zeros(2, SEEN))  # by SeenRow
    poll_s: float = 0.0  # how long the poll took, seconds
    program_ns: int = 0  # run time of the sock_ops program so far; counts only while it is measured: Source.measure
    program_calls: int = 0  # its calls so far, counted alike

    def copy(self) -> Snapshot:
        """Return the same in arrays and mappings of its own.

        Whoever keeps a snapshot needs one: a Source lists 100,000 sockets into one of two arrays in turn, so that at
        its second next poll those of this snapshot are overwritten; names are added to its mappings.
        """
        kept: dict[str, Any] = {
            one.name: copied(np.asarray(value)) if isinstance(value, (np.ndarray, np.void)) else dict(value)
            for one in dataclass_fields(self)
            if isinstance(value := getattr(self, one.name), (np.ndarray, np.void, Mapping))
        }
        return replace(self, **kept)


def copied(records: Records) -> Records:
    """Return a copy of records of any shape, rows as opaque bytes as in ``gather``."""
    flat = np.ascontiguousarray(records).reshape(-1)
    whole: Records = flat.view(f"V{flat.itemsize}").copy().view(flat.dtype).reshape(np.shape(records))
    return whole


def gather(records: Records, which: NDArray[Any]) -> Records:
    """Return ``records[which]``: a copy of the rows at these indices, or where this mask is true.

    Rows are copied as opaque bytes: numpy would copy a structured row member by member, which is slower.
    """
    if not records.flags.c_contiguous:
        copied: Records = records[which]
        return copied
    opaque: Records = records.view(f"V{records.dtype.itemsize}")
    found: Records = opaque[which].view(records.dtype)
    return found


def scatter(records: Records, which: NDArray[Any], values: Records) -> None:
    """Assign ``records[which] = values`` in place, rows as opaque bytes as in ``gather``; both have the same dtype."""
    opaque = f"V{records.dtype.itemsize}"
    records.view(opaque)[which] = np.ascontiguousarray(values).view(opaque)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sorted distinct values, as ``np.unique`` does.

    Up to eight of them are found without sorting: most hosts have few namespaces, cgroups and users.
    """
    found: list[Any] = []
    rest = values
    while len(rest) and len(found) < 8:
        found.append(rest[0])
        rest = rest[rest != rest[0]]
    return np.unique(np.concatenate([np.array(found, values.dtype), rest]))


def find_sorted(sorted_values: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return where each wanted value is among the sorted ones, and whether it is there.

    Of equal sorted values the first is meant. Positions are meaningful only where the second array is True: elsewhere
    they are any index of ``sorted_values``, or 0 if it is empty, so index with ``positions[found]`` then.
    """
    if not len(sorted_values):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), np.bool_)
    positions = np.searchsorted(sorted_values, wanted)
    np.minimum(positions, len(sorted_values) - 1, out=positions)
    found: NDArray[np.bool_] = sorted_values[positions] == wanted
    return positions, found


def bound_to(sockets: Records) -> NDArray[np.uint64]:
    """Return network namespace and local port as one number per row.

    It is equal for a listener and the connections that came in through it.
    """
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(16) | sockets["lport"]
    return keys


def device_keys(sockets: Records) -> NDArray[np.uint64]:
    """Return network namespace (upper 32 bits) and interface index as one number per row; 0: bound to no device."""
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(32) | sockets["ifindex"]
    keys[sockets["ifindex"] == 0] = 0
    return keys
