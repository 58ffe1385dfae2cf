"""Connections of many kinds, to be filtered, and what a filter finds among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.filters.compiler import compile
from tcptop_ops.filters.grammar import FilterError
from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, HOSTILE, finals, flow, snapshot

LISTENER: dict[str, Any] = {"state": State.LISTEN, "peer": ("0.0.0.0", 0), "direction": Direction.LISTEN}

LIVE = [
    flow(1, srtt_us=20_000, name=b"nginx", peer=("10.2.0.7", 443), uid=0),
    flow(2, srtt_us=20_001, name=b"nginx: worker", peer=("10.20.0.7", 4433), uid=33, cc=b"bbr"),
    flow(3, srtt_us=0, name=b"", pid=0, peer=("192.110.2.5", 80), uid=UNKNOWN_U32),
    flow(4, state=State.SYN_SENT, name=b"Curl", peer=("2001:db8::1", 443), local=("2001:db8:1::9", 50000), family=10),
    flow(5, name=b"sshd", local=("0.0.0.0", 22), **LISTENER),
    flow(6, name=b"postgres", local=("::", 5432), family=10, **(LISTENER | {"peer": ("::", 0)})),
    flow(7, name=b"ssh", peer=("fe80::1", 22), local=("fe80::2", 40000), family=10, ifindex=2),
    flow(8, name=b"ssh", peer=("fe80::1", 22), local=("fe80::2", 40001), family=10, ifindex=3),
    flow(9, inode=0, origin=Origin.ADOPTED, direction=Direction.UNKNOWN, min_rtt_us=UNKNOWN_U32),
    flow(10, inode=2**63 + 1, origin=Origin.LISTED, direction=Direction.IN, timer=1, netns=4026531840),
    flow(11, name=b"java", retrans_segs=5, data_segs_out=100, bytes_acked=2**31, bytes_received=1500),
    flow(12, name=b"java", retrans_segs=1, data_segs_out=100, bytes_acked=1_000_000, state=State.CLOSE_WAIT),
    *(flow(20 + i, name=name, cgroup_id=i + 1, srtt_us=1000 * i) for i, name in enumerate(HOSTILE)),
]
CLOSED = [flow(50, states=1 << State.FIN_WAIT1, name=b"wget"), flow(51, states=1 << State.CLOSE_WAIT, srtt_us=9)]
CGROUPS = {1: "/system.slice/nginx.service", 2: "/user.slice", 3: "/"}


def fleet() -> Flows:
    """Return all of these connections after two seconds."""
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    ended = finals(CLOSED, BOOT_NS + int(1.5e9))
    return tracker.update(snapshot(2, LIVE, ended, users={0: "root", 33: "www-data"}, cgroups=CGROUPS))


FLEET = fleet()


def mask(text: str, flows: Flows = FLEET) -> list[bool]:
    """Return for each row, the open ones first, whether the filter finds it."""
    wanted = compile(text)
    found = [wanted.mask(rows, flows) for rows in (flows.live, flows.closed)]
    assert all(part.dtype == np.bool_ for part in found)
    return [*found[0].tolist(), *found[1].tolist()]


def cookies(text: str) -> list[int]:
    """Return the cookies that the filter finds."""
    every = [f["cookie"] for f in LIVE + CLOSED]
    return [cookie for cookie, matches in zip(every, mask(text), strict=True) if matches]


def refused(text: str) -> FilterError | None:
    """Return why a text is no filter; None if it is one."""
    try:
        assert len(mask(text)) == len(FLEET)
    except FilterError as error:
        return error
    return None
