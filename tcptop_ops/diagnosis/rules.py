"""THE list of causes: what each looks for, how severe it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tcptop_ops.diagnosis.case import Case, Floats, as_floats, percent
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State, Timer
from tcptop_ops.model.records import UNKNOWN_U32, Records

HALVED_IN_S = 10.0
"""Half-life of a score whose cause no longer matches."""


LINGERING_SCORE = 30.0
"""Score from which a closed row stays listed for longer (``tracker.BAD_CLOSED_S``)."""


PATIENCE_S = 60.0
"""Time in CLOSE-WAIT after which the process is taken to have forgotten to close its socket."""


SECOND_S = 0.9
"""Shortest window, seconds, in which the inbound loss of a live flow is judged: about one tick of a second.

In a shorter one, a single packet that was overtaken can be most of what came.
"""


BLOAT_US = 50_000
"""Queueing delay from which a flow may suffer from bufferbloat."""


TWO_PACKETS = 90
"""Segments of 1460 bytes in two packets of 64 KB, the largest that segmentation offload makes."""


def sent_again(win: Records) -> Floats:
    """Count the retransmissions in W: calls of RETRANS_CB, or segments where no call was seen.

    One call may resend a packet of many segments, which the device splits (GSO).
    """
    return as_floats(np.where(win["retrans_calls"] == 0, win["retrans_segs"], win["retrans_calls"]))


def loss_percent(win: Records) -> Floats:
    """Return the percentage of the data segments sent in W that was lost, estimated low where few were sent.

    One retransmission of average size is not counted, and 50 is added to the segments sent: one of ten proves nothing.
    Nor are retransmits counted that the peer reported as duplicates (D-SACK, RFC 2883): the original had arrived.
    """
    again = as_floats(win["retrans_segs"])
    lost = again - as_floats(win["dsack_dups"]) - again / np.maximum(sent_again(win), 1.0)
    return percent(np.maximum(lost, 0.0), as_floats(win["data_segs_out"]) + 50)


def inbound_percent(win: Records) -> Floats:
    """Return the percentage of the data segments received in W that came out of order, less an allowance.

    The allowance is two packets of 64 KB or a tenth of what came, whichever is smaller: tcpi_rcv_ooopack counts every
    segment that is ahead of a gap, so that one late packet counts for all that overtook it.
    """
    segments = as_floats(win["data_segs_in"])
    return percent(np.maximum(as_floats(win["ooo_in"]) - np.minimum(segments / 10, TWO_PACKETS), 0), segments)


def stalled_share(case: Case) -> Floats:
    """Return the share of W that was spent waiting for retransmission timeouts, 0 to 1; of W a second at least."""
    return np.minimum(as_floats(case.win["rto_wait_us"]) / 1e6 / np.maximum(case.win_s, 1.0), 1.0)


def _accept_queue(case: Case) -> tuple[Mask, Floats]:
    sockets, listens = case.sockets, case.is_in(State.LISTEN)
    full = listens & (sockets["recv_q"] > sockets["send_q"])
    # Drops prove nothing while the queue is short: a reset for a connection that is gone is counted as a drop of the
    # listener, too (tcp_rcv_state_process()).
    filled = 2 * np.maximum(sockets["recv_q"], case.memory["recv_q"]).astype("u8") >= sockets["send_q"]
    dropped = listens & ((case.win["drops"] >= 3) & filled | full & (case.win["drops"] > 0))
    return dropped | full, np.where(dropped, 95.0, 60.0)


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


def _never_stood(case: Case) -> Mask:
    """Return where a connection was never established: no state but SYN-SENT and CLOSE was seen."""
    found: Mask = case.events["states"] & ~np.uint16(1 << State.SYN_SENT | 1 << State.CLOSE) == 0
    return found


def _syn_unanswered(case: Case) -> tuple[Mask, Floats]:
    tries = as_floats(np.where(case.ended > 0, case.events["rto_events"], case.sockets["retransmits"]))
    waiting = case.is_in(State.SYN_SENT) & (tries >= 1)
    gave_up = (case.ended == ends.TIMED_OUT) & _never_stood(case)
    return waiting | gave_up, np.minimum(50.0 + 10.0 * tries, 100.0)


def _local_drop(case: Case) -> tuple[Mask, Floats]:
    """Match flows whose packets this host itself drops.

    Either unsent data waits and the probes for it remain unanswered although the peer's window is open; or RETRANS_CB
    reports that every retransmit of what is in flight failed to be sent.
    """
    sockets = case.sockets
    probed = case.unsent & (sockets["snd_wnd"] >= sockets["mss"]) & (sockets["probes"] >= 2)
    failed = case.events["retrans_failed"] - case.memory["failed"]
    kept_back = (sockets["unacked"] > 0) & (sockets["retransmits"] >= 2) & (failed >= sockets["retransmits"])
    live = (case.ended == 0) & ~case.is_in(State.SYN_SENT)
    return (probed | kept_back) & live, np.full(len(case), 90.0)


def _peer_not_reading(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    shut = case.unsent & (sockets["snd_wnd"] < sockets["mss"]) & (sockets["backoff"] >= 1)
    return shut, np.full(len(case), 50.0)


def _dead_peer(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    silent = (sockets["unacked"] > 0) & (sockets["retransmits"] >= 3) & (sockets["retransmits"] > case.memory["heard"])
    nothing_to_send = (sockets["unacked"] == 0) & (sockets["notsent"] == 0)
    unkept = nothing_to_send & (sockets["timer"] == Timer.KEEPALIVE) & (sockets["probes"] >= 2)
    gave_up = (case.ended == ends.TIMED_OUT) & ~_never_stood(case)
    live = (case.ended == 0) & ~case.is_in(State.SYN_SENT) & ~case.is_in(State.LISTEN)
    return ((silent | unkept) & live) | gave_up, np.full(len(case), 95.0)


def _rto_stall(case: Case) -> tuple[Mask, Floats]:
    share = stalled_share(case)
    stalled = (case.win["rto_events"] >= 1) & (share >= 0.05) & ~case.is_in(State.SYN_SENT)
    return stalled, np.minimum(50.0 + 150.0 * share, 100.0)


def _needless(case: Case) -> Mask:
    """Return where retransmits were spurious: at least half came back as duplicates (D-SACK, RFC 2883).

    Only of ten retransmissions or more, and 2 % or more of the segments sent in W.
    """
    again = as_floats(case.win["retrans_segs"])
    enough = (sent_again(case.win) >= 10) & (percent(again, as_floats(case.win["data_segs_out"])) >= 2.0)
    found: Mask = enough & (2 * as_floats(case.win["dsack_dups"]) >= again)
    return found


def _reordering(case: Case) -> tuple[Mask, Floats]:
    return _needless(case) & (case.win["reord_seen"] >= 3), np.full(len(case), 20.0)


def _spurious(case: Case) -> tuple[Mask, Floats]:
    return _needless(case), np.full(len(case), 20.0)


def _lost(case: Case) -> tuple[Mask, Floats]:
    percent = loss_percent(case.win)
    return (sent_again(case.win) >= 3) & (percent >= 0.5), np.minimum(12.0 * percent, 90.0)


def _tail_loss(case: Case) -> tuple[Mask, Floats]:
    lost, severity = _lost(case)
    return lost & (case.win["probe_segs"] >= case.win["retrans_segs"]), severity


def _inbound_loss(case: Case) -> tuple[Mask, Floats]:
    percent = inbound_percent(case.win)
    seen_enough = (case.win_s >= SECOND_S) | (case.ended > 0)
    return (case.win["ooo_in"] >= 5) & (percent >= 3.0) & seen_enough, np.minimum(4.0 * percent, 90.0)


def queueing_us(sockets: Records) -> Floats:
    """Return the smoothed RTT less the minimum RTT, us; 0 where the minimum is not known."""
    known = sockets["min_rtt_us"] != UNKNOWN_U32
    return np.where(known, as_floats(sockets["srtt_us"]) - as_floats(sockets["min_rtt_us"]), 0.0)


def _bufferbloat(case: Case) -> tuple[Mask, Floats]:
    sockets, extra = case.sockets, queueing_us(case.sockets)
    busy = as_floats(case.win["busy_us"]) >= 0.5e6 * case.win_s
    queued = (extra >= BLOAT_US) & (sockets["unacked"] >= 10) & busy & (sockets["app_limited"] == 0)
    return queued & (case.ended == 0), np.minimum(10.0 + extra / 30_000, 60.0)


def _not_reading(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    kept = (sockets["recv_q"] > 0) & (sockets["recv_q"] >= case.memory["recv_q"]) & (case.memory["recv_q"] > 0)
    shut = sockets["rcv_wnd"] < np.maximum(sockets["mss"], 1)
    return kept & shut & ~case.is_in(State.LISTEN) & (case.ended == 0), np.full(len(case), 50.0)


def _not_closed(case: Case) -> tuple[Mask, Floats]:
    return case.is_in(State.CLOSE_WAIT) & (case.in_state_s >= PATIENCE_S), np.full(len(case), 20.0)


Match = Callable[[Case], tuple[Mask, Floats]]
"""For each row of a Case: whether the cause matches, and how severe it is if so, before it is cut to 0..100."""


@dataclass(frozen=True)
class Cause:
    """A cause as the user reads it, and the rule that finds it."""

    name: str
    means: str  # what is wrong
    told_by: str  # the rule in words
    remedy: str  # what to do about it
    source: str  # kernel functions and RFCs that the rule rests on
    rule: Match | None = None  # None for a verdict that is no fault
    network: bool = False  # a fault of the path to the peer, which other flows may share


RULES: tuple[Cause, ...] = (
    Cause(
        "accept-queue",
        "connections arrive faster than the process accepts them",
        "a listener whose queue is longer than its limit, or at least half full while three handshakes were dropped",
        "accept faster (more workers), or raise both the backlog of listen() and net.core.somaxconn",
        "tcp_v4_syn_recv_sock(), sk_acceptq_is_full() of include/net/sock.h",
        _accept_queue,
    ),
    Cause(
        "refused",
        "nobody listens there",
        "a connection attempt that was answered by a reset",
        "look for the service on that port, or the firewall that rejects",
        "tcp_rcv_synsent_state_process(); RFC 9293 3.5.2",
        _refused,
    ),
    Cause(
        "unreachable",
        "there is no way to that address",
        "a connection attempt whose timer fires although nothing could be sent, or that ended so",
        "look at the route and the neighbour: ip route get, ip neigh",
        "tcp_retransmit_timer(): a retransmit that fails is not counted",
        _unreachable,
        network=True,
    ),
    Cause(
        "syn-unanswered",
        "nobody answers: filtered, down, or the peer's accept queue is full",
        "a connection attempt that was sent again",
        "a client can't tell these apart: look from the other side",
        "tcp_retransmit_timer(), tcp_syn_linear_timeouts; RFC 6298 (5.7)",
        _syn_unanswered,
        network=True,
    ),
    Cause(
        "local-drop",
        "this host itself drops what it sends",
        "data waits, nothing is in flight, the peer's window is open, and probes go out in vain; or what is in "
        "flight was to be sent again twice or more, and could not be",
        "look at the own output rules and queues: nft list ruleset, tc -s qdisc",
        "tcp_send_probe0() after tcp_transmit_skb() fails",
        _local_drop,
    ),
    Cause(
        "peer-not-reading",
        "the peer's process does not read: its window is shut",
        "data waits, nothing is in flight, the window is smaller than a segment, and the persist timer backs off",
        "look at the process on the other side",
        "tcp_probe_timer(); RFC 9293 3.8.6.1",
        _peer_not_reading,
    ),
    Cause(
        "dead-peer",
        "the peer is gone, or the way to it is",
        "data in flight was sent again three times or more, and nothing came in since the one before; or two keepalive "
        "probes are unanswered",
        "is the peer up? is a firewall or NAT entry gone? TCP_USER_TIMEOUT and keepalive end such flows sooner",
        "tcp_write_timeout(); RFC 1122 4.2.3.5",
        _dead_peer,
        network=True,
    ),
    Cause(
        "rto-stall",
        "transmission stood still, waiting for retransmission timeouts",
        "timeouts within the window that cost at least 5 % of it",
        "loss of whole windows or of the last segments: look at the path",
        "tcp_retransmit_timer(); RFC 6298 (5.4) to (5.6)",
        _rto_stall,
        network=True,
    ),
    Cause(
        "reordering",
        "the network delivers out of order, and what was only late is sent again",
        "ten retransmits or more, 2 % or more, at least half of them duplicates; reordering was noticed three times",
        "look for paths of unequal length: bonding, ECMP by packet",
        "tcp_check_sack_reordering(), tcp_check_dsack(); RFC 2883, RFC 8985 (RACK)",
        _reordering,
        network=True,
    ),
    Cause(
        "spurious",
        "segments are sent again that had arrived",
        "ten retransmits or more, 2 % or more, at least half of them duplicates",
        "sudden delays, or lost acknowledgements",
        "tcp_check_dsack(); RFC 2883, RFC 5682 (F-RTO)",
        _spurious,
        network=True,
    ),
    Cause(
        "tail-loss",
        "the last segments of what is sent are lost",
        "three retransmits or more, all of them tail-loss probes; 0.5 % or more of what was sent within the window,"
        " not counting those that came back as duplicates",
        "look at the path; each costs two round trips at least",
        "tcp_send_loss_probe(); RFC 8985 7.2",
        _tail_loss,
        network=True,
    ),
    Cause(
        "loss",
        "the network loses what is sent",
        "three retransmits or more; 0.5 % or more of what was sent within the window,"
        " not counting those that came back as duplicates",
        "look at the path: do others to the same place share it?",
        "tcp_retransmit_skb(); RFC 6675, RFC 8985",
        _lost,
        network=True,
    ),
    Cause(
        "inbound-loss",
        "the network loses what is received",
        "segments out of order, 3 % or more of those with data, not counting a tenth or two packets of 64 KB;"
        " seen for a second, or to its end",
        "look at the path; the sender sees the retransmits",
        "tcp_data_queue_ofo(); RFC 5681 4.2",
        _inbound_loss,
        network=True,
    ),
    Cause(
        "bufferbloat",
        "packets queue on the way: the round trip has grown by a lot",
        "a round trip 50 ms and more above its least, with data in flight for at least half of the window",
        "shape below the bottleneck's rate, use fq_codel there, or a congestion control that keeps queues short (bbr)",
        "tcp_rtt_estimator(), tcp_min_rtt(); RFC 8290",
        _bufferbloat,
        network=True,
    ),
    Cause(
        "not-reading",
        "the own process does not read what has come",
        "bytes wait and do not get fewer, and the window that we offer is smaller than a segment",
        "what does the process wait for? cat /proc/PID/wchan",
        "tcp_select_window(); RFC 9293 3.8.6.2.2",
        _not_reading,
    ),
    Cause(
        "not-closed",
        "the peer has closed, and the own process has not for a minute: a leak of descriptors",
        "CLOSE-WAIT for 60 seconds",
        "the process forgets to close: restart it, and look into its error handling",
        "tcp_fin(); RFC 9293 3.6",
        _not_closed,
    ),
)
"""The faults in order of precedence: the first that matches a row names its cause."""


CAUSES: tuple[Cause, ...] = (
    Cause("unknown", "not enough was seen yet to say anything", "a row's first tick", "wait a tick", ""),
    *RULES,
    Cause("idle", "nothing was sent or received within the window", "no data either way", "", ""),
    Cause("healthy", "none of the rules matches", "", "", ""),
)
"""All verdicts; rows hold indices into them (``cause``)."""


UNKNOWN, IDLE, HEALTHY = 0, len(RULES) + 1, len(RULES) + 2
"""Indices into CAUSES of the verdicts that are no faults."""


NAMES = np.array([cause.name.encode() for cause in CAUSES], "S16")
"""Names of CAUSES, to be indexed by an array of causes."""


NETWORK = np.array([cause.network for cause in CAUSES])
"""Whether each of CAUSES is a fault of the path: NDArray[np.bool_]."""


def find(name: str) -> Cause | None:
    """Return the cause of this name, None if there is none."""
    return next((cause for cause in CAUSES if cause.name == name), None)
