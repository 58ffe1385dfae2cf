"""What findings remember from one tick to the next: since when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import Table, bad_rows
from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.flows import BadRows, Finding, Flows

KEPT_S = 60.0
"""How long a finding that is no longer told is remembered, seconds: if it comes back it goes on."""


class FindingsMemory:
    """Since when each row is bad, and each finding is told. Owned by whoever makes the ticks; used by one thread."""

    def __init__(self) -> None:
        """Begin with no bad rows."""
        self._lives = np.zeros(0, np.uint64)  # sorted
        self._since = np.zeros(0)  # aligned with them
        self._told: dict[str, Finding] = {}  # by key
        self._told_last: dict[str, float] = {}  # when each was told last, by key

    def look(self, flows: Flows) -> BadRows:
        """Return the bad rows of the next tick, with since when they are bad."""
        bad = bad_rows(flows)
        if not len(bad.row) and not len(self._lives) and not self._told:
            return bad
        lives = Table(flows, bad.row).life
        at, known = find_sorted(self._lives, lives)
        since = bad.since.copy()
        since[known] = self._since[at[known]]
        order = np.argsort(lives, kind="stable")
        self._lives, self._since = lives[order], since[order]
        return replace(bad, since=since, told_since=self._told_since())

    def _told_since(self) -> dict[str, float]:
        return {key: one.since for key, one in self._told.items()}

    def complete(self, flows: Flows) -> Flows:
        """Return the next tick with its bad rows and its findings."""
        bad = self.look(flows)
        found = findings(replace(flows, bad=bad))
        now = flows.snapshot.time
        self._told_last = {key: told for key, told in self._told_last.items() if now - told <= KEPT_S}
        self._told_last |= dict.fromkeys((one.key for one in found), now)
        self._told = {key: one for key, one in self._told.items() if key in self._told_last}
        self._told |= {one.key: one for one in found}
        return replace(flows, findings=found, bad=replace(bad, told_since=self._told_since()))
