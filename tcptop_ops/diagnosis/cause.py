"""What a cause is: one entry that says what it looks for, who is to blame, how bad it is and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tcptop_ops.diagnosis.case import Case, Floats
from tcptop_ops.diagnosis.evidence_row import Row
from tcptop_ops.model.arrays import Mask

Phase = Literal["connecting", "listening", "sending", "receiving", "ending"]
"""In which part of a connection's life a cause is looked for."""

Blame = Literal["network", "peer", "app", "host"]
"""Who is to blame: the path, the process at the other end, the own process, or this host's own configuration."""

Match = Callable[[Case], tuple[Mask, Floats]]
"""For each row of a Case: whether the cause matches, and how severe it is if so, before it is cut to 0..100."""

Evidence = Callable[[Row], list[str]]
"""Short phrases about one row that has the cause, the most telling first."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A cause as the user reads it, and the rule that finds it. The pages about causes are made from its fields."""

    name: str
    means: str  # what is wrong
    told_by: str  # the rule in words
    remedy: str = ""  # what to do about it
    source: str = ""  # kernel functions and RFCs that the rule rests on
    phase: Phase | None = None  # None, like the five that follow, for a verdict that is no fault
    blame: Blame | None = None
    rule: Match | None = None
    evidence: Evidence | None = None
    severity: str = ""  # how the score is worked out, in words
    threshold: str = ""  # from what on the rule matches, in figures
    of_many: str = ""  # what several connections with this cause do, as the predicate of a sentence
    related: tuple[str, ...] = ()  # columns and operators that belong to it

    @property
    def network(self) -> bool:
        """Whether it is a fault of the path to the peer, which other flows may share."""
        return self.blame == "network"
