"""Which values of a row are not known: THE guard, through which every number of a column goes. Pure.

A field that the kernel did not report has the greatest number of its kind. Others mean something only in some states:
before the peer has answered nothing is known of it, and a listener has no window. A column's ``least`` and ``most``
(``believed``) are the bounds beyond which no number is believed; the schema of the JSON has them, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import TOO_LONG, UNKNOWN_U32, unknown_of

MOST_COUNT = float(UNKNOWN_U32 - 1)
"""The greatest number that a field of 32 bits can tell."""

MOST_GROWTH = float((1 << 31) - 1)
"""The most that a counter of 32 bits is believed to have grown within W; more means that it became less."""

MOST_SUM = float(1 << 62)
"""The greatest sum of bytes, and rate of them, that is believed."""

MOST_US = 600e6
"""The longest round trip or timeout, of which the kernel allows 120 s (TCP_RTO_MAX)."""

MOST_S = 1e9
"""The longest age in seconds: 31 years."""


def floats(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values as float64, with NaN where a field of 32 or 64 bits says that it is not known.

    Those are the greatest of its kind, and TOO_LONG.
    """
    found = values.astype(np.float64)
    if values.dtype.kind == "u" and values.dtype.itemsize >= 4:
        found[values >= min(unknown_of(values.dtype), TOO_LONG)] = np.nan
    return found


def listens(rows: Rows) -> Mask:
    """Return which rows are listeners, or were until they closed."""
    found: Mask = rows.sockets["state"] == State.LISTEN
    return found if rows.endings is None else found | (rows.endings["from_state"] == State.LISTEN)


def never_answered(rows: Rows) -> Mask:
    """Return which rows are in SYN-SENT, or were until they closed: nothing is known of the peer."""
    found: Mask = rows.sockets["state"] == State.SYN_SENT
    return found if rows.endings is None else found | (rows.endings["from_state"] == State.SYN_SENT)


def uncounted(rows: Rows) -> Mask:
    """Return which rows have had timeouts that nobody counted: neither the kernel (6.7) nor callbacks."""
    found: Mask = (rows.sockets["total_rto"] == UNKNOWN_U32) & (rows.events["first_ns"] == 0)
    return found


def unless(values: NDArray[Any], null: int) -> NDArray[np.float64]:
    """Return values as float64, with NaN where they equal ``null``."""
    found = floats(values)
    found[values == null] = np.nan
    return found


def believed(
    id: str, read: Callable[[Rows, Flows], NDArray[Any]], least: float, most: float
) -> Callable[[Rows, Flows], NDArray[Any]]:
    """Return a reader like ``read``, of the column ``id``, with null in place of what is not to be believed.

    Those are numbers (float64) below ``least`` or above ``most``, and every value where the source can't tell the
    column (``Snapshot.missing``). Null is NaN, b"" or 0, as the kind of the values is.
    """

    def believed(rows: Rows, flows: Flows) -> NDArray[Any]:
        values = read(rows, flows)
        if id in flows.snapshot.missing:
            return np.full(len(values), np.nan) if values.dtype.kind == "f" else np.zeros_like(values)
        if values.dtype.kind != "f":
            return values
        return np.where((values >= least) & (values <= most), values, np.nan)

    return believed
