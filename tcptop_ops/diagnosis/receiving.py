"""Causes of a connection that receives."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.both_ends import as_receiver, how_many, to_row
from tcptop_ops.diagnosis.case import Case, Floats, percent
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, within
from tcptop_ops.diagnosis.quantities import inbound_percent
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State

LASTING = 3
"""Seconds in a row with segments out of order from which a receiver that knows its own end only tells of loss.

Packets of a flow overtake each other for a moment where it moves to another queue or CPU, as on a veth device.
"""


def _inbound_loss(case: Case) -> tuple[Mask, Floats]:
    """Match what both ends counted as lost; of a flow of which one end is known, what long came out of order."""
    share = inbound_percent(case.win)
    lasting = (share >= 3.0) & (case.memory["ooo_seconds"] >= LASTING) & (case.memory["paired"] == 0)
    found, severity = lasting, np.minimum(4.0 * share, 60.0)
    comparable, counts = as_receiver(case)
    if comparable.any():
        lost = counts.surely_lost
        lost_share = percent(lost, counts.sent + 50)
        found = np.where(comparable, (lost >= 3) & (lost_share >= 0.5), found)
        severity = np.where(comparable, np.minimum(12.0 * lost_share, 90.0), severity)
    return (case.win["ooo_in"] >= 5) & found, severity


def _not_reading(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    kept = (sockets["recv_q"] > 0) & (sockets["recv_q"] >= case.memory["recv_q"]) & (case.memory["recv_q"] > 0)
    shut = sockets["rcv_wnd"] < np.maximum(sockets["mss"], 1)
    return kept & shut & ~case.is_in(State.LISTEN) & (case.ended == 0), np.full(len(case), 50.0)


def _inbound_loss_evidence(row: Row) -> list[str]:
    counts = to_row(row)
    if counts is not None:
        who = row.partner.process if row.partner and row.partner.process else "the other end"
        sent = f"{text.count(int(counts.sent))} segments that {who} sent"
        return [f"{how_many(counts)} of {sent} did not arrive {within(row)} (counted at both ends)"]
    share = 100.0 * row.grown("ooo_in") / max(row.grown("data_segs_in"), 1)
    came = f"{row.grown('ooo_in')} of {text.count(row.grown('data_segs_in'))} segments came out of order"
    return [f"{came} {within(row)}: lost, or reordered on the path", f"{text.percent(share)} %"]


def _not_reading_evidence(row: Row) -> list[str]:
    return [f"{text.si(row.socket('recv_q'))}B unread, window offered: {row.socket('rcv_wnd')} bytes"]


INBOUND_LOSS = Cause(
    name="inbound-loss",
    phase="receiving",
    blame="network",
    means="the network loses what is received",
    told_by="where the sender is on this host too: segments that it sent, and retransmitted, and that did not arrive, "
    "0.5 % or more. Elsewhere segments out of order, in three seconds in a row, 3 % or more of those with data, not "
    "counting a tenth or two packets of 64 KB: lost, or reordered on the path, which a receiver can't tell",
    severity="counted at both ends 12 x percent, to 90; else 4 x percent, to 60",
    threshold="5 segments out of order; 3 lost of those counted at both ends, 0.5 %; else 3 % beyond two packets of "
    "64 KB, in 3 seconds",
    remedy="look at the path; the sender sees the retransmits",
    source="tcp_data_queue_ofo(), tcp_segs_in(); RFC 5681 4.2",
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
