"""Which rows of a tick belong together: the two ends of a connection, a client and the listener that it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pairs:
    """For each live row of a tick the index of another one, -1 where there is none, or where it is not certain.

    ``partner``: the row of the other end, where that is on this host too. ``listener``: of a row in SYN-SENT, the row
    in LISTEN in whose queue it waits to be taken.
    """

    partner: NDArray[np.intp]
    listener: NDArray[np.intp]

    def take(self, which: NDArray[Any]) -> Pairs:
        """Return those of the rows at these indices, or where this mask is true; what they point to stays."""
        return Pairs(self.partner[which], self.listener[which])


def no_pairs(count: int) -> Pairs:
    """Return that of ``count`` rows none belongs to another."""
    return Pairs(np.full(count, -1, np.intp), np.full(count, -1, np.intp))
