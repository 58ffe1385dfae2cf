"""What a recording looks like from far away: its ticks, and which of them were bad. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORST_MOMENTS = 9


@dataclass(frozen=True)
class Tape:
    """What is known of the ticks of a recording without reading their frames, in their order; aligned.

    ``time``: seconds since the epoch, NaN where it can't be read. ``trouble``: how bad the tick was: the scores of
    the bad connections that were listed, together.
    """

    number: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    time: NDArray[np.float64]
    trouble: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class Playing:
    """How it stands. ``at``: the place of the tick on the screen. ``speed`` 0: without waiting."""

    at: int = 0
    is_playing: bool = True
    speed: float = 1.0


def worst_moments(tape: Tape) -> list[int]:
    """The places where most was wrong, the worst first, none close to another; none where all went well."""
    trouble, near = tape.trouble.copy(), max(5, len(tape) // 20)
    found: list[int] = []
    while len(found) < WORST_MOMENTS and len(trouble) and trouble.max() > 0:
        at = int(trouble.argmax())
        found.append(at)
        trouble[max(0, at - near) : at + near + 1] = 0
    return found


def seconds_into(tape: Tape) -> NDArray[np.float64]:
    """Of each tick, since the first one. A clock that was set back, or can't be read, stands meanwhile."""
    times = tape.time.copy()
    times[np.isnan(times)] = -np.inf
    times = np.maximum.accumulate(times)
    first = times[np.isfinite(times)][:1]
    return np.maximum(times - first[0], 0.0) if len(first) else np.arange(len(times), dtype=np.float64)
