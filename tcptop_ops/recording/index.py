"""The ticks of a recording without their frames: when they were, and which of them were bad. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORST_MOMENTS = 9
"""Of those that are told, at most."""


@dataclass(frozen=True)
class TickIndex:
    """The ticks of a recording in their order, a row of each array for each.

    ``number``: in the file. ``is_key``: whether its frame is a key frame. ``time``: seconds since the epoch, NaN where
    it can't be read. ``trouble``: the sum of the scores of the bad connections that were listed.
    """

    number: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    time: NDArray[np.float64]
    trouble: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.number)


@dataclass(frozen=True)
class PlaybackState:
    """Where playing stands. ``at``: the place in the index of the tick on the screen. ``speed`` 0: without waiting."""

    at: int = 0
    is_playing: bool = True
    speed: float = 1.0


def worst_moments(index: TickIndex) -> list[int]:
    """Return the places where most was wrong, the worst first, none close to another; none where all went well."""
    trouble, near = index.trouble.copy(), max(5, len(index) // 20)
    found: list[int] = []
    while len(found) < WORST_MOMENTS and len(trouble) and trouble.max() > 0:
        at = int(trouble.argmax())
        found.append(at)
        trouble[max(0, at - near) : at + near + 1] = 0
    return found


def seconds_into(index: TickIndex) -> NDArray[np.float64]:
    """Return the seconds of each tick since the first one.

    They never fall: while the clock was set back, or can't be read, they stand.
    """
    times = index.time.copy()
    times[np.isnan(times)] = -np.inf
    times = np.maximum.accumulate(times)
    first = times[np.isfinite(times)][:1]
    return np.maximum(times - first[0], 0.0) if len(first) else np.arange(len(times), dtype=np.float64)
