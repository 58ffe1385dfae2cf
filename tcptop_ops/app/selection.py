"""The row under the cursor: its values, and the filter that keeps what has its process or its peer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import View


def value_at(view: View | None, row: int | None, name: str) -> Any:
    """Return a column's value at a row, as JSON has it; None: null, not known to this source, or no row."""
    if view is None or row is None or name in view.flows.snapshot.missing:
        return None
    column = find(name)
    return column.plain(view.values(column, row, row + 1)[0])


@dataclass(frozen=True)
class Narrowing:
    """A condition to add to the filter; "": there is none, and ``why_not`` says why, if there is a row at all."""

    condition: str = ""
    why_not: str = ""


def to_process(view: View | None, row: int | None) -> Narrowing:
    """Return what keeps the connections of this row's process."""
    pid = value_at(view, row, "pid")
    condition = "" if pid is None else f"pid = {pid}"
    return _narrowing(view, row, "process", condition, "no process is known for this row")


def to_remote(view: View | None, row: int | None) -> Narrowing:
    """Return what keeps the connections to this row's remote address."""
    address = value_at(view, row, "raddr")
    condition = "" if address in (None, "0.0.0.0", "::") else f"raddr = {address}"
    return _narrowing(view, row, "raddr", condition, "this row has no remote address")


_IN_COMMON = {"process": "these have no process in common", "raddr": "these have no remote address in common"}


def _narrowing(view: View | None, row: int | None, column: str, condition: str, why_not: str) -> Narrowing:
    """Return the condition that the row's group has in common, if that is this column; else the row's own."""
    if view is None or row is None:
        return Narrowing()
    number = view.group_at(row)
    if number is not None and view.groups is not None:
        condition = view.groups.condition(number, column) or condition
        why_not = _IN_COMMON[column]
    return Narrowing(condition) if condition else Narrowing(why_not=why_not)
