"""A place in the window's arrays for every live socket."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, places_of

LEAST = 1024
"""Fewest slots that there is room for."""

SPARSE = 4
SPARSE_TICKS = 10
"""Where so many times as many slots as sockets are there for so many ticks at which sockets came or went, as after a
peak, there is room for too many."""

Indices = NDArray[np.intp]


class Slots:
    """Gives each live cookie a slot, an index into arrays of ``capacity`` elements, and reuses those of the dead.

    ``of_rows``: the slot of each row of the last tick, the same array while the same sockets are listed in the same
    order. ``order``: the indices that sort these rows by cookie. ``before``: where each was at the tick before, -1
    where it was not there; None: the rows are the same.
    """

    def __init__(self) -> None:
        """Start with no cookies and a capacity of 0."""
        self.capacity = 0
        self.order = self.of_rows = np.empty(0, np.intp)
        self.before: Indices | None = None
        self._cookies = self._sorted = np.empty(0, "u8")
        self._sparse_ticks = 0

    def find(self, cookies: NDArray[np.uint64]) -> tuple[Indices, NDArray[np.bool_]]:
        """Return the slot of each cookie, and whether it has one; where it has none the slot is meaningless."""
        at, known = find_sorted(self._sorted, cookies)
        return self.of_rows[self.order[at]] if len(self.order) else at, known

    def assign(self, cookies: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Give a slot to exactly these cookies; the slots of all others become free. The capacity may grow.

        Return which of them are new.
        """
        if np.array_equal(cookies, self._cookies):
            self.before = None
            return np.zeros(len(cookies), np.bool_)
        cookies = cookies.copy()
        self.before = places_of(cookies, self._cookies)
        new: NDArray[np.bool_] = self.before < 0
        self.of_rows = self._replaced(self.before, new)
        self._cookies, self.order = cookies, np.argsort(cookies, kind="stable")
        self._sorted = cookies[self.order]
        is_sparse = self.capacity > max(SPARSE * len(cookies), LEAST)
        self._sparse_ticks = self._sparse_ticks + 1 if is_sparse else 0
        return new

    def _replaced(self, before: Indices, new: NDArray[np.bool_]) -> Indices:
        """Return the slot of each row."""
        slots = self.of_rows[before] if len(self.of_rows) else np.zeros(len(before), np.intp)
        is_free = np.ones(self.capacity, np.bool_)
        is_free[slots[~new]] = False
        missing, free = int(np.count_nonzero(new)), np.flatnonzero(is_free)
        if len(free) < missing:
            grown = max(LEAST, self.capacity * 3 // 2, self.capacity + missing)
            free = np.concatenate([free, np.arange(self.capacity, grown)])
            self.capacity = grown
        slots[new] = free[:missing]
        return slots

    def packed(self) -> Indices | None:
        """Give the rows the lowest slots, and let go of the rest, where there is room for too many for a while.

        Return the slot from which each of the slots in use was moved; None: nothing was.
        """
        if self._sparse_ticks < SPARSE_TICKS:
            return None
        before, self._sparse_ticks = self.of_rows, 0
        self.of_rows = np.arange(len(before))
        self.capacity = max(LEAST, len(before) * 5 // 4)
        return before
