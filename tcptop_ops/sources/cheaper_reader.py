"""The present state by the reader that costs less on this host: a pass over all descriptors, or sock_diag.

Both tell all sockets exactly. A pass costs by the number of descriptors of any kind, sock_diag by that of sockets and
of namespaces. Neither can be known without having read once: the other reader is tried now and then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources.cpu_share import Clock
from tcptop_ops.sources.socket_state import SocketState, StateReader

TRY_AGAIN_S = 300.0
"""Seconds until the other reader is tried again, unless there is much more or less to read by then."""

SETTLED_S = 30.0
"""Seconds between two trials at the least, however much changes."""

TRIAL_READS = 2
"""Reads of a trial. The first one opens sockets and grows buffers: it is the least that counts."""

REMEMBERED = 5
"""Reads of the reader in use of which the least counts: a busy machine makes the same work dearer, never cheaper."""

DEARER = 0.8
"""The other reader is taken if it costs less than this part of what is paid now."""

DEAR_S = 0.5
"""A first read that took so much CPU time is not repeated before the other reader was tried."""

HOPELESS = 10.0
"""A trial ends at its first read where that took so many times what is paid now."""

CHANGED = 1.5
"""A trial is made again where sockets or descriptors have become so many times more, or less."""

OWNERS_SHARE = 0.1
"""Most of a processor that passes over the descriptors take beside sock_diag, for owners (``descriptors.REST``)."""


@dataclass
class _Way:
    """One of the readers, and what it costs."""

    name: str
    reader: StateReader
    costs: list[float] = field(default_factory=list)  # CPU seconds of its last reads

    @property
    def cost(self) -> float:
        return min(self.costs)


class CheaperReader:
    """A StateReader over two others. Used by one thread."""

    def __init__(
        self, passes: StateReader, dumps: StateReader, clock: Clock = time.monotonic, cpu: Clock = time.thread_time
    ) -> None:
        """Take both, and close them at the end. ``passes`` looks at all descriptors and is first, ``dumps``: sock_diag.

        ``cpu``: CPU time of this thread, in the kernel too.
        """
        self._passes, self._dumps = _Way("descriptors", passes), _Way("sock_diag", dumps)
        self._clock, self._cpu = clock, cpu
        self._used = self._passes
        self._trial: _Way | None = None  # what reads for a trial
        self._rival: _Way | None = None  # what was tried, until the two are compared
        self._tried_at = clock()
        self._tried_with = (0, 0)  # sockets and descriptors at the last trial; 0: not known
        self._read_at, self._interval_s = clock(), 1.0
        self._last: Records = np.zeros(0, SOCKET)
        self._before, self._last_by, self._is_other = self._last, self._used, False

    @property
    def why(self) -> str:
        """Which of the two reads, and why: a line without a full stop."""
        if not (self._passes.costs and self._dumps.costs):
            return f"by {self._used.name}: the other way was not tried yet"
        passes_ms, dumps_ms = (self._price(way) * 1e3 for way in (self._passes, self._dumps))
        is_dearer = (passes_ms > dumps_ms) == (self._used is self._passes)
        how = "the other way costs hardly less here" if is_dearer else "which costs less here"
        costs = f"descriptors {passes_ms:.1f} ms, sock_diag with owners {dumps_ms:.1f} ms of CPU a read"
        return f"by {self._used.name}, {how}: {costs}"

    def read(self) -> SocketState:
        """See StateReader."""
        now = self._clock()
        self._interval_s, self._read_at = max(now - self._read_at, 0.0), now
        way = self._trial or self._used
        begun = self._cpu()
        state = way.reader.read()
        way.costs = [*way.costs, self._cpu() - begun][-REMEMBERED:]
        state = self._joined(state, way)
        self._choose(way, _size(state), now)
        return state

    def _joined(self, state: SocketState, way: _Way) -> SocketState:
        """Return the state with the rows of the last read before it, whichever reader had read them."""
        self._is_other, self._before, self._last_by = way is not self._last_by, self._last, way
        return self._after(state)

    def _after(self, state: SocketState) -> SocketState:
        self._last = state.sockets
        return replace(state, before=self._before, changed=None) if self._is_other else state

    def _choose(self, way: _Way, size: tuple[int, int], now: float) -> None:
        """Begin a trial, or end it and compare, once both were read often enough for that."""
        if self._trial is not None:
            self._rival = way
            if self._is_known(way, self._used):
                self._trial = None
        elif self._rival is None and self._is_trial_due(size, now):
            self._trial = self._dumps if self._used is self._passes else self._passes
            self._trial.costs, self._tried_at, self._tried_with = [], now, size
        if self._trial is None and self._rival is not None and self._is_known(self._used, self._rival):
            if self._price(self._rival) < DEARER * self._price(self._used):
                self._used, self._tried_with = self._rival, size
            self._rival = None

    def _is_known(self, way: _Way, other: _Way) -> bool:
        """Whether what it costs is known: after TRIAL_READS, or after one that was hopelessly dearer than the other."""
        return len(way.costs) >= TRIAL_READS or self._price(way) > HOPELESS * self._price(other)

    def _is_trial_due(self, size: tuple[int, int], now: float) -> bool:
        passed = now - self._tried_at
        untried = not (self._passes.costs and self._dumps.costs)
        if untried:
            return len(self._used.costs) >= TRIAL_READS or self._used.cost > DEAR_S
        return passed >= TRY_AGAIN_S or (passed >= SETTLED_S and _differs(size, self._tried_with))

    def _price(self, way: _Way) -> float:
        """CPU seconds of a read, with the passes for owners that go beside one of sock_diag."""
        if way is self._passes or not self._passes.costs:
            return way.cost
        return way.cost + min(self._passes.cost, OWNERS_SHARE * self._interval_s)

    def devices(self, sockets: Records) -> dict[int, str]:
        """See StateReader."""
        return self._last_by.reader.devices(sockets)

    def rest(self) -> SocketState | None:
        """See StateReader."""
        state = self._last_by.reader.rest()
        return None if state is None else self._after(state)

    def close(self) -> None:
        """See StateReader."""
        self._passes.reader.close()
        self._dumps.reader.close()


def _size(state: SocketState) -> tuple[int, int]:
    return len(state.sockets), 0 if state.descriptors is None else len(state.descriptors)


def _differs(size: tuple[int, int], before: tuple[int, int]) -> bool:
    """Whether either number has become another by half. One that is not known at both times says nothing."""
    pairs = [(max(a, b), min(a, b)) for a, b in zip(size, before, strict=True) if a and b]
    return any(more > CHANGED * less for more, less in pairs)
