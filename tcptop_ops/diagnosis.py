"""What is wrong with a flow: a cause, named by the first rule that matches, and how bad it is. Over whole arrays. Pure.

The rules stand in RULES in their order, with where each comes from; the evidence is what a Case holds. Times in
microseconds and sizes in bytes, as in ``fields``; severities from 0 to 100.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import endings as ends
from tcptop_ops.snapshot import UNKNOWN_U32, Origin, Records, RetransClass, State, Timer, gather

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

COUNTED = np.dtype(
    [
        ("retrans_segs", "u4"),
        ("rto_events", "u4"),
        ("data_segs_out", "u4"),
        ("busy_us", "u4"),
        ("rwnd_limited_us", "u4"),
        ("sndbuf_limited_us", "u4"),
        ("data_segs_in", "u4"),
        ("dsack_dups", "u4"),
        ("reord_seen", "u4"),
        ("ooo_in", "u4"),
        ("drops", "u4"),
        ("rto_wait_us", "u4"),
        ("probe_segs", "u4"),
        ("retrans_calls", "u4"),
    ]
)
"""Counters whose growth within W is told. They wrap like the kernel's own."""

MEMORY = np.dtype(
    [
        ("segs_in", "u4"),  # at the last tick
        ("failed", "u4"),  # retransmits that could not be sent, when the segment at the head was no retransmit
        ("heard", "u1"),  # how often the segment at the head had been sent again when segs_in grew last
        ("recv_q", "u4"),  # at the last tick
        ("state", "u1"),
        ("state_s", "f8"),  # since when it is in this state, or the queue of a listener is full, as far as seen
        ("score", "f4"),
        ("cause", "u1"),
        ("zero_window_us", "u8"),
    ]
)
"""What one tick tells the next of a socket."""

HALVED_IN_S = 10.0
LINGERING_SCORE = 30.0
"""A closed row that scored so much stays listed for longer."""

PATIENCE_S = 60.0
"""A process that has not closed what its peer closed so long ago has forgotten it."""

SECOND_S = 0.9
"""What a tick a second looks back on at least. In less, one packet that was overtaken can be most of what came."""

BLOAT_US = 50_000
FADED = 5.0
TWO_PACKETS = 90
"""Segments of 1460 bytes in two packets as large as they get, 64 KB."""


@dataclass(frozen=True)
class Case:
    """The rows to judge, aligned: SOCKET, EVENTS, the growth within W (COUNTED) and W itself, seconds, MEMORY."""

    sockets: Records
    events: Records
    win: Records
    win_s: Floats
    memory: Records
    now_s: float
    ended: NDArray[np.uint8]  # endings.ENDS of a closed row; 0 for a live one

    def take(self, which: NDArray[Any]) -> Case:
        """The rows at these indices."""
        sockets, events, win, memory = (
            gather(part, which) for part in (self.sockets, self.events, self.win, self.memory)
        )
        return Case(sockets, events, win, self.win_s[which], memory, self.now_s, self.ended[which])

    def __len__(self) -> int:
        return len(self.sockets)

    @property
    def in_state_s(self) -> Floats:
        """How long it has been in its state."""
        since: Floats = self.now_s - self.memory["state_s"]
        return since

    def is_in(self, state: State) -> Mask:
        """Live, and in this state."""
        found: Mask = (self.sockets["state"] == state) & (self.ended == 0)
        return found

    @property
    def unsent(self) -> Mask:
        """Data waits, and nothing is in flight."""
        found: Mask = (self.sockets["unacked"] == 0) & (self.sockets["notsent"] > 0) & ~self.is_in(State.LISTEN)
        return found


def _f(values: NDArray[Any]) -> Floats:
    return values.astype(np.float64)


def _percent(part: Floats, whole: Floats) -> Floats:
    return 100.0 * part / np.maximum(whole, 1.0)


def sent_again(win: Records) -> Floats:
    """How often something was sent again in W: calls of the program, segments where it was not told.

    One call may be a packet of many segments, which the device is to cut (GSO).
    """
    return _f(np.where(win["retrans_calls"] == 0, win["retrans_segs"], win["retrans_calls"]))


def loss_percent(win: Records) -> Floats:
    """What was lost in W as a share of what was sent, kept low where little was: one of ten proves nothing.

    A retransmit that came back as a duplicate (RFC 2883) replaced nothing: that segment had arrived, only late.
    """
    again = _f(win["retrans_segs"])
    lost = again - _f(win["dsack_dups"]) - again / np.maximum(sent_again(win), 1.0)
    return _percent(np.maximum(lost, 0.0), _f(win["data_segs_out"]) + 50)


def inbound_percent(win: Records) -> Floats:
    """Segments that came out of order, of those with data; less two packets of 64 KB, or a tenth of what came.

    A receiver counts what came before its turn, so one late packet weighs as much as what overtook it.
    """
    segments = _f(win["data_segs_in"])
    return _percent(np.maximum(_f(win["ooo_in"]) - np.minimum(segments / 10, TWO_PACKETS), 0), segments)


def stalled_share(case: Case) -> Floats:
    """The part of W that was spent waiting for retransmission timeouts, 0 to 1."""
    return np.minimum(_f(case.win["rto_wait_us"]) / 1e6 / np.maximum(case.win_s, 1.0), 1.0)


def _accept_queue(case: Case) -> tuple[Mask, Floats]:
    sockets, listens = case.sockets, case.is_in(State.LISTEN)
    full = listens & (sockets["recv_q"] > sockets["send_q"])
    # A reset that comes after its connection has gone is a drop of the listener's, too (tcp_rcv_state_process()).
    filled = 2 * np.maximum(sockets["recv_q"], case.memory["recv_q"]).astype("u8") >= sockets["send_q"]
    dropped = listens & ((case.win["drops"] >= 3) & filled | full & (case.win["drops"] > 0))
    return dropped | full, np.where(dropped, 95.0, 60.0)


def _refused(case: Case) -> tuple[Mask, Floats]:
    return case.ended == ends.REFUSED, np.full(len(case), 60.0)


def _never_sent(case: Case) -> Mask:
    """Each RTO sends a SYN again, unless nothing can be sent: then the retransmits stay behind."""
    found: Mask = (case.events["rto_events"] >= 2) & (case.sockets["retrans_segs"] + 1 < case.events["rto_events"])
    return found


def _unreachable(case: Case) -> tuple[Mask, Floats]:
    waiting = case.is_in(State.SYN_SENT) & _never_sent(case)
    return (case.ended == ends.UNREACHABLE) | waiting, np.full(len(case), 90.0)


def _never_stood(case: Case) -> Mask:
    found: Mask = case.events["states"] & ~np.uint16(1 << State.SYN_SENT | 1 << State.CLOSE) == 0
    return found


def _syn_unanswered(case: Case) -> tuple[Mask, Floats]:
    tries = _f(np.where(case.ended > 0, case.events["rto_events"], case.sockets["retransmits"]))
    waiting = case.is_in(State.SYN_SENT) & (tries >= 1)
    gave_up = (case.ended == ends.TIMED_OUT) & _never_stood(case)
    return waiting | gave_up, np.minimum(50.0 + 10.0 * tries, 100.0)


def _local_drop(case: Case) -> tuple[Mask, Floats]:
    """What was never sent waits for probes; what was in flight before is sent again in vain, and the kernel says so."""
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
    """What was sent again had arrived: at least half of the retransmits came back as duplicates (RFC 2883)."""
    again = _f(case.win["retrans_segs"])
    enough = (sent_again(case.win) >= 10) & (_percent(again, _f(case.win["data_segs_out"])) >= 2.0)
    found: Mask = enough & (2 * _f(case.win["dsack_dups"]) >= again)
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
    """How much longer than its shortest the round trip is now."""
    known = sockets["min_rtt_us"] != UNKNOWN_U32
    return np.where(known, _f(sockets["srtt_us"]) - _f(sockets["min_rtt_us"]), 0.0)


def _bufferbloat(case: Case) -> tuple[Mask, Floats]:
    sockets, extra = case.sockets, queueing_us(case.sockets)
    busy = _f(case.win["busy_us"]) >= 0.5e6 * case.win_s
    queued = (extra >= BLOAT_US) & (sockets["unacked"] >= 10) & busy & (sockets["app_limited"] == 0)
    return queued & (case.ended == 0), np.minimum(10.0 + extra / 30_000, 60.0)


def _not_reading(case: Case) -> tuple[Mask, Floats]:
    sockets = case.sockets
    kept = (sockets["recv_q"] > 0) & (sockets["recv_q"] >= case.memory["recv_q"]) & (case.memory["recv_q"] > 0)
    shut = sockets["rcv_wnd"] < np.maximum(sockets["mss"], 1)
    return kept & shut & ~case.is_in(State.LISTEN) & (case.ended == 0), np.full(len(case), 50.0)


def _not_closed(case: Case) -> tuple[Mask, Floats]:
    return case.is_in(State.CLOSE_WAIT) & (case.in_state_s >= PATIENCE_S), np.full(len(case), 20.0)


Rule = Callable[[Case], tuple[Mask, Floats]]


@dataclass(frozen=True)
class Cause:
    """A word for what is wrong, in what it is told by, and what to do. ``rule``: None for what is no fault."""

    name: str
    means: str
    told_by: str
    remedy: str
    source: str
    rule: Rule | None = None
    network: bool = False  # a fault of the way to the peer: flows may share it


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
"""In their order: the first that matches names the cause."""

CAUSES: tuple[Cause, ...] = (
    Cause("unknown", "not enough was seen yet to say anything", "a row's first tick", "wait a tick", ""),
    *RULES,
    Cause("idle", "nothing was sent or received within the window", "no data either way", "", ""),
    Cause("healthy", "none of the rules matches", "", "", ""),
)
UNKNOWN, IDLE, HEALTHY = 0, len(RULES) + 1, len(RULES) + 2
NAMES = np.array([cause.name.encode() for cause in CAUSES], "S16")
NETWORK = np.array([cause.network for cause in CAUSES])

LIMITS = ("", "peer", "sndbuf", "cwnd", "app", "rwnd")
LIMIT_NAMES = np.array([name.encode() for name in LIMITS], "S8")


def find(name: str) -> Cause | None:
    """The cause of this name."""
    return next((cause for cause in CAUSES if cause.name == name), None)


def judge(case: Case) -> tuple[NDArray[np.uint8], Floats]:
    """The cause (an index into CAUSES) and the severity of each row."""
    cause = np.full(len(case), HEALTHY, np.uint8)
    severity = np.zeros(len(case))
    quiet = np.flatnonzero((case.win["data_segs_out"] | case.win["data_segs_in"]) == 0)
    cause[quiet[case.sockets["state"][quiet] != State.LISTEN]] = IDLE
    which = np.flatnonzero(_suspicious(case))
    if len(which):
        cause_of, severity_of = _first_match(case.take(which))
        matched = cause_of > 0
        cause[which[matched]], severity[which[matched]] = cause_of[matched], severity_of[matched]
    return cause, severity


def _suspicious(case: Case) -> Mask:
    """Where a rule could match at all: most rows are quiet, and each rule costs."""
    sockets, win, state = case.sockets, case.win, case.sockets["state"]
    found: Mask = (win["retrans_segs"] | win["rto_events"] | win["ooo_in"] | win["drops"]) > 0
    found |= (sockets["notsent"] | sockets["recv_q"] | sockets["retransmits"] | case.ended) > 0
    found |= (case.events["rto_events"] > 0) | (sockets["probes"] > 1)
    far = np.flatnonzero(sockets["srtt_us"] >= BLOAT_US)
    found[far] |= queueing_us(gather(sockets, far)) >= BLOAT_US
    found |= (state == State.SYN_SENT) | (state == State.CLOSE_WAIT)
    return found


def _first_match(case: Case) -> tuple[NDArray[np.uint8], Floats]:
    """Index into CAUSES, 0 where no rule matches; severity."""
    cause, severity = np.zeros(len(case), np.uint8), np.zeros(len(case))
    for number, rule in reversed(list(enumerate(RULES, 1))):
        assert rule.rule is not None
        matches, how_bad = rule.rule(case)
        cause = np.where(matches, np.uint8(number), cause)
        severity = np.where(matches, how_bad, severity)
    return cause, np.clip(severity, 0.0, 100.0)


def unsure(sockets: Records, events: Records, fresh: NDArray[np.uint8]) -> Mask:
    """Rows met for the first time in mid-life: one sample tells nothing of W. A birth that was seen began at 0."""
    found: Mask = fresh == 0
    new = np.flatnonzero(found)
    found[new] = (events["origin"][new] != Origin.NEW) & (sockets["state"][new] != State.SYN_SENT)
    return found


def fade(
    cause: NDArray[np.uint8], severity: Floats, memory: Records, seconds: float
) -> tuple[NDArray[np.uint8], Floats]:
    """Cause and score: a score rises at once and halves in ten seconds; until it has faded its cause stays."""
    faded = memory["score"] * 0.5 ** (seconds / HALVED_IN_S)
    lasting = (severity < faded) & (faded >= FADED)
    return np.where(lasting, memory["cause"], cause), np.where(lasting, faded, severity)


def limits(sockets: Records, win: Records, win_s: Floats, rx_bytes_per_s: Floats) -> NDArray[np.uint8]:
    """What merely limits a flow that sends or receives: index into LIMITS. Half of the busy time decides.

    tcp_chrono_start() (net/ipv4/tcp_output.c) for the peer's window and the send buffer; ``app`` where the sender had
    nothing to send (tcp_rate_check_app_limited()), or was busy for less than half of W.
    """
    found = np.zeros(len(sockets), np.uint8)
    receives = np.flatnonzero(rx_bytes_per_s > 0)
    found[receives[sockets["recv_q"][receives] > sockets["rcv_wnd"][receives]]] = 5
    sends = np.flatnonzero((win["busy_us"] > 0) & (win["data_segs_out"] > 0))
    sends = sends[sockets["state"][sends] != State.LISTEN]
    busy = _f(win["busy_us"][sends])
    of_app = (busy < 0.5e6 * win_s[sends]) | (sockets["app_limited"][sends] != 0)
    by_peer, by_buffer = (2.0 * win[name][sends] >= busy for name in ("rwnd_limited_us", "sndbuf_limited_us"))
    found[sends] = np.select([by_peer, by_buffer, of_app], [1, 2, 4], default=3)
    return found


def first_memory(sockets: Records, events: Records, now_s: float) -> Records:
    """MEMORY of rows met for the first time."""
    memory = np.zeros(len(sockets), MEMORY)
    for name in ("segs_in", "state"):
        memory[name] = sockets[name]
    memory["heard"], memory["failed"] = sockets["retransmits"], events["retrans_failed"]
    memory["state_s"] = now_s
    return memory


def remember(memory: Records, sockets: Records, events: Records, now_s: float, seconds: float) -> None:
    """Take in what this tick tells, before it is judged; what the last one told is kept where a rule compares."""
    state = sockets["state"]
    listens = np.flatnonzero(state == State.LISTEN)
    moved = memory["state"] != state
    moved[listens] |= sockets["recv_q"][listens] <= sockets["send_q"][listens]
    memory["state_s"][moved], memory["state"] = now_s, state
    again, segs_in = sockets["retransmits"], sockets["segs_in"]
    heard = (memory["segs_in"] != segs_in) | (again < memory["heard"])
    np.copyto(memory["heard"], again, where=heard)
    memory["segs_in"] = segs_in
    np.copyto(memory["failed"], events["retrans_failed"], where=again == 0)
    waits = np.flatnonzero(sockets["notsent"])
    waiting = gather(sockets, waits)
    shut = (waiting["unacked"] == 0) & (waiting["snd_wnd"] < waiting["mss"]) & (waiting["state"] != State.LISTEN)
    memory["zero_window_us"][waits[shut]] += np.uint64(seconds * 1e6)


def waited_us(sockets: Records, events: Records) -> NDArray[np.uint32]:
    """Time spent waiting for timeouts so far, the SYN's too; without events the kernel's own sum, less first waits."""
    found: NDArray[np.uint32] = events["rto_wait_us"].copy()
    without = np.flatnonzero(events["first_ns"] == 0)
    told = sockets["total_rto_ms"][without]
    found[without] = np.where(told == UNKNOWN_U32, np.uint32(0), told * np.uint32(1000))
    return found


def stall_us(sockets: Records, events: Records, memory: Records) -> NDArray[np.uint64]:
    """Time lost so far: waiting for timeouts and at a shut window."""
    lost: NDArray[np.uint64] = waited_us(sockets, events).astype(np.uint64) + memory["zero_window_us"]
    return lost


def probe_segments(events: Records) -> NDArray[np.uint32]:
    """Tail-loss probes so far, segments."""
    found: NDArray[np.uint32] = events["retrans"][:, RetransClass.PROBE]
    return found
