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
from tcptop_ops.model.records import UNKNOWN_U64
from tcptop_ops.tracking.tracker import Tracker
from tests.support.cases import MET, STUCK
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

HELD = {"state": State.CLOSE_WAIT, "last_sent_us": 3_000_000_000}
SHUT = {**STUCK, "snd_wnd": 0, "backoff": 1, "last_sent_us": 9_000_000}


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
    told = run({}, SHUT, {}, {}, {}, {}, {}, every_s=10, window_s=10)
    assert [name for name, _ in told] == ["idle", *["peer-not-reading"] * 4, "idle", "idle"]
    assert [score for _, score in told] == pytest.approx([0, 50, 25, 12.5, 6.25, 0, 0])


def test_what_is_worse_than_what_fades_is_said_at_once() -> None:
    stuck, gone = SHUT, {"unacked": 3, "retransmits": 5}
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
    old = {"origin": Origin.ADOPTED, "recv_q": 10, "bytes_received": 10, "last_received_us": 20_000_000}
    first, second, third = run(old, old, old)
    assert first[0] == "unknown"
    assert math.isnan(first[1])
    assert (second, third) == (("not-reading", 50), ("not-reading", 50))


def test_a_connection_attempt_is_judged_at_first_sight() -> None:
    [told] = run({"origin": Origin.ADOPTED, "state": State.SYN_SENT, "retransmits": 2, "retrans_segs": 2})
    assert told == ("syn-unanswered", 70)


def test_a_minute_of_patience() -> None:
    told = run(*[HELD] * 7, every_s=10)
    assert [name for name, _ in told] == [*["idle"] * 6, "not-closed"]


def test_patience_can_be_less() -> None:
    with patch.object(ending, "PATIENCE_S", 20.0):
        told = run(*[HELD] * 3, every_s=10)
    assert [name for name, _ in told] == ["idle", "idle", "not-closed"]


def test_an_old_leak_is_told_when_it_is_first_seen() -> None:
    """The FIN came two minutes ago, though the data before it may have come long before that."""
    old = HELD | {"last_ack_received_us": 120_000_000, "last_received_us": 3_000_000_000}
    assert run(old) == [("not-closed", 20)]
    assert run(old | {"last_ack_received_us": 59_000_000}) == [("idle", 0)]  # a pool's, closed by the peer just now
    assert run(old | {"last_ack_received_us": UNKNOWN_U64}) == [("idle", 0)]  # recordings of before lack it
    assert run(old | {"last_ack_received_us": 10_800_000_000}) == [("not-closed", 20)]  # three hours
    met = {"origin": Origin.LISTED}
    assert [name for name, _ in run(old | met, old | met)] == ["unknown", "not-closed"]


def test_a_half_closed_stream_that_flows_is_well() -> None:
    """A chunk every ten seconds, to a peer that closed its side minutes ago; or what it sent is read as slowly."""
    sends = [HELD | {"last_ack_received_us": s, "last_sent_us": s} for s in (1_000_000, 9_000_000)]
    assert {name for name, _ in run(*sends * 10, every_s=10)} == {"idle"}
    reads = [HELD | {"recv_q": 1_000_000 - 1000 * n, "last_ack_received_us": 90_000_000 + n} for n in range(20)]
    assert {name for name, _ in run(*reads, every_s=10)} <= {"idle", "healthy"}


def test_what_both_ends_counted_outlives_the_connection() -> None:
    """Retransmits that had arrived are no loss once it is closed, though nobody reported duplicates."""
    tracker = Tracker()
    there, here = ("10.0.0.2", 6), ("10.0.0.1", 5)
    for second in range(5):
        near = flow(1, local=here, peer=there, states=MET, data_segs_out=100 * second, retrans_segs=20 * second)
        far = flow(2, local=there, peer=here, states=MET, data_segs_in=100 * second)
        tracker.update(snapshot(second, [near, far]))
    flows = tracker.update(snapshot(5, [], finals([near], BOOT_NS + 5_000_000_000)))
    assert told_of(flows)[0] == "spurious"


def test_disorder_is_told_when_it_lasts_and_by_one_who_knows_one_end_only() -> None:
    def came(*out_of_order: int) -> list[str]:
        told = [{"data_segs_in": 100 * n, "ooo_in": total} for n, total in enumerate(out_of_order)]
        return [name for name, _ in run(*told)]

    assert came(0, 36, 36, 36, 36) == ["idle", *["healthy"] * 4]
    assert came(0, 36, 72, 108) == ["idle", "healthy", "healthy", "inbound-loss"]
    assert came(0, 36, 36, 72, 72, 108)[-2:] == ["healthy", "inbound-loss"]
    assert set(came(0, 36, *[72] * 6, 108, 140)) == {"idle", "healthy"}  # moments of disorder, seconds apart


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
    stuck = flow(1, states=MET, **SHUT)
    tracker.update(snapshot(0, [stuck]))
    tracker.update(snapshot(1, [stuck]))
    flows = tracker.update(snapshot(2, [], finals([stuck], BOOT_NS + 2_000_000_000)))
    assert told_of(flows) == ("peer-not-reading", 50)
