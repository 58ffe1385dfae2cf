"""Rows as they were when the rule of their cause last matched, from which evidence is quoted once that is over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.arrays import Mask, find_sorted
from tcptop_ops.model.flows import Rows

MOST = 10_000
"""Most rows that are remembered, those with the highest scores first: about 8 MB."""

_IS_FAULT = np.array([cause.rule is not None for cause in CAUSES])


class Past:
    """Remembers the rows that have a cause now, and those whose cause is kept."""

    def __init__(self) -> None:
        """Begin with none."""
        self._rows: Rows | None = None

    def update(self, live: Rows, closed: Rows) -> Rows | None:
        """Take this tick's rows; return those whose cause is kept, as they were, sorted by cookie; None if none is."""
        kept = np.concatenate([rows.sockets["cookie"][_kept(rows)] for rows in (live, closed)])
        rows = None if self._rows is None else self._rows.take(np.isin(self._rows.sockets["cookie"], kept))
        told = rows if rows is not None and len(rows) else None
        self._rows = _with(_told_now(live), told)
        return told


def _kept(rows: Rows) -> Mask:
    kept: Mask = rows.rates["kept"] != 0
    return kept


def _told_now(live: Rows) -> Rows | None:
    """Return copies of the rows whose rule matches in this tick, the worst MOST of them."""
    which = np.flatnonzero(_IS_FAULT[live.rates["cause"]] & ~_kept(live))
    if len(which) > MOST:
        which = which[np.argsort(-live.rates["score"][which], kind="stable")[:MOST]]
    return live.take(which) if len(which) else None


def _with(now: Rows | None, before: Rows | None) -> Rows | None:
    """Return both, sorted by cookie; of one cookie in both, that of now."""
    if now is None or before is None:
        rows = now if before is None else before
        return None if rows is None else rows.take(_order(rows))
    _, again = find_sorted(np.sort(now.sockets["cookie"]), before.sockets["cookie"])
    before = before.take(np.flatnonzero(~again)[:MOST])
    both = Rows(
        np.concatenate([now.sockets, before.sockets]),
        np.concatenate([now.events, before.events]),
        np.concatenate([now.owners, before.owners]),
        np.concatenate([now.rates, before.rates]),
    )
    return both.take(_order(both))


def _order(rows: Rows) -> NDArray[np.intp]:
    return np.argsort(rows.sockets["cookie"], kind="stable")
