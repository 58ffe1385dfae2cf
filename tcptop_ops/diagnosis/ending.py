"""Causes of a connection that ends, or should."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.diagnosis import reading
from tcptop_ops.diagnosis.case import Case, Floats, never_stood
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, times, us
from tcptop_ops.diagnosis.reading import cannot_run
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import Direction, ResetBy, ResetSeen, State
from tcptop_ops.model.records import TOO_LONG, Records

PATIENCE_S = 60.0
"""Time in CLOSE-WAIT, nothing read or sent, after which the process is taken to have forgotten to close its socket."""

WITH_DATA, AT_REST, UNANSWERED = 50.0, 40.0, 30.0
"""Severity of a reset: with data that was not acknowledged; without; that leaves a request, or bytes, unattended."""


def _not_closed(case: Case) -> tuple[Mask, Floats]:
    """Match sockets that the process neither closes nor uses.

    Data on its way, or that waits, shows that it was used. So may what is unread, for as long as is not known whether
    some was read; but no farewell is read bit by bit (that of TLS is often left unread in a forgotten socket).
    """
    sockets = case.sockets
    much = sockets["recv_q"] > ends.FAREWELL + 1  # the FIN counts as one
    idle_s = np.minimum(case.in_state_s, _since_s(sockets["last_sent_us"]))
    unread_s = reading.unread_s(sockets, case.memory, case.now_s)
    idle_s = np.where(much, np.minimum(idle_s, unread_s), idle_s)
    return case.is_in(State.CLOSE_WAIT) & (sockets["send_q"] == 0) & (idle_s >= PATIENCE_S), np.where(much, 50.0, 20.0)


def _since_s(ago_us: NDArray[np.uint64]) -> Floats:
    """Return a time of SOCKET in seconds; one that is not known, or too long for its recording, is infinite."""
    return np.where(ago_us >= TOO_LONG, np.inf, ago_us / 1e6)


def _not_closed_evidence(row: Row) -> list[str]:
    since_s, unread, other = float(row.rates["state_s"]), row.socket("recv_q") - 1, row.partner
    found = [f"in CLOSE-WAIT for {text.duration(since_s)}, nothing sent"]
    if unread > 0:
        found.append(f"{text.si(unread)}B unread")
    if cannot_run(row.activity):
        found.append(f"the process is {row.activity}")
    if other is not None and other.socket("inode"):
        found.append(f"{other.process or 'the other end'} waits for its data or close")
    return found


def reset_severity(sockets: Records, events: Records, between: Mask | bool = False) -> Floats:
    """Return how severe a reset of each of these closed connections is, as far as its own row tells; 0: no fault.

    Nothing is lost by the close of a process that has read all, and whose data was acknowledged, though SO_LINGER makes
    it a reset; nor where the process has closed already, or has never accepted. A client may leave when it wants: an
    accepted connection is at rest, and lost nothing, when the last word was its own, or when it never said one. But
    data on its way, a request without its answer, and the connection that the own process has dialled are lost. A peer
    that has closed its side in order, without a word, resets whatever is sent to it then: it told that it had closed.
    A farewell that comes too late for a process that closes is no loss either, neither the peer's nor the own one;
    but what comes from ``between`` the ends, as is known of a host that has both, cuts even that off.
    """
    with_data = ends.outstanding(sockets, events) > 0
    is_held = sockets["inode"] != 0
    ours = (events["resets"] & ResetSeen.RECEIVED == 0) & (events["error"] == 0)
    came_in = events["direction"] == Direction.IN
    got_fin = events["states"] & (1 << State.CLOSE_WAIT) != 0
    waits = came_in & ~is_held & ~ends.fin_sent(events)
    spoke, heard = (sockets["bytes_sent"] > 0), sockets["last_received_us"] < sockets["last_sent_us"]
    unanswered = got_fin & (heard | ~spoke) | spoke & heard
    silent = got_fin & (sockets["bytes_received"] == 1) & with_data  # its FIN alone
    return np.select(
        [
            waits | silent | only_farewells(sockets, events, ours) & ~np.asarray(between),
            with_data,
            ~is_held,
            ours & (ends.unread(sockets, events) > 0),
            ours,
            ~came_in,
            unanswered,
        ],
        [0.0, WITH_DATA, 0.0, UNANSWERED, 0.0, AT_REST, UNANSWERED],
        default=0.0,
    )


def only_farewells(sockets: Records, events: Records, ours: Mask) -> Mask:
    """Return where no more than farewells were lost: the own one, the peer's, or both. ``ours``: the own process reset.

    The peer's is not missed by a process that has dialled, or after the peer's FIN; nor is the own one missed by a
    peer that has closed. But a process that has dialled waits for the answer to what it says, unless it closes at once,
    or the peer's own farewell lies unread. One that has accepted, and closes after its last word, waits for nothing;
    that the peer leaves with this unread makes its close a reset.
    """
    came_in, got_fin = events["direction"] == Direction.IN, events["states"] & (1 << State.CLOSE_WAIT) != 0
    unread, unheard = ends.unread(sockets, events), ends.outstanding(sockets, events)
    closes = ends.fin_sent(events)
    mutual = got_fin & (unread > 0) & (unheard > 0)
    was_last = came_in & (sockets["inode"] == 0) & (sockets["bytes_received"] > 0)
    may_ignore = (ours & (got_fin | ~came_in) | mutual) & (sockets["bytes_received"] > unread + got_fin)
    may_say = (got_fin & (came_in | closes | ours) | mutual | was_last) & (sockets["bytes_sent"] > unheard)
    may_ignore &= unread <= ends.FAREWELL
    may_say &= unheard <= ends.FAREWELL
    found: Mask = ((unread == 0) | may_ignore) & ((unheard == 0) | may_say) & ((unread > 0) | (unheard > 0))
    return found


def _reset(case: Case) -> tuple[Mask, Floats]:
    found: Mask = (case.ended == ends.RESET) & ~never_stood(case)
    severity = reset_severity(case.sockets, case.events)
    return found & (severity > 0), severity


_WHO = {
    ResetBy.US: "reset by its own process",
    ResetBy.HOST: "reset by this host (SOCK_DESTROY)",
    ResetBy.PEER: "reset by the peer",
    ResetBy.DONE_PEER: "reset by the peer",
    ResetBy.BETWEEN: "reset by something between: the other end, on this host too, did not send it",
}


def _reset_evidence(row: Row) -> list[str]:
    who = _WHO.get(ResetBy(int(row.rates["reset_by"])), "reset by the peer, or something between")
    return [who, *_meanwhile(row)]


def _meanwhile(row: Row) -> list[str]:
    """Say while what it was reset: what was on its way or unread, which side had closed, how long it rested."""
    met, unsent = row.event("states"), row.socket("notsent")
    unread = int(ends.unread(row.sockets, row.events))
    waiting = int(ends.outstanding(row.sockets, row.events))
    found = []
    if waiting > unsent:
        found.append(f"while {text.si(waiting - unsent)}B were unacknowledged")
    if waiting and unsent:
        found.append(f"{text.si(min(unsent, waiting))}B not sent yet")
    if unread:
        found.append(f"{text.si(unread)}B unread")
    if met & 1 << State.CLOSE_WAIT:
        found.append("after the peer had closed its side")
    elif met & 1 << State.FIN_WAIT1:
        found.append("half-closed, while it waited for the peer's data or close")
    return found or [_rest(row)]


def _rest(row: Row) -> str:
    sent, received = row.socket("last_sent_us"), row.socket("last_received_us")
    if max(sent, received) >= TOO_LONG:
        return "while nothing was on its way"
    if not row.socket("bytes_sent") and not row.socket("bytes_received"):
        return "before any data came"
    if received < 1_000_000 and received < sent:
        return "while it received"
    rested = min(sent, received)
    return f"at rest for {us(rested)}" if rested >= 1000 else "just after data had moved"


def shut_window(sockets: Records, events: Records) -> Mask:
    """Return where data waited for the peer to open its window, of a connection that was given up."""
    found: Mask = (sockets["snd_wnd"] == 0) & (ends.outstanding(sockets, events) > 0)
    return found


_NO_WAY = {
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
    errno.EHOSTDOWN: "host is down",
    errno.ENONET: "no such network",
}


def last_words(row: Row) -> list[str]:
    """Say why a connection that stood was given up; empty where it was not."""
    if row.end not in ("timed-out", "unreachable") or not row.event("states") & 1 << State.ESTABLISHED:
        return []
    waiting = int(ends.outstanding(row.sockets, row.events))
    found = [f"ended by ICMP or a missing route: {_NO_WAY.get(row.error, 'unreachable')}"] * (row.end == "unreachable")
    if waiting and not row.socket("snd_wnd"):
        found += ["given up while the peer's window was shut", *_unanswered(row, "window probe")]
    elif waiting or not row.socket("probes"):
        tries = row.socket("retransmits")
        found.append(f"given up: sent {tries + 1} times, nothing came back" if tries else "given up: nothing came back")
    else:
        found += ["given up", *_unanswered(row, "keepalive probe")]
    return found + [f"{text.si(waiting)}B not acknowledged"] * (waiting > 0)


def _unanswered(row: Row, what: str) -> list[str]:
    return [f"{times(row.socket('probes'), what)} unanswered"] * (row.socket("probes") > 0)


RESET = Cause(
    name="reset",
    phase="ending",
    blame="peer",
    means="an established connection was ended by a reset, not in order",
    told_by="an established connection that ended by a reset, received or sent by the own process's close, while data "
    "was not acknowledged or unread, a request had no answer, or which the own process had dialled. Not by the own "
    "close with SO_LINGER of 0 s after all was read and acknowledged; nor by a client that leaves after its last "
    "answer; nor where no more than 100 bytes, as a close_notify of TLS, were lost to a process that closes",
    severity="50 with unacknowledged data, 40 of one that was dialled, 30 with unread data or an unanswered request",
    threshold="",
    remedy="by the peer: did its process crash, restart, or close an idle connection? between: a firewall, load "
    "balancer or NAT that forgot the connection (keepalive helps); by the own process: it closes with unread data, "
    "or with SO_LINGER of 0 s",
    source="tcp_reset(), tcp_close(), tcp_disconnect(); RFC 9293 3.10.7.4, RFC 2525 2.17",
    of_many="were reset",
    related=("end", "idle_s", "send_q", "recv_q"),
    rule=_reset,
    evidence=_reset_evidence,
)

NOT_CLOSED = Cause(
    name="not-closed",
    phase="ending",
    blame="app",
    means="the peer has closed, and for a minute the local application has neither sent, nor read, nor closed: a leak "
    "of descriptors",
    told_by="CLOSE-WAIT, nothing received or sent for 60 seconds, the FIN and acknowledgements included, as the kernel "
    "tells, and nothing that waits to be sent. Where more than 100 bytes are unread, 60 seconds in which none were "
    "read, as far as is known (see not-reading, which it is before)",
    severity="20; 50 with more than 100 bytes unread",
    threshold="60 s",
    remedy="the process forgets to close: restart it, and look into its error handling",
    source="tcp_fin(), tcp_ack(); RFC 9293 3.6",
    of_many="are not closed by their process",
    related=(
        "state",
        "idle_s",
        "recv_q",
    ),
    rule=_not_closed,
    evidence=_not_closed_evidence,
)
