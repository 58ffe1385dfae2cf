"""Read what was agreed about explicit congestion notification (ECN), and which share of the segments was marked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.enums import EcnMode
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.views.known_values import floats, listens, never_answered

MODES = ("none", "ecn", "accecn", "pending")
"""The words for NONE, CLASSIC, ACCURATE and PENDING of EcnMode."""

ASKED = 8
"""TCPI_OPT_ECN of include/uapi/linux/tcp.h: both ends agreed to use ECN, or a SYN asks for it."""

_NAMES = np.array(["", *MODES], "S7")

Values = NDArray[Any]


def mode(rows: Rows, _: Flows) -> Values:
    """Return one of MODES as bytes; b"" where it is not known, for listeners, and of a SYN that was not answered."""
    modes = rows.sockets["ecn_mode"]
    names: Values = _NAMES[np.minimum(modes, EcnMode.PENDING)]
    nothing = listens(rows) | (modes > EcnMode.PENDING)
    if rows.endings is not None:
        nothing |= never_answered(rows)
    return np.where(nothing, b"", names)


def delivered_ce(rows: Rows, _: Flows) -> Values:
    """Return how many segments the peer reported as marked, of those that arrived at most; NaN without ECN."""
    return _agreed(np.minimum(floats(rows.sockets["delivered_ce"]), floats(rows.sockets["delivered"])), rows)


def delivered(rows: Rows, _: Flows) -> Values:
    """Return how many segments have arrived at the peer; NaN without ECN."""
    return _agreed(floats(rows.sockets["delivered"]), rows)


def received_ce(rows: Rows, _: Flows) -> Values:
    """Return how many segments came marked, of those with data at most; NaN without ECN.

    With accurate ECN segments without data are marked and counted, too.
    """
    return _agreed(np.minimum(floats(rows.sockets["received_ce"]), floats(rows.sockets["data_segs_in"])), rows)


def received(rows: Rows, _: Flows) -> Values:
    """Return how many segments with data came; NaN without ECN."""
    return _agreed(floats(rows.sockets["data_segs_in"]), rows)


def ce_pct(rows: Rows, flows: Flows) -> Values:
    """Return ``delivered_ce`` as a percentage; NaN without ECN, and before a segment has arrived."""
    return _percent(delivered_ce(rows, flows), delivered(rows, flows))


def ce_in_pct(rows: Rows, flows: Flows) -> Values:
    """Return ``received_ce`` as a percentage; NaN without ECN, and before a segment with data came."""
    return _percent(received_ce(rows, flows), received(rows, flows))


def _percent(part: Values, whole: Values) -> Values:
    whole[whole == 0] = np.nan
    share: Values = 100.0 * part / whole
    return share


def _agreed(counts: NDArray[np.float64], rows: Rows) -> Values:
    """Return counts with NaN where ECN is not used."""
    used = (rows.sockets["options"] & ASKED != 0) & ~listens(rows) & ~never_answered(rows)
    return np.where(used, counts, np.nan)
