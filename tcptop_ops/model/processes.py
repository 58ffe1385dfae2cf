"""Numbers of processes, for whole arrays of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.records import Records

STEP_NS = 1_000_000
"""Of the time at which a process started, as it is part of its key; 32 bits of it are 49 days."""


def process_keys(owned: Records) -> NDArray[np.uint64]:
    """Return pid (upper 32 bits) and start time of the processes of OWNED rows as one number; 0: no process.

    A pid alone is used again.
    """
    started = owned["start_ns"] // np.uint64(STEP_NS) & np.uint64(0xFFFFFFFF)
    keys: NDArray[np.uint64] = owned["pid"].astype("u8") << np.uint64(32) | started
    keys[owned["pid"] == 0] = 0
    return keys
