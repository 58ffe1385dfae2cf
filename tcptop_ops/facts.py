"""What the detail screens show beside the columns: facts about one row, and about the host's operators. Pure.

A row is Rows of length 1. Sizes are bytes and times microseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text, timeline
from tcptop_ops.diagnosis import CAUSES, HEALTHY, IDLE, UNKNOWN, waited_us
from tcptop_ops.model import endings
from tcptop_ops.model.addresses import is_mapped
from tcptop_ops.model.arrays import bound_to
from tcptop_ops.model.enums import Direction, Origin, RetransClass, SeenRow, State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import UNKNOWN_U32, Records

TIMESTAMPS, SACK, WSCALE, ECN, ECN_SEEN, SYN_DATA = 1, 2, 4, 8, 16, 32
"""TCPI_OPT_* of include/uapi/linux/tcp.h."""

PREFIX_V4, PREFIX_V6 = 24, 64
NO_FAULT = (UNKNOWN, IDLE, HEALTHY)

Mask = NDArray[np.bool_]


def options(rows: Rows) -> list[tuple[str, str]]:
    """Return the negotiated TCP options of a row: name, and its value in words."""
    socket = rows.sockets[0]
    has = int(socket["options"])
    scale = f"ours {socket['wscale'] >> 4}, the peer's {socket['wscale'] & 15}" if has & WSCALE else "no"
    ecn = "no" if not has & ECN else "yes, ECN-capable packets came" if has & ECN_SEEN else "yes"
    if has & ECN and socket["delivered_ce"] not in (0, UNKNOWN_U32):
        ecn = f"yes, {socket['delivered_ce']} of {socket['delivered']} segments marked"
    return [
        ("MSS", f"{socket['mss']} out, {socket['rcv_mss']} in" if socket["rcv_mss"] else f"{socket['mss']} out"),
        ("window scale", scale),
        ("SACK", _yes(has & SACK)),
        ("timestamps", _yes(has & TIMESTAMPS)),
        ("ECN", ecn),
        ("fast open", "data in the SYN was taken" if has & SYN_DATA else "no"),
        ("MPTCP", "a subflow" if socket["mptcp"] else "no"),
    ]


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

    Waits for SYNs are told apart where the story has them or it was never established; else they count as timeouts.
    """
    socket, event = rows.sockets[0], rows.events[0]
    waited = int(waited_us(rows.sockets, rows.events)[0])
    never_stood = socket["state"] == State.SYN_SENT or (
        rows.endings is not None and int(rows.endings["from_state"][0]) == State.SYN_SENT
    )
    syn = waited if never_stood else min(timeline.waited_before_standing_us(story), waited)
    until = flows.snapshot.now_ns if rows.endings is None else int(rows.endings["end_ns"][0])
    life = max(until - int(event["first_ns"]), 0) // 1000 if event["first_ns"] else 0
    shut = max(int(rows.rates["stall_us"][0]) - waited, 0)
    return Stalls(waited - syn, syn, shut, life, int(event["retrans"][RetransClass.PROBE]))


@dataclass(frozen=True)
class Kin:
    """The flows that have something in common with a row, which is one of them."""

    what: str  # what they have in common, in words
    count: int
    causes: tuple[tuple[str, int], ...]  # faults among them and how often, the most frequent first
    filter: str  # filter expression that shows them


def kin(rows: Rows, flows: Flows) -> list[Kin]:
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


def _of_prefix(rows: Rows, flows: Flows) -> Kin | None:
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
    return Kin(f"to {network}", count, _named(causes), f"host = {network}")


def _of_process(rows: Rows, flows: Flows) -> Kin | None:
    pid = int(rows.owners["pid"][0])
    if not pid:
        return None
    count, causes = _both(flows, lambda part: part.owners["pid"] == pid)
    name = text.printable(bytes(rows.owners["name"][0])) or "process"
    return Kin(f"of {name} {pid}", count, _named(causes), f"pid = {pid}")


def _of_listener(rows: Rows, flows: Flows) -> Kin | None:
    if int(rows.events["direction"][0]) != Direction.IN:
        return None
    here, port = bound_to(rows.sockets)[0], int(rows.sockets["lport"][0])
    count, causes = _both(
        flows, lambda part: (bound_to(part.sockets) == here) & (part.events["direction"] == Direction.IN)
    )
    return Kin(f"that came in on port {port}", count, _named(causes), f"direction = in and lport = {port}")


@dataclass(frozen=True)
class Door:
    """A listener's accept queue, and the connections that came in through it."""

    queue: int  # connections that wait for accept()
    limit: int  # of the queue
    full_s: float  # how long the queue has been over its limit; 0: it is not
    drops_win: int  # dropped handshakes within W
    drops: int  # so far; UNKNOWN_U32: not known
    win_s: float  # length of W for this row
    waiting: int  # connections that no process holds yet
    inside: int  # open connections that came in here
    opened_per_s: float  # handshakes completed within W; too low, since connections no longer listed are not counted
    syn_recv: int  # handshakes that are not complete

    @property
    def drops_per_s(self) -> float:
        """Dropped handshakes a second, within W."""
        return self.drops_win / self.win_s if self.win_s > 0 else 0.0


def door(rows: Rows, flows: Flows, waiting_owner: int) -> Door:
    """Describe a listener. ``waiting_owner``: the OwnerKind of connections that wait for accept()."""
    socket, rates = rows.sockets[0], rows.rates[0]
    here = bound_to(rows.sockets)[0]
    inside = waiting = opened = 0
    since_ns = flows.snapshot.now_ns - int(flows.window_s * 1e9)
    for part in (flows.live, flows.closed):
        mine = (bound_to(part.sockets) == here) & (part.events["direction"] == Direction.IN)
        opened += int((mine & (part.events["origin"] == Origin.NEW) & (part.events["first_ns"] >= since_ns)).sum())
        if part.endings is None:
            inside, waiting = int(mine.sum()), int((mine & (part.owners["how"] == waiting_owner)).sum())
    win_s = float(rates["win_s"])
    over = int(socket["recv_q"]) > int(socket["send_q"])
    return Door(
        queue=int(socket["recv_q"]),
        limit=int(socket["send_q"]),
        full_s=float(rates["state_s"]) if over else 0.0,
        drops_win=int(rates["win"]["drops"]),
        drops=int(socket["drops"]),
        win_s=win_s,
        waiting=waiting,
        inside=inside,
        opened_per_s=opened / win_s if win_s > 0 else 0.0,
        syn_recv=int((bound_to(flows.snapshot.half_open) == here).sum()),
    )


def binds(limit: int, somaxconn: int | None) -> str:
    """Say whether listen() or somaxconn sets a queue's limit. ``somaxconn``: that of its namespace, None: not known."""
    if somaxconn is None:
        return f"limit {limit} = min(listen(), somaxconn); somaxconn of its namespace is not known here"
    if limit < somaxconn:
        return f"limit = min(listen() {limit}, somaxconn {somaxconn}): the process asked for so few"
    if limit == somaxconn:
        return f"limit = somaxconn {somaxconn}: raise net.core.somaxconn before the backlog of listen()"
    return f"limit {limit}, from when somaxconn was more than {somaxconn}"


# Operators of sock_ops


def quantile_us(buckets: NDArray[np.uint64], share: float) -> tuple[int, int] | None:
    """Return the bounds, us, of the bucket that holds the ``share`` quantile (0 to 1); None without samples.

    Bucket k counts the samples of 2^k us and more, less than 2^(k+1).
    """
    total = int(buckets.sum())
    if not total:
        return None
    at = int(np.searchsorted(np.cumsum(buckets), share * total))
    at = min(at, len(buckets) - 1)
    return 1 << at, 2 << at


def spread(buckets: NDArray[np.uint64]) -> str:
    """Say where median and 99th percentile of a histogram lie: ``p50 16ms to 33ms  p99 ...``; "" without samples."""
    found = [(name, quantile_us(buckets, share)) for name, share in (("p50", 0.5), ("p99", 0.99))]
    return "  ".join(
        f"{name} {text.duration(low / 1e6)} to {text.duration(high / 1e6)}"
        for name, between in found
        if between
        for low, high in (between,)
    )


def about(number: int, flows: Flows) -> list[str]:
    """Return lines that explain an operator's count by the rows and counters of this tick; empty for most.

    ``number``: the operator's, BPF_SOCK_OPS_* of include/uapi/linux/bpf.h.
    """
    tell = _ABOUT.get(number)
    return tell(flows) if tell is not None else []


def _requests(number: int) -> Callable[[Flows], list[str]]:
    def requests(flows: Flows) -> list[str]:
        count = int(flows.snapshot.counters["requests"][number])
        return [f"{text.count(count)} of the calls came for request sockets"]

    return requests


def _parts(flows: Flows) -> list[Rows]:
    return [part for part in (flows.live, flows.closed) if len(part)]


def _most(names: list[bytes], label: str, unknown: str = "?") -> list[str]:
    if not names:
        return []
    found, counts = np.unique(np.array(names, "S32"), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:4]
    told = ", ".join(f"{text.printable(bytes(found[at])) or unknown} {counts[at]}" for at in order)
    return [f"{label}: {told}"]


def _dials(flows: Flows) -> list[str]:
    since = flows.snapshot.now_ns - int(flows.window_s * 1e9)
    names: list[bytes] = []
    for part in _parts(flows):
        events = part.events
        dialled = (events["direction"] == Direction.OUT) & (events["origin"] == Origin.NEW)
        names += part.owners["name"][dialled & (events["first_ns"] >= since)].tolist()
    return _most(names, f"within {flows.window_s:g} s, still listed")


def _connect_times(flows: Flows) -> list[str]:
    took = [part.events["connect_us"][_stood(part)] for part in _parts(flows)]
    known = np.concatenate(took) if took else np.zeros(0, "u4")
    if not len(known):
        return []
    low, high = np.percentile(known, (50, 99))
    return [f"time to connect of {len(known)} listed: p50 {_us(low)}, p99 {_us(high)}"]


def _stood(part: Rows) -> Mask:
    events = part.events
    tried = events["states"] & ~np.uint16(1 << State.SYN_SENT | 1 << State.CLOSE) == 0
    found: Mask = (events["connect_us"] > 0) & (events["direction"] == Direction.OUT) & ~tried
    return found


def _us(value: Any) -> str:
    return text.duration(float(value) / 1e6)


def _handshakes(flows: Flows) -> list[str]:
    calls, requests = flows.snapshot.counters["calls"], flows.snapshot.counters["requests"]
    return [f"{text.count(int(calls[5]))} handshakes completed, {text.count(int(requests[1]))} SYNs admitted"]


def _ecn(flows: Flows) -> list[str]:
    granted = delivered = marked = 0
    for part in _parts(flows):
        has = part.sockets["options"] & ECN != 0
        granted += int(has.sum())
        delivered += int(part.sockets["delivered"][has].sum(dtype="u8"))
        marked += int(part.sockets["delivered_ce"][has].sum(dtype="u8"))
    share = f", {text.percent(100.0 * marked / delivered)} % of their segments marked" if delivered else ""
    return [f"ECN granted on {granted} of the listed{share}"]


def _waited(flows: Flows) -> list[str]:
    total = sum(int(part.events["rto_wait_us"].sum(dtype="u8")) for part in _parts(flows))
    return [f"{_us(total)} waited by the listed together"]


def _classes(flows: Flows) -> list[str]:
    found = sum((part.events["retrans"].sum(axis=0, dtype="u8") for part in _parts(flows)), np.zeros(4, "u8"))
    return ["segments by class: " + ", ".join(f"{timeline.CLASSES[one]} {found[one]}" for one in RetransClass)]


def _ends(flows: Flows) -> list[str]:
    closed = flows.closed
    if closed.endings is None or not len(closed):
        return []
    names = endings.end_names(closed.sockets, closed.events, closed.endings).tolist()
    return _most(names, "how those ended that are still listed", "not known")


def _listeners(flows: Flows) -> list[str]:
    listens = flows.live.sockets["state"] == State.LISTEN
    return [f"{int(listens.sum())} listen now", *_most(flows.live.owners["name"][listens].tolist(), "by process")]


def _round_trips(flows: Flows) -> list[str]:
    told = [("host", flows.snapshot.seen[SeenRow.HOST]), ("this connection", flows.snapshot.seen[SeenRow.WATCHED])]
    return [f"{who}: {words}" for who, one in told if (words := spread(one["rtt"]))]


_ABOUT: dict[int, Callable[[Flows], list[str]]] = {
    1: _requests(1),
    2: _requests(2),
    3: _dials,
    4: _connect_times,
    5: _handshakes,
    6: _ecn,
    8: _waited,
    9: _classes,
    10: _ends,
    11: _listeners,
    12: _round_trips,
}

__all__ = [
    "UNKNOWN_U32",
    "Door",
    "Kin",
    "Stalls",
    "about",
    "binds",
    "door",
    "kin",
    "options",
    "quantile_us",
    "spread",
    "stalls",
]
