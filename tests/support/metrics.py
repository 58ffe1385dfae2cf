"""Metrics of made-up ticks."""

from __future__ import annotations

from typing import Any

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.outputs.metric_family import Family
from tcptop_ops.outputs.metric_groups import OTHER, TOP
from tcptop_ops.outputs.openmetrics import Metrics, Own
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import snapshot

OWN = Own(1.5, 30_000_000)


class Watched:
    """Ticks of made-up flows, a second apart; the families of the last one by name and labels."""

    def __init__(self, top: int = TOP) -> None:
        """Begin with a tick without flows. ``top``: how many of a dimension have series of their own."""
        self.tracker, self.metrics = Tracker(), Metrics(top)
        self.memory = FindingsMemory()
        self.seconds = -1
        self.families: tuple[Family, ...] = ()
        self.tick([])

    def tick(self, flows: list[dict[str, Any]], **rest: Any) -> Watched:
        """Add a tick of these flows."""
        self.seconds += 1
        return self.take(snapshot(self.seconds, flows, **rest))

    def take(self, at: Any) -> Watched:
        """Add a tick of this snapshot."""
        self.families = self.metrics.add(self.memory.complete(self.tracker.update(at)), OWN)
        return self

    def family(self, name: str) -> dict[tuple[str, ...], Any]:
        """Return the values of a family, by labels. ``name``: without the prefix."""
        [found] = [family for family in self.families if family.name == f"tcptop_{name}"]
        return dict(found.series)

    def value(self, name: str, *labels: str) -> Any:
        """Return one value of a family."""
        return self.family(name)[labels]

    def labels(self, dimension: str) -> set[str]:
        """Return who of a dimension has series of its own."""
        return {labels[0] for labels in self.family(f"{dimension}_connections")} - {OTHER}
