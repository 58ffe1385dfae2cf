"""What findings remember from one tick to the next: since when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import Table, bad_rows
from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.flows import BadRows, Flows

KEPT_S = 60.0
"""How long a finding that is no longer told is remembered, seconds: if it comes back it goes on."""


class FindingsMemory:
    """Since when each row is bad, and each finding is told. Owned by whoever makes the ticks; used by one thread."""

    def __init__(self) -> None:
        """Begin with no bad rows."""
        self._lives = np.zeros(0, np.uint64)  # sorted
        self._since = np.zeros(0)  # aligned with them
        self._told: dict[str, tuple[float, float]] = {}  # by key: since when, and when it was told last

    def look(self, flows: Flows) -> BadRows:
        """Return the bad rows of the next tick, with since when they are bad."""
        bad = bad_rows(flows)
        if not len(bad.row) and not len(self._lives):
            return bad
        lives = Table(flows, bad.row).life
        at, known = find_sorted(self._lives, lives)
        since = bad.since.copy()
        since[known] = self._since[at[known]]
        order = np.argsort(lives, kind="stable")
        self._lives, self._since = lives[order], since[order]
        return replace(bad, since=since, told_since={key: since for key, (since, _) in self._told.items()})

    def complete(self, flows: Flows) -> Flows:
        """Return the next tick with its bad rows and its findings."""
        bad = self.look(flows)
        found = findings(replace(flows, bad=bad))
        now = flows.snapshot.time
        self._told = {key: one for key, one in self._told.items() if now - one[1] <= KEPT_S}
        self._told |= {one.key: (one.since, now) for one in found}
        told_since = {key: since for key, (since, _) in self._told.items()}
        return replace(flows, findings=found, bad=replace(bad, told_since=told_since))
