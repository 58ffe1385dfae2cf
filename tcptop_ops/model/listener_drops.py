"""What is known of a listener's queues beyond its row: their dtype."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.records import Records

COUNTS = ("overflows", "syn_drops", "cookies")
"""Names of what is counted, by listener.

``overflows``: handshakes dropped since the accept queue was full; ``syn_drops``: SYNs dropped since the SYN backlog was
full; ``cookies``: SYNs answered by a SYN cookie since it was full.
"""

LISTENED = np.dtype(
    [
        ("cookie", "u8"),
        ("counted", "u1"),  # 1 where its namespace was read within W; else the counts are 0, and not known
        ("half_open", "u4"),  # handshakes that wait for their last ACK here; of a group (SO_REUSEPORT) its share
        *((name, "u4") for name in COUNTS),  # within W
        *((name + "_since", "u4") for name in COUNTS),  # since W was last free of them
        *((name + "_s", "f8") for name in COUNTS),  # when one was last seen: CLOCK_MONOTONIC; 0: never
    ]
)
"""A row a listener."""


def none_listening() -> Records:
    """Return LISTENED rows, none of them."""
    return np.zeros(0, LISTENED)


def listened_by(cookies: NDArray[np.uint64], listened: Records) -> Records:
    """Return the LISTENED row of each of these cookies, zeros where there is none. ``listened`` is sorted by cookie."""
    at, found = find_sorted(listened["cookie"], cookies)
    told = np.zeros(len(cookies), LISTENED)
    told[found] = listened[at[found]]
    return told
