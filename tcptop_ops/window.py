"""The recent window W: what counters were when it began. Pure.

Samples are taken a tenth of W apart. Of the oldest one inside W every slot's counters are kept; of each later one only
those that had changed since the one before, which become the oldest's when it leaves. A host at rest costs next to
nothing.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import COUNTED
from tcptop_ops.snapshot import Records, gather

SAMPLES = 11
_SLACK_S = 1e-6
Slots = NDArray[np.intp]


def words(counters: Records) -> NDArray[np.uint32]:
    """COUNTED as a matrix, a column a counter: numpy works on a structured array member by member."""
    matrix: NDArray[np.uint32] = counters.view(np.dtype(("u4", (len(COUNTED.names or ()),))))
    return matrix


class _Sample(NamedTuple):
    at_s: float
    slots: Slots  # those that had changed since the sample before
    counters: Records


class Window:
    """``seconds``: W. Slots are given by who uses it, and used again for another life."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.oldest: Records = np.zeros(0, COUNTED)
        """By slot: the counters at the oldest sample inside W, or where the life began if that is later."""
        self._newest: Records = np.zeros(0, COUNTED)
        self._first = np.zeros(0, np.int64)
        self._samples: deque[_Sample] = deque()
        self._taken = 0

    def grow(self, capacity: int) -> None:
        """Make room for so many slots."""
        extra = capacity - len(self.oldest)
        if extra > 0:
            self.oldest, self._newest = (
                np.concatenate([part, np.zeros(extra, COUNTED)]) for part in (self.oldest, self._newest)
            )
            self._first = np.concatenate([self._first, np.zeros(extra, np.int64)])

    def begin(self, slots: Slots, counters: Records) -> None:
        """These slots begin a life, and their growth here. Samples of the life before are no longer theirs."""
        self.oldest[slots] = counters
        self._newest[slots] = counters
        self._first[slots] = self._taken

    def since(self, now_s: float) -> float:
        """When it began: at the oldest sample inside W, or at the newest where none is; before any, now."""
        while len(self._samples) > 1 and self._samples[0].at_s < now_s - self.seconds - _SLACK_S:
            self._advance()
        return self._samples[0].at_s if self._samples else now_s

    def growth(self, slots: Slots, counters: Records) -> NDArray[np.uint32]:
        """Since then: a row a slot, a column a counter."""
        grown: NDArray[np.uint32] = words(counters) - words(gather(self.oldest, slots))
        return grown

    def sample(self, slots: Slots, counters: Records, now_s: float) -> None:
        """Take a sample of all that live, if it is time."""
        if not self._samples:
            self.oldest[slots] = counters
        elif now_s - self._samples[-1].at_s < self.seconds / (SAMPLES - 1) - _SLACK_S:
            return
        elif len(self._samples) == SAMPLES:
            self._advance()
        changed = np.flatnonzero((words(counters) != words(gather(self._newest, slots))).any(axis=1))
        which, moved = slots[changed], gather(counters, changed)
        words(self._newest)[which] = words(moved)
        self._samples.append(_Sample(now_s, which, moved))
        self._taken += 1

    def _advance(self) -> None:
        """The second sample becomes the oldest."""
        self._samples.popleft()
        sample = self._samples[0]
        number = self._taken - len(self._samples)
        theirs = self._first[sample.slots] <= number
        words(self.oldest)[sample.slots[theirs]] = words(sample.counters)[theirs]


def sampled(times_s: NDArray[np.float64], seconds: float) -> NDArray[np.intp]:
    """At which of these ticks a window of so many seconds that saw all of them took its samples."""
    found: list[int] = []
    for at, now_s in enumerate(times_s.tolist()):
        if not found or now_s - times_s[found[-1]] >= seconds / (SAMPLES - 1) - _SLACK_S:
            found.append(at)
    return np.array(found, np.intp)
