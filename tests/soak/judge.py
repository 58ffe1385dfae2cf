"""What is kept of a run, and what is held against it: plain values, no processes."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.soak.plan import GROWTH_PERCENT, Plan


@dataclass(frozen=True)
class Tick:
    """What is kept of a line of --json."""

    number: int
    interval_s: float
    poll_s: float
    opened: int
    closed: int
    connections: int
    adopted: int
    untracked: int
    notes: tuple[str, ...]
    states: frozenset[str]
    unseen: int


def tick_of(line: dict[str, Any]) -> Tick:
    """Return what is kept of a line."""
    totals = line["totals"]
    return Tick(
        number=line["tick"],
        interval_s=line["interval_s"],
        poll_s=line["self"]["poll_ms"] / 1000,
        opened=totals["opened"],
        closed=totals["closed"],
        connections=totals["connections"],
        adopted=totals["adopted"],
        untracked=totals["untracked"],
        notes=tuple(line["notes"]),
        states=frozenset(totals["by_state"]),
        unseen=sum(row["end"] == "unseen" for row in line["connections"]),
    )


@dataclass(frozen=True)
class Sample:
    """A process at one moment: resident KiB; descriptors; apart from them network namespaces, and sockets inside."""

    at_s: float
    rss_kib: int
    fds: int
    namespaces: int


@dataclass(frozen=True)
class Made:
    """What the traffic did since the first tick: connections, counted at both ends."""

    opened: int
    closed: int


@dataclass
class Report:
    """``violations``: what was wrong. ``left_out``: moments without a tick, as a machine that stands still has them."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    left_out: int = 0


def growth_percent(samples: Sequence[Sample]) -> float:
    """Of resident memory from the first to the last, by the median of all slopes (Theil and Sen)."""
    slopes = [
        (b.rss_kib - a.rss_kib) / (b.at_s - a.at_s) for a, b in itertools.combinations(samples, 2) if b.at_s > a.at_s
    ]
    if not slopes:
        return 0.0
    span = samples[-1].at_s - samples[0].at_s
    return 100 * statistics.median(slopes) * span / statistics.median(each.rss_kib for each in samples)


def memory_violations(name: str, samples: Sequence[Sample]) -> list[str]:
    """Of what came after the warm-up."""
    if len(samples) < 8:
        return [f"{name}: only {len(samples)} samples after the warm-up"]
    found = []
    if (growth := growth_percent(samples)) >= GROWTH_PERCENT:
        found.append(f"{name}: memory grew by {growth:.1f} %, {samples[0].rss_kib} to {samples[-1].rss_kib} KiB")
    quarter = len(samples) // 4
    first, last = samples[:quarter], samples[-quarter:]
    before, after = (statistics.median(each.fds for each in part) for part in (first, last))
    if after > before:  # medians: an iterator is open for a few milliseconds of each tick
        found.append(f"{name}: {before:g} descriptors became {after:g}")
    most, least = max(each.namespaces for each in first), min(each.namespaces for each in last)
    if least > most:  # they come and go, others' too: a leak is what never goes again
        found.append(
            f"{name}: descriptors of namespaces and sockets: at most {most} at first, at least {least} in the end"
        )
    return found


def memory_figures(name: str, samples: Sequence[Sample]) -> str:
    """Return what the summary says of them."""
    sizes = [each.rss_kib / 1024 for each in samples]
    fds, namespaces = ([getattr(each, of) for each in samples] for of in ("fds", "namespaces"))
    return (
        f"{name}: {min(sizes):.1f} to {max(sizes):.1f} MiB, growth {growth_percent(samples):+.2f} % in"
        f" {samples[-1].at_s - samples[0].at_s:.0f} s after the warm-up; descriptors {min(fds)} to {max(fds)},"
        f" of namespaces and sockets {min(namespaces)} to {max(namespaces)}"
    )


def left_out(ticks: Sequence[Tick], delay_s: float) -> int:
    """Moments of the beat without a tick. A poll that is late does not shift the ones after it, one left out does."""
    starts = [
        at - tick.poll_s for at, tick in zip(itertools.accumulate(t.interval_s for t in ticks), ticks, strict=True)
    ]
    late = [start - number * delay_s for number, start in enumerate(starts)]
    return round((statistics.median(late[-5:]) - statistics.median(late[:5])) / delay_s) if late else 0


def book_violations(ticks: Sequence[Tick], made: Made) -> list[str]:
    """Compare counts, to the one. Nothing had happened yet at the first of these ticks, nothing goes on at the last."""
    first, last = ticks[0], ticks[-1]
    opened, closed = sum(t.opened for t in ticks[1:]), sum(t.closed for t in ticks[1:])
    left = first.connections + opened - closed
    wrong = {
        f"tick numbers {first.number} to {last.number}, but {len(ticks)} lines": last.number - first.number + 1
        != len(ticks)
        or any(b.number != a.number + 1 for a, b in itertools.pairwise(ticks)),
        f"opened {opened}, but {made.opened} connections were": opened != made.opened,
        f"closed {closed}, but {made.closed} sockets were": closed != made.closed,
        f"opened less closed leaves {left}, but {last.connections} are listed": left != last.connections,
        f"adopted {first.adopted} at first and {last.adopted} in the end": first.adopted != last.adopted,
        f"untracked {last.untracked}": last.untracked > 0,
        f"{sum(t.unseen for t in ticks)} rows whose end is unseen": any(t.unseen for t in ticks),
    }
    notes = Counter(note for tick in ticks for note in tick.notes)
    return [said for said, is_wrong in wrong.items() if is_wrong] + [f"{n} ticks: {note}" for note, n in notes.items()]


def row_violations(rows: list[dict[str, Any]], cookies: set[int], connections: int) -> list[str]:
    """Both ends of each resting connection, by the cookies that ss tells, and their two bytes."""
    told = Counter(row["cookie"] for row in rows)
    wrong = {
        f"{len(rows)} rows of {2 * connections} resting ends": len(rows) != 2 * connections,
        "a cookie twice": len(told) != len(rows),
        f"{len(cookies - told.keys())} that ss lists are missing": bool(cookies - told.keys()),
        f"{len(told.keys() - cookies)} that ss does not list": bool(told.keys() - cookies),
        "other bytes than the two that were sent": any(row["bytes_received"] != 2 for row in rows),
        "other states than ESTAB": any(row["state"] != "ESTAB" for row in rows),
    }
    return [said for said, is_wrong in wrong.items() if is_wrong]
