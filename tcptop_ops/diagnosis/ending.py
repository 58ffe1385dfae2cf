"""Causes of a connection that ends, or should."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.case import Case, Floats
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State

PATIENCE_S = 60.0
"""Time in CLOSE-WAIT after which the process is taken to have forgotten to close its socket."""


def _not_closed(case: Case) -> tuple[Mask, Floats]:
    return case.is_in(State.CLOSE_WAIT) & (case.in_state_s >= PATIENCE_S), np.full(len(case), 20.0)


def _not_closed_evidence(row: Row) -> list[str]:
    return [f"in CLOSE-WAIT for {text.duration(float(row.rates['state_s']))}"]


NOT_CLOSED = Cause(
    name="not-closed",
    phase="ending",
    blame="app",
    means="the peer has closed, and the own process has not for a minute: a leak of descriptors",
    told_by="CLOSE-WAIT for 60 seconds",
    severity="20",
    threshold="60 s",
    remedy="the process forgets to close: restart it, and look into its error handling",
    source="tcp_fin(); RFC 9293 3.6",
    of_many="are not closed by their process",
    related=(
        "state",
        "idle_s",
    ),
    rule=_not_closed,
    evidence=_not_closed_evidence,
)
