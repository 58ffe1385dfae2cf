"""Which columns fit into a width, and how wide each one gets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tcptop_ops.columns import DEFAULT, GROUP, SINCE_MARK, WIDER, Column, find

GUTTER = 2
"""Characters left of the first column: the cursor's and the mark's."""

NARROW = ("process", "peer", "score", "cause", "retrans_win", "state", "srtt_us", "rto_win", "retrans_pct")
"""The default columns, the most telling first: what stays where not even they fit."""

NARROW_GROUPS = ("score", "retrans_win", "cause", "peer", "srtt_us", "retrans_pct", "rto_win", "state")
"""The same behind GROUP, which takes the place of the process: it names those of a group's connections."""


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
"""The same of those that are shown while there is a mark."""


@dataclass(frozen=True)
class Stretch:
    """How wide a column of text may be: at the least, where there is room to choose, and at the most."""

    least: int
    ease: int
    most: int


LEAST_TEXT = 12
"""What a column of text shrinks to where there is no room for its own width."""

EAGER = ("group", "cause", "peer", "process")
"""These grow before others do, in this order."""

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
"""``peer`` at the most: the longest IPv6 address and port. A process name of the kernel's has 15 characters."""


@dataclass(frozen=True)
class Placed:
    """A column at its place: the first of its characters, counted from the gutter's end."""

    column: Column
    x: int
    width: int


Layout = tuple[Placed, ...]
Fixed = Mapping[str, int]


def total_width(layout: Layout) -> int:
    """Characters of the whole line, gutter included."""
    return GUTTER + (layout[-1].x + layout[-1].width if layout else 0)


def fit(
    columns: Sequence[Column],
    sort: Column,
    width: int,
    widths: Mapping[str, int] | None = None,
    grouped: bool = False,
) -> Layout:
    """The default columns adapt to the width; any others are those that the user asked for, whatever the width is.

    ``widths``: those that the user wants, by id. ``grouped``: GROUP stands before them.
    """
    fixed = widths or {}
    if tuple(columns) == tuple(find(name) for name in SINCE_MARK):
        columns = _telling(columns, sort, fixed, width - _needed([GROUP], sort, fixed, _least) * grouped)
    if tuple(columns) != tuple(find(name) for name in DEFAULT):
        columns = [GROUP, *columns] if grouped else columns
        scrolls = _needed(columns, sort, fixed, _least) > width
        return _grow(columns, sort, fixed, _needed(columns, sort, fixed, _ease) if scrolls else width)
    return _grow(_choose(sort, fixed, width, grouped), sort, fixed, width)


def at(layout: Layout, x: int) -> Column | None:
    """The column at this character, counted like ``Placed.x``; the space before a column is its own."""
    return next((p.column for p in layout if p.x - 1 <= x < p.x + p.width), None)


def _choose(sort: Column, fixed: Fixed, width: int, grouped: bool) -> list[Column]:
    """The default set, or what fits of it; with more room, more columns. What the rows are sorted by is shown."""
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
    """Of those of a mark as many as fit: what has changed since first."""
    kept: list[Column] = []
    for column in map(find, NARROW_MARK):
        if not kept or _needed([*kept, column], sort, fixed, _least) <= width:
            kept.append(column)
    return [column for column in columns if column in kept]


def _stretch(column: Column, sort: Column, fixed: Fixed) -> Stretch:
    """Numbers never shrink. The sort's column is one wider where its mark finds no room beside the title."""
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


def _grow(columns: Sequence[Column], sort: Column, fixed: Fixed, width: int) -> Layout:
    """Hand out what is left over: first up to ``ease``, then up to ``most``; whose and with whom come first."""
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
