"""What is counted of made-up ticks, and that each kind has a place."""

from __future__ import annotations

from typing import Any

from tests.healthy.judge import TELLING, Verdict
from tests.healthy.kinds import BY_TURNS, KINDS, LONG, NAMES, PLAIN, PORTS, SHAPED


def row(kind: str, cookie: int, **fields: object) -> dict[str, Any]:
    usual = {"cookie": cookie, "lport": 40_000 + cookie, "rport": PORTS[kind], "cause": "healthy", "score": 0.0}
    return dict.fromkeys(TELLING) | usual | fields


def tick(*rows: dict[str, Any], findings: tuple[str, ...] = ()) -> dict[str, Any]:
    told = [{"blame": "peer", "text": text} for text in findings]
    return {"connections": list(rows), "findings": told, "notes": []}


def everything() -> dict[str, Any]:
    rows = [row(name, number) for number, name in enumerate(KINDS)]
    return tick(*rows, row("race", 999, rport=7))


def test_silence_is_well() -> None:
    verdict = Verdict()
    for _ in range(3):
        verdict.take(everything())
    assert verdict.well
    number = len(KINDS) + 1
    assert verdict.lines()[0] == f"3 ticks, {3 * number} row-ticks, {number} rows of {number} kinds seen"


def test_rows_of_a_kind_that_score_with_a_cause_are_one_story() -> None:
    verdict = Verdict()
    verdict.take(everything())
    for score in (30.0, 50.0, 40.0):
        verdict.take(tick(row("think", 1, cause="reset", score=score), row("think", 2, cause="reset", score=1.0)))
    [story] = verdict.stories.values()
    assert (story.first, story.row_ticks, story.rows, story.worst["score"]) == (2, 6, {1, 2}, 50.0)
    assert (verdict.scored, verdict.well) == (2, False)


def test_findings_that_differ_in_numbers_are_one() -> None:
    verdict = Verdict()
    verdict.take(everything())
    for number in range(3):
        verdict.take(tick(findings=(f"{number} flows lose {number}.5 %",)))
    assert list(verdict.findings.values()) == [(3, "peer: 2 flows lose 2.5 %")]
    assert not verdict.well


def test_a_kind_without_a_row_is_not_well() -> None:
    verdict = Verdict()
    verdict.take(tick(row("think", 1)))
    assert not verdict.well
    assert len(verdict.missing()) == len(NAMES) - 1


def test_each_kind_is_at_work_somewhere() -> None:
    assert {*BY_TURNS, *LONG, *PLAIN, *SHAPED} == set(KINDS)
