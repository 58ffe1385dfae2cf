"""Turn titles and formatted lines into segments in the styles of the theme, which are given. Pure."""

from __future__ import annotations

from typing import Protocol

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import GROUP
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.table.cell_text import NAME_LEVEL, Line
from tcptop_ops.widgets.table.column_fit import GUTTER, ColumnLayout

LEVELS = {-1: "dim", 1: "warn", 2: "bad", NAME_LEVEL: "group"}
COUNT = find("connections")
"""The column behind the counts at the end of GROUP; a click on the title of GROUP sorts by it."""


class Look(Protocol):
    """Returns the style of a component of the table, by name; "" is the table itself."""

    def __call__(self, name: str, on: str = "") -> Style:
        """Return the style. ``on``: the component whose background it gets."""
        ...


def header_strip(layout: ColumnLayout, spec: Spec, look: Look) -> Strip:
    """Return the line of titles, with the direction of the order at the column that decides it."""
    plain, marked = look("header"), look("sorted")
    segments = [Segment(" " * GUTTER, plain)]
    for i, placed in enumerate(layout):
        column = placed.column
        is_sort = (COUNT if column is GROUP else column) is spec.sort
        mark = ("v" if spec.falling else "^") if is_sort else ""
        if column is GROUP:
            counts = COUNT.title + mark
            by = f"BY {spec.group.upper()}".ljust(placed.width - len(counts))
            segments += [Segment(by, plain), Segment(counts, marked if is_sort else plain)]
            continue
        title = (column.title if len(column.title + mark) <= placed.width else column.title.split()[0]) + mark
        text = title.rjust(placed.width) if column.right else title.ljust(placed.width)
        segments += [Segment(" " * bool(i), plain), Segment(text, marked if is_sort else plain)]
    return Strip([segment for segment in segments if segment.text])


def row_segments(line: Line, look: Look) -> list[Segment]:
    """Return a row as few segments as possible: blanks take the style of the text before them."""
    on = "cursor" if line.cursor else ""
    base = look("closed" if line.closed else "", on)
    pieces = [(">" if line.cursor else line.mark if line.mark in "+x" else " ", base)]
    pieces.append(("!", look("bad", on)) if line.mark == "!" else (" ", base))
    for i, (cell, level) in enumerate(zip(line.cells, line.levels, strict=True)):
        if i:
            pieces.append((" ", base))
        pieces.append((cell, look(LEVELS[level], on) if level in LEVELS else base))
    segments: list[Segment] = []
    text, style = "", base
    for piece, wanted in pieces:
        if wanted is not style and piece.strip():
            if text:
                segments.append(Segment(text, style))
            text, style = "", wanted
        text += piece
    segments.append(Segment(text, style))
    return segments
