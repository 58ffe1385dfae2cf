"""A moment to compare with: what each connection had counted then, and what it has counted since."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.flows import MARK_COUNTERS, MARKED, Flows, Mark, Rows, rto_events
from tcptop_ops.model.records import Records


def _values(rows: Rows) -> Records:
    sockets = rows.sockets
    found = np.zeros(len(sockets), MARKED)
    for name in ("retrans_segs", "bytes_acked", "bytes_received"):
        found[name] = sockets[name]
    found["rto_events"] = rto_events(sockets, rows.events)
    found["srtt_us"] = np.where(sockets["srtt_us"] == 0, np.nan, sockets["srtt_us"])
    return found


def take(flows: Flows) -> Mark:
    """Make a mark of the live rows."""
    order = flows.by_cookie
    return Mark(flows.snapshot.now_ns, flows.live.sockets["cookie"][order], _values(flows.live)[order])


def since(mark: Mark | None, rows: Rows, name: str) -> NDArray[np.float64]:
    """Return by how much a value of MARKED has grown; for a connection born since the mark, a counter's whole value.

    NaN: there is no mark, the row is a listener, or the connection existed at the mark but is not in it. A connection
    born since has no growth of ``srtt_us`` (NaN).
    """
    sockets = rows.sockets
    if mark is None:
        return np.full(len(sockets), np.nan)
    before, known = _before(mark, sockets["cookie"], name)
    if name in MARK_COUNTERS:
        born = born_since(mark, rows)
        before[born], known = 0.0, known | born
    grown = _values(rows)[name] - before
    grown[~known | (sockets["state"] == State.LISTEN)] = np.nan
    return grown


def _before(mark: Mark, cookies: NDArray[np.uint64], name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the values at the mark, zero where a cookie is not in it, and which cookies are."""
    at, known = find_sorted(mark.cookies, cookies)
    before = np.zeros(len(cookies))
    before[known] = mark.values[name][at[known]]
    return before, known


def born_since(mark: Mark, rows: Rows) -> NDArray[np.bool_]:
    """Return which connections were born after the mark, their birth having been seen."""
    events = rows.events
    born: NDArray[np.bool_] = (events["origin"] == Origin.NEW) & (events["first_ns"] >= mark.at_ns)
    return born
