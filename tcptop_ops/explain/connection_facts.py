"""What a connection's detail tells beside its columns: options, stalls, related connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.evidence_row import Row
from tcptop_ops.diagnosis.memory import waited_us
from tcptop_ops.diagnosis.rules import CAUSES, HEALTHY, IDLE, UNKNOWN
from tcptop_ops.explain import ecn_facts, timeline
from tcptop_ops.model.addresses import is_mapped
from tcptop_ops.model.arrays import Mask, bound_to
from tcptop_ops.model.enums import STATE_NAMES, Direction, RetransClass, State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import Records

TIMESTAMPS, SACK, WSCALE, ECN, SYN_DATA = 1, 2, 4, 8, 32
"""TCPI_OPT_* of include/uapi/linux/tcp.h."""


PREFIX_V4, PREFIX_V6 = 24, 64


NO_FAULT = (UNKNOWN, IDLE, HEALTHY)


WITHOUT_OTHER_END = "the other end is not on this host, or can't be told for certain"


@dataclass(frozen=True)
class OtherEnd:
    """The other end of a connection, on this host too; or the listener that an attempt waits for."""

    cookie: int
    label: str  # which of the two it is
    process: str  # name and pid
    state: str  # TCP state; where it is, if that is another namespace; and its fault
    has_fault: bool

    @property
    def words(self) -> str:
        """Return all of it as a line."""
        return f"{self.process}, {self.state}"


def other_end(rows: Rows, flows: Flows) -> OtherEnd | None:
    """Return what is at the other end of the only row of ``rows``; None where it is not on this host, or closed."""
    here = Row(rows, flows)
    end, label = (here.partner, "other end") if here.partner is not None else (here.listener, "waits for")
    if end is None:
        return None
    netns = end.socket("netns")
    name = flows.snapshot.namespace_names.get(netns, "") or f"namespace {netns}"
    place = f" in {text.printable(name)}" if netns != here.socket("netns") else ""
    queue = f", queue {end.socket('recv_q')} of {end.socket('send_q')}" if end.socket("state") == State.LISTEN else ""
    cause = CAUSES[int(end.rates["cause"])]
    told = f"{STATE_NAMES.get(end.socket('state'), '?')}{queue}{place}, {cause.name}"
    return OtherEnd(end.socket("cookie"), label, end.process or "no process", told, cause.rule is not None)


def options(rows: Rows, flows: Flows) -> list[tuple[str, str]]:
    """Return the negotiated TCP options of a row: name, and its value in words; none where no peer has answered."""
    if _never_stood(rows):
        return []
    socket = rows.sockets[0]
    has = int(socket["options"])
    scale = f"ours {socket['wscale'] >> 4}, the peer's {socket['wscale'] & 15}" if has & WSCALE else "no"
    return [
        ("MSS", f"{socket['mss']} out, {socket['rcv_mss']} in" if socket["rcv_mss"] else f"{socket['mss']} out"),
        ("window scale", scale),
        ("SACK", _yes(has & SACK)),
        ("timestamps", _yes(has & TIMESTAMPS)),
        ("ECN", ecn_facts.ecn(rows, flows)),
        ("fast open", "data in the SYN was taken" if has & SYN_DATA else "no"),
        ("MPTCP", "a subflow" if socket["mptcp"] else "no"),
    ]


def _never_stood(rows: Rows) -> bool:
    ended = rows.endings is not None and int(rows.endings["from_state"][0]) == State.SYN_SENT
    return ended or bool(rows.sockets["state"][0] == State.SYN_SENT)


def _yes(bit: int) -> str:
    return "yes" if bit else "no"


@dataclass(frozen=True)
class Stalls:
    """Time so far in which a connection could not send."""

    timeouts_us: int  # waiting for retransmission timeouts, once established
    syn_us: int  # waiting for answers to SYNs
    zero_window_us: int  # waiting for the peer to open its window
    life_us: int  # since it was first seen; 0: not known
    probes: int  # tail loss probes, segments: each costs two round trips at least

    @property
    def total_us(self) -> int:
        """Sum of the three waits."""
        return self.timeouts_us + self.syn_us + self.zero_window_us

    @property
    def share_pct(self) -> float:
        """Percentage of its life, 100 at most; NaN where that is not known."""
        return min(100.0 * self.total_us / self.life_us, 100.0) if self.life_us else float("nan")


def stalls(rows: Rows, flows: Flows, story: Records) -> Stalls:
    """Sum up the waits of a row. ``story``: its HAPPENING rows, possibly none.

    Waits for SYNs are told apart where callbacks told of them or it was never established; else they count as timeouts.
    """
    event = rows.events[0]
    waited = int(waited_us(rows.sockets, rows.events)[0])
    before_us = max(int(event["syn_wait_us"]), timeline.waited_before_standing_us(story))
    syn = waited if _never_stood(rows) else min(before_us, waited)
    until = flows.snapshot.now_ns if rows.endings is None else int(rows.endings["end_ns"][0])
    life = max(until - int(event["first_ns"]), 0) // 1000 if event["first_ns"] else 0
    shut = max(int(rows.rates["stall_us"][0]) - waited, 0)
    return Stalls(waited - syn, syn, shut, life, int(event["retrans"][RetransClass.PROBE]))


@dataclass(frozen=True)
class RelatedFlows:
    """The flows that have something in common with a row, which is one of them."""

    what: str  # what they have in common, in words
    count: int
    causes: tuple[tuple[str, int], ...]  # faults among them and how often, the most frequent first
    filter: str  # filter expression that shows them


def related(rows: Rows, flows: Flows) -> list[RelatedFlows]:
    """Return the flows to the same prefix, of the same process and of the same listener, where there are others."""
    found = [_of_prefix(rows, flows), _of_process(rows, flows), _of_listener(rows, flows)]
    return [one for one in found if one is not None and one.count > 1]


def _both(flows: Flows, same: Callable[[Rows], Mask]) -> tuple[int, Records]:
    """Count the rows, live and closed, for which ``same`` is True, without listeners; return their causes, too."""
    parts = [
        part.rates["cause"][same(part) & (part.sockets["state"] != State.LISTEN)]
        for part in (flows.live, flows.closed)
        if len(part)
    ]
    causes = np.concatenate(parts) if parts else np.zeros(0, "u1")
    return len(causes), causes


def _named(causes: Records) -> tuple[tuple[str, int], ...]:
    counts = np.bincount(causes, minlength=len(CAUSES))
    order = np.argsort(-counts, kind="stable")
    return tuple((CAUSES[at].name, int(counts[at])) for at in order.tolist() if counts[at] and at not in NO_FAULT)


def _of_prefix(rows: Rows, flows: Flows) -> RelatedFlows | None:
    address = bytes(rows.sockets["raddr"][0])
    if not int(rows.sockets["rport"][0]):
        return None
    mapped = is_mapped(address)
    kept = (96 + PREFIX_V4 if mapped else PREFIX_V6) // 8
    wanted = np.frombuffer(address[:kept], "u1")
    network = f"{text.address(address[:kept].ljust(16, bytes(1)))}/{PREFIX_V4 if mapped else PREFIX_V6}"
    if not any(address[12:kept] if mapped else address[:kept]):
        return None
    count, causes = _both(
        flows, lambda part: (part.sockets["raddr"][:, :kept] == wanted).all(axis=1) & (part.sockets["rport"] != 0)
    )
    return RelatedFlows(f"to {network}", count, _named(causes), f"host = {network}")


def _of_process(rows: Rows, flows: Flows) -> RelatedFlows | None:
    pid = int(rows.owners["pid"][0])
    if not pid:
        return None
    count, causes = _both(flows, lambda part: part.owners["pid"] == pid)
    name = text.printable(bytes(rows.owners["name"][0])) or "process"
    return RelatedFlows(f"of {name} {pid}", count, _named(causes), f"pid = {pid}")


def _of_listener(rows: Rows, flows: Flows) -> RelatedFlows | None:
    if int(rows.events["direction"][0]) != Direction.IN:
        return None
    here, port = bound_to(rows.sockets)[0], int(rows.sockets["lport"][0])
    count, causes = _both(
        flows, lambda part: (bound_to(part.sockets) == here) & (part.events["direction"] == Direction.IN)
    )
    return RelatedFlows(f"that came in on port {port}", count, _named(causes), f"direction = in and lport = {port}")
