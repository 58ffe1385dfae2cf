"""What the tracker remembers of each socket from one tick to the next, in arrays by slot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import MEMORY
from tcptop_ops.diagnosis.memory import first_memory, probe_segments, waited_us
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.enums import Origin
from tcptop_ops.model.flows import rto_events
from tcptop_ops.model.records import UNKNOWN_U32, Records
from tcptop_ops.tracking.window import Window, resized, words

Slots = NDArray[np.intp]


def counted(sockets: Records, events: Records, waited: NDArray[np.uint32]) -> Records:
    """Return the present values of the counters whose growth within W is wanted, as COUNTED rows.

    ``waited``: ``waited_us`` of these rows; that of SYNs is taken off.
    """
    now = np.empty(len(sockets), COUNTED)
    for name in COUNTED.names or ():
        if name in (sockets.dtype.names or ()):
            now[name] = sockets[name]
    now["rto_events"] = rto_events(sockets, events)
    now["rto_wait_us"] = waited - events["syn_wait_us"]
    now["probe_segs"] = probe_segments(events)
    now["retrans_calls"] = events["retrans_calls"]
    return now


class Counts:
    """The counters of some rows of a tick: what rates and growth are made of."""

    def __init__(self, sockets: Records, events: Records) -> None:
        """Read them. The rows are aligned, as the arrays of this object are with them."""
        self.waited = waited_us(sockets, events)
        self.counters = counted(sockets, events, self.waited)
        self.payload = np.stack([sockets["bytes_acked"], sockets["bytes_received"]], axis=1)
        """Bytes acknowledged and bytes received so far, a row per socket."""


_ARRAYS = ("payload", "counters", "first_ns", "since_s", "fresh", "memory", "stirs", "had_partner")


class Known:
    """The arrays. Who gives out the slots calls ``grow`` before a new one is used."""

    def __init__(self, window_s: float) -> None:
        """Begin without slots. ``window_s``: length of W, seconds."""
        self.window = Window(window_s)
        self._window_s = window_s
        self.payload = np.zeros((0, 2), "u8")
        self.counters: Records = np.zeros(0, COUNTED)  # at the last tick
        self.first_ns = np.zeros(0, "u8")  # of EVENTS
        self.since_s = np.zeros(0, "f8")  # since when the growth is known: CLOCK_MONOTONIC
        self.fresh = np.zeros(0, "u1")  # ticks since it was first seen, 255 at most
        self.memory: Records = np.zeros(0, MEMORY)
        self.stirs = np.zeros(0, np.bool_)  # whether it has to be worked out at the next tick even if it did not change
        self.had_partner = np.zeros(0, np.bool_)  # at the last tick

    def __len__(self) -> int:
        """Return the number of slots that there is room for."""
        return len(self.fresh)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots, more than before."""
        self.window.resize(capacity)
        for name in _ARRAYS:
            setattr(self, name, resized(getattr(self, name), capacity))

    def move(self, moved: Slots, capacity: int) -> None:
        """Move these slots, in this order, to the first ones, and keep room for ``capacity`` alone."""
        self.window.move(moved, capacity)
        for name in _ARRAYS:
            setattr(self, name, resized(getattr(self, name)[moved], capacity))

    def begin(
        self, slots: Slots, counts: Counts, sockets: Records, events: Records, times_ns: tuple[int, int, int]
    ) -> None:
        """Set up the slots of sockets that are seen for the first time.

        The growth of one whose birth within W was seen begins at 0; so do its rates if it was born since the last tick.
        Any other begins at its present counters: a snapshot may have missed it, or its namespace was found late.

        ``times_ns``: the first tick, the last one and this one, CLOCK_MONOTONIC; the last is 0 at the first.
        """
        start_ns, before_ns, now_ns = times_ns
        first = events["first_ns"]
        whole = (events["origin"] == Origin.NEW) & (first >= max(start_ns, now_ns - int(self._window_s * 1e9)))
        born = whole & (first >= before_ns)
        base, last = counts.counters.copy(), counts.counters.copy()
        base[whole] = last[born] = np.zeros((), COUNTED)
        not_told = words(counts.counters) == UNKNOWN_U32
        words(base)[not_told] = words(last)[not_told] = UNKNOWN_U32
        self.window.begin(slots, base)
        self.counters[slots] = last
        self.payload[slots] = np.where(born[:, None], 0, counts.payload)
        self.first_ns[slots] = first
        self.since_s[slots] = np.where(whole, first / 1e9, now_ns / 1e9)
        self.fresh[slots] = 0
        self.memory[slots] = first_memory(sockets, events, now_ns / 1e9)
        self.had_partner[slots] = False
