"""What is kept of a run: counts, and what the monitor said against healthy rows. Plain values, no processes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.healthy.kinds import NAMES

TELLING = ("local", "peer", "state", "process", "direction", "cause", "score", "end", "limit", "evidence")
"""Fields of a row that are printed."""

Row = dict[str, Any]


@dataclass
class Story:
    """Rows of a kind that scored with one cause: their cookies, in how many row-ticks, since which tick.

    ``worst``: one of them when it scored most.
    """

    first: int
    worst: Row
    rows: set[int] = field(default_factory=set)
    row_ticks: int = 0


@dataclass
class Verdict:
    """Of all ticks so far. ``connections``: the cookies of each kind's rows."""

    ticks: int = 0
    row_ticks: int = 0
    connections: dict[str, set[int]] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    stories: dict[tuple[str, str], Story] = field(default_factory=dict)
    findings: dict[str, tuple[int, str]] = field(
        default_factory=dict
    )  # in how many ticks, and the last; by what varies
    notes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)  # of the monitor, or of the traffic

    def take(self, tick: dict[str, Any]) -> None:
        """Count one more line of ``--json``."""
        self.ticks += 1
        for one in tick["findings"]:
            alike = re.sub(r"\d[\d.,]*", "n", one["text"])
            self.findings[alike] = (self.findings.get(alike, (0, ""))[0] + 1, f"{one['blame']}: {one['text']}")
        self.notes.update(tick["notes"])
        for row in tick["connections"]:
            self.row_ticks += 1
            self.causes[row["cause"]] += 1
            self.connections.setdefault(kind_of(row), set()).add(row["cookie"])
            if row["score"]:
                self._tell(row)

    def _tell(self, row: Row) -> None:
        story = self.stories.setdefault((kind_of(row), row["cause"]), Story(self.ticks, row))
        story.row_ticks += 1
        story.rows.add(row["cookie"])
        if row["score"] > story.worst["score"]:
            story.worst = row

    @property
    def scored(self) -> int:
        """How many rows scored."""
        return len(set().union(*(story.rows for story in self.stories.values())))

    @property
    def well(self) -> bool:
        """Whether nothing was said, each kind had a row, and all went as it should."""
        return not (self.stories or self.findings or self.failures or self.missing())

    def missing(self) -> list[str]:
        """Return the kinds without a row."""
        return [name for name in NAMES.values() if name not in self.connections]

    def lines(self) -> list[str]:
        """Return what is printed in the end."""
        seen = sum(map(len, self.connections.values()))
        told = [
            f"{self.ticks} ticks, {self.row_ticks:,} row-ticks, {seen:,} rows of {len(self.connections)} kinds seen",
            f"scored rows: {self.scored}; findings: {len(self.findings)}",
            "causes: " + ", ".join(f"{cause} {number:,}" for cause, number in self.causes.most_common()),
            "rows of each kind: "
            + ", ".join(f"{name} {len(self.connections.get(name, ()))}" for name in NAMES.values()),
        ]
        if missing := self.missing():
            told.append(f"NOT SEEN: {', '.join(missing)}")
        told += [
            f"SCORED: {len(story.rows)} rows in {story.row_ticks} row-ticks since tick {story.first}:"
            f" {in_short(story.worst)}"
            for story in self.stories.values()
        ]
        told += [f"FOUND in {number} ticks: {text}" for number, text in self.findings.values()]
        told += [f"FAILED {number} times: {text}" for text, number in self.failures.items()]
        told += [f"noted in {number} ticks: {text}" for text, number in self.notes.items()]
        return told


def kind_of(row: Row) -> str:
    """Return the kind of a row, by the port of its server."""
    return NAMES.get(row["rport"]) or NAMES.get(row["lport"]) or f"port {row['lport']}"


def in_short(row: Row) -> str:
    """Return the kind of a row, and what says most about it."""
    return f"[{kind_of(row)}] " + " ".join(f"{name}={row[name]}" for name in TELLING if row[name] is not None)
