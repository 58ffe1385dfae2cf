"""The four rates of a row: growth since the last tick. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.records import Records

Payload = NDArray[np.uint64]


def fill_per_second(
    rates: Records, current: Records, last: Records, payload: Payload, before: Payload, seconds: float
) -> None:
    """Fill in the four rates: growth by ``seconds``, from ``last`` (COUNTED) and ``before`` (``Counts.payload``)."""
    if seconds <= 0:
        return
    grown = _grown(payload, before)
    rates["tx_bytes_per_s"], rates["rx_bytes_per_s"] = grown[:, 0] / seconds, grown[:, 1] / seconds
    rates["retrans_per_s"] = (current["retrans_segs"] - last["retrans_segs"]) / seconds
    rates["rto_per_s"] = (current["rto_events"] - last["rto_events"]) / seconds


def _grown(now: Payload, before: Payload) -> Payload:
    """Return the growth of a 64-bit counter; 0 where it fell, since the socket was used for another connection."""
    return np.where(now >= before, now - before, 0)


def at_rest(rates: Records) -> Records:
    """Return a copy for the ticks after the close: the rates are 0, the growth within W stays."""
    rest: Records = rates.copy()
    for name in ("tx_bytes_per_s", "rx_bytes_per_s", "retrans_per_s", "rto_per_s"):
        rest[name] = 0
    return rest
