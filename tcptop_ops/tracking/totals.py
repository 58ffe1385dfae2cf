"""The totals of a tick over all rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import gather
from tcptop_ops.model.enums import STATE_NAMES, State
from tcptop_ops.model.flows import Rows, Totals
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.local_pairs import counts_once


def by_state(snapshot: Snapshot, states: NDArray[np.uint8]) -> dict[str, int]:
    """Count the sockets in each state by its name, those without rows (TIME-WAIT, SYN-RECV) included.

    ``states``: of the snapshot's sockets.
    """
    counts = np.bincount(states, minlength=13)
    found = {name: int(counts[state]) for state, name in STATE_NAMES.items() if counts[state]}
    recv = snapshot.syn_recv + int(counts[State.SYN_RECV])
    extra = {STATE_NAMES[State.TIME_WAIT]: snapshot.time_wait, STATE_NAMES[State.SYN_RECV]: recv}
    return found | {name: n for name, n in extra.items() if n}


def totals_of(snapshot: Snapshot, states: NDArray[np.uint8], stirred: Rows, ended: Rows, seconds: float) -> Totals:
    """Return the sums. ``stirred``: the live rows but for those at rest, which add nothing; ``ended``: in this tick.

    ``states``: of all live rows; ``seconds``: since the last tick.
    """
    parts = [stirred, ended]
    moved = [np.flatnonzero(part.rates["tx_bytes_per_s"] + part.rates["rx_bytes_per_s"]) for part in parts]
    once = [
        which[counts_once(gather(part.sockets, which), part.rates["paired"][which])]
        for part, which in zip(parts, moved, strict=True)
    ]
    retrans, rto = (sum(_sum_of(part.rates[name]) for part in parts) for name in ("retrans_per_s", "rto_per_s"))
    sent, again = (
        sum(int(part.rates["win"][name].sum(dtype="u8")) for part in parts)
        for name in ("data_segs_out", "retrans_segs")
    )
    tx, rx = (
        sum(float(part.rates[name][which].sum()) for part, which in zip(parts, once, strict=True))
        for name in ("tx_bytes_per_s", "rx_bytes_per_s")
    )
    return Totals(
        connections=len(snapshot.sockets),
        by_state=by_state(snapshot, states),
        opened=snapshot.opened,
        closed=len(ended) if ended.endings is None else int((ended.endings["from_state"] != State.LISTEN).sum()),
        retrans_segs=round(retrans * seconds),
        rto_events=round(rto * seconds),
        retrans_per_s=retrans,
        rto_per_s=rto,
        retrans_pct=100.0 * again / sent if sent else float("nan"),
        tx_bytes_per_s=tx,
        rx_bytes_per_s=rx,
    )


def _sum_of(rates: NDArray[np.float64]) -> float:
    """Return their sum, rounded alike whether rows at rest are among them or not."""
    return float(rates[rates != 0].sum())
