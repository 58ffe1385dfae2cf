"""The page about the rules says what the program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.rules import RULES
from tests.live.faults import FAULTS
from tests.live.faults_receiving import LATER
from tests.live.quality import TICKS
from tests.support.cause_pages import PAGE, PARTS, made


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.name)
def test_a_page_is_made_from_the_entries(path: Path) -> None:
    assert path.read_text() == made(path), "python -m tests.support.cause_pages makes it anew"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_entry_is_whole(rule: Cause) -> None:
    fields = ("phase", "blame", "rule", "evidence", "means", "told_by", "remedy", "source", "severity", "of_many")
    assert [name for name in fields if not getattr(rule, name)] == []


def test_the_page_has_a_line_of_the_matrix_for_each_fault() -> None:
    staged = PAGE.read_text().partition("| staged |")[2]
    lines = [[cell.strip() for cell in line.strip("| ").split(" |")] for line in staged.splitlines() if " | " in line]
    assert [line[0] for line in lines[2:]][: len(FAULTS)] == list(FAULTS)
    named_in = [line[1] for line in lines[2 : len(FAULTS) + 2]]
    assert all(1 <= int(tick) <= TICKS + LATER for tick in named_in)
