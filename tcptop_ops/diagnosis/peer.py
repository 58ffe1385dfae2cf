"""Causes of a connection whose peer takes nothing, or does not answer."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.case import Case, Floats, as_floats, never_stood
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.connecting import TOLD_BY_ICMP
from tcptop_ops.diagnosis.evidence_row import Row, next_in, times, us
from tcptop_ops.diagnosis.path_mtu import size_of, suspects_mtu
from tcptop_ops.diagnosis.reading import UNREAD_S
from tcptop_ops.diagnosis.receiving import not_reading
from tcptop_ops.diagnosis.sending import what_waits
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State, Timer
from tcptop_ops.model.records import TOO_LONG

RTO_MIN_US, RTO_MAX_US = 200_000, 120_000_000
"""Least and greatest interval of window probes: TCP_RTO_MIN, TCP_RTO_MAX (tcp_probe0_when())."""

ANSWERED_US = 1_000_000
"""Time after which the answer to a window probe should have come."""

ALONE_US = 5_000_000
"""The same of a single probe, which may be lost, or its answer."""


def no_window_offered(case: Case) -> Mask:
    """Return where data wait for the peer to offer a window, nothing is in flight, and the persist timer backs off."""
    sockets = case.sockets
    live = (case.ended == 0) & ~case.is_in(State.LISTEN)
    found: Mask = case.unsent & (sockets["snd_wnd"] < sockets["mss"]) & (sockets["backoff"] >= 1) & live
    return found


def _unanswered(case: Case) -> Mask:
    """Return where window probes remain unanswered: any acknowledgement takes ``probes`` back to 0 (tcp_ack()).

    Of two in half a second a peer answers one only (tcp_invalid_ratelimit), so that what came in a second ago counts;
    and of two probes the second may just have left. One may be lost: alone it counts where it left long ago.
    """
    sockets = case.sockets
    interval = np.maximum(as_floats(sockets["rto_us"]), RTO_MIN_US) * 2.0 ** np.minimum(sockets["backoff"], 16)
    left = np.minimum(interval, RTO_MAX_US) - sockets["timer_us"]  # so long ago the last one left
    few = (sockets["probes"] == 2) & (left >= ANSWERED_US) | (sockets["probes"] == 1) & (left >= ALONE_US)
    few &= sockets["timer"] == Timer.PERSIST
    found: Mask = ((sockets["probes"] >= 3) | few) & (sockets["last_ack_received_us"] >= ANSWERED_US)
    return found


def _peer_not_reading(case: Case) -> tuple[Mask, Floats]:
    """Match what waits for a peer whose process takes nothing.

    Where the other end is on this host too, its row tells; else that nothing could be sent for a while. A peer that
    takes something now and then opens its window now and then.
    """
    sent = case.sockets["last_sent_us"]
    found = no_window_offered(case) & (sent >= 1e6 * UNREAD_S) & (sent < TOO_LONG)
    which, others = case.partners
    found[which] = not_reading(others) & (case.ended[which] == 0)
    return found & ~(no_window_offered(case) & _unanswered(case)), np.full(len(case), 50.0)


def _dead_peer(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    silent = (sockets["unacked"] > 0) & (sockets["retransmits"] >= 3) & (sockets["retransmits"] > case.memory["heard"])
    nothing_to_send = (sockets["unacked"] == 0) & (sockets["notsent"] == 0)
    unkept = nothing_to_send & (sockets["timer"] == Timer.KEEPALIVE) & (sockets["probes"] >= 2)
    unprobed = no_window_offered(case) & _unanswered(case)
    gave_up = (case.ended == ends.TIMED_OUT) & ~never_stood(case)
    live = (case.ended == 0) & ~case.is_in(State.SYN_SENT) & ~case.is_in(State.LISTEN)
    return ((silent | unkept | unprobed) & live) | gave_up, np.full(len(case), 95.0)


def _peer_not_reading_evidence(row: Row) -> list[str]:
    other, found = row.partner, []
    if row.socket("notsent") and not row.socket("unacked"):
        found.append(f"{what_waits(row)} for a window of {row.socket('snd_wnd')} bytes")
        found.append(f"{times(row.socket('backoff'), 'window probe')}{next_in(row)}")
    if other is not None and other.unread:
        who = other.doing or "the process at the other end"
        return [f"{who} has not read {text.si(other.unread)}B for {text.duration(other.unread_s)}", *found]
    if row.socket("last_sent_us") < TOO_LONG:
        found.append(f"nothing could be sent for {us(row.socket('last_sent_us'))}")
    return [*found, "the peer offers no window: its application does not read, or it lacks buffer memory"]


def _dead_peer_evidence(row: Row) -> list[str]:
    if row.closed:
        return [f"gave up: {times(row.event('rto_events'), 'timeout')}, {us(row.event('rto_wait_us'))} waited"]
    if not row.socket("unacked") and row.socket("notsent"):
        heard = row.socket("last_ack_received_us")
        since = f", nothing came back for {us(heard)}" * (heard < TOO_LONG)
        probes = f"{times(row.socket('probes'), 'window probe')} unanswered{since}{next_in(row)}"
        return [probes, f"{what_waits(row)} for the peer to open its window"]
    if not row.socket("unacked"):
        return [f"{times(row.socket('probes'), 'keepalive probe')} unanswered{next_in(row)}"]
    found = [
        f"sent {row.socket('retransmits') + 1} times, nothing came back{next_in(row)}",
        f"{times(row.socket('unacked'), 'segment')} in flight",
    ]
    if row.event("soft_error"):
        found.append(TOLD_BY_ICMP.get(row.event("soft_error"), "an ICMP message told of an error").partition(":")[0])
    if suspects_mtu(row):
        found.append(f"none of {size_of(row)} B was ever acknowledged: the MTU may be at fault")
    return found


PEER_NOT_READING = Cause(
    name="peer-not-reading",
    phase="sending",
    blame="peer",
    means="the peer takes nothing: its application does not read, or it lacks buffer memory",
    told_by="where the other end is on this host: bytes wait there, and its process does not read them. Else: data "
    "wait, nothing is in flight, the window is smaller than a segment, nothing could be sent for 5.5 seconds, and the "
    "peer answers the window probes. A peer that reads slowly is none: `limit` says `peer`",
    severity="50",
    threshold="not-reading at the other end; or 5.5 s without anything sent, back-off 1",
    remedy="look at the process on the other side",
    source="tcp_probe_timer(); RFC 9293 3.8.6.1",
    of_many="wait for a peer that does not read",
    related=(
        "snd_wnd",
        "notsent",
        "timer",
    ),
    rule=_peer_not_reading,
    evidence=_peer_not_reading_evidence,
)

DEAD_PEER = Cause(
    name="dead-peer",
    phase="sending",
    blame="network",
    means="the peer is gone, or the path to it is",
    told_by="data in flight was retransmitted three times or more, and nothing came in since the one before; or two "
    "keepalive probes, or window probes, are unanswered",
    severity="95",
    threshold="3 retransmits of the segment at the head without a segment received since; or 2 keepalive probes; or 3 "
    "window probes, or 2 and a second without an answer, or 1 and 5 seconds",
    remedy="is the peer up? is a firewall or NAT entry gone? TCP_USER_TIMEOUT and keepalive end such flows sooner",
    source="tcp_write_timeout(), tcp_send_probe0(): icsk_probes_out; RFC 1122 4.2.3.5",
    of_many="hear nothing from the peer",
    related=(
        "backoff",
        "unacked",
        "RTO_CB",
    ),
    rule=_dead_peer,
    evidence=_dead_peer_evidence,
)
