"""Attempts that were given up: outages, and losers of races that are none, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import Direction, OwnerKind, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

HOLE, DOOR, OTHER = ("10.0.0.2", 9), ("10.0.0.2", 80), ("fd00::2", 9)
SYN = {"state": State.CLOSE, "states": 1 << State.SYN_SENT | 1 << State.CLOSE, "direction": Direction.OUT}
SAME_PORT = ("fd00::2", 80)
STOOD = {"states": 1 << State.SYN_SENT | 1 << State.ESTABLISHED, "connect_us": 1000, "direction": Direction.OUT}
PLAIN = {"srtt_us": 0, "data_segs_out": 0}


def ns(seconds: float) -> int:
    return BOOT_NS + round(seconds * 1e9)


class Host:
    """One tick a second; what was dialled and closed meanwhile is told at the next."""

    def __init__(self) -> None:
        self.tracker = Tracker(closed_s=5)
        self.second = 0
        self.cookie = 100
        self.ended: list[Any] = []
        self.live: list[dict[str, Any]] = []
        self.tick()

    def tried(self, at_s: float, life_s: float, peer: tuple[str, int] = HOLE, **rest: Any) -> None:
        """One that was given up."""
        self.cookie += 1
        made = flow(self.cookie, **PLAIN | SYN | {"peer": peer, "first_ns": ns(at_s)} | rest)
        self.ended.append(finals([made], ns(at_s + life_s), from_state=State.SYN_SENT))

    def stood(self, at_s: float, peer: tuple[str, int] = DOOR, began_s: float | None = None, **rest: Any) -> None:
        """One that was established at this time, and closed soon."""
        self.cookie += 1
        first = at_s - 0.001 if began_s is None else began_s
        told = {"peer": peer, "first_ns": ns(first), "connect_us": round((at_s - first) * 1e6)}
        made = flow(self.cookie, **PLAIN | STOOD | told | rest)
        self.ended.append(finals([made], ns(at_s + 0.001), from_state=State.LAST_ACK))

    def tick(self) -> Flows:
        closed = np.concatenate(self.ended) if self.ended else None
        shot = snapshot(self.second, self.live, closed)
        self.ended = []
        self.second += 1
        return self.tracker.update(shot)


def told(flows: Flows, peer: tuple[str, int] = HOLE) -> list[tuple[str, float]]:
    """The cause and score of each listed attempt to this place."""
    which = np.flatnonzero(flows.closed.sockets["rport"] == peer[1])
    rates = flows.closed.rates[which]
    return [(CAUSES[int(one["cause"])].name, float(one["score"])) for one in rates]


def test_one_or_two_that_are_given_up_soon_are_nothing() -> None:
    host = Host()
    host.tried(0.1, 0.5)
    host.tried(0.2, 0.5)
    assert told(host.tick()) == [("idle", 0.0)] * 2


def test_three_in_a_row_are_an_outage_also_those_that_ended_before() -> None:
    host = Host()
    for second in range(3):
        host.tried(second + 0.1, 0.5)
        flows = host.tick()
    assert told(flows) == [("syn-unanswered", 50.0)] * 3


def test_they_may_be_so_far_apart_that_the_first_is_no_longer_listed() -> None:
    host = Host()
    for second in range(18):
        if second % 8 == 0:
            host.tried(second + 0.1, 0.5)
        flows = host.tick()
    assert told(flows) == [("syn-unanswered", 50.0)] * 3


def test_one_that_was_established_ends_the_row() -> None:
    host = Host()
    host.tried(0.1, 0.3)
    host.tried(0.2, 0.3)
    host.stood(0.6, HOLE)
    host.tick()
    host.tried(1.1, 0.3)
    host.tried(1.2, 0.3)
    assert not any(score for _, score in told(host.tick()))


def test_other_places_and_other_programs_are_counted_apart() -> None:
    host = Host()
    for number in range(6):
        host.tried(0.1, 0.5, ("10.0.0.2", 1000 + number))
        host.tried(0.1, 0.5, name=b"scan%d" % number, pid=50 + number)
    flows = host.tick()
    assert not flows.closed.rates["score"].any()


def test_processes_of_one_name_are_counted_together() -> None:
    host = Host()
    for number in range(3):
        host.tried(0.1 * number, 0.5, name=b"curl", pid=50 + number)
    assert told(host.tick()) == [("syn-unanswered", 50.0)] * 3


def test_losers_of_races_are_nothing_however_many() -> None:
    for stagger, peer in ((0.0, HOLE), (0.25, OTHER)):
        host = Host()
        for second in range(8):
            host.tried(second + 0.1, stagger + 0.06, peer)
            host.stood(second + 0.1 + stagger + 0.059, began_s=second + 0.1 + stagger)
            host.stood(second + 0.1 + stagger + 0.09)  # a later one, of something else
            flows = host.tick()
        assert told(flows, peer)
        assert not flows.closed.rates["score"].any()


@pytest.mark.parametrize("begun_after_s", [0.0, 0.25, -0.05])
def test_the_loser_of_two_families_may_be_closed_much_later(begun_after_s: float) -> None:
    host = Host()
    for second in range(4):
        host.tried(second + 0.1, 0.7, SAME_PORT)
        host.stood(second + 0.1 + begun_after_s + 0.06, began_s=second + 0.1 + begun_after_s)
        flows = host.tick()
    assert told(flows, SAME_PORT)
    assert not flows.closed.rates["score"].any()


def test_two_families_are_no_race_where_another_port_or_many_connections_were_established() -> None:
    for port, each in ((81, 1), (80, 4)):
        host = Host()
        for second in range(6):
            host.tried(second + 0.1, 0.7, SAME_PORT)
            for number in range(each):
                host.stood(second + 0.15 + 0.1 * number, ("10.0.0.2", port))
            flows = host.tick()
        assert {one for one in told(flows, SAME_PORT) if one[1]} == {("syn-unanswered", 50.0)}


def test_a_winner_that_the_tick_of_its_time_did_not_show_yet_counts_at_the_next() -> None:
    host = Host()
    for second in range(4):
        if second:
            host.stood(second - 0.01, began_s=second - 0.02)
        host.tried(second + 0.7, 0.295, OTHER)
        flows = host.tick()
    host.stood(3.99, began_s=3.98)
    flows = host.tick()
    assert not flows.closed.rates["score"].any()


def test_the_loser_may_be_the_later_one_or_closed_first() -> None:
    host = Host()
    for second in range(4):
        host.tried(second + 0.3, 0.1)
        host.stood(second + 0.42, began_s=second + 0.1)
        flows = host.tick()
    assert not any(score for _, score in told(flows))


def test_a_winner_that_comes_a_tick_later_takes_the_verdict_back() -> None:
    host = Host()
    for number in range(3):
        host.tried(0.99, 0.99 + 0.001 * number - 0.99 + 0.06)
    host.second = 1
    flows = host.tick()
    assert len(told(flows)) == 3


def test_a_proxy_whose_other_requests_succeed_does_not_excuse_those_that_fail() -> None:
    for distance in (0.02, 0.1, 0.37):
        host = Host()
        moments = np.arange(0.05, 8, distance)
        for second in range(8):
            for moment in moments[(moments >= second) & (moments < second + 1)].tolist():
                host.stood(moment + 0.003)
            for number in range(2):
                host.tried(second + 0.003 * second + 0.41 * number, 0.5)
            flows = host.tick()
        assert {cause for cause, _ in told(flows)} == {"syn-unanswered"}


def test_one_winner_excuses_one_loser_by_place() -> None:
    host = Host()
    for number in range(10):
        host.tried(0.1 + 0.001 * number, 0.5)
    host.stood(0.605, began_s=0.2)
    assert {score for _, score in told(host.tick())} == {50.0}


def test_what_was_not_waited_for_is_no_evidence() -> None:
    host = Host()
    for number in range(9):
        host.tried(0.1 * number, 0.02)
    assert not any(score for _, score in told(host.tick()))


def polled(cookie: int, **rest: Any) -> dict[str, Any]:
    asked = {"first_ns": 0, "origin": 0, "direction": 0, "how": OwnerKind.HOLDER, "states": 0, "peer": HOLE}
    return flow(cookie, **PLAIN | asked | {"state": State.SYN_SENT} | rest)


def polls(pending: list[bool], left_us: int = 0, **stood: Any) -> Flows:
    """A poll a second; at some an attempt is found, with so much time left, which the next no longer finds."""
    tracker = Tracker(closed_s=60)
    before: dict[str, Any] | None = None
    for second, found in enumerate(pending):
        live = [polled(100 + second, timer_us=left_us)] if found else []
        live += [polled(900 + second, **stood)] if stood else []
        closed = None
        if before is not None:
            closed = finals([before], ns(second), from_state=State.SYN_SENT)
        owners = None if closed is None else snapshot(second, [before] if before else []).owners
        flows = tracker.update(snapshot(second, live, closed, closed_owners=owners))
        before = polled(100 + second, timer_us=left_us) if found else None
    return flows


def test_polls_that_always_find_one_tell_of_an_outage() -> None:
    assert {cause for cause, _ in told(polls([True] * 9))} >= {"syn-unanswered"}


def test_polls_that_find_one_now_and_then_tell_nothing() -> None:
    assert not any(score for _, score in told(polls([True, False, False] * 8)))


def test_polls_that_find_others_established_tell_nothing() -> None:
    assert not any(score for _, score in told(polls([True] * 9, state=State.ESTABLISHED, peer=DOOR)))


def test_polls_that_find_young_ones_only_tell_nothing() -> None:
    for left_us, causes in ((750_000, {"idle"}), (450_000, {"idle", "syn-unanswered"})):
        flows = polls([True] * 9, left_us=left_us)
        assert {cause for cause, _ in told(flows)} <= causes
        assert (flows.closed.rates["score"].max() > 0) == (left_us < 600_000)
