"""Rows of a tick, found by what identifies a connection."""

from __future__ import annotations

import numpy as np

from tcptop_ops.model.flows import Flows, Rows


def row_of(flows: Flows, cookie: int) -> Rows:
    """Return the one row of a connection that is open, or else closed. Raises AssertionError if there is none."""
    for rows in (flows.live, flows.closed):
        at = np.flatnonzero(rows.sockets["cookie"] == cookie)
        if len(at):
            return rows.take(at)
    raise AssertionError(cookie)
