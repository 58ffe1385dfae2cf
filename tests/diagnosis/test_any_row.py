"""What must hold for any row, whatever its bytes."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.diagnosis import verdict
from tcptop_ops.diagnosis.case import MEMORY, Case
from tcptop_ops.diagnosis.rules import CAUSES, HEALTHY, IDLE, UNKNOWN
from tcptop_ops.diagnosis.verdict import LIMITS, fade, judge, limits
from tcptop_ops.model import endings
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.flows import RATES
from tcptop_ops.model.records import EVENTS, SOCKET, Records
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import scramble, scrambled

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
    cause, severity = judge(made)
    assert ((severity >= 0) & (severity <= 100)).all()
    assert (cause < len(CAUSES)).all()
    assert (cause != UNKNOWN).all()
    assert (severity[(cause == IDLE) | (cause == HEALTHY)] == 0).all()
    _, score, _ = fade(made, cause, severity, 1.0)
    assert ((score >= 0) & (score <= 100)).all()
    rates = np.zeros(50, RATES)
    rates["win"], rates["win_s"], rates["rx_bytes_per_s"] = win, made.win_s, 1
    assert (limits(made, rates) < len(LIMITS)).all()


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
    with patch.object(verdict, "suspicious", lambda case: np.ones(len(case), np.bool_)):
        expected = judge(made)
    found = judge(made)
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tolist() == expected[1].tolist()
