"""Verdicts from tick to tick: how a score rises and fades, and what is said of closed rows."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import pytest

from tcptop_ops.diagnosis import ending
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tests.support.cases import MET, STUCK
from tests.support.fakes import BOOT_NS, finals, flow, snapshot


def run(*ticks: dict[str, Any], every_s: float = 1.0, **tracker: Any) -> list[tuple[str, float]]:
    """The verdicts on one connection, tick by tick."""
    keeper = Tracker(**tracker)
    found = []
    for number, told in enumerate(ticks):
        flows = keeper.update(snapshot(number * every_s, [flow(1, states=MET) | told]))
        found.append(told_of(flows))
    return found


def told_of(flows: Flows) -> tuple[str, float]:
    rates = flows.live.rates[0] if len(flows.live) else flows.closed.rates[0]
    return CAUSES[int(rates["cause"])].name, float(rates["score"])


def test_a_score_rises_at_once_and_halves_in_ten_seconds() -> None:
    told = run({}, dict(STUCK, snd_wnd=0, backoff=1), {}, {}, {}, {}, {}, every_s=10, window_s=10)
    assert [name for name, _ in told] == ["idle", *["peer-not-reading"] * 4, "idle", "idle"]
    assert [score for _, score in told] == pytest.approx([0, 50, 25, 12.5, 6.25, 0, 0])


def test_what_is_worse_than_what_fades_is_said_at_once() -> None:
    stuck, gone = {**STUCK, "snd_wnd": 0, "backoff": 1}, {"unacked": 3, "retransmits": 5}
    assert run({}, stuck, gone) == [("idle", 0), ("peer-not-reading", 50), ("dead-peer", 95)]


def test_a_peer_is_dead_when_nothing_came_since_the_segment_was_sent_again() -> None:
    """Acknowledgements came until the path was cut, between two ticks."""
    told = run(
        {"segs_in": 10, "unacked": 50},
        {"segs_in": 900, "unacked": 50, "retransmits": 2},
        {"segs_in": 900, "unacked": 50, "retransmits": 3},
        {"segs_in": 901, "unacked": 50, "retransmits": 4},
    )
    assert [name for name, _ in told] == ["idle", "idle", "dead-peer", "dead-peer"]
    assert told[2][1] == 95
    assert told[3][1] < 95  # fading: something was heard


def test_one_sample_of_a_row_met_in_mid_life_says_nothing() -> None:
    old = {"origin": Origin.ADOPTED, "recv_q": 10, "rcv_wnd": 0}
    first, second, third = run(old, old, old)
    assert first[0] == "unknown"
    assert math.isnan(first[1])
    assert (second, third) == (("not-reading", 50), ("not-reading", 50))


def test_a_connection_attempt_is_judged_at_first_sight() -> None:
    [told] = run({"origin": Origin.ADOPTED, "state": State.SYN_SENT, "retransmits": 2, "retrans_segs": 2})
    assert told == ("syn-unanswered", 70)


def test_a_minute_of_patience() -> None:
    told = run(*[{"state": State.CLOSE_WAIT}] * 7, every_s=10)
    assert [name for name, _ in told] == [*["idle"] * 6, "not-closed"]


def test_patience_can_be_less() -> None:
    with patch.object(ending, "PATIENCE_S", 20.0):
        told = run(*[{"state": State.CLOSE_WAIT}] * 3, every_s=10)
    assert [name for name, _ in told] == ["idle", "idle", "not-closed"]


def closed(ending: dict[str, Any], **told: Any) -> tuple[str, float]:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    young = flow(1, first_ns=BOOT_NS + 1) | told
    return told_of(tracker.update(snapshot(1, [], finals([young], BOOT_NS + 1_000_000_000, **ending))))


def test_closed_rows() -> None:
    """How it ended is evidence; what the program itself gave up or closed is none."""
    attempt = {"states": 1 << State.SYN_SENT | 1 << State.CLOSE, "state": State.CLOSE}
    young = {"from_state": State.SYN_SENT}
    assert closed(young | {"error": 111}, segs_in=1, **attempt) == ("refused", 60)
    assert closed(young | {"error": 113}, rto_events=2, **attempt) == ("unreachable", 90)
    assert closed(young | {"error": 110}, rto_events=3, retrans_segs=3, **attempt) == ("syn-unanswered", 80)
    assert closed(young | {"error": 0}, **attempt) == ("idle", 0)
    old = {"from_state": State.ESTABLISHED}
    stood = {"states": MET | 1 << State.CLOSE, "state": State.CLOSE, "data_segs_out": 9}
    assert closed(old | {"error": 110}, rto_events=9, **stood) == ("dead-peer", 95)
    assert closed(old | {"error": 0}, **stood) == ("healthy", 0)


def test_what_was_bad_stays_bad_when_it_is_closed() -> None:
    tracker = Tracker()
    stuck = flow(1, states=MET, snd_wnd=0, backoff=1, **STUCK)
    tracker.update(snapshot(0, [stuck]))
    tracker.update(snapshot(1, [stuck]))
    flows = tracker.update(snapshot(2, [], finals([stuck], BOOT_NS + 2_000_000_000)))
    assert told_of(flows) == ("peer-not-reading", 50)
