"""What metrics are made of: families of series, as OpenMetrics defines them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets of round-trip times; what is longer is in the last, which has none."""


@dataclass(frozen=True)
class Histogram:
    """Observations: how many were at most each of EDGES_S, and how many in all; and their sum."""

    at_most: tuple[float, ...]
    sum: float


@dataclass(frozen=True)
class Family:
    """Metrics of one name. ``series``: the values of the labels, and the value. A counter's name has no _total."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...]
    series: tuple[tuple[tuple[str, ...], float | Histogram], ...]


def count_series(families: Iterable[Family]) -> int:
    """Count series as Prometheus does: a histogram is one for each bucket, one for the sum, one for the count."""
    return sum(
        len(value.at_most) + 2 if isinstance(value, Histogram) else 1
        for family in families
        for _, value in family.series
    )
