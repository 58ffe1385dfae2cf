"""The parts of docs/diagnosis.md and docs/field-guide.md that are made from the entries of the causes.

``python -m tests.support.cause_pages`` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tcptop_ops.diagnosis.rules import OF_NAMESPACES, RULES
from tcptop_ops.explain.pages import BLAMED

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "diagnosis.md"
GUIDE = DOCS / "field-guide.md"


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


def symptoms() -> Iterator[str]:
    """Yield the lines that lead from each cause to the first section of the field guide that names it.

    Raises ValueError where no section does.
    """
    sections = GUIDE.read_text().split("\n## ")[1:]
    yield "| cause | to blame | what it means | symptom |"
    yield "| --- | --- | --- | --- |"
    for cause in (*RULES, *OF_NAMESPACES):
        named = re.compile(rf"`{cause.name}`|cause = {cause.name}\b|--explain {cause.name}\b")
        title = next((section.partition("\n")[0] for section in sections if named.search(section)), None)
        if title is None:
            raise ValueError(f"no section of the field guide names {cause.name}")
        anchor = re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        yield f"| {cause.name} | {cause.blame} | {cause.means} | [{title}](#{anchor}) |"


PARTS: dict[Path, dict[str, Callable[[], Iterator[str]]]] = {
    PAGE: {"rules": rules_table, "thresholds": thresholds, "blame": blamed},
    GUIDE: {"symptoms": symptoms},
}
"""What is made, by page and by the name in the comments that stand around it."""


def made(path: Path) -> str:
    """Return the page with each part between its two comments made anew. Raises ValueError where one is missing."""
    page = path.read_text()
    for name, lines in PARTS[path].items():
        begin, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->"
        before, found, rest = page.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"no place for {name}")
        page = before + begin + "\n".join(lines()) + "\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    for path in PARTS:
        path.write_text(made(path))
