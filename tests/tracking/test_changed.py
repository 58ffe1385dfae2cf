"""What is told of rows at rest is what working out every row tells, whatever changes, comes, goes or moves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

PASSING = {"last_sent_us", "last_received_us", "last_ack_received_us", "timer_us"}
GROWING = (
    *("retrans_segs", "data_segs_out", "data_segs_in", "segs_in", "busy_us", "ooo_in", "dsack_dups", "drops"),
    *("bytes_acked", "bytes_received", "rwnd_limited_us", "reord_seen", "total_rto"),
)
SET_TO = {
    "recv_q": (0, 1, 5000, 100_000),
    "send_q": (0, 5, 20_000),
    "notsent": (0, 1, 90_000),
    "unacked": (0, 1, 10),
    "retransmits": (0, 1, 3, 6),
    "probes": (0, 2),
    "backoff": (0, 1, 5),
    "srtt_us": (0, 30_000, 900_000),
    "min_rtt_us": (20_000, 1_000),
    "snd_wnd": (0, 100, 65_535),
    "rcv_wnd": (0, 100, 65_535),
    "state": (1, 1, 1, 2, 4, 5, 8, 10),
    "mss": (536, 1448),
    "rport": (443, 40_001, 40_002, 40_003),
    "retrans_segs": (0, 4_294_967_290),
}
EVENT_SET_TO = {
    "rto_events": (0, 1, 9),
    "rto_wait_us": (0, 400_000, 90_000_000),
    "retrans_failed": (0, 3),
    "soft_error": (0, 113),
}
FIRST = [State.ESTABLISHED] * 4 + [State.SYN_SENT, State.LISTEN]


@dataclass
class World:
    """The sockets of a host as a source would tell them, with the indices of those that changed."""

    random: np.random.Generator
    flows: dict[int, dict[str, Any]] = field(default_factory=dict)
    before: dict[int, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    cookie: int = 0
    closed: list[dict[str, Any]] = field(default_factory=list)

    def born(self) -> None:
        self.cookie += 1
        seen = bool(self.random.integers(2))
        made = flow(
            self.cookie,
            state=FIRST[self.random.integers(len(FIRST))],
            origin=Origin.NEW if seen else Origin.ADOPTED,
            first_ns=BOOT_NS + int((self.seconds - 0.4) * 1e9) if seen or self.random.integers(2) else 0,
            direction=Direction.OUT,
            connect_us=int(self.random.integers(3)) * 20_000,
            states=2,
            inode=self.cookie,
            segs_in=5,
        )
        self.flows[self.cookie] = made
        if self.random.integers(2):
            self._as_other_end(made)

    def _as_other_end(self, one: dict[str, Any]) -> None:
        other = self.flows[list(self.flows)[self.random.integers(len(self.flows))]]
        if other is not one:
            one["local"], one["peer"] = other["peer"], other["local"]

    def dies(self) -> None:
        if self.flows:
            cookies = list(self.flows)
            gone = self.flows.pop(cookies[self.random.integers(len(cookies))])
            if self.random.integers(3):
                self.closed.append(gone)

    def moves(self) -> None:
        if not self.flows:
            return
        one = self.flows[list(self.flows)[self.random.integers(len(self.flows))]]
        kind = self.random.integers(4)
        if kind < 2:
            name = GROWING[self.random.integers(len(GROWING))]
            one[name] = (int(one.get(name, 0)) + int(self.random.integers(1, 2_000_000))) % 2**32
        else:
            table = SET_TO if kind == 2 else EVENT_SET_TO
            name = list(table)[self.random.integers(len(table))]
            if name == "rport":
                one["peer"] = (one["peer"][0], int(self.random.choice(SET_TO["rport"])))
            else:
                one[name] = int(self.random.choice(table[name]))

    def lives_again(self) -> None:
        if self.flows:
            one = self.flows[list(self.flows)[self.random.integers(len(self.flows))]]
            one["first_ns"], one["bytes_acked"] = BOOT_NS + int(self.seconds * 1e9), 1

    def turns(self) -> None:
        cookies = list(self.flows)
        self.random.shuffle(cookies)
        self.flows = {cookie: self.flows[cookie] for cookie in cookies}

    def tick(self, seconds: float) -> Snapshot:
        self.seconds += seconds
        shot = snapshot(self.seconds, list(self.flows.values()), finals(self.closed, BOOT_NS + int(self.seconds * 1e9)))
        self.closed = []
        if self.random.integers(2):  # times go on, which is no change
            shot.sockets["last_sent_us"] += np.uint64(self.seconds * 1e6)
        told = {cookie: _told(shot, at) for at, cookie in enumerate(self.flows)}
        changed = [at for at, cookie in enumerate(self.flows) if self.before.get(cookie) != told[cookie]]
        self.before = told
        return replace(shot, changed=np.array(changed, np.intp))


def _told(shot: Snapshot, at: int) -> bytes:
    names = [name for name in shot.sockets.dtype.names or () if name not in PASSING]
    parts = [shot.sockets[name][at].tobytes() for name in names]
    return b"".join([*parts, shot.events[at].tobytes(), shot.owners[at].tobytes()])


def different(ours: Records, theirs: Records) -> list[str]:
    return [name for name in ours.dtype.names or () if not _same(ours[name], theirs[name])]


def _same(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    return (ours.dtype.names is None and ours.dtype.kind == "f" and np.array_equal(ours, theirs, equal_nan=True)) or (
        np.array_equal(ours, theirs)
    )


def assert_equal(ours: Flows, theirs: Flows) -> None:
    assert not different(ours.live.rates, theirs.live.rates)
    assert not different(ours.closed.rates, theirs.closed.rates)
    assert np.array_equal(ours.closed.sockets, theirs.closed.sockets)
    assert np.array_equal(ours.by_cookie, theirs.by_cookie)
    assert repr(ours.totals) == repr(theirs.totals)
    assert ours.pairs is not None
    assert theirs.pairs is not None
    assert np.array_equal(ours.pairs.partner, theirs.pairs.partner)
    assert np.array_equal(ours.pairs.listener, theirs.pairs.listener)
    assert (ours.past is None) == (theirs.past is None)
    if ours.past is not None and theirs.past is not None:
        assert ours.past.sockets["cookie"].tolist() == theirs.past.sockets["cookie"].tolist()
        assert not different(ours.past.sockets, theirs.past.sockets)
        assert not different(ours.past.events, theirs.past.events)
        assert not different(ours.past.rates, theirs.past.rates)


STEPS = ["born", "born", "dies", "moves", "moves", "moves", "moves", "lives_again", "turns"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    ticks=st.lists(
        st.tuples(st.sampled_from([0.3, 1.0, 1.0, 2.0, 7.0]), st.lists(st.sampled_from(STEPS), max_size=4)),
        min_size=5,
        max_size=45,
    ),
    many=st.integers(5, 40),
    window=st.sampled_from([3.0, 20.0]),
)
def test_what_did_not_change_is_told_as_if_it_were_worked_out(
    seed: int, ticks: list[tuple[float, list[str]]], many: int, window: float
) -> None:
    world = World(np.random.default_rng(seed))
    for _ in range(many):
        world.born()
    some, every = Tracker(window), Tracker(window)
    for seconds, steps in ticks:
        for step in steps:
            getattr(world, step)()
        shot = world.tick(seconds)
        assert_equal(some.update(shot), every.update(replace(shot, changed=None)))


def test_rows_at_rest_are_not_worked_out() -> None:
    world = World(np.random.default_rng(1))
    for _ in range(50):
        world.born()
    for one in world.flows.values():
        one["state"] = State.ESTABLISHED
    tracker = Tracker(3.0)
    for _ in range(20):
        tracker.update(world.tick(1.0))
    next(iter(world.flows.values()))["segs_in"] += 1
    with_one = tracker.update(world.tick(1.0))
    assert with_one.live.rates["fresh"].tolist() == [20] * 50
    assert np.count_nonzero(tracker._known.stirs) <= 2
