"""Rates and windows: against a slow reference, over random histories."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.enums import Origin
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.tracking import lingering
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

NAMES = tuple(
    name for name in COUNTED.names or () if name != "rto_wait_us"
)  # that one has two sources: see test_diagnosis
WRAP = 1 << 32
WINDOW = 2.0
Counters = dict[str, int]


@dataclass
class Life:
    """One life of a cookie in the made-up world: its counters grow for ever, the kernel's wrap."""

    first_ns: int
    origin: int
    counters: Counters = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    acked: int = 0
    received: int = 0

    def row(self, cookie: int) -> dict[str, Any]:
        now: dict[str, Any] = {name: value % WRAP for name, value in self.counters.items()}
        # Every other kernel counts RTOs itself.
        now |= {"total_rto": now["rto_events"], "rto_events": 7} if cookie % 2 else {"total_rto": UNKNOWN_U32}
        rest = {"bytes_acked": self.acked, "bytes_received": self.received, "origin": self.origin}
        now["retrans"] = (0, 0, now.pop("probe_segs"), 0)
        return flow(cookie, first_ns=self.first_ns, **rest, **now)


@dataclass
class Seen:
    """What the reference remembers of a life."""

    first_ns: int
    since: float
    begin: Counters
    last: Counters
    bytes: tuple[int, int]
    samples: dict[float, Counters] = field(default_factory=dict)
    ticks: int = 0


@dataclass
class Expected:
    """Of one row."""

    win: Counters
    win_s: float
    tx: float
    rx: float
    retrans: float
    rto: float
    fresh: int


class Reference:
    """The same as Tracker, with dictionaries and a loop over rows."""

    def __init__(self) -> None:
        self.seen: dict[int, Seen] = {}
        self.samples: list[float] = []
        self.start: float | None = None
        self.before = 0.0
        self.start_ns = self.before_ns = self.now_ns = 0
        self.lingering: list[tuple[int, int]] = []

    def update(
        self, now_ns: int, live: dict[int, Life], closed: list[tuple[int, Life]], closed_s: float
    ) -> tuple[dict[int, Expected], list[Expected]]:
        now = now_ns / 1e9
        seconds = now - self.before if self.start is not None else 0.0
        self.start_ns = now_ns if self.start is None else self.start_ns
        self.start = now if self.start is None else self.start
        self.now_ns = now_ns
        while len(self.samples) > 1 and self.samples[0] < now - WINDOW - 1e-6:
            self.samples.pop(0)
        oldest = self.samples[0] if self.samples else now
        ended = [self._ended(cookie, life, now, seconds, oldest) for cookie, life in closed]
        rows = {cookie: self._row(cookie, life, now, seconds, oldest) for cookie, life in live.items()}
        self.seen = {cookie: seen for cookie, seen in self.seen.items() if cookie in live}
        if not self.samples or now - self.samples[-1] >= WINDOW / 10 - 1e-6:
            self.samples.append(now)
            for cookie, life in live.items():
                self.seen[cookie].samples[now] = dict(life.counters)
        self.before, self.before_ns = now, now_ns
        self.lingering += [(cookie, now_ns) for cookie, _ in closed]
        self.lingering = [(cookie, end) for cookie, end in self.lingering if end > now_ns - int(closed_s * 1e9)]
        return rows, ended

    def _row(self, cookie: int, life: Life, now: float, seconds: float, oldest: float) -> Expected:
        seen = self.seen.get(cookie)
        if seen is None or (life.first_ns and life.first_ns != seen.first_ns):
            assert self.start is not None
            within = life.first_ns >= max(self.start_ns, self.now_ns - int(WINDOW * 1e9))
            whole = life.origin == Origin.NEW and within
            born = whole and life.first_ns >= self.before_ns
            zero = dict.fromkeys(NAMES, 0)
            begin, last = (zero if whole else dict(life.counters)), (zero if born else dict(life.counters))
            so_far = (0, 0) if born else (life.acked, life.received)
            seen = Seen(life.first_ns, life.first_ns / 1e9 if whole else now, begin, last, so_far)
            self.seen[cookie] = seen
        found = self._growth(seen.samples.get(oldest, seen.begin), seen.last, seen.bytes, life, seconds)
        found.win_s, found.fresh = now - max(seen.since, oldest), seen.ticks
        seen.last, seen.bytes, seen.ticks = dict(life.counters), (life.acked, life.received), seen.ticks + 1
        return found

    def _ended(self, cookie: int, life: Life, now: float, seconds: float, oldest: float) -> Expected:
        seen = self.seen.get(cookie)
        zero: Counters = dict.fromkeys(NAMES, 0)
        if seen is not None and seen.first_ns == life.first_ns:
            found = self._growth(seen.samples.get(oldest, seen.begin), seen.last, seen.bytes, life, seconds)
        elif life.origin == Origin.NEW:
            found = self._growth(zero, zero, (0, 0), life, seconds)
        else:
            found = self._growth(life.counters, life.counters, (life.acked, life.received), life, seconds)
        found.win_s = now - max(life.first_ns / 1e9, oldest)
        return found

    @staticmethod
    def _growth(base: Counters, last: Counters, so_far: tuple[int, int], life: Life, seconds: float) -> Expected:
        def rate(growth: int) -> float:
            return growth / seconds if seconds > 0 else 0.0

        return Expected(
            win={name: (life.counters[name] - base[name]) % WRAP for name in NAMES},
            win_s=0.0,
            tx=rate(life.acked - so_far[0]),
            rx=rate(life.received - so_far[1]),
            retrans=rate((life.counters["retrans_segs"] - last["retrans_segs"]) % WRAP),
            rto=rate((life.counters["rto_events"] - last["rto_events"]) % WRAP),
            fresh=0,
        )


def check(rates: Any, wanted: Expected) -> None:
    assert {name: int(rates["win"][name]) for name in NAMES} == wanted.win
    assert rates["win_s"] == pytest.approx(wanted.win_s, rel=1e-5, abs=1e-5)
    for name, value in (("tx_bytes_per_s", wanted.tx), ("rx_bytes_per_s", wanted.rx)):
        assert rates[name] == pytest.approx(value, rel=1e-6, abs=1e-6)
    assert rates["retrans_per_s"] == pytest.approx(wanted.retrans, rel=1e-6, abs=1e-6)
    assert rates["rto_per_s"] == pytest.approx(wanted.rto, rel=1e-6, abs=1e-6)
    assert rates["fresh"] == wanted.fresh


STEPS = st.sampled_from([1, 2, 3, 10, 13, 50])  # tenths of a second
EVENTS_ = st.sampled_from(["grow", "grow", "grow", "leap", "none", "close", "reborn", "vanish", "met"])
GROWTH = st.sampled_from([0, 1, 2, 1000, WRAP - 1_000_000])
"""The last makes counters wrap, and none of them 2**32 - 1, which would be "unknown"."""
HISTORY = st.lists(st.tuples(STEPS, st.lists(st.tuples(EVENTS_, GROWTH), min_size=4, max_size=4)), max_size=25)


class World:
    """Cookies 1 to 4 that live, die, come back, and are met in the middle of their life."""

    def __init__(self) -> None:
        self.now_ns = BOOT_NS
        self.live: dict[int, Life] = {}
        self.closed: list[tuple[int, Life]] = []

    def step(self, tenths: int, events: list[tuple[str, int]]) -> None:
        before, self.now_ns = self.now_ns, self.now_ns + tenths * 100_000_000
        self.closed = []
        for cookie, (event, growth) in enumerate(events, 1):
            self._happen(cookie, event, growth, before)

    def _happen(self, cookie: int, event: str, growth: int, before: int) -> None:
        life = self.live.get(cookie)
        if life is None:
            if event == "none":
                return
            life = self._born(event, before)
            self.live[cookie] = life
        for at, name in enumerate(NAMES):
            few = growth % 1001 if name == "rto_events" else growth  # 2**32 - 1 of these would be "unknown"
            life.counters[name] += few * (at + 1) + (WRAP // 2 if event == "leap" and few == growth else 0)
        life.acked, life.received = life.acked + growth * 3, life.received + growth * 5
        if event in ("close", "reborn"):
            self.closed.append((cookie, self.live.pop(cookie)))
        if event == "vanish":
            del self.live[cookie]
        if event == "reborn":
            self.live[cookie] = Life(self.now_ns - 1000, Origin.NEW)

    def _born(self, event: str, before: int) -> Life:
        if event == "met":
            return Life(before, Origin.ADOPTED, dict.fromkeys(NAMES, 5_000_000), 77, 88)
        if event == "leap":
            return Life(0, Origin.LISTED, dict.fromkeys(NAMES, 9), 7, 8)
        return Life(before + 50_000_000, Origin.NEW)


@patch.object(lingering, "LINGERING_SCORE", 101.0)  # how long bad ones stay is another matter
@settings(max_examples=150)
@given(HISTORY, st.sampled_from([0.0, 0.5, 3.0]))
def test_any_history_as_the_reference_tells_it(
    history: list[tuple[int, list[tuple[str, int]]]], closed_s: float
) -> None:
    tracked, reference, world = Tracker(WINDOW, closed_s), Reference(), World()
    for tenths, events in history:
        world.step(tenths, events)
        order = sorted(world.live, reverse=True)  # a kernel lists them in any order
        final = finals([life.row(cookie) for cookie, life in world.closed], world.now_ns)
        made = snapshot(0, [world.live[c].row(c) for c in order], final)
        flows = tracked.update(dataclasses.replace(made, now_ns=world.now_ns))
        rows, ended = reference.update(world.now_ns, world.live, world.closed, closed_s)
        assert flows.live.sockets["cookie"].tolist() == order
        for at, cookie in enumerate(order):
            check(flows.live.rates[at], rows[cookie])
        assert flows.closed.sockets["cookie"].tolist() == [cookie for cookie, _ in reference.lingering]
        if closed_s:
            for rates, wanted in zip(flows.closed.rates[len(flows.closed) - len(ended) :], ended, strict=True):
                check(rates, wanted)
        check_totals(flows, [*rows.values(), *ended], len(ended))


def check_totals(flows: Flows, parts: list[Expected], closed: int) -> None:
    totals = flows.totals
    assert (totals.connections, totals.closed) == (len(flows.live), closed)
    assert totals.tx_bytes_per_s == pytest.approx(sum(part.tx for part in parts), rel=1e-6, abs=1e-6)
    assert totals.rx_bytes_per_s == pytest.approx(sum(part.rx for part in parts), rel=1e-6, abs=1e-6)
    assert totals.retrans_per_s == pytest.approx(sum(part.retrans for part in parts), rel=1e-6, abs=1e-6)
    assert totals.rto_per_s == pytest.approx(sum(part.rto for part in parts), rel=1e-6, abs=1e-6)
    sent = sum(part.win["data_segs_out"] for part in parts)
    again = sum(part.win["retrans_segs"] for part in parts)
    assert totals.retrans_pct == pytest.approx(100 * again / sent if sent else float("nan"), nan_ok=True)
    assert totals.retrans_segs == round(totals.retrans_per_s * flows.seconds)
    assert sorted(flows.by_cookie.tolist(), key=lambda row: int(flows.live.sockets["cookie"][row])) == (
        flows.by_cookie.tolist()
    )
