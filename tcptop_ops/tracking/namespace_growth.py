"""What each network namespace counted within the recent window W. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather, scatter
from tcptop_ops.model.namespace_counters import COUNTERS, NET, NET_OF, NETNS, none_known
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.window import begin_s, is_due


class NamespaceGrowth:
    """Samples of the counters of namespaces, a tenth of W apart: at most eleven, of as many rows as namespaces."""

    def __init__(self, seconds: float) -> None:
        """Begin with no namespaces. ``seconds``: the length of W."""
        self._seconds = seconds
        self._latest = np.zeros(0, NETNS)
        self._read_s = np.zeros(0)  # when each of ``_latest`` was read: CLOCK_MONOTONIC
        self._samples: deque[tuple[float, Records]] = deque()
        self._total = np.zeros(len(COUNTERS), "u8")

    @property
    def since_start(self) -> dict[str, int]:
        """What all namespaces together have counted since each was first read, by COUNTERS."""
        return dict(zip(COUNTERS, self._total.tolist(), strict=True))

    def update(self, read: Records, now_s: float) -> Records:
        """Return the growth within W by namespace: NET_OF rows, sorted by ``netns``. ``read``: NETNS, this tick's.

        A namespace that was not read in this tick is told as it was when it was last read, for as long as W. What a
        namespace counted before it was first read is not known, and its growth begins at 0.
        """
        if not len(read) and not len(self._latest):
            return none_known()
        self._sum_up(read)
        self._merge(read, now_s)
        while len(self._samples) > 1 and self._samples[0][0] < begin_s(now_s, self._seconds):
            self._samples.popleft()
        grown = self._grown()
        if not self._samples or is_due(self._samples[-1][0], now_s, self._seconds):
            self._samples.append((now_s, self._latest))
        else:
            self._begin_those_that_are_new()
        return grown

    def _sum_up(self, read: Records) -> None:
        """Add what was counted since each namespace was read before."""
        at, known = find_sorted(self._latest["netns"], read["netns"])
        if known.any():
            self._total += _grown_since(gather(read, known), gather(self._latest, at[known])).sum(axis=0)

    def _begin_those_that_are_new(self) -> None:
        """Let the growth of a namespace that no sample has begin now, not at the next sample."""
        at_s, newest = self._samples[-1]
        is_new = ~np.isin(self._latest["netns"], np.concatenate([sample["netns"] for _, sample in self._samples]))
        if is_new.any():
            both = np.concatenate([newest, self._latest[is_new]])
            self._samples[-1] = at_s, both[np.argsort(both["netns"], kind="stable")]

    def _merge(self, read: Records, now_s: float) -> None:
        """Put what was read in the place of what was known, and forget what is older than W."""
        kept = ~np.isin(self._latest["netns"], read["netns"]) & (self._read_s >= begin_s(now_s, self._seconds))
        merged = np.concatenate([read, gather(self._latest, kept)]) if kept.any() else read
        times = np.concatenate([np.full(len(read), now_s), self._read_s[kept]])
        order = np.argsort(merged["netns"], kind="stable")
        self._latest, self._read_s = gather(merged, order), times[order]

    def _oldest(self) -> Records:
        """Return each namespace of ``_latest`` as it was in the first sample that has it."""
        oldest = gather(self._latest, np.arange(len(self._latest)))
        wanted = np.arange(len(oldest))
        for _, sample in self._samples:
            at, found = find_sorted(sample["netns"], oldest["netns"][wanted])
            scatter(oldest, wanted[found], gather(sample, at[found]))
            wanted = wanted[~found]
            if not len(wanted):
                break
        return oldest

    def _grown(self) -> Records:
        now, oldest = self._latest, self._oldest()
        grown = np.zeros(len(now), NET_OF)
        grown["netns"], net = now["netns"], grown["net"]
        net["known"] = 1
        _words(net)[:] = _words(now)
        counts(net)[:] = _grown_since(now, oldest)
        return grown


def _words(rows: Records) -> NDArray[np.uint64]:
    """Return all but the first field of these rows of NETNS or NET: behind it the two are alike.

    Numpy would copy member by member, which is slower.
    """
    first: NDArray[np.uint64] = rows[COUNTERS[0]]
    return as_strided(first, (len(rows), NET.itemsize // first.itemsize - 1), (*first.strides, first.itemsize))


def counts(rows: Records) -> NDArray[np.uint64]:
    """Return COUNTERS of these rows of NETNS or NET, which share its memory: a line a row, a column a counter."""
    first: NDArray[np.uint64] = rows[COUNTERS[0]]
    return as_strided(first, (len(rows), len(COUNTERS)), (*first.strides, first.itemsize))


def _grown_since(now: Records, before: Records) -> NDArray[np.uint64]:
    """Return the growth of COUNTERS between two readings of the same namespaces.

    A namespace's number may be given to a new one, whose counters begin at 0.
    """
    here, there = counts(now), counts(before)
    is_new = (here < there).any(axis=1, keepdims=True)
    return here - np.where(is_new, np.uint64(0), there)
