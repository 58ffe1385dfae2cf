"""Each fault is named by its cause within five ticks, and fifty healthy flows beside it are never called bad."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tcptop_ops.diagnosis.rules import RULES
from tests.live import faults, healthy
from tests.live.faults import FAULTS, HARMLESS, TWINS, Told
from tests.live.stage import Stage

BESIDE = {
    "accept-queue": {"syn-unanswered"},  # those who wait at that door
    "syn-queue": {"syn-unanswered"},
    "syn-unanswered": {"syn-unanswered"},  # the later attempts
    "peer-not-reading": {"not-reading"},
    "not-reading": {"peer-not-reading", "tail-loss", "loss"},  # it drops what is sent before its window shuts
    "loss": {"inbound-loss"},
    "inbound-loss": {"loss", "rto-stall"},
    "reordering": {"inbound-loss"},  # a receiver can't tell what is late from what is lost
}
"""What the other rows that a fault touches may be called: both ends are on this host."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with faults.staged() as made:
        yield made


def told_of(stage: Stage, name: str) -> Told:
    """A flow whose retransmit is lost too stands in a timeout, and is rightly named by that: then it is staged anew."""
    told = staged_once(stage, name)
    for _ in range(2):
        if told.named_in is None and name == "loss" and told.subject["rto-stall"]:
            told = staged_once(stage, name)
    return told


def staged_once(stage: Stage, name: str, *, all_ticks: bool = False) -> Told:
    started = stage.lab.started
    try:
        return faults.observe(stage, name, all_ticks=all_ticks)
    finally:
        stage.lab.end_since(started)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_its_cause_and_healthy_flows_are_not(stage: Stage, name: str) -> None:
    told = told_of(stage, name)
    assert told.named_in is not None, f"{dict(told.subject)}"
    assert told.evidence
    assert set(told.beside) <= HARMLESS | BESIDE.get(told.expected, set())
    assert told.blamed == []
    assert min(told.open_healthy) >= 2 * 2 * healthy.LIVE  # both ends, on loopback and on a link


@pytest.mark.parametrize("name", TWINS)
def test_what_looks_like_a_fault_and_is_none_is_never_called_bad(stage: Stage, name: str) -> None:
    told = staged_once(stage, name, all_ticks=True)
    assert told.subject
    assert set(told.subject) <= HARMLESS
    assert told.worst == 0


def test_every_rule_has_its_fault() -> None:
    assert {rule.name for rule in RULES} == {name.partition(",")[0] for name in FAULTS}
