"""Causes of a listener."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import Case, Floats, as_floats
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.connecting import severity_unanswered
from tcptop_ops.diagnosis.evidence_row import Row, next_in, times, within
from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.enums import State, Timer
from tcptop_ops.model.listener_drops import listened_by
from tcptop_ops.model.records import Records

FULL_S = 3.0
"""How long an accept queue must be full to be named where nobody was turned away."""

SEVERAL = 3
"""Drops from which on they weigh fully: one costs a client a second, and may be chance."""

COUNTED_LATE_S = 0.1
"""How much sooner than its SYN was sent a drop may seem to have been: timers count in jiffies."""

OVER_S = 5.0
"""How long ago the last drop must be for the evidence to say that it is over, seconds."""


def are_over(sockets: Records, listened: Records, now_s: float) -> Mask:
    """Return the listeners in trouble whose trouble is over: nothing dropped for OVER_S, and nothing waits too long.

    ``listened``: LISTENED rows, aligned with ``sockets``. What was not counted is not known to be over.
    """
    last = np.max([listened[f"{name}_s"] for name in ("overflows", "syn_drops", "cookies")], axis=0)
    full = (sockets["recv_q"] > sockets["send_q"]) | (listened["half_open"] > sockets["send_q"])
    found: Mask = (last > 0) & (now_s - last >= OVER_S) & ~full
    return found


def _waiting(case: Case) -> tuple[NDArray[np.intp], Records, Records, Floats]:
    """Return the attempts that were retransmitted and whose listener is on this host.

    Their indices; the SOCKET rows of their listeners, and LISTENED rows; and since when, CLOCK_MONOTONIC in seconds,
    something must have been dropped there that was their last SYN.
    """
    which = np.flatnonzero(case.is_in(State.SYN_SENT) & (case.listener >= 0))
    which = which[case.sockets["retransmits"][which] >= 1]
    ours = gather(case.sockets, which)
    if case.everyone is None:
        return which[:0], ours[:0], listened_by(ours["cookie"][:0], case.listened), np.zeros(0)
    doors = gather(case.everyone.sockets, case.listener[which])
    ago_us = np.where(ours["timer"] == Timer.RETRANSMIT, as_floats(ours["rto_us"]) - ours["timer_us"], 0.0)
    return which, doors, listened_by(doors["cookie"], case.listened), case.now_s - ago_us / 1e6 - COUNTED_LATE_S


def _clients(case: Case, queue: str) -> Mask:
    """Return the attempts that wait for a listener of this host, since it dropped their last SYN.

    ``queue``: what of LISTENED counts that. A full accept queue drops every SYN.
    """
    which, doors, told, since_s = _waiting(case)
    dropped = told[queue + "_s"] >= np.maximum(since_s, 1e-9)
    if queue == "overflows":
        dropped |= doors["recv_q"] > doors["send_q"]
    found = np.zeros(len(case), np.bool_)
    found[which[dropped]] = True
    return found


def _with_clients(case: Case, queue: str, matches: Mask, severity: Floats) -> tuple[Mask, Floats]:
    """Return what a rule says of listeners, and of the attempts that wait for them."""
    clients = _clients(case, queue)
    return matches | clients, np.where(clients, severity_unanswered(case), severity)


def _known(case: Case) -> Mask:
    """Return where the counters of the row's namespace tell drops at a full queue from others."""
    found: Mask = case.listening["counted"] > 0
    return found


def _guessed(case: Case) -> Mask:
    """Return the listeners whose drops are put down to the accept queue for want of the namespace's counters.

    Drops prove nothing while the queue is short: a reset for a connection that is gone is counted as a drop of the
    listener, too (tcp_rcv_state_process()).
    """
    sockets, drops = case.sockets, case.win["drops"]
    filled = 2 * np.maximum(sockets["recv_q"], case.memory["recv_q"]).astype("u8") >= sockets["send_q"]
    full = sockets["recv_q"] > sockets["send_q"]
    found: Mask = case.is_in(State.LISTEN) & ~_known(case) & ((drops >= SEVERAL) & filled | full & (drops > 0))
    return found


def _accept_queue(case: Case) -> tuple[Mask, Floats]:
    sockets, listens, overflows = case.sockets, case.is_in(State.LISTEN), case.listening["overflows"]
    full = listens & (sockets["recv_q"] > sockets["send_q"])
    stuck = full & (~_known(case) | (case.in_state_s >= FULL_S))
    guessed = _guessed(case)
    severity = np.select([guessed | (overflows >= SEVERAL), overflows > 0], [95.0, 70.0], 60.0)
    return _with_clients(case, "overflows", guessed | stuck | listens & (overflows > 0), severity)


def _syn_queue(case: Case) -> tuple[Mask, Floats]:
    listens, told = case.is_in(State.LISTEN), case.listening
    over = told["half_open"] > case.sockets["send_q"]
    guessed = listens & ~_known(case) & over & (case.win["drops"] >= SEVERAL)
    severity = np.select([guessed | (told["syn_drops"] >= SEVERAL), told["syn_drops"] > 0], [90.0, 60.0], 40.0)
    matches = guessed | listens & ((told["syn_drops"] > 0) | (told["cookies"] > 0))
    return _with_clients(case, "syn_drops", matches, severity)


def _how_many(row: Row, name: str, what: str) -> str:
    """Say how many there were: ``what`` is "handshake dropped", say; empty where there were none.

    Those within W; where the last one is older, those since W was last free of them.
    """
    noun, _, done = what.partition(" ")
    count, ago = int(row.listening[name]), row.now_s - float(row.listening[name + "_s"])
    if not count:
        count = int(row.listening[name + "_since"])
        return f"{times(count, noun)} {done}, the last {ago:.0f} s ago" if count else ""
    over = f", the last {ago:.0f} s ago" if ago >= OVER_S and not row.closed else ""
    return f"{times(count, noun)} {done} {within(row)}{over}"


def _client_evidence(row: Row, queue: str) -> list[str]:
    """Say in whose queue an attempt waits; ``queue``: its name."""
    door = row.listener
    waits = "waited" if row.closed or row.past else "waits"
    syns = f"{times(1 + max(row.socket('retrans_segs'), row.socket('retransmits')), 'SYN')} unanswered{next_in(row)}"
    if door is None:
        return [f"{waits} for the {queue} of a listener that is gone", syns]
    holds = door.socket("recv_q") if queue == "accept queue" else int(door.listening["half_open"])
    filled = f"{holds} of {door.socket('send_q')}"
    is_full = holds > door.socket("send_q")
    one_of = f"one of {row.rates['listeners']} listeners on " if row.rates["listeners"] > 1 else ""
    return [f"{waits} in the {queue} of {one_of}{_whose(door, not one_of)}: {filled}{'' if is_full else ' now'}", syns]


def _whose(door: Row, certain: bool) -> str:
    port = f"port {door.socket('lport')}"
    return (door.process if certain else port) or f"the listener on {port}"


def _accept_queue_evidence(row: Row) -> list[str]:
    if row.rates["listener"]:
        return _client_evidence(row, "accept queue")
    waiting, limit, drops = row.socket("recv_q"), row.socket("send_q"), row.grown("drops")
    told = _how_many(row, "overflows", "handshake dropped")
    if not told and drops and not row.listening["counted"]:
        told = f"{times(drops, 'handshake')} dropped {within(row)}"
    if told and (row.closed or row.past):
        return [told]
    queue = f"queue {waiting} of {limit}"
    if waiting > limit:
        queue += f", full for {row.rates['state_s']:.0f} s"
    elif told:
        queue = f"{queue} now" if waiting else f"the queue is empty now, limit {limit}"
    does = [f"{row.process} is {row.activity}"] * bool(waiting and row.process and row.activity)
    return [*[told] * bool(told), queue, *does]


def _syn_queue_evidence(row: Row) -> list[str]:
    if row.rates["listener"]:
        return _client_evidence(row, "SYN queue")
    parts = [_how_many(row, "syn_drops", "SYN dropped"), _how_many(row, "cookies", "cookie sent")]
    told = [part for part in parts if part]
    if not told and row.grown("drops"):
        told = [f"{times(row.grown('drops'), 'SYN')} dropped {within(row)}"]
    last = max(float(row.listening["syn_drops_s"]), float(row.listening["cookies_s"]))
    past = row.closed or row.past
    was = "was " if past or (told and last and row.now_s - last >= OVER_S) else ""
    waiting = f"{row.listening['half_open']} in SYN-RECV now, limit {row.socket('send_q')}"
    return [f"SYN backlog {was}full: {told[0] if told else 'SYNs dropped'}", *told[1:], *[waiting] * (not past)]


ACCEPT_QUEUE = Cause(
    name="accept-queue",
    phase="listening",
    blame="app",
    means="connections arrive faster than the process accepts them",
    told_by="a listener that dropped handshakes while its namespace counted as many at a full accept queue, even if "
    "the queue was short at each tick, or whose queue stays longer than its limit; and a connection attempt of this "
    "host whose last SYN came to such a queue",
    severity="95; 70 for one or two handshakes, 60 for none; of an attempt 50 + 10 a try",
    threshold="1 handshake dropped in W at a full queue, or 3 s of a queue longer than its limit; where the "
    "namespace's counters can't be read, 3 drops in W and the queue at least half full now or a tick ago, or one while "
    "it is longer than its limit",
    remedy="accept faster (more workers), or raise both the backlog of listen() and net.core.somaxconn",
    source="tcp_conn_request(), tcp_v4_syn_recv_sock(): ListenOverflows; sk_acceptq_is_full() of include/net/sock.h",
    of_many="have a full accept queue",
    related=(
        "backlog",
        "backlog_max",
        "drops",
    ),
    rule=_accept_queue,
    evidence=_accept_queue_evidence,
)

SYN_QUEUE = Cause(
    name="syn-queue",
    phase="listening",
    blame="host",
    means="more handshakes are under way than the SYN backlog holds: a burst, a SYN flood, or SYN-ACKs that get lost",
    told_by="a listener with the most handshakes in SYN-RECV, or with drops, while its namespace counted SYNs that "
    "were dropped, or answered by a cookie, since the backlog was full; and a connection attempt of this host whose "
    "last SYN was sent before such a drop",
    severity="90; 60 for one or two SYNs dropped, 40 for cookies alone; of an attempt 50 + 10 a try",
    threshold="1 SYN dropped or 1 cookie sent in W; not with tcp_syncookies = 2, which always sends cookies",
    remedy="see whose SYNs they are (the column syn_recv and its addresses); raise the backlog of listen(), "
    "net.core.somaxconn and net.ipv4.tcp_max_syn_backlog, and leave net.ipv4.tcp_syncookies at 1",
    source="tcp_conn_request(), inet_csk_reqsk_queue_is_full(), tcp_syn_flood_action(): TCPReqQFullDrop, "
    "TCPReqQFullDoCookies; RFC 4987",
    of_many="have a full SYN backlog",
    related=(
        "syn_recv",
        "backlog_max",
        "drops",
    ),
    rule=_syn_queue,
    evidence=_syn_queue_evidence,
)
