"""A view as text for a pipe: a plain table, or JSON. Both from the table of columns."""

from __future__ import annotations

from datetime import datetime

from tcptop_ops import text
from tcptop_ops.model.flows import Finding, Flows
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import GROUP
from tcptop_ops.views.view import View

WIDEST = 512
"""Characters of a cell: whoever may make a cgroup may give it a path of 4096 bytes, and every line would be as long."""


BETWEEN = "  "
"""Two columns of the table."""


def table(view: View, width: int | None) -> str:
    """Return one tick as a plain table of at most ``width`` characters a line (None: as wide as the columns).

    Above the columns stands a line for each finding. A group is a line, with its name and how many connections it has
    before all other columns. The columns that do not fit are left out, from the right: half a number would be another
    number. A word may be cut at the edge.
    """
    columns = view.spec.columns
    cells = [_cells(view, column) for column in columns]
    if view.groups is not None:
        names = [text.shorten(title, WIDEST) for title in group_titles(view)]
        counts = [find("connections").show(value) for value in view.values(GROUP)]
        columns, cells = (GROUP, find("connections"), *columns), [names, counts, *cells]
    widths = [max(map(len, [column.title.split(" ")[0], *body])) for column, body in zip(columns, cells, strict=True)]
    columns = columns[: _fitting(columns, widths, width)]
    lines = [
        heading(view.flows),
        *map(finding, view.findings),
        _line([c.title.split(" ")[0] for c in columns], columns, widths),
    ]
    lines += [_line(list(row), columns, widths) for row in zip(*cells[: len(columns)], strict=True)]
    return "".join(line.rstrip()[:width] + "\n" for line in lines) + "\n"


def _fitting(columns: tuple[Column, ...], widths: list[int], width: int | None) -> int:
    """Return how many of the columns fit; one at least."""
    edge = -len(BETWEEN)
    for number, (column, wide) in enumerate(zip(columns, widths, strict=True)):
        begin = edge + len(BETWEEN)
        edge = begin + wide
        if width is not None and edge > width:
            is_cut = not column.right and begin + len(column.title.split(" ")[0]) <= width
            return max(number + is_cut, 1)
    return len(columns)


def _cells(view: View, column: Column) -> list[str]:
    if column.id in view.flows.snapshot.missing:
        return [text.UNKNOWN] * len(view)
    shows = [column.show if entry >= 0 else column.show_of_group for entry in view.order.tolist()]
    return [text.shorten(show(value), WIDEST) for show, value in zip(shows, view.values(column), strict=True)]


def group_titles(view: View) -> list[str]:
    """Return the name of each row that is a group; "" for a connection."""
    numbers = [view.group_at(position) for position in range(len(view))]
    return ["" if view.groups is None or number is None else view.groups.title(number) for number in numbers]


def _line(cells: list[str], columns: tuple[Column, ...], widths: list[int]) -> str:
    shown = zip(cells[: len(columns)], columns, widths[: len(columns)], strict=True)
    return BETWEEN.join(cell.rjust(width) if column.right else cell.ljust(width) for cell, column, width in shown)


def finding(one: Finding) -> str:
    """Return a finding as a line: who is to blame, what is wrong, and how many rows it has."""
    rows = "1 row" if one.rows == 1 else f"{one.rows} rows"
    return f"! {one.blame or text.UNKNOWN}: {text.printable(one.text)} ({rows})"


def heading(flows: Flows) -> str:
    """Return one line about the tick."""
    t = flows.totals
    clock = datetime.fromtimestamp(flows.snapshot.time).astimezone().strftime("%H:%M:%S")
    states = " ".join(f"{name} {count}" for name, count in t.by_state.items())
    return (
        f"{clock} {flows.snapshot.source} | {t.connections} sockets | {states} | retr {text.si(t.retrans_per_s)}/s"
        f" RTO {text.si(t.rto_per_s)}/s | tx {text.si(t.tx_bytes_per_s)}B/s rx {text.si(t.rx_bytes_per_s)}B/s"
    )
