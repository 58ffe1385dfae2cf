"""What each sock_ops operator tells a person, from the counters and rows of a tick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.explain import timeline
from tcptop_ops.explain.connection_facts import ECN
from tcptop_ops.model import endings
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import Direction, Origin, RetransClass, SeenRow, State
from tcptop_ops.model.flows import Flows, Rows

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
