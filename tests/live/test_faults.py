"""Each fault is named by its cause in time, and fifty healthy flows beside it are never called bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tcptop_ops.diagnosis.rules import RULES
from tests.live import faults, healthy
from tests.live.faults import FAULTS, TWINS
from tests.live.quality import GROUP, PAGE, PART, Crowd, Told, observe
from tests.live.stage import Stage

WAITED = Counter({"rto-stall": 1, "syn-lost": 1})
"""What a lossy path does to a flow as well, by chance."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with faults.staged() as made:
        yield made


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd()


@pytest.fixture(scope="module")
def told_of(stage: Stage, crowd: Crowd, request: pytest.FixtureRequest) -> Callable[[str], Told]:
    """What was told of one of them: it is staged together with those whose tests come next."""
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    names = [spec.params["name"] for spec in specs if spec and "name" in spec.params]
    all_told: dict[str, Told] = {}

    def told(name: str) -> Told:
        if name not in all_told:
            at = names.index(name)
            all_told.update(observe(stage, names[at : at + GROUP], crowd))
        return all_told[name]

    return told


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_its_cause(stage: Stage, crowd: Crowd, told_of: Callable[[str], Told], name: str) -> None:
    told = told_of(name)
    for _ in range(2):  # a flow whose retransmit or SYN is lost too waits for a timeout, and is rightly named by that
        if told.named_in is None and name in ("loss", "inbound-loss") and (told.subject & WAITED):
            told = observe(stage, [name], crowd)[name]
    assert told.named_in is not None, f"{dict(told.subject)}"
    assert told.evidence
    assert told.strange == set()


@pytest.mark.parametrize("name", TWINS)
def test_what_looks_like_a_fault_and_is_none_is_never_called_bad(told_of: Callable[[str], Told], name: str) -> None:
    told = told_of(name)
    assert told.quiet, f"{dict(told.subject)} {told.worst}"


def test_healthy_flows_beside_them_are_never_called_bad(stage: Stage, crowd: Crowd) -> None:
    if not crowd.open:  # run alone: nothing was staged before
        observe(stage, list(TWINS)[:1], crowd)
    assert crowd.blamed == []
    assert min(crowd.open) >= 2 * 2 * healthy.LIVE  # both ends, on loopback and on a link


def test_every_rule_has_its_fault() -> None:
    assert {rule.name for rule in RULES} == {name.partition(",")[0] for name in FAULTS}


def test_the_page_has_all_of_them() -> None:
    """And its number is that of its table: ``python -m tests.live.faults --write`` makes both anew."""
    part = PART.search(PAGE.read_text())
    assert part
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part[0].splitlines() if line.startswith("| ")]
    staged = {row[0]: row[1] for row in rows[2:-2]}
    assert list(staged) == [*FAULTS, *TWINS]
    named = sum(staged[name].isdecimal() for name in FAULTS)
    assert f"faults named: {named} of {len(FAULTS)}; twins quiet: {len(TWINS)} of {len(TWINS)};" in part[0]
