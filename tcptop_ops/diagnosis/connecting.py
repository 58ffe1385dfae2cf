"""Causes of a connection that is not established yet, or never was."""

from __future__ import annotations

import numpy as np

from tcptop_ops.diagnosis.case import Case, Floats, as_floats, never_stood
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, next_in, times, us
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State


def _refused(case: Case) -> tuple[Mask, Floats]:
    return case.ended == ends.REFUSED, np.full(len(case), 60.0)


def _never_sent(case: Case) -> Mask:
    """Return where SYNs could not be sent: there are fewer retransmits than timeouts, by two or more.

    Each timeout resends the SYN, but tcp_retransmit_timer() does not count a retransmit that fails.
    """
    found: Mask = (case.events["rto_events"] >= 2) & (case.sockets["retrans_segs"] + 1 < case.events["rto_events"])
    return found


def _unreachable(case: Case) -> tuple[Mask, Floats]:
    waiting = case.is_in(State.SYN_SENT) & _never_sent(case)
    return (case.ended == ends.UNREACHABLE) | waiting, np.full(len(case), 90.0)


def _syn_unanswered(case: Case) -> tuple[Mask, Floats]:
    tries = as_floats(np.where(case.ended > 0, case.events["rto_events"], case.sockets["retransmits"]))
    waiting = case.is_in(State.SYN_SENT) & (tries >= 1)
    gave_up = (case.ended == ends.TIMED_OUT) & never_stood(case)
    return waiting | gave_up, np.minimum(50.0 + 10.0 * tries, 100.0)


def _refused_evidence(row: Row) -> list[str]:
    return [f"answered by a reset after {us(row.event('connect_us'))}"]


def _unreachable_evidence(row: Row) -> list[str]:
    return [
        f"{times(row.event('rto_events'), 'timeout')}, {times(row.socket('retrans_segs'), 'SYN')} could be sent again"
    ]


def _syn_unanswered_evidence(row: Row) -> list[str]:
    tries = max(row.event("rto_events"), row.socket("retrans_segs")) if row.closed else row.socket("retransmits")
    waited = f"gave up after {us(row.event('connect_us'))}" if row.closed else ""
    return [f"{times(tries + 1, 'SYN')} unanswered{next_in(row)}", *[waited] * bool(waited)]


REFUSED = Cause(
    name="refused",
    phase="connecting",
    blame="peer",
    means="nobody listens there",
    told_by="a connection attempt that was answered by a reset",
    severity="60",
    threshold="",
    remedy="look for the service on that port, or the firewall that rejects",
    source="tcp_rcv_synsent_state_process(); RFC 9293 3.5.2",
    of_many="are refused",
    related=("end", "connect_ms"),
    rule=_refused,
    evidence=_refused_evidence,
)

UNREACHABLE = Cause(
    name="unreachable",
    phase="connecting",
    blame="network",
    means="there is no way to that address",
    told_by="a connection attempt whose timer fires although nothing could be sent, or that ended so",
    severity="90",
    threshold="2 timeouts, and fewer retransmits than timeouts",
    remedy="look at the route and the neighbour: ip route get, ip neigh",
    source="tcp_retransmit_timer(): a retransmit that fails is not counted",
    of_many="find no route",
    related=(
        "rto",
        "end",
    ),
    rule=_unreachable,
    evidence=_unreachable_evidence,
)

SYN_UNANSWERED = Cause(
    name="syn-unanswered",
    phase="connecting",
    blame="network",
    means="nobody answers: filtered, down, or the peer's accept queue is full",
    told_by="a connection attempt that was sent again",
    severity="50 + 10 a try",
    threshold="1 try again",
    remedy="a client can't tell these apart: look from the other side",
    source="tcp_retransmit_timer(), tcp_syn_linear_timeouts; RFC 6298 (5.7)",
    of_many="get no answer",
    related=(
        "rto",
        "timer",
        "RTO_CB",
    ),
    rule=_syn_unanswered,
    evidence=_syn_unanswered_evidence,
)
