"""Which rows something goes on in, so that the next tick has to work them out even if their sockets do not change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.window import words

SETTLED_S = 5.0
"""For how long a row that has come to its state is worked out, seconds: ``attempts`` looks back so far (LATE_NS)."""

_ALWAYS = np.zeros(16, np.bool_)
_ALWAYS[[State.LISTEN, State.SYN_SENT, State.SYN_RECV, State.CLOSE_WAIT]] = True
"""By state: whether a row in it is judged by how long it has been there, or by what others do."""

_RATES = ("tx_bytes_per_s", "rx_bytes_per_s", "retrans_per_s", "rto_per_s", "limit", "kept", "unread_s", "listener")
_MEMORY = ("recv_q", "score", "stalled", "nagle", "held", "no_window_s", "heard", "lowered_s", "passing_s")


def stirs(rates: Records, memory: Records, states: NDArray[np.uint8], waited: NDArray[np.uint32], now_s: float) -> Mask:
    """Return in which of these rows, as just worked out, anything may become another by itself.

    That is: growth within W that will leave it, a rate that will be 0, a score that fades or is not known yet, a state
    or a wait that is judged by its length, and time lost that is no longer than the life that was seen.

    ``rates``, ``memory``: RATES and MEMORY at the end of the tick; ``waited``: ``waited_us``. All are aligned.
    """
    found: Mask = _ALWAYS[states & 15] | (now_s - memory["state_s"] <= SETTLED_S)
    found |= words(rates["win"]).any(axis=1)
    found |= (rates["score"] != 0) | (rates["fresh"] == 0)
    for name in _RATES:
        found |= rates[name] != 0
    for name in _MEMORY:
        found |= memory[name] != 0
    found |= rates["stall_us"] != waited + memory["zero_window_us"]
    return found
