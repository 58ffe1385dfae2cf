"""When to draw on a terminal that takes bytes more slowly than ticks make them: over a serial line, or far away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

MOST_SPARED_S = 3.0
"""Longer than that no tick is held back once the line is free."""


class SlowTerminal:
    """Holds the picture back while the line is full, and ticks for as long again once it is free.

    So half of a slow line is left for what keys draw. ``hold_back`` begins a time in which nothing is drawn; what is
    seen when that ends is the newest picture, and nothing in between.
    """

    def __init__(
        self, hold_back: Callable[[], AbstractContextManager[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Set up with a line that is free."""
        self._hold_back, self._clock = hold_back, clock
        self._held_back = ExitStack()
        self._full_at = self._spared_until = 0.0
        self.is_full = False

    @property
    def takes_ticks(self) -> bool:
        """Whether a tick may be drawn now."""
        return not self.is_full and self._clock() >= self._spared_until

    def full(self) -> None:
        """Hold the picture back: more bytes wait than are worth drawing on."""
        if not self.is_full:
            self.is_full = True
            self._full_at = self._clock()
            self._held_back.enter_context(self._hold_back())

    def drained(self) -> float | None:
        """Let the picture out: nothing waits any more.

        Return after how many seconds ticks may be drawn again; None: the line was not full.
        """
        if not self.is_full:
            return None
        self.is_full = False
        self._held_back.close()
        now = self._clock()
        spared_s = min(now - self._full_at, MOST_SPARED_S)
        self._spared_until = now + spared_s
        return spared_s
