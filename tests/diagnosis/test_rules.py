"""The rules, each at, above and below its thresholds on rows computed by hand; and what must hold for any row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.diagnosis import memory as memory_module
from tcptop_ops.diagnosis import rules
from tcptop_ops.diagnosis import verdict as verdict_module
from tcptop_ops.diagnosis.case import MEMORY, Case
from tcptop_ops.diagnosis.rules import CAUSES, HEALTHY, IDLE, RULES, UNKNOWN
from tcptop_ops.diagnosis.verdict import LIMITS
from tcptop_ops.model import endings
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.enums import Origin, RetransClass, State, Timer
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import EVENTS, SOCKET, UNKNOWN_U32, Records
from tcptop_ops.tracking.tracker import Tracker, counted
from tests.live.faults import FAULTS
from tests.support.fakes import BOOT_NS, finals, flow, scramble, scrambled, snapshot

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"
BUSY: dict[str, Any] = {"data_segs_out": 1000, "data_segs_in": 1000}
MET = 1 << State.SYN_SENT | 1 << State.ESTABLISHED


def case(win_s: float = 20.0, ended: int = 0, now_s: float = 1000.0, **told: Any) -> Case:
    """One established row that is well, but for what is told: fields of SOCKET, EVENTS, COUNTED; ``was_`` of MEMORY."""
    base: dict[str, Any] = {
        "state": State.ESTABLISHED,
        "mss": 1448,
        "snd_wnd": 65535,
        "rcv_wnd": 65535,
        "srtt_us": 1000,
    }
    base |= {"min_rtt_us": 900, "states": MET, "was_segs_in": 0, "was_state_s": now_s}
    told = base | BUSY | told
    arrays = {name: np.zeros(1, dtype) for name, dtype in (("s", SOCKET), ("e", EVENTS), ("w", COUNTED), ("m", MEMORY))}
    for name, value in told.items():
        holder = "m" if name.startswith("was_") else next(k for k in "wse" if name in (arrays[k].dtype.names or ()))
        if name == "rto_events":  # what W counts, a life has too
            arrays["e"][name] = value
        elif name == "retrans_segs":
            arrays["s"][name] = value
        arrays[holder][name.removeprefix("was_")] = value
    return Case(
        arrays["s"], arrays["e"], arrays["w"], np.array([win_s]), arrays["m"], now_s, np.array([ended], np.uint8)
    )


def verdict(made: Case) -> tuple[str, float]:
    cause, severity = verdict_module.judge(made)
    return CAUSES[int(cause[0])].name, round(float(severity[0]), 6)


LISTEN = {"state": State.LISTEN, "data_segs_out": 0, "data_segs_in": 0}
SYN = {"state": State.SYN_SENT, "data_segs_out": 0, "data_segs_in": 0, "states": 1 << State.SYN_SENT}
STUCK = {"unacked": 0, "notsent": 5000}
SILENT = {"unacked": 3, "segs_in": 7, "was_segs_in": 7}
QUEUED = {"min_rtt_us": 1000, "unacked": 10, "busy_us": 10_000_000}
UNREAD = {"recv_q": 100, "was_recv_q": 100, "rcv_wnd": 1447}

BY_HAND: list[tuple[str, float, dict[str, Any]]] = [
    # accept-queue: longer than its limit, or three dropped while it was half full
    ("healthy", 0, LISTEN | {"recv_q": 128, "send_q": 128}),
    ("accept-queue", 60, LISTEN | {"recv_q": 129, "send_q": 128}),
    ("healthy", 0, LISTEN | {"drops": 2}),
    ("healthy", 0, LISTEN | {"drops": 30, "recv_q": 63, "send_q": 128}),
    ("accept-queue", 95, LISTEN | {"drops": 3, "recv_q": 64, "send_q": 128}),
    ("accept-queue", 95, LISTEN | {"drops": 1, "recv_q": 129, "send_q": 128}),
    ("healthy", 0, {"drops": 100}),
    # refused
    ("refused", 60, {"ended": endings.REFUSED}),
    ("healthy", 0, {"ended": endings.ABANDONED}),
    ("healthy", 0, {"ended": endings.RESET}),
    # unreachable: timeouts, and no SYN could follow
    ("unreachable", 90, SYN | {"rto_events": 2, "retransmits": 2}),
    ("unreachable", 90, SYN | {"rto_events": 3, "retransmits": 3, "retrans_segs": 1}),
    ("syn-unanswered", 70, SYN | {"rto_events": 2, "retransmits": 2, "retrans_segs": 1}),
    ("unreachable", 90, {"ended": endings.UNREACHABLE}),
    # syn-unanswered
    ("idle", 0, SYN),
    ("syn-unanswered", 60, SYN | {"retransmits": 1, "rto_events": 1, "retrans_segs": 1}),
    ("syn-unanswered", 100, SYN | {"retransmits": 6, "rto_events": 6, "retrans_segs": 6}),
    ("syn-unanswered", 90, SYN | {"ended": endings.TIMED_OUT, "state": State.CLOSE, "rto_events": 4}),
    # local-drop: probes in vain through an open window, or retransmits that could not be sent
    ("healthy", 0, STUCK | {"snd_wnd": 1448, "probes": 1}),
    ("local-drop", 90, STUCK | {"snd_wnd": 1448, "probes": 2}),
    ("healthy", 0, STUCK | {"snd_wnd": 1447, "probes": 2}),
    ("healthy", 0, {"unacked": 3, "retransmits": 1, "retrans_failed": 1}),
    ("local-drop", 90, {"unacked": 3, "retransmits": 2, "retrans_failed": 2}),
    ("healthy", 0, {"unacked": 3, "retransmits": 2, "retrans_failed": 3, "was_failed": 2, "was_heard": 2}),
    # peer-not-reading
    ("healthy", 0, STUCK | {"snd_wnd": 1447}),
    ("peer-not-reading", 50, STUCK | {"snd_wnd": 1447, "backoff": 1}),
    ("healthy", 0, STUCK | {"snd_wnd": 1448, "backoff": 1}),
    ("healthy", 0, {"unacked": 1, "notsent": 5000, "snd_wnd": 0, "backoff": 1}),
    # dead-peer
    ("healthy", 0, SILENT | {"retransmits": 2}),
    ("dead-peer", 95, SILENT | {"retransmits": 3, "was_heard": 2}),
    ("healthy", 0, SILENT | {"retransmits": 3, "was_heard": 3}),
    ("healthy", 0, {"probes": 1, "timer": Timer.KEEPALIVE}),
    ("dead-peer", 95, {"probes": 2, "timer": Timer.KEEPALIVE}),
    ("healthy", 0, {"probes": 2, "timer": Timer.NONE}),
    ("dead-peer", 95, {"ended": endings.TIMED_OUT}),
    # rto-stall: 5 % of W
    ("healthy", 0, {"rto_events": 1, "rto_wait_us": 999_999}),
    ("rto-stall", 57.5, {"rto_events": 1, "rto_wait_us": 1_000_000}),
    ("rto-stall", 100, {"rto_events": 9, "rto_wait_us": 15_000_000}),
    ("healthy", 0, {"rto_events": 0, "rto_wait_us": 5_000_000}),
    ("rto-stall", 80, {"rto_events": 1, "rto_wait_us": 200_000, "win_s": 0.5}),  # W counts as a second at least
    # reordering, spurious: ten, 2 %, half of them duplicates
    ("reordering", 20, {"retrans_segs": 20, "dsack_dups": 10, "reord_seen": 3}),
    ("spurious", 20, {"retrans_segs": 20, "dsack_dups": 10, "reord_seen": 2}),
    ("loss", 12 * 1000 / 1050, {"retrans_segs": 20, "dsack_dups": 9, "reord_seen": 3}),
    ("healthy", 0, {"retrans_segs": 19, "dsack_dups": 19, "reord_seen": 3, "data_segs_out": 10_000}),
    ("healthy", 0, {"retrans_segs": 9, "dsack_dups": 9, "reord_seen": 3, "data_segs_out": 200}),
    # tail-loss, loss: three, and half a percent
    ("healthy", 0, {"retrans_segs": 2, "data_segs_out": 10}),
    ("loss", 12 * 200 / 60, {"retrans_segs": 3, "data_segs_out": 10}),
    ("tail-loss", 12 * 200 / 60, {"retrans_segs": 3, "probe_segs": 3, "data_segs_out": 10}),
    ("loss", 12 * 200 / 60, {"retrans_segs": 3, "probe_segs": 2, "data_segs_out": 10}),
    ("loss", 6, {"retrans_segs": 6, "data_segs_out": 950}),
    ("healthy", 0, {"retrans_segs": 6, "data_segs_out": 951}),
    ("loss", 6, {"retrans_segs": 16, "dsack_dups": 10, "data_segs_out": 950}),  # what had arrived was not lost
    ("healthy", 0, {"retrans_segs": 16, "dsack_dups": 11, "data_segs_out": 950}),
    ("healthy", 0, {"retrans_segs": 8030, "retrans_calls": 200, "dsack_dups": 7800, "data_segs_out": 1_100_000}),
    ("loss", 90, {"retrans_segs": 1000}),
    ("healthy", 0, {"retrans_segs": 80, "retrans_calls": 2}),  # two packets of 40 segments
    ("loss", 12 * 4000 / 1050, {"retrans_segs": 60, "retrans_calls": 3}),
    # inbound-loss: 3 %, less two large packets or a tenth
    ("healthy", 0, {"ooo_in": 119, "data_segs_in": 1000}),
    ("inbound-loss", 12, {"ooo_in": 120, "data_segs_in": 1000}),
    ("inbound-loss", 16, {"ooo_in": 130, "data_segs_in": 1000}),
    ("inbound-loss", 12, {"ooo_in": 390, "data_segs_in": 10_000}),
    ("healthy", 0, {"ooo_in": 4, "data_segs_in": 4}),
    ("inbound-loss", 90, {"ooo_in": 5, "data_segs_in": 5}),
    ("healthy", 0, {"ooo_in": 684, "data_segs_in": 10_000, "win_s": 0.2}),
    ("inbound-loss", 90, {"ooo_in": 5, "data_segs_in": 5, "win_s": 0.2, "ended": 2}),
    # bufferbloat: 50 ms, ten in flight, half of W
    ("bufferbloat", 10 + 50 / 30, QUEUED | {"srtt_us": 51_000}),
    ("bufferbloat", 60, QUEUED | {"srtt_us": 9_001_000}),
    ("healthy", 0, QUEUED | {"srtt_us": 50_999}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "unacked": 9}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "busy_us": 9_999_999}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "app_limited": 1}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "min_rtt_us": UNKNOWN_U32}),
    # not-reading
    ("not-reading", 50, UNREAD),
    ("not-reading", 50, UNREAD | {"recv_q": 101}),
    ("healthy", 0, UNREAD | {"recv_q": 99}),
    ("healthy", 0, UNREAD | {"rcv_wnd": 1448}),
    ("healthy", 0, UNREAD | {"was_recv_q": 0}),
    # not-closed
    ("not-closed", 20, {"state": State.CLOSE_WAIT, "was_state_s": 940.0}),
    ("healthy", 0, {"state": State.CLOSE_WAIT, "was_state_s": 940.1}),
    # nothing
    ("healthy", 0, {}),
    ("idle", 0, {"data_segs_in": 0, "data_segs_out": 0}),
    ("healthy", 0, {"data_segs_in": 1, "data_segs_out": 0}),
]


@pytest.mark.parametrize(("name", "severity", "told"), BY_HAND)
def test_rules_at_their_thresholds(name: str, severity: float, told: dict[str, Any]) -> None:
    assert verdict(case(**told)) == (name, round(severity, 6))


def test_each_rule_is_among_them() -> None:
    assert {name for name, _, _ in BY_HAND} >= {rule.name for rule in RULES}


def test_several_rows_at_once_are_judged_as_each_alone() -> None:
    cases = [case(**told) for _, _, told in BY_HAND]
    sockets, events, win, win_s, memory, ended = (
        np.concatenate([getattr(one, part) for one in cases])
        for part in ("sockets", "events", "win", "win_s", "memory", "ended")
    )
    together = Case(sockets, events, win, win_s, memory, 1000.0, ended)
    cause, severity = verdict_module.judge(together)
    assert [(CAUSES[c].name, round(float(s), 6)) for c, s in zip(cause, severity, strict=True)] == [
        verdict(one) for one in cases
    ]


ALL_AT_ONCE: dict[str, dict[str, Any]] = {
    "local-drop": {"unacked": 3, "retransmits": 4, "retrans_failed": 4},
    "dead-peer": SILENT | {"retransmits": 4},
    "rto-stall": {"rto_events": 4, "rto_wait_us": 9_000_000},
    "reordering": {"retrans_segs": 50, "dsack_dups": 50, "reord_seen": 3},
    "spurious": {"retrans_segs": 50, "dsack_dups": 50},
    "tail-loss": {"retrans_segs": 50, "probe_segs": 50},
    "loss": {"retrans_segs": 50},
    "inbound-loss": {"ooo_in": 500},
    "bufferbloat": QUEUED | {"srtt_us": 900_000},
    "not-reading": UNREAD,
    "not-closed": {"state": State.CLOSE_WAIT, "was_state_s": 0.0},
}
"""Faults that can be had together, in the order of the rules."""


def test_the_first_rule_that_matches_names_the_cause() -> None:
    names = list(ALL_AT_ONCE)
    for at, name in enumerate(names):
        told: dict[str, Any] = {}
        for other in reversed(names[at:]):
            told |= ALL_AT_ONCE[other]
        assert verdict(case(**told))[0] == name
    assert names == [rule.name for rule in RULES if rule.name in names]


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
    with patch.object(rules, "PATIENCE_S", 20.0):
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


LIMITED: list[tuple[str, dict[str, Any], float]] = [
    ("", {"busy_us": 0}, 0),
    ("", {"busy_us": 1, "data_segs_out": 0}, 0),
    ("peer", {"busy_us": 20_000_000, "rwnd_limited_us": 10_000_000}, 0),
    ("cwnd", {"busy_us": 20_000_000, "rwnd_limited_us": 9_999_999}, 0),
    ("sndbuf", {"busy_us": 20_000_000, "sndbuf_limited_us": 10_000_000}, 0),
    ("app", {"busy_us": 9_999_999}, 0),
    ("cwnd", {"busy_us": 10_000_000}, 0),
    ("app", {"busy_us": 10_000_000, "app_limited": 1}, 0),
    ("rwnd", {"busy_us": 0, "recv_q": 70_000}, 1),
    ("", {"busy_us": 0, "recv_q": 70_000}, 0),
    ("", {"busy_us": 20_000_000, "state": State.LISTEN}, 0),
]


@pytest.mark.parametrize(("limit", "told", "rx"), LIMITED)
def test_what_merely_limits(limit: str, told: dict[str, Any], rx: float) -> None:
    made = case(**told)
    found = verdict_module.limits(made.sockets, made.win, made.win_s, np.array([rx]))
    assert LIMITS[int(found[0])] == limit


def test_the_wait_for_timeouts_has_two_sources() -> None:
    """Events where there are some; else the kernel's sum, in milliseconds, where it has one."""
    told = [{"first_ns": 1, "rto_wait_us": 5}, {"total_rto_ms": 7}, {"total_rto_ms": UNKNOWN_U32}]
    made = [case(**one) for one in told]
    sockets, events = (np.concatenate([getattr(one, part) for one in made]) for part in ("sockets", "events"))
    sockets["total_rto_ms"][0] = 9
    events["rto_wait_us"][0] = 5
    assert memory_module.waited_us(sockets, events).tolist() == [5, 7000, 0]


def test_time_at_a_shut_window_is_time_lost() -> None:
    tracker = Tracker()
    shut = flow(1, snd_wnd=0, rto_wait_us=250_000, **STUCK)
    for second in range(4):
        flows = tracker.update(snapshot(second, [shut]))
    assert int(flows.live.rates["stall_us"][0]) == 4_250_000 - 1_000_000


def test_classes_of_retransmits() -> None:
    row = case()
    row.events["retrans"][0, RetransClass.PROBE] = 3
    assert counted(row.sockets, row.events)["probe_segs"].tolist() == [3]


WORDS = np.dtype([(name, MEMORY[name]) for name in MEMORY.names or () if MEMORY[name].kind == "u"])
SEEDS = st.integers(0, 2**32)


def any_rows(rng: np.random.Generator) -> tuple[Records, Records, Records, Records]:
    """Fifty rows of SOCKET, EVENTS, COUNTED and MEMORY; of the last, times and scores are such as can be."""
    sockets, events, win, words = (np.zeros(50, dtype) for dtype in (SOCKET, EVENTS, COUNTED, WORDS))
    for part in (sockets, events, win, words):
        scramble(part, rng)
    memory = np.zeros(50, MEMORY)
    for name in WORDS.names or ():
        memory[name] = words[name]
    memory["score"], memory["state_s"] = rng.uniform(0, 100, 50), rng.uniform(0, 1e6, 50)
    memory["cause"] %= len(CAUSES)
    return sockets, events, win, memory


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_any_bytes_are_judged(seed: int) -> None:
    """No row makes it raise, or a severity that is no number from 0 to 100; and only a rule makes one above 0."""
    rng = np.random.default_rng(seed)
    sockets, events, win, memory = any_rows(rng)
    ended = rng.integers(0, len(endings.ENDS), 50).astype(np.uint8)
    made = Case(sockets, events, win, rng.uniform(0, 3600, 50), memory, 1e6, ended)
    cause, severity = verdict_module.judge(made)
    assert ((severity >= 0) & (severity <= 100)).all()
    assert (cause < len(CAUSES)).all()
    assert (cause != UNKNOWN).all()
    assert (severity[(cause == IDLE) | (cause == HEALTHY)] == 0).all()
    _, score = verdict_module.fade(cause, severity, memory, 1.0)
    assert ((score >= 0) & (score <= 100)).all()
    assert (verdict_module.limits(sockets, win, made.win_s, np.ones(50)) < len(LIMITS)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(SEEDS, min_size=2, max_size=6))
def test_any_history_is_scored(seeds: list[int]) -> None:
    """Live and closed rows through the tracker: a score is a number from 0 to 100 unless the cause is unknown."""
    tracker = Tracker()
    for second, seed in enumerate(seeds):
        made = scrambled(20, seed, second)
        made.sockets["cookie"] = np.arange(20)
        flows = tracker.update(made)
        for rates in (flows.live.rates, flows.closed.rates):
            score, unknown = rates["score"], rates["cause"] == UNKNOWN
            assert np.isnan(score[unknown]).all()
            assert ((score[~unknown] >= 0) & (score[~unknown] <= 100)).all()


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_rows_that_are_passed_over_match_no_rule(seed: int) -> None:
    """judge() looks closer only where a rule could match: any row, judged by all rules, comes out the same."""
    rng = np.random.default_rng(seed)
    parts = any_rows(rng)
    for part in parts:
        for name in part.dtype.names or ():  # mostly zeros: else every row is suspicious
            part[name][rng.random(50) < 0.9] = 0
    parts[0]["state"] = rng.integers(1, 12, 50)
    made = Case(*parts[:3], np.full(50, 20.0), parts[3], 1000.0, np.zeros(50, np.uint8))
    with patch.object(verdict_module, "_suspicious", lambda case: np.ones(len(case), np.bool_)):
        expected = verdict_module.judge(made)
    found = verdict_module.judge(made)
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tolist() == expected[1].tolist()


def rules_table() -> str:
    """The rules as the program has them, in Markdown."""
    lines = ["| # | cause | what it means | told by | what to do | source |", "|" + " --- |" * 6]
    lines += [
        f"| {number} | {rule.name} | {rule.means} | {rule.told_by} | {rule.remedy} | {rule.source} |"
        for number, rule in enumerate(RULES, 1)
    ]
    return "\n".join(lines)


def test_the_page_has_the_rules_as_they_are() -> None:
    assert rules_table() in PAGE.read_text(), f"docs/diagnosis.md must hold:\n{rules_table()}"


def test_the_page_has_a_line_of_the_matrix_for_each_fault() -> None:
    staged = PAGE.read_text().partition("| staged |")[2]
    lines = [[cell.strip() for cell in line.strip("| ").split(" |")] for line in staged.splitlines() if " | " in line]
    assert [line[0] for line in lines[2:]][: len(FAULTS)] == list(FAULTS)
    named_in = [line[1] for line in lines[2 : len(FAULTS) + 2]]
    assert all(1 <= int(tick) <= 5 for tick in named_in)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_the_page_says_of_thresholds(rule: rules.Cause) -> None:
    """Severities are in the table below the rules, by name."""
    assert f"\n| {rule.name} | " in PAGE.read_text()
