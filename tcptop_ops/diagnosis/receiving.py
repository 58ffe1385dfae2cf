"""Causes of a connection that receives."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.case import Case, Floats
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, within
from tcptop_ops.diagnosis.quantities import inbound_percent
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State

SECOND_S = 0.9
"""Shortest window, seconds, in which the inbound loss of a live flow is judged: about one tick of a second.

In a shorter one, a single packet that was overtaken can be most of what came.
"""


def _inbound_loss(case: Case) -> tuple[Mask, Floats]:
    share = inbound_percent(case.win)
    seen_enough = (case.win_s >= SECOND_S) | (case.ended > 0)
    return (case.win["ooo_in"] >= 5) & (share >= 3.0) & seen_enough, np.minimum(4.0 * share, 90.0)


def _not_reading(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    kept = (sockets["recv_q"] > 0) & (sockets["recv_q"] >= case.memory["recv_q"]) & (case.memory["recv_q"] > 0)
    shut = sockets["rcv_wnd"] < np.maximum(sockets["mss"], 1)
    return kept & shut & ~case.is_in(State.LISTEN) & (case.ended == 0), np.full(len(case), 50.0)


def _inbound_loss_evidence(row: Row) -> list[str]:
    share = 100.0 * row.grown("ooo_in") / max(row.grown("data_segs_in"), 1)
    came = f"{row.grown('ooo_in')} of {text.count(row.grown('data_segs_in'))} segments came out of order"
    return [f"{came} {within(row)}", f"{text.percent(share)} %"]


def _not_reading_evidence(row: Row) -> list[str]:
    return [f"{text.si(row.socket('recv_q'))}B unread, window offered: {row.socket('rcv_wnd')} bytes"]


INBOUND_LOSS = Cause(
    name="inbound-loss",
    phase="receiving",
    blame="network",
    means="the network loses what is received",
    told_by="segments out of order, 3 % or more of those with data, not counting a tenth or two "
    "packets of 64 KB; seen for a second, or to its end",
    severity="4 x percent, to 90",
    threshold="5 segments out of order, 3 % beyond two packets of 64 KB",
    remedy="look at the path; the sender sees the retransmits",
    source="tcp_data_queue_ofo(); RFC 5681 4.2",
    of_many="lose what they receive",
    related=("ooo_in",),
    rule=_inbound_loss,
    evidence=_inbound_loss_evidence,
)

NOT_READING = Cause(
    name="not-reading",
    phase="receiving",
    blame="app",
    means="the own process does not read what has come",
    told_by="bytes wait and do not get fewer, and the window that we offer is smaller than a segment",
    severity="50",
    threshold="at two ticks in a row",
    remedy="what does the process wait for? cat /proc/PID/wchan",
    source="tcp_select_window(); RFC 9293 3.8.6.2.2",
    of_many="are not read by their process",
    related=(
        "recv_q",
        "rcv_wnd",
        "drops",
    ),
    rule=_not_reading,
    evidence=_not_reading_evidence,
)
