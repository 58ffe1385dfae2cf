"""What bad flows have in common and good ones have not: a remote prefix, a process, a listener, a namespace. Pure.

A group is named if at least BAD_FLOWS of its flows are bad, INSIDE of them or more, and of the flows outside less than
a fifth of that share; and if there are flows outside, or it would be no contrast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import diagnosis
from tcptop_ops import format as text
from tcptop_ops.diagnosis import CAUSES
from tcptop_ops.snapshot import Direction, Origin, Records, State, bound_to
from tcptop_ops.tracker import Finding, Flows, Rows

BAD_FLOWS = 5
INSIDE = 0.6
OUTSIDE = INSIDE / 5
CONTRAST = 5
"""Flows outside that there must be."""

BAD_SCORE = 10.0
FAILED_ALIKE = 3
FAILED_WITHIN_S = 60.0
SHORTEST_V4, SHORTEST_V6 = 8, 16

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Flows:
    """The flows of W, aligned."""

    sockets: Records
    owners: Records
    rates: Records
    direction: NDArray[np.uint8]
    bad: Mask

    def __len__(self) -> int:
        return len(self.bad)


@dataclass(frozen=True)
class _Group:
    """Which flows are inside, how to say it, and the filter that shows them."""

    inside: Mask
    name: str
    filter: str


def findings(flows: Flows) -> list[Finding]:
    """The most telling first."""
    told = failures(flows)
    shared = shared_fate(_of_window(flows))
    return [shared, *told] if shared else told


def _of_window(flows: Flows) -> _Flows:
    """What sent or received within W, or tried to; happy eyeballs that lost are neither good nor bad."""
    parts = [_take_part(rows) for rows in (flows.live, flows.closed)]
    sockets, owners, rates, direction, bad = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Flows(sockets, owners, rates, direction, bad)


def _take_part(rows: Rows) -> tuple[Records, Records, Records, NDArray[np.uint8], Mask]:
    rates, sockets = rows.rates, rows.sockets
    score = np.nan_to_num(rates["score"])
    bad = (score >= BAD_SCORE) & diagnosis.NETWORK[rates["cause"]]
    moved = (rates["win"]["data_segs_out"] > 0) | (rates["win"]["data_segs_in"] > 0)
    wanted = np.flatnonzero((moved | bad) & (sockets["state"] != State.LISTEN) & (sockets["rport"] != 0))
    kept = rows.take(wanted)
    return kept.sockets, kept.owners, kept.rates, kept.events["direction"], bad[wanted]


def shared_fate(flows: _Flows) -> Finding | None:
    """The group with the most of the bad flows; of several, the smallest."""
    if int(flows.bad.sum()) < BAD_FLOWS:
        return None
    best: tuple[int, int, _Group] | None = None
    for group in _groups(flows):
        inside_bad, inside = int((group.inside & flows.bad).sum()), int(group.inside.sum())
        if _stands_out(inside_bad, inside, int(flows.bad.sum()) - inside_bad, len(flows) - inside):
            rank = (inside_bad, -inside)
            if best is None or rank > best[:2]:
                best = (*rank, group)
    return None if best is None else _told(flows, best[2])


def _stands_out(bad: int, inside: int, bad_outside: int, outside: int) -> bool:
    if bad < BAD_FLOWS or bad < INSIDE * inside or outside < CONTRAST:
        return False
    return bad_outside / outside < bad / inside / 5


def _groups(flows: _Flows) -> Iterator[_Group]:
    yield from _prefixes(flows)
    yield from _same(flows, flows.owners["pid"].astype("u8"), "process", _name_process)
    came_in = flows.direction == Direction.IN
    yield from _same(flows, np.where(came_in, bound_to(flows.sockets), 0), "listener", _name_listener)
    yield from _same(flows, flows.sockets["netns"].astype("u8"), "namespace", _name_namespace)


def _same(flows: _Flows, keys: NDArray[np.uint64], _kind: str, name: Any) -> Iterator[_Group]:
    """A group for each key that enough bad flows have; 0 is no key."""
    found, counts = np.unique(keys[flows.bad], return_counts=True)
    for key in found[(counts >= BAD_FLOWS) & (found != 0)]:
        inside = keys == key
        words, wanted = name(flows, int(np.flatnonzero(inside)[0]))
        yield _Group(inside, words, wanted)


def _name_process(flows: _Flows, row: int) -> tuple[str, str]:
    owner = flows.owners[row]
    return f"of {text.printable(bytes(owner['name'])) or 'process'} {owner['pid']}", f"pid = {owner['pid']}"


def _name_listener(flows: _Flows, row: int) -> tuple[str, str]:
    socket = flows.sockets[row]
    return (
        f"to the listener on port {socket['lport']}",
        f"direction = in and lport = {socket['lport']} and netns = {socket['netns']}",
    )


def _name_namespace(flows: _Flows, row: int) -> tuple[str, str]:
    netns = flows.sockets["netns"][row]
    return f"in network namespace {netns}", f"netns = {netns}"


def _prefixes(flows: _Flows) -> Iterator[_Group]:
    """From the whole address up, a prefix that holds more of the bad flows at each step."""
    raddr = np.ascontiguousarray(flows.sockets["raddr"])
    mapped = (raddr[:, :10] == 0).all(axis=1) & (raddr[:, 10:12] == 0xFF).all(axis=1)
    for is_v4, first, shortest in ((True, 96, SHORTEST_V4), (False, 0, SHORTEST_V6)):
        of_family = mapped == is_v4
        if int((of_family & flows.bad).sum()) < BAD_FLOWS:
            continue
        yield from _grown(flows, raddr, of_family, first, shortest)


def _grown(flows: _Flows, raddr: NDArray[np.uint8], of_family: Mask, first: int, shortest: int) -> Iterator[_Group]:
    held = 0
    for length in range(128, first + shortest - 1, -1):
        networks = _cut(raddr, length)
        found, counts = np.unique(networks[flows.bad & of_family], return_counts=True)
        if counts.max() < BAD_FLOWS or counts.max() <= held:
            continue
        held = int(counts.max())
        network = found[counts.argmax()]
        written = text.address(bytes(network)) + ("" if length == 128 else f"/{length - first}")
        yield _Group(of_family & (networks == network), f"to {written}", f"host = {written}")


def _cut(raddr: NDArray[np.uint8], length: int) -> NDArray[np.void]:
    """The addresses with all bits behind ``length`` cleared."""
    mask = np.frombuffer(((1 << length) - 1 << 128 - length).to_bytes(16, "big"), "u1")
    cut: NDArray[np.void] = np.ascontiguousarray(raddr & mask).view("V16")[:, 0]
    return cut


def _told(flows: _Flows, group: _Group) -> Finding:
    inside, outside = group.inside, ~group.inside
    bad = inside & flows.bad
    causes = np.bincount(flows.rates["cause"][bad], minlength=len(CAUSES))
    cause = CAUSES[int(causes.argmax())].name
    what = _lose(flows, bad) if cause in ("loss", "tail-loss") else _VERBS.get(cause, cause)
    others = _share(flows, outside) if cause in ("loss", "tail-loss") else f"{int((outside & flows.bad).sum())} of them"
    return Finding(
        f"{int(bad.sum())} of {int(inside.sum())} flows {group.name} {what}; other {int(outside.sum())}: {others}",
        group.filter,
        int(inside.sum()),
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


def _percents(flows: _Flows, which: Mask) -> NDArray[np.float64]:
    win = flows.rates["win"][which]
    found: NDArray[np.float64] = 100.0 * win["retrans_segs"] / np.maximum(win["data_segs_out"], 1)
    return found


def _lose(flows: _Flows, bad: Mask) -> str:
    low, high = np.percentile(_percents(flows, bad), (25, 75))
    ends = [text.percent(float(value)) for value in (low, high)]
    return f"lose {ends[0]} %" if ends[0] == ends[1] else f"lose {ends[0]}-{ends[1]} %"


def _share(flows: _Flows, which: Mask) -> str:
    win = flows.rates["win"][which]
    sent = int(win["data_segs_out"].sum(dtype="u8"))
    return f"{text.percent(100.0 * int(win['retrans_segs'].sum(dtype='u8')) / sent if sent else 0.0)} %"


def failures(flows: Flows) -> list[Finding]:
    """Connection attempts that failed, by process and destination: ``curl -> 192.0.2.10:443 41 failed / 60 s``."""
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
