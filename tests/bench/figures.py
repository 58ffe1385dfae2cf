"""What was measured, as plain values: medians, spread, ratios; what can't be true; tables of it. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_RATIO, MOST_RATIO = 0.0, 3.0
"""A ratio of two rates that were taken side by side is between these, or something else was measured."""

AT_LEAST = ("ratio", "times")
"""Units of which more is better: a budget in them is a lower bound, in all others an upper one."""


class Nonsense(Exception):
    """A benchmark ran, but did not measure what it says."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``values``: one for each pair or tick, in ``unit``; ``budget`` in the same."""

    what: str
    unit: str  # ratio, times, ms, us, ns, %, points (a difference of %), B, MB, /s
    values: tuple[float, ...]
    budget: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles: half of all values lie between them."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def met(self) -> bool | None:
        """Whether the median is within the budget; None without one."""
        if self.budget is None:
            return None
        return self.median >= self.budget if self.unit in AT_LEAST else self.median <= self.budget


@dataclass(frozen=True)
class Note:
    """A line of the table without a figure: what could not be measured, and why."""

    text: str


Line = Figure | Note


def figure(what: str, unit: str, values: Sequence[float], budget: float | None = None) -> Figure:
    """A figure that can be true. Raises Nonsense."""
    made = Figure(what, unit, tuple(float(value) for value in values), budget)
    if reason := nonsense(made):
        raise Nonsense(f"{what}: {reason}")
    return made


def nonsense(one: Figure) -> str | None:
    """Why this can't be what was to be measured, or None."""
    if not one.values:
        return "nothing was measured"
    if not all(math.isfinite(value) for value in one.values):
        return f"{one.values} is not a measurement"
    if min(one.values) < 0 and one.unit != "points":
        return f"{min(one.values)} {one.unit} is below zero"
    if one.unit == "ratio" and not LEAST_RATIO < one.median <= MOST_RATIO:
        return f"a ratio of {one.median:.3f}"
    if one.unit == "times" and not one.median > 0:
        return "a factor of 0"
    return None


def ratios(with_it: Sequence[float], without: Sequence[float]) -> list[float]:
    """Of each pair. Raises Nonsense where they are no pairs, or a run did nothing."""
    if len(with_it) != len(without):
        raise Nonsense(f"{len(with_it)} runs with it, {len(without)} without")
    if not with_it or min(*with_it, *without) <= 0:
        raise Nonsense(f"a run in which nothing happened: {list(with_it)} with it, {list(without)} without")
    return [a / b for a, b in zip(with_it, without, strict=True)]


def number(value: float) -> str:
    """Four digits that tell something."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _budget(one: Figure) -> str:
    if one.budget is None:
        return ""
    sign = ">=" if one.unit in AT_LEAST else "<="
    return f"{sign} {one.budget:g} {'met' if one.met else 'MISSED'}"


def row(line: Line) -> str:
    """A line of the table for a terminal."""
    if isinstance(line, Note):
        return f"  {line.text}"
    low, high = line.spread
    spread = f"{number(low)} to {number(high)}"
    return (
        f"  {line.what:<72} {number(line.median):>9} {line.unit:<5} {spread:<20} {len(line.values):>3}  {_budget(line)}"
    ).rstrip()


def heading() -> str:
    """What the columns of ``row`` are."""
    return f"  {'':<72} {'median':>9} {'':<5} {'half of them':<20} {'n':>3}  budget"


def markdown(results: dict[str, list[Line]]) -> Iterator[str]:
    """The lines of a table in a page, and below it what was not measured."""
    yield "| what | median | half of them | n | budget |"
    yield "| --- | --- | --- | --- | --- |"
    notes: list[str] = []
    for name, lines in results.items():
        for line in lines:
            if isinstance(line, Note):
                notes.append(f"- `{name}`: {line.text}")
                continue
            low, high = line.spread
            yield (
                f"| {name}: {line.what} | {number(line.median)} {line.unit} | {number(low)} to {number(high)} "
                f"| {len(line.values)} | {_budget(line)} |"
            )
    if notes:
        yield ""
        yield from notes


def as_data(line: Line) -> dict[str, Any]:
    """For JSON."""
    if isinstance(line, Note):
        return {"note": line.text}
    low, high = line.spread
    return {
        "what": line.what,
        "unit": line.unit,
        "median": line.median,
        "low": low,
        "high": high,
        "values": list(line.values),
        "budget": line.budget,
        "met": line.met,
    }
