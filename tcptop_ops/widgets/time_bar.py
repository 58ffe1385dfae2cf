"""Where a recording stands: one line, in which one sees where it was bad, and goes there by a click."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import format as text
from tcptop_ops.tape import Playing, Tape, seconds_into
from tcptop_ops.widgets.graphs import Pencil
from tcptop_ops.widgets.lines import Lines, Span, Spans

LEAST_TRACK = 8


@dataclass(frozen=True)
class Track:
    """A recording in so many cells: the first tick of each, and how bad its worst tick was, 0 to 1."""

    first: NDArray[np.intp]
    trouble: NDArray[np.float64]


def track(tape: Tape, cells: int) -> Track:
    """Each cell is as much time as any other; trouble by its root, so that one bad connection is seen beside fifty."""
    seconds = seconds_into(tape)
    share = seconds / seconds[-1] if seconds[-1] > 0 else np.zeros(len(tape))
    cell = np.minimum((share * cells).astype(np.intp), cells - 1)
    first = np.searchsorted(cell, np.arange(cells))
    worst = np.zeros(cells)
    np.maximum.at(worst, cell, np.sqrt(tape.trouble))
    top = worst.max()
    return Track(np.minimum(first, len(tape) - 1), worst / top if top > 0 else worst)


def speed_of(speed: float) -> str:
    """``2x``; ``max`` without waiting."""
    return f"{speed:g}x" if speed else "max"


class TimeBar(Lines):
    """Playing or not, how fast, the time of the day; the track; how far it is."""

    DEFAULT_CSS = """
    TimeBar {
        height: 1;
        background: $surface;
    }
    """

    def __init__(self, tape: Tape, drawn: Pencil, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tape = tape
        self._drawn = drawn
        self._seconds = seconds_into(tape)
        self._playing = Playing()
        self._track = track(tape, 1)

    def show(self, playing: Playing) -> None:
        """Show this."""
        self._playing = playing
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """One."""
        at, now = self._playing.at, self._playing
        sign = "> " if now.is_playing else "||"
        day = self._tape.time[at]
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
            self._track = track(self._tape, room)
        here = int(np.searchsorted(self._track.first, self._playing.at, side="right")) - 1
        spans = []
        for cell, (first, trouble) in enumerate(zip(self._track.first.tolist(), self._track.trouble, strict=True)):
            role = "badge" if cell == here else "graph" if cell < here else "dim"
            spans.append(Span(self._sign(float(trouble)), role, f"screen.go({first})"))
        return tuple(spans)

    def _sign(self, trouble: float) -> str:
        levels = self._drawn.levels
        return self._drawn.floor if trouble <= 0 else levels[max(1, math.ceil(trouble * (len(levels) - 1)))]
