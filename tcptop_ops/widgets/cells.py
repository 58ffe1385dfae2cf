"""The visible rows as text: what a line of the table holds, and everything that decides its look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tcptop_ops import format as text
from tcptop_ops.columns import Column, find
from tcptop_ops.mark import Mark, born_since
from tcptop_ops.view import View, row_at
from tcptop_ops.widgets.fit import Layout

ENDPOINTS = frozenset({"peer", "local", "laddr", "raddr"})
YOU = " *you"
NEW_TICKS = 2
"""So many ticks a new row is marked."""

SHORT_ENDS = {
    "closed": "close",
    "peer-closed": "peer",
    "reset": "reset",
    "timed-out": "tmout",
    "refused": "refus",
    "unreachable": "unrch",
    "abandoned": "aband",
}
"""How a closed row ended, in the width of a state; lower case, so that it can't be taken for one."""


class Line(NamedTuple):
    """One row: padded cells, their levels (``Column.level``), and its marks. Equal lines look the same."""

    cells: tuple[str, ...]
    levels: tuple[int, ...]
    mark: str  # "!" bad, "x" closed, "+" new
    closed: bool
    cursor: bool


def existing(view: View) -> int:
    """Rows that there would be without the filter."""
    return len(view.flows.live) + (len(view.flows.closed) if view.spec.show_closed else 0)


def lines(view: View, layout: Layout, start: int, stop: int, cursor: int) -> list[Line]:
    """The rows from ``start`` to ``stop`` of the view. ``cursor`` is the row of the cursor."""
    stop = min(stop, len(view))
    if start >= stop:
        return []
    ends = _ends(view, start, stop)
    texts, levels = [], []
    for placed in layout:
        values = view.values(placed.column, start, stop)
        shown = [_cell(placed.column, value, placed.width) for value in values]
        if placed.column.id == "process" and view.flows.session:
            shown = _with_session(view, start, stop, shown)
        if placed.column.id == "state":
            shown = [SHORT_ENDS.get(end, cell).ljust(placed.width) for end, cell in zip(ends, shown, strict=True)]
        texts.append(shown)
        judged = find("score") if placed.column.id == "cause" else placed.column  # a cause is as bad as its score
        judged_values = values if judged is placed.column else view.values(judged, start, stop)
        levels.append([judged.level(value) for value in judged_values])
    fresh = _fresh(view, start, stop)
    found = []
    rows = zip(zip(*texts, strict=True), zip(*levels, strict=True), fresh, strict=True)
    for position, (row, row_levels, new) in enumerate(rows, start):
        closed = view.is_closed(position)
        mark = "!" if 2 in row_levels else "x" if closed else "+" if new else " "
        found.append(Line(row, row_levels, mark, closed, position == cursor))
    return found


def _with_session(view: View, start: int, stop: int, shown: list[str]) -> list[str]:
    """The process names; behind that of the connection over which this is used: ``*you``."""
    cookies = view.cookies(start, stop)
    session = view.flows.session
    return [_signed_for(cell) if cookie == session else cell for cookie, cell in zip(cookies, shown, strict=True)]


def _signed_for(cell: str) -> str:
    name, width = cell.rstrip(), len(cell)
    return f"{text.shorten(name, width - len(YOU))}{YOU}".ljust(width)


def _cell(column: Column, value: Any, width: int) -> str:
    shown = column.show(value)
    if len(shown) > width:
        shown = _shortened(column, value, shown, width)
    return shown.rjust(width) if column.right else shown.ljust(width)


def _shortened(column: Column, value: Any, shown: str, width: int) -> str:
    """Nothing that could be read as another value: a cut text has a ``~``, a number too long a ``+`` behind nines."""
    if column.id in ENDPOINTS or isinstance(value, int):
        return text.shorten_middle(shown, width)
    if not column.right:
        return text.shorten(shown, width)
    compact = text.si(value)
    return compact if len(compact) <= width else "9" * (width - 1) + "+"


def _ends(view: View, start: int, stop: int) -> Sequence[str]:
    if int(view.order[start:stop].max()) < len(view.flows.live):
        return [""] * (stop - start)
    return [value.decode() for value in view.values(find("end"), start, stop)]


def _fresh(view: View, start: int, stop: int) -> list[bool]:
    """Which of the rows were born since the mark, or within the last ticks; none of those of the start."""
    if view.flows.mark is not None:
        return _since_mark(view, view.flows.mark, start, stop)
    live = len(view.flows.live)
    ages = view.flows.live.rates["fresh"]
    tick = view.flows.tick
    rows = view.order[start:stop].tolist()
    return [bool(row < live and (age := int(ages[row])) < NEW_TICKS and tick > age) for row in rows]


def _since_mark(view: View, mark: Mark, start: int, stop: int) -> list[bool]:
    return [bool(born_since(mark, row_at(view, position))[0]) for position in range(start, stop)]
