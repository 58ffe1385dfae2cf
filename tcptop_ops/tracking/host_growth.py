"""What the host has counted within the recent window W, beside its network namespaces. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.host_counters import COUNTERS, HostTick
from tcptop_ops.model.namespace_counters import none_known
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.namespace_growth import NamespaceGrowth
from tcptop_ops.tracking.window import begin_s, is_due

SETTLED_S = 2.0
"""After how long rows have told what they know of what their namespace counted, seconds."""

_SLACK_S = 1e-6  # for the rounding of clocks


class HostGrowth:
    """Samples of the host's counters, a tenth of W apart, and since when it is looked at."""

    def __init__(self, seconds: float) -> None:
        """Begin with nothing known. ``seconds``: the length of W."""
        self._seconds = seconds
        self._samples: deque[tuple[float, NDArray[np.uint64]]] = deque()
        self._told: deque[tuple[float, Records]] = deque()
        self._start_s: float | None = None
        self._first: NDArray[np.uint64] | None = None

    def update(self, snapshot: Snapshot, namespaces: Records, growth: NamespaceGrowth) -> HostTick:
        """Return the host at this tick. ``namespaces``: what ``growth`` returned of it, NET_OF."""
        now_s = snapshot.now_ns / 1e9
        if self._start_s is None:
            self._start_s = now_s
        seconds = min(now_s - self._start_s, self._seconds)
        row = snapshot.host_counters
        grown, total = self._grown(row, now_s) if len(row) else ({}, {})
        self._told.append((now_s, namespaces))
        while len(self._told) > 1 and self._told[1][0] <= now_s - SETTLED_S + _SLACK_S:
            self._told.popleft()
        at_s, settled = self._told[0]
        if at_s > now_s - SETTLED_S + _SLACK_S:
            settled = none_known()
        return HostTick(row, grown, namespaces, settled, seconds, growth.since_start | total)

    def _grown(self, row: Records, now_s: float) -> tuple[dict[str, int], dict[str, int]]:
        """Return COUNTERS within W, and since the first reading."""
        now = np.array([row[name][0] for name in COUNTERS], np.uint64)
        if self._first is None or (now < self._first).any():
            self._first = now
            self._samples.clear()
        while len(self._samples) > 1 and self._samples[0][0] < begin_s(now_s, self._seconds):
            self._samples.popleft()
        oldest = self._samples[0][1] if self._samples else now
        if not self._samples or is_due(self._samples[-1][0], now_s, self._seconds):
            self._samples.append((now_s, now))
        grown, total = ((now - then).tolist() for then in (oldest, self._first))
        return dict(zip(COUNTERS, grown, strict=True)), dict(zip(COUNTERS, total, strict=True))
