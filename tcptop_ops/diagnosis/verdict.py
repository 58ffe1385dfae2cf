"""The first rule that matches each row, its score, and what limits a connection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import Case, Floats, as_floats, stood
from tcptop_ops.diagnosis.fading import FADED, HALVED_IN_S
from tcptop_ops.diagnosis.limiting import often_held, paced
from tcptop_ops.diagnosis.peer import no_window_offered
from tcptop_ops.diagnosis.quantities import queueing_us
from tcptop_ops.diagnosis.rules import CAUSES, HEALTHY, IDLE, RULES
from tcptop_ops.diagnosis.sending import BLOAT_US
from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.records import Records

LIMITS = ("", "peer", "sndbuf", "cwnd", "app", "rwnd", "nagle", "pacing")
"""What may limit a flow's throughput; rows hold indices into them (``limit``), 0 where nothing is known to."""


LIMIT_NAMES = np.array([name.encode() for name in LIMITS], "S8")


def judge(case: Case, suspected: Mask | None = None) -> tuple[NDArray[np.uint8], Floats]:
    """Return the cause of each row, an index into CAUSES, and its severity, 0 to 100 (0 for IDLE and HEALTHY).

    ``suspected``: the rows that are ``suspicious``, where the caller knows them.
    """
    cause = np.full(len(case), HEALTHY, np.uint8)
    severity = np.zeros(len(case))
    quiet = np.flatnonzero((case.win["data_segs_out"] | case.win["data_segs_in"]) == 0)
    cause[quiet[case.states[quiet] != State.LISTEN]] = IDLE
    which = np.flatnonzero(suspicious(case) if suspected is None else suspected)
    if len(which):
        cause_of, severity_of = _first_match(case.take(which))
        matched = cause_of > 0
        cause[which[matched]], severity[which[matched]] = cause_of[matched], severity_of[matched]
    return cause, severity


def suspicious(case: Case) -> Mask:
    """Return where any rule could match, by a cheap test: most rows are quiet, and every rule costs.

    It must let through all rows that a rule matches.
    """
    sockets, win, state = case.sockets, case.win, case.states
    found: Mask = (win["retrans_segs"] | win["rto_events"] | win["ooo_in"] | win["drops"]) > 0
    found |= (sockets["notsent"] | sockets["retransmits"] | case.ended) > 0
    found |= (case.events["rto_events"] > 0) | (sockets["probes"] > 1) | (case.memory["syn_retrans"] > 0)
    for unread in (case.queued, np.flatnonzero(case.memory["no_window_s"])):
        found[unread] = True
        others = case.partner[unread] if case.pairs is not None else unread[:0]
        found[others[others >= 0]] = True
    far = np.flatnonzero(sockets["srtt_us"] >= BLOAT_US)
    found[far] |= queueing_us(gather(sockets, far), gather(case.memory, far)) >= BLOAT_US
    found |= (state == State.SYN_SENT) | (state == State.CLOSE_WAIT)
    sent = case.listened["cookies"] > 0
    if sent.any():  # SYN cookies are no drops of the listener
        listens = np.flatnonzero(state == State.LISTEN)
        found[listens] |= np.isin(sockets["cookie"][listens], case.listened["cookie"][sent])
    return found


def _first_match(case: Case) -> tuple[NDArray[np.uint8], Floats]:
    """Return the first rule that matches each row, as an index into CAUSES, 0 where none does, and its severity."""
    cause, severity = np.zeros(len(case), np.uint8), np.zeros(len(case))
    for number, rule in reversed(list(enumerate(RULES, 1))):
        assert rule.rule is not None
        matches, how_bad = rule.rule(case)
        cause = np.where(matches, np.uint8(number), cause)
        severity = np.where(matches, how_bad, severity)
    return cause, np.clip(severity, 0.0, 100.0)


def unsure(sockets: Records, events: Records, fresh: NDArray[np.uint8]) -> Mask:
    """Return the rows that cannot be judged yet: those first seen in this tick (``fresh`` 0), in mid-life.

    A single sample shows no growth. A connection whose birth was seen began at 0; one in SYN-SENT is judged at once.
    """
    found: Mask = fresh == 0
    new = np.flatnonzero(found)
    found[new] = (events["origin"][new] != Origin.NEW) & (sockets["state"][new] != State.SYN_SENT)
    return found


_WITHOUT_ANSWER = np.array([cause.phase == "connecting" and cause.name != "syn-lost" for cause in CAUSES])
"""Whether each of CAUSES can be that of an attempt only. Once it is established, SYN_LOST tells what is left of it."""


def fade(
    case: Case, cause: NDArray[np.uint8], severity: Floats, seconds: float
) -> tuple[NDArray[np.uint8], Floats, Mask]:
    """Return cause and score of each row, and where the cause is the last tick's, whose rule does not match any more.

    A score rises at once, and halves every HALVED_IN_S afterwards. The last tick's cause (of ``case.memory``) stays
    while its faded score is above the new severity, and FADED or more; that of an attempt until it is established.
    ``seconds``: since the last tick.
    """
    memory = case.memory
    faded = memory["score"] * 0.5 ** (seconds / HALVED_IN_S)
    lasting = (severity < faded) & (faded >= FADED)
    over = np.zeros(len(cause), np.bool_)
    stays = np.flatnonzero(lasting)
    lasting[stays] = ~(_WITHOUT_ANSWER[memory["cause"][stays]] & stood(case.take(stays)))
    stays = np.flatnonzero(lasting)
    over[stays] = memory["cause"][stays] != cause[stays]
    return np.where(lasting, memory["cause"], cause), np.where(lasting, faded, severity), over


def limits(case: Case, rates: Records) -> NDArray[np.uint8]:
    """Return what limits the throughput of each flow, as indices into LIMITS; 0 for a flow at rest.

    ``rates``: RATES, whose growth within W and rates are filled in.
    Of a sender: the peer's window or the send buffer, where it did for half of the busy time (tcp_chrono_start() of
    net/ipv4/tcp_output.c); Nagle's algorithm or pacing, where they hold data back; the application, where it had
    nothing to send (tcp_rate_check_app_limited()) or the flow was busy for less than half of W; else the congestion
    window. Of a receiver, whose process takes what has come: our receive window, where no less is unread than it still
    offers, or where the other end, on this host too, is limited by it; else the application, where bytes wait at two
    ticks in a row.

    ``case``: live rows, before ``recv_q`` of their memory is that of this tick.
    """
    sockets, win = case.sockets, case.win
    found = np.zeros(len(sockets), np.uint8)
    waits = case.queued
    reads = waits[(rates["rx_bytes_per_s"][waits] > 0) | (case.memory["taken_s"][waits] >= case.now_s)]
    reads = reads[case.states[reads] != State.LISTEN]
    lags = np.where(case.memory["recv_q"][reads] > 0, np.uint8(4), np.uint8(0))
    found[reads] = np.where(sockets["recv_q"][reads] >= sockets["rcv_wnd"][reads], np.uint8(5), lags)
    found[no_window_offered(case)] = 1
    sends = np.flatnonzero((win["busy_us"] > 0) & (win["data_segs_out"] > 0))
    sends = sends[case.states[sends] != State.LISTEN]
    busy = as_floats(win["busy_us"][sends])
    of_app = (busy < 0.5e6 * rates["win_s"][sends]) | (sockets["app_limited"][sends] != 0)
    by_nagle = often_held(gather(case.memory, sends))
    by_pacing = paced(gather(sockets, sends), rates["tx_bytes_per_s"][sends])
    by_peer, by_buffer = (2.0 * win[name][sends] >= busy for name in ("rwnd_limited_us", "sndbuf_limited_us"))
    found[sends] = np.select([by_peer, by_buffer, by_nagle, by_pacing, of_app], [1, 2, 6, 7, 4], default=3)
    limited = np.flatnonzero(found == 1)
    receivers = case.partner[limited]
    receivers = receivers[receivers >= 0]
    found[receivers[(found[receivers] == 0) | (found[receivers] == 4)]] = 5
    return found
