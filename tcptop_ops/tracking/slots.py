"""A place in the window's arrays for every live socket."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted


class Slots:
    """Gives each live cookie a slot, an index into arrays of ``capacity`` elements, and reuses those of the dead.

    ``cookies`` is sorted, ``slots`` aligned with it.
    """

    def __init__(self) -> None:
        """Start with no cookies and a capacity of 0."""
        self.cookies = np.empty(0, "u8")
        self.slots = np.empty(0, np.intp)
        self.capacity = 0
        self._rows = np.empty(0, "u8")
        self._order = self._of_rows = np.empty(0, np.intp)

    def find(self, cookies: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the slot of each cookie, and whether it has one; where it has none the slot is meaningless."""
        at, known = find_sorted(self.cookies, cookies)
        return self.slots[at] if len(self.slots) else at, known

    def assign(self, cookies: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Give a slot to exactly these cookies; the slots of all others become free.

        Return the indices that sort the cookies, the slot of each, and which of them are new. The capacity may grow.
        """
        if np.array_equal(cookies, self._rows):
            return self._order, self._of_rows, np.zeros(len(cookies), np.bool_)
        order = np.argsort(cookies, kind="stable")
        sorted_slots, sorted_new = self._replace(cookies[order])
        slots = np.empty(len(order), np.intp)
        new = np.empty(len(order), np.bool_)
        slots[order], new[order] = sorted_slots, sorted_new
        self._rows, self._order, self._of_rows = cookies.copy(), order, slots
        return order, slots, new

    def _replace(self, cookies: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Give slots to exactly these cookies, which are sorted; return the slots, and which of them are new."""
        slots, known = self.find(cookies)
        kept = np.zeros(self.capacity, np.bool_)
        kept[slots[known]] = True
        missing = int(len(cookies) - known.sum())
        free = np.flatnonzero(~kept)
        if len(free) < missing:
            grown = max(1024, self.capacity * 3 // 2, self.capacity + missing)
            free = np.concatenate([free, np.arange(self.capacity, grown)])
            self.capacity = grown
        slots[~known] = free[:missing]
        self.cookies, self.slots = cookies, slots
        return slots, ~known
