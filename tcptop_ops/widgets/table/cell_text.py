"""Convert the visible rows to text: the cells of a table line, and everything else that decides its look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tcptop_ops import text
from tcptop_ops.dns.name_book import ADDRESSES, ENDPOINTS, NAMED, NOBODY, PORTS, NameBook, NameKey, all_keys, shower
from tcptop_ops.model.flows import Mark
from tcptop_ops.tracking.baseline import born_since
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import GROUP
from tcptop_ops.views.group_keys import GROUP_KEYS
from tcptop_ops.views.groups import Groups
from tcptop_ops.views.view import View, read_at, row_at
from tcptop_ops.widgets.table.column_fit import ColumnLayout

CUT_IN_THE_MIDDLE = ENDPOINTS | ADDRESSES
YOU = " *you"
FOLDED, UNFOLDED, INSIDE = "[+] ", "[-] ", "    "
"""Prefixes of a folded group, of an unfolded one, and of a connection in a group."""

NAME_LEVEL = 3
"""The level of a group's title: not a severity, but a style of its own."""

EMPTY_LINES = 2
"""Maximum number of lines of the message in an empty table."""

NEW_TICKS = 2
"""Number of ticks for which a new row is marked with "+"."""

SHORT_ENDS = {
    "closed": "close",
    "peer-closed": "peer",
    "reset": "reset",
    "timed-out": "tmout",
    "refused": "refus",
    "unreachable": "unrch",
    "abandoned": "aband",
}
"""Short forms of ends (``endings.ENDS``), shown in the state column of closed rows; states are in upper case."""


class Line(NamedTuple):
    """A table line: padded cells, their levels (``Column.level``) and its mark. Equal lines look the same."""

    cells: tuple[str, ...]
    levels: tuple[int, ...]
    mark: str  # "!" bad, "x" closed, "+" new, " " otherwise
    closed: bool
    cursor: bool


def existing(view: View) -> int:
    """Return the number of rows that the view would have without its filter."""
    return len(view.flows.live) + (len(view.flows.closed) if view.spec.show_closed else 0)


def empty_lines(view: View | None, typing: bool, width: int) -> list[str]:
    """Return why there are no rows, and what to do about it, as at most EMPTY_LINES lines.

    ``typing``: a filter is being typed. ``width``: of the room for it, in cells.
    """
    if view is None:
        return ["starting ..."]
    count = existing(view)
    if view.spec.filter is None or not count:
        return ["no TCP sockets"]
    why = f"no connection matches ({count} exist)" if count > 1 else "no connection matches (1 exists)"
    remedy = "Esc restores the filter" if typing else "\\ clears the filter"
    whole = f"{why}; {remedy}"
    return [whole] if len(whole) <= width else [why, remedy]


def lines(view: View, layout: ColumnLayout, start: int, stop: int, cursor: int, names: NameBook = NOBODY) -> list[Line]:
    """Format the rows ``start`` to ``stop`` of the view. ``cursor`` is the position of the cursor in it."""
    stop = min(stop, len(view))
    if start >= stop:
        return []
    ends = _ends(view, start, stop)
    is_group = (view.order[start:stop] < 0).tolist()
    texts, levels = [], []
    for placed in layout:
        if placed.column is GROUP:
            texts.append(_heads(view, layout, start, stop, names))
            levels.append([NAME_LEVEL if one else 0 for one in is_group])
            continue
        values = view.values(placed.column, start, stop)
        show = placed.column.shower(view.flows) if placed.column.names else shower(placed.column, names)
        words = [show(value) for value in values]
        if view.groups is not None:  # b"" of a group means that its connections differ: a dash, not "?"
            words = [text.DASH if values[at] == b"" and is_group[at] else one for at, one in enumerate(words)]
        shown = [_cell(placed.column, value, one, placed.width) for value, one in zip(values, words, strict=True)]
        if placed.column.id == "process" and view.flows.session:
            shown = _with_session(view, start, stop, shown)
        if placed.column.id == "state":
            shown = [SHORT_ENDS.get(end, cell).ljust(placed.width) for end, cell in zip(ends, shown, strict=True)]
        texts.append(shown)
        judged = find("score") if placed.column.id == "cause" else placed.column  # a cause is as bad as its score
        judged_values = values if judged is placed.column else view.values(judged, start, stop)
        severity = view.spec.thresholds.get(judged.id)
        if view.groups is None:
            levels.append([judged.level(value, severity) for value in judged_values])
        else:
            judges = [judged.level_of_group if group else judged.level for group in is_group]
            levels.append([judge(value, severity) for judge, value in zip(judges, judged_values, strict=True)])
    fresh = _fresh(view, start, stop)
    found = []
    rows = zip(zip(*texts, strict=True), zip(*levels, strict=True), fresh, strict=True)
    for position, (row, row_levels, new) in enumerate(rows, start):
        closed = view.is_closed(position)
        mark = "!" if 2 in row_levels else "x" if closed else "+" if new else " "
        found.append(Line(row, row_levels, mark, closed, position == cursor))
    return found


def _heads(view: View, layout: ColumnLayout, start: int, stop: int, names: NameBook) -> list[str]:
    """Return the cells of the GROUP column: title and count of a group; for a connection in it, what identifies it.

    A connection shows its peer if no other column does, otherwise its process, or its pid where processes are the
    groups.
    """
    width = next(placed.width for placed in layout if placed.column is GROUP)
    has_peer = any(placed.column.id == "peer" for placed in layout)
    which = "peer" if not has_peer else "pid" if view.spec.group == "process" else "process"
    entries = view.order[start:stop]
    inside = iter(read_at(view.flows, find(which), entries[entries >= 0]))
    show = shower(find(which), names)
    cells = []
    for cookie, entry in zip(view.cookies(start, stop), entries.tolist(), strict=True):
        if view.groups is not None and entry < 0:
            cells.append(_head(view, view.groups, -1 - entry, names, width))
        else:
            cells.append((INSIDE + _inside(view, which, show(next(inside)), cookie, width - len(INSIDE))).ljust(width))
    return cells


def _head(view: View, groups: Groups, number: int, names: NameBook, width: int) -> str:
    mark = UNFOLDED if int(groups.identities[number]) in view.spec.unfolded else FOLDED
    count = text.count(int(groups.counts[number]))
    room = max(width - len(mark) - len(count) - 1, 1)
    return f"{mark}{_name(view, groups, number, names, room).ljust(room)} {count}"


def _name(view: View, groups: Groups, number: int, names: NameBook, room: int) -> str:
    """Return a group's title, shortened to ``room``. A known host name replaces a remote address."""
    title = groups.title(number)
    if view.spec.group == "remote" and names:
        value = groups.column(find("raddr"))[number]
        title = shower(find("raddr"), names)(bytes(value)) if value else title
    return text.shorten_middle(title, room) if GROUP_KEYS[view.spec.group].ends_tell else text.shorten(title, room)


def _inside(view: View, which: str, shown: str, cookie: int, room: int) -> str:
    """Return the text that identifies a connection of a group."""
    if which == "peer":
        return text.shorten_middle(shown, room)
    cell = text.shorten(f"pid {shown}" if which == "pid" else shown, room)
    return _signed_for(cell.ljust(room)) if cookie == view.flows.session and view.flows.session else cell


def name_keys(view: View, layout: ColumnLayout, start: int, stop: int, cursor: int) -> list[NameKey]:
    """Return the keys whose names these rows could show, and those of both ends of the cursor's row for the story."""
    columns = [placed.column for placed in layout if placed.column.id in NAMED]
    columns += [find("raddr")] * (view.spec.group == "remote") + [find("peer")] * (view.groups is not None)
    of_rows = all_keys(columns, lambda column: view.values(column, start, stop))
    of_cursor = all_keys(map(find, sorted(ENDPOINTS)), lambda column: view.values(column, cursor, cursor + 1))
    return list(dict.fromkeys([*of_cursor, *of_rows]))


def _with_session(view: View, start: int, stop: int, shown: list[str]) -> list[str]:
    """Append ``*you`` to the process of the connection over which this program is used."""
    cookies = view.cookies(start, stop)
    session = view.flows.session
    return [_signed_for(cell) if cookie == session else cell for cookie, cell in zip(cookies, shown, strict=True)]


def _signed_for(cell: str) -> str:
    name, width = cell.rstrip(), len(cell)
    return f"{text.shorten(name, width - len(YOU))}{YOU}".ljust(width)


def _cell(column: Column, value: Any, shown: str, width: int) -> str:
    if len(shown) > width:
        shown = _shortened(column, value, shown, width)
    return shown.rjust(width) if column.right else shown.ljust(width)


def _shortened(column: Column, value: Any, shown: str, width: int) -> str:
    """Shorten a cell so that it can't be read as another value: text gets a ``~``, a long number is ``999+``."""
    if column.id in CUT_IN_THE_MIDDLE or isinstance(value, int):
        return text.shorten_middle(shown, width)
    if not column.right or column.id in PORTS:  # a port that is too long is a service's name
        return text.shorten(shown, width)
    compact = text.si(value)
    return compact if len(compact) <= width else "9" * (width - 1) + "+"


def _ends(view: View, start: int, stop: int) -> Sequence[str]:
    if int(view.order[start:stop].max()) < len(view.flows.live):
        return [""] * (stop - start)
    return [value.decode() for value in view.values(find("end"), start, stop)]


def _fresh(view: View, start: int, stop: int) -> list[bool]:
    """Return which rows are new: since the mark, or in the last NEW_TICKS; never those of the first tick."""
    if view.flows.mark is not None:
        return _since_mark(view, view.flows.mark, start, stop)
    live = len(view.flows.live)
    ages = view.flows.live.rates["fresh"]
    tick = view.flows.tick
    rows = view.order[start:stop].tolist()
    return [bool(0 <= row < live and (age := int(ages[row])) < NEW_TICKS and tick > age) for row in rows]


def _since_mark(view: View, mark: Mark, start: int, stop: int) -> list[bool]:
    return [
        view.group_at(position) is None and bool(born_since(mark, row_at(view, position))[0])
        for position in range(start, stop)
    ]
