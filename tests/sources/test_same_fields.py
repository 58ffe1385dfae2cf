"""Both sources fill the same fields: what sock_diag alone can't tell is listed as missing."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from tcptop_ops.host.namespaces import InProcessAccess
from tcptop_ops.model.arrays import device_keys
from tcptop_ops.model.enums import Direction, Origin, OwnerKind, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import EVENTS, OWNED, UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.sources.inet_diag import INFO, Dump
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tests.support.fakes import finals, flow, records, snapshot
from tests.support.filled_fields import OF_A_PROGRAM, is_filled, null

OPEN: dict[str, Any] = {
    "local": ("fe80::1", 40001),
    "peer": ("fe80::2", 443),
    "ifindex": 2,
    "netns": 7,
    "cgroup_id": 5,
    "inode": 8,
    "total_rto": 3,
    "connect_us": 500,
    "last_rtt_us": 900,
    "rto_events": 3,
    "rto_wait_us": 1000,
    "retrans": (1, 2, 3, 4),
    "retrans_calls": 4,
    "states": 1 << State.ESTABLISHED,
    "state_changes": 1,
    "owner": OwnerKind.CALLER,
    "waiting": 1,
    "error": 113,
    "resets": 1,
}
FLOWS = [
    flow(1, **OPEN),
    flow(2, **OPEN, state=State.LISTEN, direction=Direction.LISTEN, syn_wait_us=500, syn_retrans=1),
    flow(3, **OPEN, origin=Origin.ADOPTED),
]


class Dumps:
    """Two dumps, in place of an EveryNamespace: the second with a socket more, and without the last of the first."""

    def __init__(self) -> None:
        self._flows = [FLOWS, [*FLOWS[:2], flow(4, **OPEN)]]

    def dump(self, **_rows: object) -> Dump:
        sockets = records(self._flows.pop(0))[0]
        sockets["last_rtt_us"], sockets["cb_flags"] = UNKNOWN_U32, 0  # as inetdiag fills them
        return Dump(sockets, time_wait=4, syn_recv=1, info_bytes=INFO.itemsize, cgroups=True)

    def half_open(self) -> Records:
        return records([flow(9)])[0]

    def devices(self, sockets: Records) -> dict[int, str]:
        return dict.fromkeys(device_keys(sockets).tolist(), "eth0")

    def close(self) -> None:
        pass


class Reach(InProcessAccess):
    """This process's namespace, by the number of the one in which the sockets are."""

    def __init__(self) -> None:
        self.own, self._threads, self._left_out = OPEN["netns"], {}, 0


class Nginx:
    """Owns all."""

    note = ""

    def of(self, sockets: Records) -> Records:
        owners = np.zeros(len(sockets), OWNED)
        owners["pid"], owners["name"], owners["how"] = 1000, b"nginx", OwnerKind.HOLDER
        return owners

    of_closed = of


def polled() -> Flows:
    """What is made of two polls of sock_diag."""
    source, tracker = SockDiagSource(Dumps(), Nginx(), Reach()), Tracker()
    try:
        tracker.update(source.poll())
        return tracker.update(source.poll())
    finally:
        source.close()


def of_events() -> Flows:
    """What is made of the same sockets by a source that has events of them."""
    tracker = Tracker()
    tracker.update(snapshot(0, FLOWS))
    return tracker.update(snapshot(1, FLOWS[:2], finals(FLOWS[2:], 10**12)))


def test_a_snapshot_of_sock_diag() -> None:
    """Every field but those that only a program fills, and the events."""
    shot = polled().snapshot
    blank = {one.name for one in fields(Snapshot) if not is_filled(getattr(shot, one.name))}
    of_host = {"users", "cgroups", "commands", "namespace_names", "used_ports", "activities", "addresses"}
    assert blank - of_host == OF_A_PROGRAM | {"events"}


def test_the_interface_of_a_link_local_address_has_its_name() -> None:
    flows = polled()
    column = find("laddr")
    assert column.show(flows.column(column.read).tolist()[0]) == "fe80::1%eth0"


def test_columns_that_take_events_are_missing() -> None:
    """A column that has a value with events and none without is listed.

    So are two that could be taken for complete: the direction, which is that of listeners alone, and the time lost. Who
    is to blame depends on the verdict, which is another one without events.
    """
    without, with_events = polled(), of_events()
    missing = without.snapshot.missing
    as_read = replace(without, snapshot=replace(without.snapshot, missing=frozenset()))
    assert null(as_read) - null(with_events) - {"blame"} == missing - {"direction", "stall_ms"}
    assert missing <= null(without)


def test_every_field_of_events_was_tried() -> None:
    names = EVENTS.names or ()
    untold = {"found", "closed", "told", "rto_us", "backoff", "gave_up", "retrans_failed", "cgroup_id", "soft_error"}
    assert {name for name in names if not np.count_nonzero(of_events().live.events[name])} <= untold
