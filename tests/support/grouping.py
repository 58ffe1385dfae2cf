"""Flows put together into groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.groups import Groups, group_rows
from tests.support.fakes import BOOT_NS, finals, snapshot

LISTENER: dict[str, Any] = {"state": State.LISTEN, "direction": Direction.LISTEN, "peer": ("0.0.0.0", 0)}
UNTOLD: dict[str, Any] = {"direction": Direction.UNKNOWN, "origin": Origin.LISTED}


def flows_of(*flows: dict[str, Any], closed: list[dict[str, Any]] | None = None, **rest: Any) -> Flows:
    """Return flows two seconds after an empty snapshot."""
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    return tracker.update(snapshot(2, list(flows), finals(closed, BOOT_NS + 10**9) if closed else None, **rest))


def grouped(flows: Flows, key: str) -> Groups:
    """Return all of them in groups."""
    return group_rows(flows, key, np.arange(len(flows)))


def cookies(flows: Flows) -> list[int]:
    """Return the cookies of the rows."""
    return [*flows.live.sockets["cookie"].tolist(), *flows.closed.sockets["cookie"].tolist()]


def members(flows: Flows, key: str) -> dict[str, list[int]]:
    """Return of each group the cookies, the groups in the order of what they have in common."""
    found, known = grouped(flows, key), cookies(flows)
    return {found.title(g): sorted(known[row] for row in found.rows(g)) for g in found.by_key.tolist()}


def value(flows: Flows, name: str, key: str = "process") -> Any:
    """Return the value of the only group."""
    found = grouped(flows, key)
    assert len(found) == 1
    return found.column(find(name)).tolist()[0]
