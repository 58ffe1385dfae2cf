"""A view as comma-separated values (RFC 4180): a header, then a line a row a tick, the time of the tick first. Pure.

Values are those of --json, in the units that the column's id names; null is empty. What a word holds besides printable
ASCII is told by its number, as in the table: each row is one line, and harmless in a terminal, whoever chose the name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from tcptop_ops import text
from tcptop_ops.outputs.json_lines import moment
from tcptop_ops.outputs.text_table import WIDEST, group_titles
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import GROUP
from tcptop_ops.views.view import View

TIME = "time"


def header(view: View) -> str:
    """Return the line of names: ``time``, then the ids of the columns."""
    names = [column.id for column in view.spec.columns]
    of_groups = [] if view.groups is None else [GROUP.id, "connections"]
    return _lines([[TIME, *of_groups, *names]])


def rows(view: View) -> str:
    """Return one tick: a line for each row of the view; for each group with its name and its number of connections."""
    fields = [_fields(view, column) for column in view.spec.columns]
    if view.groups is not None:
        names = [text.shorten(title, WIDEST) for title in group_titles(view)]
        counts = [find("connections").plain(value) for value in view.values(GROUP)]
        fields = [names, counts, *fields]
    return _lines(zip([moment(view.flows)] * len(view), *fields, strict=True))


def _fields(view: View, column: Column) -> list[Any]:
    """Return the value of each row; None is written as nothing."""
    if column.id in view.flows.snapshot.missing:
        return [None] * len(view)
    return [_harmless(column.plain(value)) for value in view.values(column)]


def _harmless(value: Any) -> Any:
    return text.shorten(text.printable(value), WIDEST) if isinstance(value, str) else value


def _lines(records: Iterable[Sequence[Any]]) -> str:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(records)  # its "excel" dialect is RFC 4180: CRLF, quotes doubled, only where needed
    return written.getvalue()
