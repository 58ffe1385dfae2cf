"""Work that is put off where it would take more than a share of a processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]
"""Returns seconds: of a clock, or of CPU time."""

SAVED_S = 2.0
"""A share that was not used is saved for so many seconds."""


class CpuShare:
    """An account of CPU time. What is in it grows with time; what work took is taken off afterwards, so it can owe."""

    def __init__(self, share: float, clock: Clock = time.monotonic, cpu: Clock = time.thread_time) -> None:
        """``share``: of one processor, 0 to 1; ``clock``, ``cpu``: what time it is, and what this thread has used."""
        self._share, self._clock, self._cpu = share, clock, cpu
        self._left_s = share * SAVED_S
        self._at = clock()

    @property
    def allows(self) -> bool:
        """Whether nothing is owed."""
        now = self._clock()
        self._left_s = min(self._left_s + (now - self._at) * self._share, self._share * SAVED_S)
        self._at = now
        return self._left_s > 0

    @contextmanager
    def spent(self) -> Iterator[Callable[[], float]]:
        """Take what the block uses off the account; what is yielded returns the CPU seconds that it has used so far."""
        begun = self._cpu()
        try:
            yield lambda: self._cpu() - begun
        finally:
            self._left_s -= self._cpu() - begun
