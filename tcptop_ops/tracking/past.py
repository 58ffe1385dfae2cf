"""Rows as they were when the rule of their cause last matched, from which evidence is quoted once that is over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.flows import Rows

MOST = 10_000
"""Most rows that are remembered, those with the highest scores first: about 8 MB."""


class Past:
    """Remembers the rows that have a cause now, and those whose cause is kept."""

    def __init__(self) -> None:
        """Begin with none."""
        self._rows: Rows | None = None
        self._matching = self._over = np.zeros(0, np.intp)

    def note(self, matching: NDArray[np.intp], over: NDArray[np.intp]) -> None:
        """Take indices of this tick's live rows: those that a rule matches, and those whose cause is kept."""
        self._matching, self._over = matching, over

    def update(self, live: Rows, closed: Rows) -> Rows | None:
        """Take this tick's rows; return those whose cause is kept, as they were, sorted by cookie; None if none is."""
        kept = np.concatenate([live.sockets["cookie"][self._over], closed.sockets["cookie"][closed.rates["kept"] != 0]])
        rows = None if self._rows is None else self._rows.take(np.isin(self._rows.sockets["cookie"], kept))
        told = rows if rows is not None and len(rows) else None
        self._rows = _with(_told_now(live, self._matching), told)
        return told


def _told_now(live: Rows, which: NDArray[np.intp]) -> Rows | None:
    """Return copies of the rows whose rule matches in this tick, the worst MOST of them."""
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
