"""The parts of docs/diagnosis.md that are made from the entries of the causes.

``python -m tests.support.cause_pages`` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tcptop_ops.diagnosis.rules import RULES
from tcptop_ops.explain.pages import BLAMED

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"


def rules_table() -> Iterator[str]:
    """Yield the lines of the table of rules, in their order."""
    yield "| # | cause | phase | to blame | what it means | told by | what to do | source |"
    yield "|" + " --- |" * 8
    for number, rule in enumerate(RULES, 1):
        cells = (rule.name, rule.phase, rule.blame, rule.means, rule.told_by, rule.remedy, rule.source)
        yield f"| {number} | " + " | ".join(map(str, cells)) + " |"


def thresholds() -> Iterator[str]:
    """Yield the lines of the table of severities and thresholds."""
    yield "| cause | severity | from |"
    yield "| --- | --- | --- |"
    for rule in RULES:
        yield f"| {rule.name} | {rule.severity} | {rule.threshold} |"


def blamed() -> Iterator[str]:
    """Yield the lines that say what the words of the column blame mean."""
    for word, means in BLAMED.items():
        yield f"- `{word}`: {means.partition(': ')[2]}"


PARTS: dict[str, Callable[[], Iterator[str]]] = {"rules": rules_table, "thresholds": thresholds, "blame": blamed}
"""What is made, by the name in the comments that stand around it."""


def with_parts(page: str) -> str:
    """Return the page with each part between its two comments made anew. Raises ValueError where one is missing."""
    for name, lines in PARTS.items():
        begin, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->"
        before, found, rest = page.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"no place for {name}")
        page = before + begin + "\n".join(lines()) + "\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(with_parts(PAGE.read_text()))
