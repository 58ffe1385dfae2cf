"""Draw the time bar of a recording: one line that shows where connections were bad, and seeks where it is clicked."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.recording.index import PlaybackState, TickIndex, seconds_into
from tcptop_ops.widgets.base.charts import ChartCharacters
from tcptop_ops.widgets.base.line_widget import LineWidget, Span, Spans

LEAST_TRACK = 8
"""Minimum width of the track, in characters."""


@dataclass(frozen=True)
class Track:
    """A recording divided into cells of equal time.

    ``first``: index of the first tick of each cell; ``trouble``: how bad its worst tick was, 0 to 1.
    """

    first: NDArray[np.intp]
    trouble: NDArray[np.float64]


def track(index: TickIndex, cells: int) -> Track:
    """Divide a recording into ``cells`` cells of equal time.

    The trouble of a cell is a square root, so that one bad connection is visible beside fifty.
    """
    seconds = seconds_into(index)
    share = seconds / seconds[-1] if seconds[-1] > 0 else np.zeros(len(index))
    cell = np.minimum((share * cells).astype(np.intp), cells - 1)
    first = np.searchsorted(cell, np.arange(cells))
    worst = np.zeros(cells)
    np.maximum.at(worst, cell, np.sqrt(index.trouble))
    top = worst.max()
    return Track(np.minimum(first, len(index) - 1), worst / top if top > 0 else worst)


def speed_of(speed: float) -> str:
    """Format a speed: ``2x``; ``max`` for 0, which means without waiting."""
    return f"{speed:g}x" if speed else "max"


class ReplayBar(LineWidget):
    """A line with the state, speed and time of day, the track, and the position in the recording."""

    DEFAULT_CSS = """
    ReplayBar {
        height: 1;
        background: $surface;
    }
    """

    def __init__(self, index: TickIndex, drawn: ChartCharacters, *, id: str | None = None) -> None:
        """Take the recording and the characters to draw with."""
        super().__init__(id=id)
        self._index = index
        self._drawn = drawn
        self._seconds = seconds_into(index)
        self._playing = PlaybackState()
        self._track = track(index, 1)

    def show(self, playing: PlaybackState) -> None:
        """Show this position and speed."""
        self._playing = playing
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return one line; the position, then the track, are left out where there is no room."""
        at, now = self._playing.at, self._playing
        sign = "> " if now.is_playing else "||"
        day = self._index.time[at]
        clock = time.strftime("%H:%M:%S", time.localtime(day)) if math.isfinite(day) and 0 <= day < 2**35 else ""
        left = f" {sign} {speed_of(now.speed):<5} {clock} "
        whole = text.duration(self._seconds[-1])
        right = f" {text.duration(self._seconds[at]):>5} of {whole} "
        room = width - len(left) - len(right)
        if room < LEAST_TRACK:
            left, right = f" {sign} {speed_of(now.speed)} ", ""
            room = width - len(left) - 1
        return [(Span(left, "title"), *self._cells(room), Span(right, "dim"))]

    def _cells(self, room: int) -> Spans:
        if room < LEAST_TRACK:
            return ()
        if len(self._track.first) != room:
            self._track = track(self._index, room)
        here = int(np.searchsorted(self._track.first, self._playing.at, side="right")) - 1
        spans = []
        for cell, (first, trouble) in enumerate(zip(self._track.first.tolist(), self._track.trouble, strict=True)):
            role = "badge" if cell == here else "graph" if cell < here else "dim"
            spans.append(Span(self._sign(float(trouble)), role, f"screen.go({first})"))
        return tuple(spans)

    def _sign(self, trouble: float) -> str:
        levels = self._drawn.levels
        return self._drawn.floor if trouble <= 0 else levels[max(1, math.ceil(trouble * (len(levels) - 1)))]
