"""Draw series of numbers as text: sparklines, and graphs with axes.

One character per value, the newest at the right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tcptop_ops.widgets.base.line_widget import Span, Spans


@dataclass(frozen=True)
class ChartCharacters:
    """Characters to draw with. ``levels``: from empty to full; ``axis`` and ``floor``: the lines of a graph."""

    levels: str
    axis: str
    floor: str


BLOCKS = ChartCharacters(" ▁▂▃▄▅▆▇█", "│", "─")
ASCII = ChartCharacters(" .-=#", "|", "-")

SCALE = 6
"""Characters left of a graph's vertical axis."""


def pencil(encoding: str | None) -> ChartCharacters:
    """Return the characters that a terminal with this encoding can show."""
    return BLOCKS if "utf" in (encoding or "").lower() else ASCII


def greatest(values: Sequence[float]) -> float:
    """Return the greatest value, ignoring NaN; NaN if there is none."""
    return max((v for v in values if not math.isnan(v)), default=float("nan"))


def spark(values: Sequence[float], width: int, drawn: ChartCharacters) -> str:
    """Draw the last ``width`` values as one line; zero has a mark, NaN is blank."""
    last = list(values[-width:])
    top = greatest(last)
    return "".join(_mark(value, top, drawn) for value in last).rjust(width)


def _mark(value: float, top: float, drawn: ChartCharacters) -> str:
    if math.isnan(value):
        return " "
    most = len(drawn.levels) - 1
    if value <= 0 or top <= 0:
        return drawn.levels[1]
    return drawn.levels[min(max(math.ceil(value / top * most), 1), most)]


def rows(values: Sequence[float], width: int, height: int, drawn: ChartCharacters) -> list[str]:
    """Draw the last ``width`` values as an area of ``height`` lines, the top one first. The greatest value fills it."""
    last = list(values[-width:])
    top, most = greatest(last), len(drawn.levels) - 1
    filled = [_filled(value, top, height * most) for value in last]
    lines = []
    for row in range(height - 1, -1, -1):
        line = "".join(drawn.levels[min(max(full - row * most, 0), most)] for full in filled)
        lines.append(line.rjust(width))
    return lines


def _filled(value: float, top: float, steps: int) -> int:
    if math.isnan(value) or value <= 0 or top <= 0:
        return 0
    return min(max(round(value / top * steps), 1), steps)


def graph(
    title: str,
    values: Sequence[float],
    show: Callable[[float], str],
    size: tuple[int, int],
    drawn: ChartCharacters,
    role: str = "graph",
) -> list[Spans]:
    """Draw a title with the newest and the greatest value, an area with its scale, and the base line.

    ``show`` formats a value; ``size`` is the width and height of the whole, at least 20 by 4.
    """
    width, height = size
    room = width - SCALE - 1
    last = list(values[-room:])
    top = greatest(last)
    now = last[-1] if last else float("nan")
    figures = "" if math.isnan(top) else f"now {'-' if math.isnan(now) else show(now)}  most {show(top)}"
    head = (Span(title, "title"), Span(figures.rjust(width - len(title)), "dim"))
    area = rows(last, room, height - 2, drawn)
    scale = ["" if math.isnan(top) else show(top), *[""] * (height - 3)]
    body = [
        (Span(f"{label[:SCALE]:>{SCALE}}{drawn.axis}", "dim"), Span(line, role))
        for label, line in zip(scale, area, strict=True)
    ]
    return [head, *body, (Span(f"{'0':>{SCALE}}{drawn.axis}", "dim"), Span(drawn.floor * room, "dim"))]


def time_axis(ago_s: Sequence[float], width: int) -> Spans:
    """Return the line below a graph of this width: the times of its first and last value.

    ``ago_s``: seconds before now.
    """
    room = width - SCALE - 1
    last = list(ago_s[-room:])
    if not last:
        return ()
    oldest = f"-{last[0]:.0f}s"
    start = SCALE + 1 + room - len(last)
    if room - (start - SCALE - 1) < len(oldest) + 4:
        return (Span("now".rjust(width), "dim"),)
    return (Span(" " * start + oldest, "dim"), Span("now".rjust(width - start - len(oldest)), "dim"))
