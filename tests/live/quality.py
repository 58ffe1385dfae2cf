"""What is said of staged faults, their twins and healthy flows beside them: right or not, counted and as a table."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcptop_ops.diagnosis import rules
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.views import view
from tests.live import faults
from tests.live.faults import BESIDE, FAULTS, HARMLESS, LISTENERS, TWINS
from tests.live.stage import Fault, Stage

TICKS = 5
"""Within so many a fault must be named, a second each; some later (``Fault.later``)."""

GROUP = 8
"""So many are staged at once, at links of their own: ticks are what takes long."""

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"
PART = re.compile(r"(<!-- made: quality -->\n).*?(<!-- end: quality -->)", re.DOTALL)

Row = dict[str, Any]


DISORDER = {"reordering", "spurious"}
"""Of healthy flows these are true where there is more work than processors: a veth delivers out of order when a sender
moves from one CPU to another, and TCP retransmits what had arrived. Nothing was lost, and no row says so."""


@dataclass
class Crowd:
    """What was said of the healthy flows: (row, tick)s by cause, and those that scored, and why."""

    causes: Counter[str] = field(default_factory=Counter)
    blamed: list[str] = field(default_factory=list)
    open: list[int] = field(default_factory=list)  # connections open, each tick

    def take(self, rows: list[Row], addresses: list[str]) -> None:
        """Count those of one more tick."""
        healthy = [row for row in rows if row["laddr"] in addresses]
        self.causes.update(row["cause"] for row in healthy)
        self.blamed += [in_short(row) for row in healthy if row["score"] and row["cause"] not in DISORDER]
        self.open.append(sum(row["state"] == "ESTAB" for row in healthy))


@dataclass
class Told:
    """What was said of one fault since it was staged: (row, tick)s counted by cause."""

    fault: Fault
    ticks: int = 0
    named_in: int | None = None  # the tick in which each of its rows was named
    subject: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)  # the fault's other rows: other ends, other attempts
    evidence: str = ""
    worst: float = 0.0  # score of its rows

    def take(self, rows: list[Row]) -> None:
        """Count those of one more tick."""
        self.ticks += 1
        mine = [row for row in rows if is_subject(row, self.fault)]
        beside = [row for row in rows if {row["laddr"], row["raddr"]} & self.fault.addresses and row not in mine]
        self.subject.update(row["cause"] for row in mine)
        self.beside.update(row["cause"] for row in beside)
        self.worst = max([self.worst, *(row["score"] or 0.0 for row in mine)])
        named = all(row["cause"] == self.fault.cause and row["score"] for row in mine)
        if self.named_in is None and named and len(mine) >= len(self.fault.where):
            self.named_in, self.evidence = self.ticks, mine[0]["evidence"]

    @property
    def strange(self) -> set[str]:
        """Return the causes of its other rows that none of them has."""
        return set(self.beside) - HARMLESS - BESIDE.get(self.fault.cause, set())

    @property
    def named(self) -> bool:
        """Whether each of its rows was named by its cause, with evidence, and no other row by what it has not."""
        return self.named_in is not None and bool(self.evidence) and not self.strange

    @property
    def quiet(self) -> bool:
        """Whether no row of it was named or scored, of a twin."""
        return bool(self.subject) and set(self.subject) <= HARMLESS and not self.worst


def in_short(row: Row) -> str:
    """Return which row it is, and what is said of it."""
    return " ".join(str(row[name]) for name in ("local", "peer", "cause", "score", "evidence"))


def is_subject(row: Row, fault: Fault) -> bool:
    """Return whether the fault is this row's. A listener and what it accepted have one port."""
    listens = row["state"] == "LISTEN"
    return (row["laddr"], row["lport"]) in fault.where and listens == (fault.cause in LISTENERS)


def observe(stage: Stage, names: Sequence[str], crowd: Crowd, *, all_ticks: bool = False) -> dict[str, Told]:
    """Stage them one after the other, and look on until each is named, a twin for TICKS; all for TICKS if asked for.

    Ticks that pass while others are being staged count. Everything that was started is ended again.
    """
    told: dict[str, Told] = {}

    def see() -> None:
        rows = connections(view.make(stage.watch.flows, view.Spec()))
        crowd.take(rows, stage.crowd)
        for name, each in told.items():
            if goes_on(name, each):
                each.take(rows)

    def goes_on(name: str, each: Told) -> bool:
        until_named = name in FAULTS and not all_ticks
        return each.ticks < TICKS + each.fault.later and not (until_named and each.named_in is not None)

    started = stage.lab.started
    stage.on_tick = see
    try:
        for name in names:
            told[name] = Told((FAULTS | TWINS)[name](stage))
        while any(goes_on(name, each) for name, each in told.items()):
            stage.tick()
    finally:
        stage.on_tick = None
        stage.lab.end_since(started)
    return told


@dataclass
class Quality:
    """All that was told, of each staging, in their order."""

    crowd: Crowd = field(default_factory=Crowd)
    told: list[tuple[str, Told]] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Return the names of faults that were not named, and of twins that were not left alone."""
        return [name for name, told in self.told if not (told.named if name in FAULTS else told.quiet)]

    def number(self) -> str:
        """Return the quality of diagnosis in a line."""
        wrong = self.wrong
        parts = []
        for word, kinds in (("faults named", FAULTS), ("twins quiet", TWINS)):
            staged = [name for name, _ in self.told if name in kinds]
            parts.append(f"{word}: {len(staged) - sum(name in kinds for name in wrong)} of {len(staged)}")
        rows = sum(self.crowd.causes.values())
        return f"{'; '.join(parts)}; healthy row-ticks blamed: {len(self.crowd.blamed)} of {rows:,}"

    def matrix(self) -> str:
        """Return the confusion matrix: a row a fault, a column a cause, ticks in which its flows were so named."""
        lines: dict[str, Counter[str]] = {}
        when: dict[str, str] = {}
        for name, told in self.told:
            lines[name] = lines.get(name, Counter()) + told.subject
            if name in FAULTS:
                when[name] = str(told.named_in or "never")
        lines["other ends of these"] = sum((told.beside for _, told in self.told), Counter())
        lines["healthy flows"] = self.crowd.causes
        columns = [cause.name for cause in rules.CAUSES if any(line[cause.name] for line in lines.values())]
        table = [["staged", "named in tick", *columns]]
        for name, line in lines.items():
            table.append([name, when.get(name, ""), *(str(line[column] or "") for column in columns)])
        rows = ["| " + " | ".join(cells) + " |" for cells in table]
        return "\n".join([rows[0], "|" + " --- |" * len(table[0]), *rows[1:]])


def measure(names: Sequence[str], times: int, polled: bool, say: Any) -> Quality:
    """Stage them so many times, and tell what was said of each."""
    quality = Quality()
    with faults.staged(**({"reader": "sock_diag"} if polled else {})) as stage:
        for name in [name for _ in range(times) for name in names]:  # one at a time: no other's load is in the table
            [told] = observe(stage, [name], quality.crowd, all_ticks=True).values()
            quality.told.append((name, told))
            say(f"{name}: {told.named_in} {dict(told.subject)} beside {dict(told.beside)}; {told.evidence}")
            if name in quality.wrong:
                say(f"    WRONG; strange beside: {sorted(told.strange)}, highest score {told.worst:g}")
    for row in quality.crowd.blamed:
        say(f"    BLAMED {row}")
    return quality


def main() -> int:
    """Run it as the command line says; return 1 if anything was told wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.live.faults",
        description="Stage faults, twins and healthy flows, and print how many were told rightly, and as what.",
    )
    everything = (*FAULTS, *TWINS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of them; all without one")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="stage each so many times")
    parser.add_argument("--polled", action="store_true", help="sockets by sock_diag, not by a pass over descriptors")
    parser.add_argument("--write", action="store_true", help=f"put number and table into docs/{PAGE.name}")
    parser.add_argument("--list", action="store_true", help="print the names")
    args = parser.parse_args()
    if unknown := set(args.names) - set(everything):
        parser.error(f"not staged: {', '.join(sorted(unknown))}")
    if args.list:
        print(*everything, sep="\n")
        return 0
    quality = measure(args.names or everything, args.times, args.polled, lambda line: print(line, file=sys.stderr))
    said = f"{quality.number()}\n\n{quality.matrix()}\n"
    print(said, end="")
    if args.write:
        PAGE.write_text(PART.sub(lambda part: f"{part[1]}{said}{part[2]}", PAGE.read_text()))
    return 1 if quality.wrong or quality.crowd.blamed else 0
