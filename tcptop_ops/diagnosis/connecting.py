"""Causes of a connection that is not established yet, never was, or was with delay."""

from __future__ import annotations

import errno

import numpy as np

from tcptop_ops.diagnosis.case import Case, Floats, as_floats, never_stood
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, next_in, times, us
from tcptop_ops.diagnosis.fading import FADED, HALVED_IN_S
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import Direction, ResetSeen, State

TOLD_BY_ICMP = {
    errno.ECONNREFUSED: "connection refused by ICMP: a firewall rejects, or no listener",
    errno.EHOSTUNREACH: "no route to host, told by ICMP: prohibited by a firewall, or no route",
    errno.ENETUNREACH: "network is unreachable, told by ICMP: prohibited by a firewall, or no route",
    errno.EACCES: "permission denied, told by ICMP: prohibited by a firewall",
    errno.ENOPROTOOPT: "protocol not available, told by ICMP: a firewall rejects, or the host has no TCP",
}
"""What an application gets for an ICMP message: icmp_err_convert[] of net/ipv4/icmp.c, icmpv6_err_convert()."""

UNANSWERED_SCORE = 50.0
"""Severity of a SYN that nobody answered; each that was sent again adds ten."""

LOST_AT_ONCE, LOST_EACH, LOST_MOST = 15.0, 5.0, 25.0
"""Severity of SYNs that were lost: that of none, what each adds, and the most. It halves in HALVED_IN_S."""


def _answered(case: Case) -> Mask:
    """Return where the peer sent a segment: a reset, of an attempt that failed."""
    found: Mask = (case.sockets["segs_in"] > 0) | (case.events["resets"] & ResetSeen.RECEIVED != 0)
    return found


def _refused(case: Case) -> tuple[Mask, Floats]:
    return (case.ended == ends.REFUSED) & _answered(case), np.full(len(case), 60.0)


def _no_neighbour(case: Case) -> Mask:
    """Return where timeouts were followed by no SYN: the first one still waits for the neighbour's address.

    tcp_retransmit_skb() returns EBUSY before it counts and before RETRANS_CB, which tells of those that were refused.
    """
    found: Mask = (case.events["rto_events"] >= 1) & (case.sockets["retrans_segs"] == 0)
    found &= case.events["retrans_failed"] == 0
    return found


def _rejected(case: Case) -> tuple[Mask, Floats]:
    waiting = case.is_in(State.SYN_SENT) & np.isin(case.events["error"], list(TOLD_BY_ICMP))
    ended = (case.ended == ends.REFUSED) | (case.ended == ends.UNREACHABLE) & never_stood(case) & ~_no_neighbour(case)
    return (waiting | ended) & ~_answered(case), np.full(len(case), 60.0)


def _never_sent(case: Case) -> Mask:
    """Return where SYNs could not be sent: there are fewer retransmits than timeouts, by two or more.

    Each timeout resends the SYN, but tcp_retransmit_timer() does not count a retransmit that waits for its neighbour.
    """
    timeouts = np.maximum(case.events["rto_events"], case.sockets["retransmits"])
    found: Mask = (timeouts >= 2) & (case.sockets["retrans_segs"] + 1 < timeouts)
    return found


def _unreachable(case: Case) -> tuple[Mask, Floats]:
    waiting = case.is_in(State.SYN_SENT) & _never_sent(case) & (case.events["retrans_failed"] == 0)
    return (case.ended == ends.UNREACHABLE) | waiting, np.full(len(case), 90.0)


def kept_back(case: Case) -> Mask:
    """Return the attempts whose SYNs this host itself drops: while they hang, and after they were given up.

    RETRANS_CB reports the error. Where nothing calls, the namespace's TCPRetransFail has grown by as many as its
    attempts sent again at least, all of them together: of several that are dropped in part nobody can tell which.
    """
    events, net = case.events, case.net
    gave_up = ((case.ended == ends.TIMED_OUT) | (case.ended == ends.ABANDONED)) & never_stood(case)
    told = (events["retrans_failed"] > 0) & (events["retrans_failed"] >= events["syn_retrans"])
    again = np.where(case.is_in(State.SYN_SENT) | gave_up, case.win["retrans_segs"], 0)
    _, group = np.unique(case.sockets["netns"], return_inverse=True)
    together = np.maximum(np.bincount(group, again)[group], 1) if len(case) else again
    counted = (events["first_ns"] == 0) & (case.sockets["retrans_segs"] > 0) & (net["retrans_fail"] >= together)
    found: Mask = (case.is_in(State.SYN_SENT) | gave_up) & (told | counted)
    return found


def _tries(case: Case) -> Floats:
    return as_floats(np.maximum(case.sockets["retransmits"], case.sockets["retrans_segs"]))


def severity_unanswered(case: Case) -> Floats:
    """Return how severe it is that an attempt was not answered, the more so the oftener it was retransmitted."""
    return np.minimum(UNANSWERED_SCORE + 10.0 * _tries(case), 100.0)


def _syn_unanswered(case: Case) -> tuple[Mask, Floats]:
    tries = _tries(case)
    waiting = case.is_in(State.SYN_SENT) & (case.sockets["retransmits"] >= 1)
    gave_up = (case.ended == ends.TIMED_OUT) & never_stood(case)
    gave_up |= (case.ended == ends.ABANDONED) & (tries >= 1)
    return (waiting | gave_up) & ~kept_back(case), severity_unanswered(case)


def _syn_lost(case: Case) -> tuple[Mask, Floats]:
    events, polled = case.events, case.events["first_ns"] == 0
    lost = np.where(polled, case.memory["syn_retrans"], events["syn_retrans"])
    stood_s = (events["first_ns"] + events["connect_us"] * np.uint64(1000)) / 1e9
    age_s = np.where(polled, case.in_state_s, case.now_s - stood_s)
    dialled = (events["direction"] == Direction.OUT) & (events["connect_us"] > 0)
    stood = np.where(polled, case.is_in(State.ESTABLISHED), dialled & ~never_stood(case))
    severity = np.minimum(LOST_AT_ONCE + LOST_EACH * lost, LOST_MOST) * 0.5 ** (np.maximum(age_s, 0.0) / HALVED_IN_S)
    return stood & (lost > 0) & (severity >= FADED), severity


def _refused_evidence(row: Row) -> list[str]:
    return [f"answered by a reset after {us(row.event('connect_us'))}"]


def _rejected_evidence(row: Row) -> list[str]:
    told = TOLD_BY_ICMP.get(row.event("error"), "rejected by ICMP: a firewall, or no route")
    return [f"{told}; after {us(row.event('connect_us'))}" if row.event("connect_us") else told]


def _unreachable_evidence(row: Row) -> list[str]:
    return [
        f"{times(row.event('rto_events'), 'timeout')}, {times(row.socket('retrans_segs'), 'SYN')} could be sent again"
    ]


def _syn_unanswered_evidence(row: Row) -> list[str]:
    sent = 1 + max(row.socket("retrans_segs") - row.event("retrans_failed"), 0)
    waited = f"gave up after {us(row.event('connect_us'))}" if row.closed and row.event("connect_us") else ""
    return [f"{times(sent, 'SYN')} unanswered{next_in(row)}", *[waited] * bool(waited)]


def _syn_lost_evidence(row: Row) -> list[str]:
    lost, took = row.event("syn_retrans"), row.event("connect_us")
    told = "a SYN was lost" if lost < 2 else f"{lost} SYNs were lost"
    if not took:  # only polled
        return ["at least one SYN was lost while it connected"]
    return [f"connecting took {us(took)}: {told}"]


REFUSED = Cause(
    name="refused",
    phase="connecting",
    blame="peer",
    means="nobody listens there",
    told_by="a connection attempt that was answered by a reset: a segment came",
    severity="60",
    threshold="",
    remedy="look for the service on that port, or the firewall that rejects",
    source="tcp_rcv_synsent_state_process(); RFC 9293 3.5.2",
    of_many="are refused",
    related=("end", "connect_ms"),
    rule=_refused,
    evidence=_refused_evidence,
)

REJECTED = Cause(
    name="rejected",
    phase="connecting",
    blame="network",
    means="an ICMP message rejected the attempt: a firewall, prohibited, no route, or no listener",
    told_by="a connection attempt that ended, or whose application was told of an error, although no segment came: "
    "ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EACCES or ENOPROTOOPT",
    severity="60",
    remedy="look for the rule that rejects, here and on the way: nft list ruleset, tcpdump icmp or icmp6",
    source="tcp_v4_err(), tcp_v6_err(), icmp_err_convert[]; RFC 1122 4.2.3.9, RFC 792, RFC 4443",
    of_many="are rejected by ICMP",
    related=("end", "connect_ms"),
    rule=_rejected,
    evidence=_rejected_evidence,
)

UNREACHABLE = Cause(
    name="unreachable",
    phase="connecting",
    blame="network",
    means="there is no way to that address: no neighbour answers for it",
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
    means="nobody answers: filtered, down, or the accept queue of a peer elsewhere is full",
    told_by="a connection attempt that was sent again, also once its application has given it up; or the last of "
    "several that were given up without one success to that destination, and not because another address won",
    severity="50 + 10 a try",
    threshold="1 try again; or 3 attempts given up in a row",
    remedy="a client can't tell these apart: look from the other side (of a listener on this host the cause is told)",
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

SYN_LOST = Cause(
    name="syn-lost",
    phase="connecting",
    blame="network",
    means="a SYN, or the answer to it, was lost: connecting took a second or more",
    told_by="a connection that was established after its SYN was sent again",
    severity="15 + 5 a SYN, to 25; it halves every 10 s from then on",
    threshold="1 SYN sent again",
    remedy="look at the path, and at the peer's listener: a full queue drops SYNs",
    source="tcp_retransmit_timer(); RFC 6298 (2.1): the first timeout is one second",
    of_many="lost a SYN",
    related=("connect_ms", "retr"),
    rule=_syn_lost,
    evidence=_syn_lost_evidence,
)
