"""Choose which columns fit into a width, and how wide each becomes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, SINCE_MARK, WIDER
from tcptop_ops.views.columns import GROUP

GUTTER = 2
"""Characters left of the first column: the cursor and the mark of a row."""

NARROW = ("process", "peer", "score", "cause", "retrans_win", "state", "srtt_us", "rto_win", "retrans_pct")
"""The default columns, the most important first: those kept where not all of them fit."""

NARROW_GROUPS = ("score", "retrans_win", "cause", "peer", "srtt_us", "retrans_pct", "rto_win", "state")
"""As NARROW, for a table of groups. There is no process: GROUP shows that of a group's connections."""


NARROW_MARK = (
    "process",
    "peer",
    "mark_retrans",
    "mark_rto",
    "score",
    "mark_sent",
    "mark_received",
    "cause",
    "state",
    "mark_srtt_us",
)
"""As NARROW, for the columns that are shown while there is a mark."""


@dataclass(frozen=True)
class Stretch:
    """Widths of a column: minimum, preferred (if there is room), and maximum."""

    least: int
    ease: int
    most: int


LEAST_TEXT = 12
"""Minimum width of text columns that have no entry in STRETCH, unless they are narrower anyway."""

EAGER = ("group", "cause", "peer", "process")
"""Ids of the columns that are widened first, in this order."""

STRETCH = {
    "group": Stretch(20, 24, 48),
    "peer": Stretch(15, 30, 47),
    "process": Stretch(9, 16, 16),
    "cause": Stretch(12, 14, 16),
    "local": Stretch(12, 22, 47),
    "laddr": Stretch(12, 15, 39),
    "raddr": Stretch(12, 15, 39),
    "cgroup": Stretch(12, 24, 60),
}
"""Widths of some columns, by id.

The maximum of ``peer`` holds the longest IPv6 address and port; a process name in the kernel has at most 15 characters.
"""


@dataclass(frozen=True)
class Placed:
    """A column and its place: ``x`` is its first character, counted from the end of the gutter."""

    column: Column
    x: int
    width: int


ColumnLayout = tuple[Placed, ...]
Fixed = Mapping[str, int]


def total_width(layout: ColumnLayout) -> int:
    """Return the width of a line in characters, gutter included."""
    return GUTTER + (layout[-1].x + layout[-1].width if layout else 0)


def fit(
    columns: Sequence[Column],
    sort: Column,
    width: int,
    widths: Mapping[str, int] | None = None,
    grouped: bool = False,
) -> ColumnLayout:
    """Lay out the columns. The default ones are chosen to fit the width; any others are all shown and may scroll.

    ``widths``: set by the user, by column id. ``grouped``: put GROUP before them.
    """
    fixed = widths or {}
    if tuple(columns) == tuple(find(name) for name in SINCE_MARK):
        columns = _telling(columns, sort, fixed, width - _needed([GROUP], sort, fixed, _least) * grouped)
    if tuple(columns) != tuple(find(name) for name in DEFAULT):
        columns = [GROUP, *columns] if grouped else columns
        scrolls = _needed(columns, sort, fixed, _least) > width
        return _grow(columns, sort, fixed, _needed(columns, sort, fixed, _ease) if scrolls else width)
    return _grow(_choose(sort, fixed, width, grouped), sort, fixed, width)


def at(layout: ColumnLayout, x: int) -> Column | None:
    """Return the column at this character (counted as ``Placed.x``), or None.

    The space before a column belongs to it.
    """
    return next((p.column for p in layout if p.x - 1 <= x < p.x + p.width), None)


def _choose(sort: Column, fixed: Fixed, width: int, grouped: bool) -> list[Column]:
    """Return the default columns, fewer or more as the width allows. The sort column is included."""
    default = [find(name) for name in DEFAULT if not grouped or name != "process"]
    default = [GROUP, *default] if grouped else default
    shown = sort in default or (grouped and sort.id == "connections")
    wanted = default + [sort] * (not shown)
    if _needed(wanted, sort, fixed, _least) > width:
        return _fewer(sort, fixed, width, wanted, grouped)
    for column in map(find, WIDER):
        if column in wanted:
            continue
        if _needed([*wanted, column], sort, fixed, _ease) > width:
            break
        wanted.append(column)
    return wanted


def _fewer(sort: Column, fixed: Fixed, width: int, wanted: list[Column], grouped: bool) -> list[Column]:
    ranked = [GROUP, *map(find, NARROW_GROUPS)] if grouped else [find(name) for name in NARROW]
    first = 1 if grouped else 2
    ranked = list(dict.fromkeys([*ranked[:first], *[sort] * (sort in wanted), *ranked[first:]]))
    kept: list[Column] = []
    for column in ranked:
        if not kept or _needed([*kept, column], sort, fixed, _least) <= width:
            kept.append(column)
    return [column for column in wanted if column in kept]


def _telling(columns: Sequence[Column], sort: Column, fixed: Fixed, width: int) -> list[Column]:
    """Return the columns of a mark that fit, dropping the least important ones first."""
    kept: list[Column] = []
    for column in map(find, NARROW_MARK):
        if not kept or _needed([*kept, column], sort, fixed, _least) <= width:
            kept.append(column)
    return [column for column in columns if column in kept]


def _stretch(column: Column, sort: Column, fixed: Fixed) -> Stretch:
    """Return a column's widths. Numbers never shrink; the sort column leaves room for its arrow behind the title."""
    if column.id in fixed:
        return Stretch(fixed[column.id], fixed[column.id], fixed[column.id])
    if column.id in STRETCH:
        return STRETCH[column.id]
    width = max(column.width, len(column.title) + 1) if column is sort else column.width
    return Stretch(width if column.right else min(width, LEAST_TEXT), width, width)


def _least(stretch: Stretch) -> int:
    return stretch.least


def _ease(stretch: Stretch) -> int:
    return stretch.ease


def _needed(columns: Sequence[Column], sort: Column, fixed: Fixed, measure: Callable[[Stretch], int]) -> int:
    return GUTTER + sum(measure(_stretch(column, sort, fixed)) for column in columns) + len(columns) - 1


def _grow(columns: Sequence[Column], sort: Column, fixed: Fixed, width: int) -> ColumnLayout:
    """Lay out columns and distribute spare width: up to ``ease`` first, then up to ``most``, EAGER columns first."""
    widths = {column.id: _stretch(column, sort, fixed).least for column in columns}
    spare = width - _needed(columns, sort, fixed, _least)
    eager = sorted(columns, key=lambda column: EAGER.index(column.id) if column.id in EAGER else len(EAGER))
    for limit in ("ease", "most"):
        for column in eager:
            more = min(spare, getattr(_stretch(column, sort, fixed), limit) - widths[column.id])
            if more > 0:
                widths[column.id] += more
                spare -= more
    placed, x = [], 0
    for column in columns:
        placed.append(Placed(column, x, widths[column.id]))
        x += widths[column.id] + 1
    return tuple(placed)
