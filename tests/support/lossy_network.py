"""A source in which six connections to one network lose, and one connection can be watched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tcptop_ops.model.enums import Direction, Happening, OwnerKind, RetransClass, State
from tcptop_ops.model.records import COUNTERS, HAPPENING, SEEN
from tcptop_ops.model.snapshot import Snapshot
from tests.support.fakes import BOOT_NS, FakeSource, flow, snapshot

BAD, GOOD = range(1, 7), range(11, 31)
HERE: dict[str, Any] = {"local": ("10.0.0.1", 8080), "netns": 7}


def story(now_s: float) -> Any:
    """Return what happened to a connection lately: adopted, a timeout, a retransmit."""
    found = np.zeros(3, HAPPENING)
    for row, (ago_s, kind, a, b, detail) in enumerate(
        (
            (1.5, Happening.ADOPTED, 1 << State.ESTABLISHED, 0, 0),
            (0.966, Happening.RTO, 1, 204_000, 0),
            (0.5, Happening.RETRANS, 3, 0, RetransClass.RECOVERY),
        )
    ):
        at = BOOT_NS + int((now_s - ago_s) * 1e9)
        found[row] = (at, at, a, b, kind, detail, 1)
    return found


def world(tick: int) -> Snapshot:
    """Return six flows to one network lose, twenty to others do not; a listener overflows."""
    bad = [
        flow(
            c,
            peer=(f"10.2.0.{c}", 443),
            srtt_us=30_000 + 10_000 * tick,
            retrans_segs=tick * (50 + c),
            data_segs_out=1000 * tick,
            bytes_acked=100_000 * tick,
            rto_wait_us=300_000 * tick,
        )
        for c in BAD
    ]
    good = [flow(c, peer=(f"10.{c}.0.1", 443), pid=c, data_segs_out=1000 * tick) for c in GOOD]
    door = flow(
        99,
        name=b"java",
        pid=2210,
        state=State.LISTEN,
        direction=Direction.LISTEN,
        peer=("0.0.0.0", 0),
        recv_q=5,
        send_q=4,
        drops=10 * tick,
        how=OwnerKind.HOLDER,
        **HERE,
    )
    counters, seen = np.zeros((), COUNTERS), np.zeros(2, SEEN)
    counters["calls"][[9, 10, 12]] = 50 * tick, 7, 20
    seen["last_ns"][0, 10] = BOOT_NS + int(1e9 * tick) - 2 * 10**9
    seen["args"][0, 10] = State.ESTABLISHED, State.CLOSE_WAIT, 0
    seen["rtt"][0, 14] = 8
    return snapshot(tick, [*bad, *good, door], counters=counters, seen=seen)


class Watched(FakeSource):
    """Plays the world; of the connection that is watched it tells a story."""

    def __init__(self, snapshots: list[Snapshot] | None = None) -> None:
        """Play these, by default twelve ticks of the world."""
        super().__init__(snapshots or [world(tick) for tick in range(12)])
        self.watched = 0
        self.asked: list[int] = []

    def watch(self, cookie: int) -> None:
        """Remember who is looked at."""
        self.watched = cookie
        self.asked.append(cookie)

    def poll(self) -> Snapshot:
        """Return the next snapshot, with the story of the one that is watched."""
        shot = super().poll()
        told = story((shot.now_ns - BOOT_NS) / 1e9) if self.watched else np.zeros(0, HAPPENING)
        return replace(shot, watched=self.watched, story=told)
