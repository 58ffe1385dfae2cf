"""The page about the rules says what the program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcptop_ops.diagnosis.rules import RULES, Cause
from tests.live.faults import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"


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
def test_what_the_page_says_of_thresholds(rule: Cause) -> None:
    """Severities are in the table below the rules, by name."""
    assert f"\n| {rule.name} | " in PAGE.read_text()
