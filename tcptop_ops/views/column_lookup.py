"""A column by its id or its alias."""

from __future__ import annotations

from difflib import get_close_matches

from tcptop_ops.errors import Usage
from tcptop_ops.views.column import Column
from tcptop_ops.views.columns import COLUMNS

COLUMNS_BY_NAME: dict[str, Column] = {column.id: column for column in COLUMNS} | {
    c.alias: c for c in COLUMNS if c.alias
}
"""Columns by id and by alias."""


def find(name: str) -> Column:
    """Return the column with this id or alias. Raises Usage."""
    column = COLUMNS_BY_NAME.get(name)
    if column is None:
        near = get_close_matches(name, COLUMNS_BY_NAME, 1)
        raise Usage(
            f"no column {name!r}", f"did you mean {near[0]}?" if near else f"columns: {' '.join(c.id for c in COLUMNS)}"
        )
    return column
