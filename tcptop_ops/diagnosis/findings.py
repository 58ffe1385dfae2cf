"""What bad flows have in common that good ones do not: a remote prefix, process, listener or namespace. Pure.

A group of flows is reported if at least BAD_FLOWS of them are bad, and at least the share INSIDE; if CONTRAST flows or
more are outside of it; and if the share of bad ones outside is less than a fifth of that inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.diagnosis import rules
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.addresses import are_mapped, halves
from tcptop_ops.model.arrays import Mask, find_sorted
from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Finding, Flows, Rows
from tcptop_ops.model.records import Records

BAD_FLOWS = 5
"""Fewest bad flows of a group that is reported."""

INSIDE = 0.6
"""Least share of bad flows in such a group."""

CONTRAST = 5
"""Fewest flows outside of it, without which there is nothing to compare with."""

BAD_SCORE = 10.0
"""Score from which a flow with a fault of the path is bad."""

FAILED_ALIKE = 3
"""Fewest failed attempts to the same place that are reported."""

FAILED_WITHIN_S = 60.0
"""How long a failed attempt counts, seconds."""

SHORTEST_V4, SHORTEST_V6 = 8, 16
"""Bits of the shortest prefixes that are tried."""

MOST_NUMBERS = 1 << 16
"""Keys below this are counted in a table of that size."""


@dataclass(frozen=True)
class _Flows:
    """The flows that were active within W. The arrays are aligned, one element per flow."""

    pid: NDArray[np.uint64]
    row: NDArray[np.intp]  # index into all rows, the live ones before the closed
    netns: NDArray[np.uint64]
    lport: NDArray[np.uint16]
    came_in: Mask  # opened by the peer
    high: NDArray[np.uint64]  # upper half of the remote address as a number
    low: NDArray[np.uint64]  # lower half
    bad: Mask

    def __len__(self) -> int:
        """Return the number of flows."""
        return len(self.bad)


@dataclass(frozen=True)
class _Group:
    """Flows that have something in common."""

    which: Mask  # which flows are inside
    bad: int  # how many of those are bad
    inside: int  # how many there are
    name: str  # what they have in common, in words
    filter: str  # the filter expression that shows them


def findings(flows: Flows) -> list[Finding]:
    """Return what bad flows share, then the failed connection attempts; the most telling first."""
    told = failures(flows)
    bad = sum(int(_bad(rows).sum()) for rows in (flows.live, flows.closed))
    shared = shared_fate(flows) if bad >= BAD_FLOWS else None
    return [shared, *told] if shared else told


def _bad(rows: Rows) -> Mask:
    """Return the rows whose fault is one of the path, with a score of BAD_SCORE or more."""
    scores = rows.rates["score"]  # NaN, not known yet, compares as False
    found: Mask = (scores >= BAD_SCORE) & rules.NETWORK[rows.rates["cause"]]
    return found


def _of_window(flows: Flows) -> _Flows:
    """Collect the flows, live and closed, that sent or received data within W or are bad.

    An attempt that was abandoned without a fault, such as the slower of two in Happy Eyeballs (RFC 8305), is left out.
    """
    parts = [_part(flows.live, 0), _part(flows.closed, len(flows.live))]
    return _Flows(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _part(rows: Rows, before: int) -> tuple[NDArray[Any], ...]:
    """Return the fields of _Flows for these rows. ``before``: how many rows precede them among all rows."""
    rates, sockets, owners = rows.rates, rows.sockets, rows.owners
    win = rates["win"]
    bad = _bad(rows)
    moved = ((win["data_segs_out"] | win["data_segs_in"]) > 0) | bad
    which = np.flatnonzero(moved & (sockets["state"] != State.LISTEN) & (sockets["rport"] != 0))
    high, low = halves(sockets["raddr"][which])
    return (
        owners["pid"][which].astype("u8"),
        which + before,
        sockets["netns"][which].astype("u8"),
        sockets["lport"][which],
        rows.events["direction"][which] == Direction.IN,
        high,
        low,
        bad[which],
    )


def shared_fate(all_flows: Flows) -> Finding | None:
    """Report the group that has the most bad flows, the smallest of several; None if no group stands out."""
    flows = _of_window(all_flows)

    def name_process(row: int) -> tuple[str, str]:
        at, live = int(flows.row[row]), all_flows.live
        owner = live.owners[at] if at < len(live) else all_flows.closed.owners[at - len(live)]
        return f"of {text.printable(bytes(owner['name'])) or 'process'} {owner['pid']}", f"pid = {owner['pid']}"

    groups = [*_prefixes(flows), *_same(flows, flows.pid, name_process), *_places(flows)]
    best = max(groups, key=lambda group: (group.bad, -group.inside), default=None)
    return None if best is None else _told(all_flows, flows, best)


def _stand_out(flows: _Flows, bad: Any, inside: Any) -> Any:
    """Return whether groups of ``inside`` flows, ``bad`` of them bad, meet the conditions above; numbers or arrays."""
    outside, all_bad = len(flows) - inside, int(flows.bad.sum())
    enough = (bad >= BAD_FLOWS) & (bad >= INSIDE * inside) & (outside >= CONTRAST)
    return enough & ((all_bad - bad) * inside * 5 < bad * outside)


def _places(flows: _Flows) -> Iterator[_Group]:
    """Yield the groups that share a listener or a network namespace."""
    listener = np.where(flows.came_in, flows.netns << np.uint64(16) | flows.lport, np.uint64(0))
    yield from _same(flows, listener, lambda row: _name_listener(flows, row))
    yield from _same(flows, flows.netns, lambda row: _name_namespace(flows, row))


def _same(flows: _Flows, keys: NDArray[np.uint64], name: Callable[[int], tuple[str, str]]) -> Iterator[_Group]:
    """Yield a group for each key whose flows stand out; key 0 means that a flow has none.

    ``name`` makes the group's name and filter from the index of one of its flows.
    """
    found, bad = np.unique(keys[flows.bad], return_counts=True)
    enough = (bad >= BAD_FLOWS) & (found != 0)
    found, bad = found[enough], bad[enough]
    if not len(found):
        return
    inside = _count(found, keys)
    for number in np.flatnonzero(_stand_out(flows, bad, inside)):
        which = keys == found[number]
        yield _Group(which, int(bad[number]), int(inside[number]), *name(int(which.argmax())))


def _count(found: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Count how often each of ``found``, which is sorted, occurs among the keys."""
    if found[-1] < MOST_NUMBERS:  # as pids mostly are: a look into a table is faster than a search
        table = np.bincount(np.minimum(keys, np.uint64(MOST_NUMBERS)).astype(np.intp), minlength=MOST_NUMBERS)
        counts: NDArray[np.intp] = table[found.astype(np.intp)]
        return counts
    at, is_one = find_sorted(found, keys)
    return np.bincount(at[is_one], minlength=len(found))


def _name_listener(flows: _Flows, row: int) -> tuple[str, str]:
    port, netns = int(flows.lport[row]), int(flows.netns[row])
    return f"to the listener on port {port}", f"direction = in and lport = {port} and netns = {netns}"


def _name_namespace(flows: _Flows, row: int) -> tuple[str, str]:
    netns = int(flows.netns[row])
    return f"in network namespace {netns}", f"netns = {netns}"


def _prefixes(flows: _Flows) -> Iterator[_Group]:
    """Yield the groups by remote prefix: from whole addresses on, each shorter prefix that has more bad flows."""
    mapped = are_mapped(flows.high, flows.low)
    for of_family, first, shortest in ((mapped, 96, SHORTEST_V4), (~mapped, 0, SHORTEST_V6)):
        if int((of_family & flows.bad).sum()) >= BAD_FLOWS:
            yield from _grown(flows, of_family, first, shortest)


def _grown(flows: _Flows, of_family: Mask, first: int, shortest: int) -> Iterator[_Group]:
    """Yield the groups of one family, whose addresses begin at bit ``first``: 96 for IPv4, which is mapped."""
    held, bad = 0, flows.bad & of_family
    high, low = flows.high[bad], flows.low[bad]
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    for length in range(128, first + shortest - 1, -1):
        network, count = _most_common(high, low, length)
        if count < BAD_FLOWS or count <= held:
            continue
        held = count
        masks = _masks(length)
        which = of_family & (flows.high & masks[0] == network[0]) & (flows.low & masks[1] == network[1])
        inside = int(which.sum())
        if _stand_out(flows, count, inside):
            packed = int(network[0]).to_bytes(8, "big") + int(network[1]).to_bytes(8, "big")
            written = text.address(packed) + ("" if length == 128 else f"/{length - first}")
            yield _Group(which, count, inside, f"to {written}", f"host = {written}")


def _masks(length: int) -> tuple[np.uint64, np.uint64]:
    """Return the mask of an IPv6 prefix of ``length`` bits, as its upper and its lower half."""
    mask = (1 << length) - 1 << 128 - length
    return np.uint64(mask >> 64), np.uint64(mask & (1 << 64) - 1)


def _most_common(
    high: NDArray[np.uint64], low: NDArray[np.uint64], length: int
) -> tuple[tuple[np.uint64, np.uint64], int]:
    """Return the prefix of this length that most of the addresses have, and how many do. They are sorted."""
    masks = _masks(length)
    high, low = high & masks[0], low & masks[1]
    begins = np.flatnonzero(np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])]))
    counts = np.diff(np.append(begins, len(high)))
    most = int(counts.argmax())
    return (high[begins[most]], low[begins[most]]), int(counts[most])


def _told(all_flows: Flows, flows: _Flows, group: _Group) -> Finding:
    """Put a group into words: what its bad flows suffer from, and how the flows outside do."""
    outside, bad = ~group.which, group.which & flows.bad
    rates = np.concatenate([all_flows.live.rates, all_flows.closed.rates])[flows.row]
    counts = np.bincount(rates["cause"][bad], minlength=len(CAUSES))
    first, second = np.argsort(-counts, kind="stable")[:2]
    cause = CAUSES[int(first)].name
    what, others = _VERBS.get(cause, cause), f"{int((outside & flows.bad).sum())} of them"
    if counts[second]:
        what = f"are bad: {counts[first]} {cause}, {counts[second]} {CAUSES[int(second)].name}"
    if cause in ("loss", "tail-loss"):
        what, others = _lose(rates["win"][bad]), _share(rates["win"][outside])
    return Finding(
        f"{group.bad} of {group.inside} flows {group.name} {what}; other {len(flows) - group.inside}: {others}",
        group.filter,
        group.inside,
    )


_VERBS = {
    "unreachable": "find no way",
    "syn-unanswered": "get no answer",
    "dead-peer": "hear nothing from the peer",
    "rto-stall": "stall on timeouts",
    "reordering": "are reordered",
    "spurious": "send again what had arrived",
    "inbound-loss": "lose what they receive",
    "bufferbloat": "queue on the way",
}


def _lose(win: Records) -> str:
    """Say what share these flows retransmit, from the first quartile to the third."""
    win = win[win["data_segs_out"] > 0]
    percents = 100.0 * win["retrans_segs"] / win["data_segs_out"] if len(win) else [100.0]
    ends = [text.percent(float(value)) for value in np.percentile(percents, (25, 75))]
    return f"lose {ends[0]} %" if ends[0] == ends[1] else f"lose {ends[0]}-{ends[1]} %"


def _share(win: Records) -> str:
    """Say what share of the data segments of all these flows together was retransmitted."""
    sent, again = (int(win[name].sum(dtype="u8")) for name in ("data_segs_out", "retrans_segs"))
    return f"{text.percent(100.0 * again / sent if sent else 0.0)} %"


def failures(flows: Flows) -> list[Finding]:
    """Report connection attempts that failed alike: ``curl -> 192.0.2.10:443 41 failed / 60 s: refused``.

    By process, destination and cause, of the last FAILED_WITHIN_S: the three most frequent, of FAILED_ALIKE at least.
    """
    closed = flows.closed
    if closed.endings is None or not len(closed):
        return []
    recent = (flows.snapshot.now_ns - closed.endings["end_ns"].astype("f8")) / 1e9 <= FAILED_WITHIN_S
    failed = np.isin(closed.rates["cause"], _FAILURES) & (closed.endings["from_state"] == State.SYN_SENT)
    failed &= (closed.rates["score"] > 0) & (closed.events["origin"] != Origin.LISTED)
    which = np.flatnonzero(recent & failed)
    if len(which) < FAILED_ALIKE:
        return []
    keys = np.zeros(len(which), [("name", "S32"), ("raddr", "V16"), ("rport", "u2"), ("cause", "u1")])
    keys["name"], keys["rport"] = closed.owners["name"][which], closed.sockets["rport"][which]
    keys["raddr"] = np.ascontiguousarray(closed.sockets["raddr"][which]).view("V16")[:, 0]
    keys["cause"] = closed.rates["cause"][which]
    found, counts = np.unique(keys, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [_failure(found[at], int(counts[at])) for at in order[:3] if counts[at] >= FAILED_ALIKE]


_FAILURES = [
    number for number, cause in enumerate(CAUSES) if cause.name in ("refused", "unreachable", "syn-unanswered")
]


def _failure(key: Any, count: int) -> Finding:
    address, cause = text.address(bytes(key["raddr"])), CAUSES[int(key["cause"])].name
    who = text.printable(bytes(key["name"])) or "?"
    return Finding(
        f"{who} -> {text.endpoint(address, int(key['rport']))} {count} failed / {FAILED_WITHIN_S:.0f} s: {cause}",
        f"host = {address} and rport = {key['rport']} and cause = {cause}",
        count,
    )
