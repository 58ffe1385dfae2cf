"""What a rule looks at: the rows of a tick, and what the tick before knew of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask, find_sorted, gather
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.endings import was_established
from tcptop_ops.model.enums import State
from tcptop_ops.model.listener_drops import listened_by, none_listening
from tcptop_ops.model.namespace_counters import NET, none_known
from tcptop_ops.model.pairs import Pairs
from tcptop_ops.model.records import SOCKET, Records

Floats = NDArray[np.float64]


MEMORY = np.dtype(
    [
        ("segs_in", "u4"),  # at the last tick
        ("failed", "u4"),  # retrans_failed when ``retransmits`` was last 0: those since are failures in a row
        ("heard", "u1"),  # ``retransmits`` when segs_in last grew
        ("recv_q", "u4"),  # at the last tick
        ("ooo_in", "u4"),  # at the last tick
        ("ooo_s", "f8"),  # when it last grew
        ("ooo_seconds", "u1"),  # in how many seconds in a row it grew: ``notice_disorder``
        ("paired", "u1"),  # 1: its other end was on this host
        ("state", "u1"),
        ("state_s", "f8"),  # since when in this state, or a listener's queue full: s, CLOCK_MONOTONIC
        ("score", "f4"),  # at the last tick
        ("cause", "u1"),  # index into CAUSES, at the last tick
        ("syn_retrans", "u1"),  # SYNs that were sent again, as far as seen in SYN-SENT
        ("matched_s", "f8"),  # when the rule of that cause last matched: s, CLOCK_MONOTONIC
        ("listener", "u8"),  # RATES.listener, at the last tick
        ("zero_window_us", "u8"),  # time so far in which data waited for the peer to open its window
        ("acked", "u4"),  # at the last tick: bytes_acked, its lower half
        ("delivered", "u4"),  # delivered - sacked
        ("received", "u4"),  # bytes_received, its lower half
        ("pmtu", "u4"),
        ("min_rtt_us", "u4"),  # least so far
        ("acked_size", "u2"),  # largest segments that were acknowledged, as the average of a tick; bytes
        ("mss_before", "u2"),  # MSS of this path before the kernel lowered it in a stall, else the present one
        ("retrans_segs", "u4"),
        ("resized", "u4"),  # segments retransmitted since a router told of a smaller MTU
        ("resized_s", "f8"),  # when it last did: s, CLOCK_MONOTONIC
        ("lowered_s", "f8"),  # when the kernel did so: s, CLOCK_MONOTONIC; 0: it did not
        ("stalled_s", "f8"),  # since when nothing is acknowledged after a timeout, as far as seen, where ``stalled``
        ("passing_s", "f4"),  # for how long new data of the peer came meanwhile, seconds
        ("stalled", "u1"),  # 1: nothing is acknowledged after a timeout
        ("lately", "u1"),  # 1: something had come shortly before that
        ("nagle", "u1"),  # a bit a tick, the last tick's the lowest: 1 where Nagle's algorithm held back a write
        ("taken", "u8"),  # bytes received less those that waited, when any last waited
        ("in_parts", "u1"),  # 1: some of what waits was taken from one tick to the next, and some was left
        ("taken_s", "f8"),  # while any wait: since when none were taken, as far as seen: s, CLOCK_MONOTONIC
        ("no_window_s", "f8"),  # since when we offer no window with nothing unread: s, CLOCK_MONOTONIC; 0: we do
        ("held", "u1"),  # 1: bytes wait, and the process cannot run: stopped, frozen, a zombie
    ]
)
"""What is remembered of a socket from one tick to the next."""


@dataclass(frozen=True)
class Everyone:
    """All live rows of the tick, aligned, for what a rule wants to know of a row's other end."""

    sockets: Records  # SOCKET
    events: Records  # EVENTS
    win: Records  # COUNTED: growth within W
    win_s: Floats  # length of W for each
    memory: Records  # MEMORY


@dataclass(frozen=True)
class Case:
    """The rows to judge. The arrays are aligned: element i of each belongs to the same socket."""

    sockets: Records  # SOCKET
    events: Records  # EVENTS
    win: Records  # COUNTED: growth within W
    win_s: Floats  # length of W for this row, seconds: a young one has lived through a part of it only
    memory: Records  # MEMORY
    now_s: float  # CLOCK_MONOTONIC
    ended: NDArray[np.uint8]  # index into endings.ENDS of a closed row; 0 for a live one
    net_of: Records = field(default_factory=none_known)  # NET_OF, a row a namespace, sorted by its number
    listened: Records = field(default_factory=none_listening)  # LISTENED, a row a listener, sorted by its cookie
    pairs: Pairs | None = None  # aligned; indices into ``everyone``; None: not known, as of closed rows
    everyone: Everyone | None = None

    def take(self, which: NDArray[Any]) -> Case:
        """Return a Case of the rows at these indices, or where this mask is true."""
        sockets, events, win, memory = (
            gather(part, which) for part in (self.sockets, self.events, self.win, self.memory)
        )
        win_s, ended = self.win_s[which], self.ended[which]
        pairs = None if self.pairs is None else self.pairs.take(which)
        known = (self.net_of, self.listened, pairs, self.everyone)
        return Case(sockets, events, win, win_s, memory, self.now_s, ended, *known)

    @cached_property
    def states(self) -> NDArray[np.uint8]:
        """The state of each row, side by side: in records that are far apart each look at all of them costs more."""
        found: NDArray[np.uint8] = self.sockets["state"].copy()
        return found

    @cached_property
    def queued(self) -> NDArray[np.intp]:
        """Indices of the rows with bytes that wait to be read, and of the listeners with a queue."""
        return np.flatnonzero(self.sockets["recv_q"])

    @cached_property
    def net(self) -> Records:
        """NET rows, aligned: what the kernel counted within W in each row's namespace, and the limits there.

        Zeros where that is not known. Made when it is first asked for: a rule sees the few suspicious rows only.
        """
        at, found = find_sorted(self.net_of["netns"], self.sockets["netns"])
        told = np.zeros(len(self), NET)
        told[found] = self.net_of["net"][at[found]]
        return told

    @cached_property
    def listening(self) -> Records:
        """LISTENED rows, aligned: what each listener dropped at a full queue. Zeros for a row that does not listen.

        Made when it is first asked for, as ``net``.
        """
        return listened_by(self.sockets["cookie"], self.listened)

    @property
    def partner(self) -> NDArray[np.intp]:
        """Index into ``everyone`` of each row's other end, -1 where that is not on this host, or not known."""
        return np.full(len(self), -1, np.intp) if self.pairs is None else self.pairs.partner

    @property
    def has_partner(self) -> Mask:
        """Return where the other end of a row is on this host, too."""
        found: Mask = self.partner >= 0
        return found

    @property
    def listener(self) -> NDArray[np.intp]:
        """Index into ``everyone`` of the listener in whose queue an attempt waits, -1 where none is known."""
        return np.full(len(self), -1, np.intp) if self.pairs is None else self.pairs.listener

    def other(self, name: str) -> NDArray[Any]:
        """Return a field of SOCKET of each row's other end, 0 where there is none."""
        return self._of_partner(None if self.everyone is None else self.everyone.sockets[name], SOCKET[name])

    def other_win(self, name: str) -> NDArray[Any]:
        """Return how much a counter of COUNTED grew within W at each row's other end, 0 where there is none."""
        return self._of_partner(None if self.everyone is None else self.everyone.win[name], COUNTED[name])

    @property
    def other_win_s(self) -> Floats:
        """Return the length of W for each row's other end, seconds, 0 where there is none."""
        return self._of_partner(None if self.everyone is None else self.everyone.win_s, np.dtype("f8"))

    @cached_property
    def partners(self) -> tuple[NDArray[np.intp], Case]:
        """Which rows have their other end on this host, and a Case of those ends.

        The ends of those ends are not known in it.
        """
        which = np.flatnonzero(self.has_partner)
        if self.everyone is None or not len(which):
            return which[:0], self.take(which[:0])
        at = self.partner[which]
        them = self.everyone
        sockets, events, win, memory = (gather(part, at) for part in (them.sockets, them.events, them.win, them.memory))
        ended = np.zeros(len(at), np.uint8)
        return which, Case(sockets, events, win, them.win_s[at], memory, self.now_s, ended, self.net_of, self.listened)

    def _of_partner(self, values: NDArray[Any] | None, kind: np.dtype[Any]) -> NDArray[Any]:
        base, shape = kind.subdtype or (kind, ())
        found = np.zeros((len(self), *shape), base)
        if values is not None:
            there = self.has_partner
            found[there] = values[self.partner[there]]
        return found

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.sockets)

    @property
    def in_state_s(self) -> Floats:
        """Seconds that each row has been in its state, as far as seen."""
        since: Floats = self.now_s - self.memory["state_s"]
        return since

    def is_in(self, state: State) -> Mask:
        """Return where a row is live and in this state."""
        found: Mask = (self.states == state) & (self.ended == 0)
        return found

    @property
    def unsent(self) -> Mask:
        """Where a connection has unsent data and nothing in flight."""
        found: Mask = (self.sockets["unacked"] == 0) & (self.sockets["notsent"] > 0) & ~self.is_in(State.LISTEN)
        return found


def as_floats(values: NDArray[Any]) -> Floats:
    """Return the values as float64."""
    return values.astype(np.float64)


def percent(part: Floats, whole: Floats) -> Floats:
    """Return what share ``part`` is of ``whole``, in percent; a whole below 1 counts as 1."""
    return 100.0 * part / np.maximum(whole, 1.0)


def never_stood(case: Case) -> Mask:
    """Return where a connection was never established, as far as callbacks tell."""
    return ~was_established(case.events["states"])


def stood(case: Case) -> Mask:
    """Return where a connection is known to have been established: by its states, or by the one it was last seen in."""
    seen = ~np.isin(case.sockets["state"], [State.SYN_SENT, State.SYN_RECV, State.CLOSE])
    return np.where(case.events["first_ns"] == 0, seen, ~never_stood(case))
