"""Which causes are searched together, and what makes a group of such rows worth telling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.findings.bad_rows import Table
from tcptop_ops.diagnosis.rules import CAUSES

LISTENER_SCORE = 30.0
"""Score from which a single listener is told."""

ALIKE = 3
"""Fewest rows with the same fault that are told, where that fault needs no comparison with healthy rows."""

BAD_FLOWS = 5
"""Fewest bad flows that are told as a fault of the path."""

INSIDE = 0.6
"""Least share of bad flows in a group that is told as a fault of the path."""

OFTEN = 0.2
"""Least share of connections that were reset: some peers reset a few of very many."""


@dataclass(frozen=True)
class Family:
    """Causes that one incident may have side by side: their rows are searched together.

    A group of fewer than ``least`` rows, or with less than the share ``share`` of bad ones among its rows, is not told.
    ``contrast``: nor is one that does no worse than others, if there are others.
    """

    name: str
    least: int = ALIKE
    share: float = 0.0
    contrast: bool = False
    of_process: bool = False  # the process alone can be at fault, whatever the peers
    repeated: bool = False  # a group of many places counts only if one place failed twice: a port scan tries each once


LISTENING = Family("listening", least=1)
PATH = Family("path", BAD_FLOWS, INSIDE, contrast=True)

_ATTEMPTS = {
    "syn-unanswered": Family("no answer"),
    "unreachable": Family("no answer"),  # for its first seconds such an attempt is merely unanswered
    "refused": Family("refused", repeated=True),
}
_FLOWS = {
    "not-closed": Family("not closed", of_process=True),
    "reset": Family("reset", share=OFTEN),
}
_NEVER_STOOD = ("refused", "rejected", "syn-unanswered", "unreachable")
"""Causes of connection attempts alone, whatever state their record tells."""


def _listed() -> tuple[tuple[Family, ...], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return all families; and for attempts, and for other connections, the family of each cause as an index."""
    attempts, flows = [], []
    for cause in CAUSES:
        attempts.append(_ATTEMPTS.get(cause.name, Family(f"attempts: {cause.name}")))
        usual = PATH if cause.blame == "network" else Family(cause.name)
        flows.append(attempts[-1] if cause.name in _NEVER_STOOD else _FLOWS.get(cause.name, usual))
    families = tuple(dict.fromkeys([LISTENING, *attempts, *flows]))
    numbers = [np.array([families.index(one) for one in part], np.uint8) for part in (attempts, flows)]
    return families, numbers[0], numbers[1]


FAMILIES, _OF_ATTEMPTS, _OF_FLOWS = _listed()
"""All families. Cause by cause, the indices of those that attempts, and that other connections, belong to."""


def families_of(table: Table) -> NDArray[np.uint8]:
    """Return the family of each row, as an index into FAMILIES."""
    found = np.where(table.waits, _OF_ATTEMPTS[table.cause], _OF_FLOWS[table.cause])
    return np.where(table.listens, np.uint8(FAMILIES.index(LISTENING)), found)


def is_attempts(family: Family) -> bool:
    """Return whether the rows of this family are connection attempts."""
    return family in _ATTEMPT_FAMILIES


_ATTEMPT_FAMILIES = frozenset(FAMILIES[number] for number in _OF_ATTEMPTS.tolist())
