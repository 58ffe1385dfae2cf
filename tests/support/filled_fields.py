"""Which fields of a snapshot and which columns have a value."""

from __future__ import annotations

import numpy as np

from tcptop_ops.model.flows import Flows
from tcptop_ops.views.columns import COLUMNS

OF_A_PROGRAM = frozenset(
    {"callbacks_mode", "changed", "counters", "watched", "story", "seen", "program_ns", "program_calls"},
)
"""Fields of a Snapshot that only a sock_ops program fills: no column shows them. ``callbacks_mode`` "" says so."""


def null(flows: Flows) -> set[str]:
    """Return the columns that have no value in any row."""
    return {
        column.id
        for column in COLUMNS
        if all(column.plain(value) is None for value in flows.column(column.read).tolist())
    }


def is_filled(value: object) -> bool:
    """Return whether a field of a Snapshot has a value other than what means that there is none."""
    if isinstance(value, (np.ndarray, np.void)):
        return bool(np.asarray(value).reshape(-1).view("u1").any()) if np.size(value) else False
    return bool(value)
