"""Find the cells of the table that look different from before, so that nothing else is repainted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from textual.geometry import Region

from tcptop_ops.widgets.base.line_widget import merged
from tcptop_ops.widgets.table.cell_text import EMPTY_LINES, Line
from tcptop_ops.widgets.table.column_fit import GUTTER, ColumnLayout


def changed_regions(
    old: Sequence[Line], new: Sequence[Line], layout: ColumnLayout, width: int, *, is_scrolled: bool
) -> list[Region]:
    """Return the regions below the header line that have to be repainted when the lines ``old`` become ``new``.

    ``width`` is that of the window. While it is scrolled sideways (``is_scrolled``), lines are repainted as a whole. If
    there are no new lines, so are those of the message of an empty table.
    """
    if not new:
        return [Region(0, y + 1, width, 1) for y in range(max(len(old), EMPTY_LINES))]
    return [
        Region(start, y + 1, stop - start, 1)
        for y, (before, after) in enumerate(zip_longest(old, new))
        if before != after
        for start, stop in ([(0, width)] if is_scrolled else differing_cells(before, after, layout, width))
    ]


def differing_cells(before: Line | None, after: Line | None, layout: ColumnLayout, width: int) -> list[tuple[int, int]]:
    """Return the ranges (start, stop) of cells in which two lines look different.

    That is the whole line if one of them is missing, or if more than cells and levels changed.
    """
    whole = [(0, width)]
    if before is None or after is None or len(after.cells) != len(layout):
        return whole
    if before._replace(cells=after.cells, levels=after.levels) != after or len(before.cells) != len(after.cells):
        return whole
    pairs = zip(layout, before.cells, after.cells, before.levels, after.levels, strict=True)
    return merged(
        [
            (GUTTER + placed.x, GUTTER + placed.x + placed.width)
            for placed, old, new, was, level in pairs
            if (old, was) != (new, level)
        ]
    )
