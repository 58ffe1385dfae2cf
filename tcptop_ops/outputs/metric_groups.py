"""Counters of processes, services and remote networks, from tick to tick. Pure.

Those TOP groups of each kind that matter most have series of their own; all others together are ``other``. How much a
group matters is its recent share of everything on this host: of the connections, of the payload, twice that of the
retransmitted segments, each in percent, and the worst score of its connections. A group keeps its series until another
one matters twice as much. A new one begins at zero, and one that is replaced is gone, so that no series ever jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.diagnosis.findings.bad_rows import BAD_SCORE
from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.outputs.metric_family import EDGES_S, Family, Histogram
from tcptop_ops.views.groups import group_rows

Floats = NDArray[np.float64]

TOP = 20
"""Groups of each kind that have series of their own."""

OTHER = "other"
"""The label of all others together."""

LONGEST_LABEL = 64
"""The longest label value, in characters."""

HALF_LIFE_S = 60.0
"""Seconds after which what a group was worth counts half."""

DIMENSIONS = {"process": "process", "service": "cgroup", "remote": "remote-net"}
"""The kinds of groups by their label; the key of ``groups`` that puts them together."""

GROUP_COUNTERS = (
    ("retransmitted_segments", "retrans_per_s", "Segments sent again."),
    ("timeouts", "rto_per_s", "Retransmission timeouts."),
    ("sent_bytes", "tx_bytes_per_s", "Payload sent and acknowledged."),
    ("received_bytes", "rx_bytes_per_s", "Payload received."),
)
"""Counters of groups: name, which of the rates it is made of, help."""

BUCKETS = len(EDGES_S) + 1
"""Of a histogram of round-trip times."""

SRTT = "Smoothed round-trip time of each connection that moved data, observed every tick,"
"""The help of such a histogram, but for the end of the sentence."""


@dataclass(frozen=True)
class GroupTick:
    """What each row of a tick did in it, live rows first. ``which``: those that are connections."""

    flows: Flows
    which: NDArray[np.intp]
    is_live: NDArray[np.bool_]
    score: Floats
    added: Floats  # a column for each of GROUP_COUNTERS
    observed: NDArray[np.intp]  # the bucket of the round-trip time; -1: nothing moved, so that it says nothing
    srtt_s: Floats


def _rate(name: str) -> Callable[[Rows, Flows], NDArray[Any]]:
    return lambda rows, _: rows.rates[name]


def _connects(rows: Rows, _: Flows) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (rows.sockets["state"] != State.LISTEN) & (rows.sockets["rport"] != 0)
    return found


def tick_of(flows: Flows) -> GroupTick:
    """Return what each row did in this tick, of its rates and the time that passed."""
    rates = [flows.column(_rate(source)) for _, source, _ in GROUP_COUNTERS]
    added = np.rint(np.column_stack(rates) * flows.seconds)
    connects = flows.column(_connects)
    srtt_s = flows.column(lambda rows, _: rows.sockets["srtt_us"]) / 1e6
    moved = connects & (added[:, 2:] > 0).any(axis=1) & (srtt_s > 0)
    return GroupTick(
        flows,
        np.flatnonzero(connects),
        np.arange(len(flows)) < len(flows.live),
        np.nan_to_num(flows.column(_rate("score")).astype("f8")),
        added,
        np.where(moved, np.searchsorted(EDGES_S, srtt_s), -1),
        srtt_s,
    )


@dataclass
class Group:
    """What a group that has series did so far; the host as a whole is one, too.

    ``now``: its connections, and the bad ones among them. ``srtt``: observations by bucket.
    """

    label: str
    worth: float
    counters: Floats = field(default_factory=lambda: np.zeros(len(GROUP_COUNTERS)))
    srtt: Floats = field(default_factory=lambda: np.zeros(BUCKETS))
    srtt_sum: float = 0.0
    now: Floats = field(default_factory=lambda: np.zeros(2))

    def add(self, sums: _Sums, group: int) -> None:
        """Add what it did in a tick."""
        self.counters += sums.added[group]
        self.srtt += sums.srtt[group]
        self.srtt_sum += float(sums.srtt_sum[group])
        self.now = sums.now[group]


@dataclass(frozen=True)
class _Sums:
    """Sums of each group of a tick, a row each; the last row is all together."""

    added: Floats
    srtt: Floats
    srtt_sum: Floats
    now: Floats

    def less(self, groups: list[int]) -> _Sums:
        """Return one row: all but these groups. None is negative, however the floats of very large sums are rounded."""
        parts = (self.added, self.srtt, self.srtt_sum, self.now)
        return _Sums(*(np.maximum(part[-1:] - part[groups].sum(axis=0), 0.0) for part in parts))


def _summed(values: NDArray[Any], starts: NDArray[np.intp]) -> Floats:
    """Return the sum of each group's values, and that of all."""
    wide = values.astype("f8")
    if not len(starts):
        return np.zeros((1, *values.shape[1:]))
    return np.concatenate([np.add.reduceat(wide, starts), wide.sum(axis=0, keepdims=True)])


def _sums_of(tick: GroupTick, members: NDArray[np.intp], starts: NDArray[np.intp]) -> _Sums:
    observed = tick.observed[members]
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(members))))
    seen = observed >= 0
    counts = np.bincount(group[seen] * BUCKETS + observed[seen], minlength=len(starts) * BUCKETS)
    buckets = counts.reshape(len(starts), BUCKETS).astype("f8")
    buckets = np.concatenate([buckets, buckets.sum(axis=0, keepdims=True)])
    live = tick.is_live[members]
    now = np.column_stack([live, live & (tick.score[members] >= BAD_SCORE)])
    return _Sums(
        _summed(tick.added[members], starts),
        buckets,
        _summed(np.where(seen, tick.srtt_s[members], 0.0), starts),
        _summed(now, starts),
    )


def _percent(values: Floats, of: float) -> Floats:
    return 100.0 * values / of if of > 0 else np.zeros(len(values))


def _worth(tick: GroupTick, sums: _Sums, members: NDArray[np.intp], starts: NDArray[np.intp]) -> Floats:
    """Return how much each group matters."""
    if not len(starts):
        return np.zeros(0)
    payload = sums.added[:, 2:].sum(axis=1)
    again = sums.added[:, 0]
    found: Floats = (
        _percent(sums.now[:-1, 0], float(sums.now[-1, 0]))
        + _percent(payload[:-1], float(payload[-1]))
        + 2 * _percent(again[:-1], float(again[-1]))
        + np.maximum.reduceat(tick.score[members], starts)
    )
    return found


class Dimension:
    """The groups of one kind that have series, and the others together."""

    def __init__(self, name: str, key: str, top: int) -> None:
        """Take the label, the key of ``groups``, and how many groups may have series."""
        self.name, self._key, self._top = name, key, top
        self._kept: dict[int, Group] = {}
        self._rest = Group(OTHER, 0.0)

    def add(self, tick: GroupTick) -> None:
        """Count another tick, and choose who has series."""
        groups = group_rows(tick.flows, self._key, tick.which)
        members, starts = groups.members, groups.starts
        sums = _sums_of(tick, members, starts)
        worth = _worth(tick, sums, members, starts)
        self._age(tick.flows.seconds)
        order = np.argsort(groups.identities, kind="stable")
        places = self._places(groups.identities, order, worth)
        newest = np.ones(len(worth), np.bool_)
        newest[list(places.values())] = False
        outside = np.flatnonzero(newest)
        best = outside[np.argsort(-worth[outside], kind="stable")[: self._top]]
        for group in best.tolist():
            if not self._admit(int(groups.identities[group]), float(worth[group]), places, group, groups.title):
                break
        for identity, place in places.items():
            self._kept[identity].add(sums, place)
        self._rest.add(sums.less(list(places.values())), 0)

    def _age(self, seconds: float) -> None:
        fade = 0.5 ** (seconds / HALF_LIFE_S)
        for kept in self._kept.values():
            kept.worth *= fade
            kept.now = np.zeros(2)

    def _places(self, identities: NDArray[np.int64], order: NDArray[np.intp], worth: Floats) -> dict[int, int]:
        """Return where in this tick each kept group is, and bring its worth up to date."""
        held = np.fromiter(self._kept, np.int64, len(self._kept))
        at, there = find_sorted(identities[order], held)
        places = {int(one): int(order[where]) for one, where in zip(held[there], at[there], strict=True)}
        for identity, place in places.items():
            self._kept[identity].worth = max(self._kept[identity].worth, float(worth[place]))
        return places

    def _admit(
        self, identity: int, worth: float, places: dict[int, int], group: int, title: Callable[[int], str]
    ) -> bool:
        """Let a group in, if there is room, or if it matters twice as much as the least. False: nor will others."""
        if len(self._kept) >= self._top:
            least = min(self._kept, key=lambda each: self._kept[each].worth)
            if worth <= 2 * self._kept[least].worth:
                return False
            del self._kept[least]
            places.pop(least, None)
        self._kept[identity] = Group(self._label(title(group)), worth)
        places[identity] = group
        return True

    def _label(self, title: str) -> str:
        """Return a label that no other group has: two series with the same labels would make the answer invalid."""
        label = text.shorten(title, LONGEST_LABEL)
        used = {kept.label for kept in self._kept.values()} | {OTHER}
        number = 2
        while label in used:
            label = f"{text.shorten(title, LONGEST_LABEL)} ({number})"
            number += 1
        return label

    def families(self) -> list[Family]:
        """Return the families of these groups."""
        listed = [*self._kept.values(), self._rest]
        of = f"of each {self.name}"

        def family(name: str, kind: Literal["counter", "gauge"], help: str, values: Iterable[float]) -> Family:
            series = tuple(((kept.label,), float(value)) for kept, value in zip(listed, values, strict=True))
            return Family(f"tcptop_{self.name}_{name}", kind, help, (self.name,), series)

        found = [
            family("connections", "gauge", f"Open connections {of}.", (kept.now[0] for kept in listed)),
            family(
                "bad_connections",
                "gauge",
                f"Those that score {BAD_SCORE:g} or more, {of}.",
                (kept.now[1] for kept in listed),
            ),
        ]
        for number, (name, _, help) in enumerate(GROUP_COUNTERS):
            found.append(family(name, "counter", f"{help[:-1]}, {of}.", (kept.counters[number] for kept in listed)))
        if self.name == "remote":
            series = tuple(((kept.label,), histogram(kept)) for kept in listed)
            found.append(Family("tcptop_remote_srtt_seconds", "histogram", f"{SRTT} {of}.", (self.name,), series))
        return found


def histogram(kept: Group) -> Histogram:
    """Return the round-trip times that were observed so far."""
    return Histogram(tuple(np.cumsum(kept.srtt).tolist()), kept.srtt_sum)
