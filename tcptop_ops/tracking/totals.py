"""The totals of a tick over all rows."""

from __future__ import annotations

import numpy as np

from tcptop_ops.model.enums import STATE_NAMES, State
from tcptop_ops.model.snapshot import Snapshot


def by_state(snapshot: Snapshot) -> dict[str, int]:
    """Count the sockets in each state by its name, those without rows (TIME-WAIT, SYN-RECV) included."""
    counts = np.bincount(snapshot.sockets["state"], minlength=13)
    found = {name: int(counts[state]) for state, name in STATE_NAMES.items() if counts[state]}
    recv = snapshot.syn_recv + int(counts[State.SYN_RECV])
    extra = {STATE_NAMES[State.TIME_WAIT]: snapshot.time_wait, STATE_NAMES[State.SYN_RECV]: recv}
    return found | {name: n for name, n in extra.items() if n}
