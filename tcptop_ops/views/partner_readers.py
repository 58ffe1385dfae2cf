"""Readers of what is known of a row's other end, where that is on this host, too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.processes import process_keys
from tcptop_ops.views import column_readers as read
from tcptop_ops.views.column_readers import Values

HELD_BY_NONE = b"no process"
"""What is told of an other end whose process is not known: the kernel alone may have it still."""


def partners(rows: Rows, flows: Flows) -> NDArray[np.intp]:
    """Return the index among the live rows of each row's other end; -1 where there is none, or it is not certain.

    A closed row has none.
    """
    if flows.pairs is None or rows.endings is not None:
        return np.full(len(rows), -1, np.intp)
    if rows is flows.live:
        return flows.pairs.partner
    order = flows.by_cookie
    at, found = find_sorted(flows.live.sockets["cookie"][order], rows.sockets["cookie"])
    return np.where(found, flows.pairs.partner[order[at]], -1) if len(order) else at - 1


def partner(rows: Rows, flows: Flows) -> Values:
    """Return name and pid of the other end's process as bytes; b"" where the other end is not on this host."""
    at = partners(rows, flows)
    which = np.flatnonzero(at >= 0)
    if not len(which):
        return np.zeros(len(rows), "S1")
    owners = gather(flows.live.owners, at[which])
    _, first, group = np.unique(process_keys(owners), return_index=True, return_inverse=True)
    named = owners["pid"] != 0
    told = [_told(bytes(owners["name"][one]), int(owners["pid"][one])) for one in first.tolist()]
    words = np.array(told, "S")[group.reshape(-1)]
    if not named.all():  # several may have lost their process
        ends = flows.live.take(at[which[~named]])
        names = read.process(ends, flows)
        words = words.astype(f"S{max(words.dtype.itemsize, names.dtype.itemsize, len(HELD_BY_NONE))}")
        words[~named] = np.where(names == b"", HELD_BY_NONE, names)
    found: Values = np.zeros(len(rows), words.dtype)
    found[which] = words
    return found


def _told(name: bytes, pid: int) -> bytes:
    return b"%s %d" % (name or b"process", pid)


def partner_cookie(rows: Rows, flows: Flows) -> Values:
    """Return the cookie of the other end as uint64; 0 where that is not on this host."""
    at = partners(rows, flows)
    return np.where(at >= 0, flows.live.sockets["cookie"][at], 0).astype(np.uint64) if len(flows.live) else at * 0
