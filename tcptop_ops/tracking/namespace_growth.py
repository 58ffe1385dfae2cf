"""What each network namespace counted within the recent window W. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.namespace_counters import COUNTERS, GAUGES, LIMITS, NET_OF, NETNS, none_known
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.window import SAMPLES

_SLACK_S = 1e-6  # for the rounding of clocks


class NamespaceGrowth:
    """Samples of the counters of namespaces, a tenth of W apart: at most eleven, of as many rows as namespaces."""

    def __init__(self, seconds: float) -> None:
        """Begin with no namespaces. ``seconds``: the length of W."""
        self._seconds = seconds
        self._latest = np.zeros(0, NETNS)
        self._read_s = np.zeros(0)  # when each of ``_latest`` was read: CLOCK_MONOTONIC
        self._samples: deque[tuple[float, Records]] = deque()

    def update(self, read: Records, now_s: float) -> Records:
        """Return the growth within W by namespace: NET_OF rows, sorted by ``netns``. ``read``: NETNS, this tick's.

        A namespace that was not read in this tick is told as it was when it was last read, for as long as W. What a
        namespace counted before it was first read is not known, and its growth begins at 0.
        """
        if not len(read) and not len(self._latest):
            return none_known()
        self._merge(read, now_s)
        while len(self._samples) > 1 and self._samples[0][0] < now_s - self._seconds - _SLACK_S:
            self._samples.popleft()
        grown = self._grown()
        if not self._samples or now_s - self._samples[-1][0] >= self._seconds / (SAMPLES - 1) - _SLACK_S:
            self._samples.append((now_s, self._latest))
        else:
            self._begin_those_that_are_new()
        return grown

    def _begin_those_that_are_new(self) -> None:
        """Let the growth of a namespace that no sample has begin now, not at the next sample."""
        at_s, newest = self._samples[-1]
        is_new = ~np.isin(self._latest["netns"], np.concatenate([sample["netns"] for _, sample in self._samples]))
        if is_new.any():
            both = np.concatenate([newest, self._latest[is_new]])
            self._samples[-1] = at_s, both[np.argsort(both["netns"], kind="stable")]

    def _merge(self, read: Records, now_s: float) -> None:
        """Put what was read in the place of what was known, and forget what is older than W."""
        kept = ~np.isin(self._latest["netns"], read["netns"]) & (self._read_s >= now_s - self._seconds - _SLACK_S)
        merged = np.concatenate([read, self._latest[kept]])
        times = np.concatenate([np.full(len(read), now_s), self._read_s[kept]])
        order = np.argsort(merged["netns"], kind="stable")
        self._latest, self._read_s = merged[order], times[order]

    def _oldest(self) -> Records:
        """Return each namespace of ``_latest`` as it was in the first sample that has it."""
        oldest: Records = self._latest.copy()
        for _, sample in reversed(self._samples):
            at, found = find_sorted(sample["netns"], oldest["netns"])
            oldest[found] = sample[at[found]]
        return oldest

    def _grown(self) -> Records:
        now, oldest = self._latest, self._oldest()
        grown = np.zeros(len(now), NET_OF)
        grown["netns"], net = now["netns"], grown["net"]
        net["known"] = 1
        # A namespace's number may be given to a new one, whose counters begin at 0.
        is_new = np.any([now[name] < oldest[name] for name in COUNTERS], axis=0)
        for name in COUNTERS:
            net[name] = now[name] - np.where(is_new, 0, oldest[name])
        for name in (*GAUGES, *LIMITS):
            net[name] = now[name]
        return grown
