"""The recent window W: the counters of every socket as they were when it began. Pure.

Samples are taken a tenth of W apart. Of the oldest one inside W the counters of every slot are kept, of each later one
only those that had changed since the one before. When the oldest leaves W, the changes of the next are written over its
counters. While nothing changes, samples cost no memory.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.records import Records

SAMPLES = 11
"""Most samples inside W: both ends, and nine between them."""

_SLACK_S = 1e-6  # for the rounding of clocks
SlotArrays = NDArray[np.intp]


def begin_s(now_s: float, seconds: float) -> float:
    """Return the earliest time that is inside a window of ``seconds``."""
    return now_s - seconds - _SLACK_S


def is_due(before_s: float, now_s: float, seconds: float) -> bool:
    """Return whether a window of ``seconds`` takes another sample: a tenth of it after the one before."""
    return now_s - before_s >= seconds / (SAMPLES - 1) - _SLACK_S


def words(counters: Records) -> NDArray[np.uint32]:
    """Return a view of COUNTED rows as a matrix, one column per counter.

    Arithmetic needs it, and it is faster: numpy works on a structured array member by member.
    """
    matrix: NDArray[np.uint32] = counters.view(np.dtype(("u4", (len(COUNTED.names or ()),))))
    return matrix


class _Sample(NamedTuple):
    """The counters that had changed since the sample before, and when it was taken (CLOCK_MONOTONIC)."""

    at_s: float
    slots: SlotArrays
    counters: Records  # COUNTED, aligned with slots

    def moved(self, place: SlotArrays) -> _Sample:
        """Return the same where slot s is slot ``place[s]`` now, -1: nobody's."""
        now = place[self.slots]
        return _Sample(self.at_s, now[now >= 0], gather(self.counters, now >= 0))


_ARRAYS = ("oldest", "_newest", "rewritten", "_first")


class Window:
    """Samples of counters by slot. The caller gives out the slots, and may give one to another socket (``begin``)."""

    def __init__(self, seconds: float) -> None:
        """Begin with no slots. ``seconds``: the length of W."""
        self.seconds = seconds
        self.oldest: Records = np.zeros(0, COUNTED)
        """By slot: the counters at the oldest sample inside W, or those passed to ``begin`` if that was later."""
        self._newest: Records = np.zeros(0, COUNTED)
        self.rewritten = np.zeros(0, np.bool_)
        """By slot: whether ``oldest`` has become another since the caller last set this to False."""
        self._first = np.zeros(0, np.int64)  # by slot: the number of the first sample of the socket that has it
        self._samples: deque[_Sample] = deque()
        self._taken = 0

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots, more than before."""
        for name in _ARRAYS:
            setattr(self, name, resized(getattr(self, name), capacity))

    def move(self, moved: SlotArrays, capacity: int) -> None:
        """Move these slots, in this order, to the first ones, and keep room for ``capacity`` alone."""
        place = np.full(len(self.oldest), -1, np.intp)
        place[moved] = np.arange(len(moved))
        for name in _ARRAYS:
            setattr(self, name, resized(getattr(self, name)[moved], capacity))
        self._samples = deque(sample.moved(place) for sample in self._samples)

    def begin(self, slots: SlotArrays, counters: Records) -> None:
        """Give these slots to new sockets, whose growth begins at ``counters``.

        Earlier samples of the slots belong to other sockets and are ignored from now on.
        """
        self.oldest[slots] = counters
        self._newest[slots] = counters
        self._first[slots] = self._taken

    def since(self, now_s: float) -> float:
        """Drop the samples that are older than W, and return the time of the oldest left.

        The newest is never dropped. Without any sample ``now_s`` is returned.
        """
        while len(self._samples) > 1 and self._samples[0].at_s < begin_s(now_s, self.seconds):
            self._advance()
        return self._samples[0].at_s if self._samples else now_s

    def growth(self, slots: SlotArrays, counters: Records) -> NDArray[np.uint32]:
        """Return the growth since the oldest sample, one row per slot and one column per counter, modulo 2^32."""
        grown: NDArray[np.uint32] = words(counters) - words(gather(self.oldest, slots))
        return grown

    def is_unsampled(self, slots: SlotArrays, counters: Records) -> Mask:
        """Return which of these slots have other counters than those that were sampled last."""
        found: Mask = (words(counters) != words(gather(self._newest, slots))).any(axis=1)
        return found

    def sample(self, slots: SlotArrays, counters: Records, now_s: float) -> None:
        """Take a sample, if a tenth of W has passed since the last one.

        ``slots``: the live ones; those may be left out whose counters are as they were sampled last (``is_unsampled``).
        """
        if not self._samples:
            self.oldest[slots] = counters
        elif not is_due(self._samples[-1].at_s, now_s, self.seconds):
            return
        elif len(self._samples) == SAMPLES:
            self._advance()
        changed = np.flatnonzero(self.is_unsampled(slots, counters))
        which, moved = slots[changed], gather(counters, changed)
        words(self._newest)[which] = words(moved)
        self._samples.append(_Sample(now_s, which, moved))
        self._taken += 1

    def _advance(self) -> None:
        """Drop the oldest sample: write the changes of the second one over its counters."""
        self._samples.popleft()
        sample = self._samples[0]
        number = self._taken - len(self._samples)
        theirs = self._first[sample.slots] <= number
        words(self.oldest)[sample.slots[theirs]] = words(sample.counters)[theirs]
        self.rewritten[sample.slots[theirs]] = True


def sampled(times_s: NDArray[np.float64], seconds: float) -> NDArray[np.intp]:
    """Return the indices of the ticks at which a window of ``seconds`` that saw all of them would take its samples."""
    found: list[int] = []
    for at, now_s in enumerate(times_s.tolist()):
        if not found or is_due(float(times_s[found[-1]]), now_s, seconds):
            found.append(at)
    return np.array(found, np.intp)


def resized(values: NDArray[Any], capacity: int) -> NDArray[Any]:
    """Return an array of so many elements that begins as this one does; what is added is zero."""
    found = np.zeros((capacity, *values.shape[1:]), values.dtype)
    kept = min(capacity, len(values))
    found[:kept] = values[:kept]
    return found
