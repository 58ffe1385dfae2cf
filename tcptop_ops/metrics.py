"""Flows to families of metrics, as OpenMetrics has them: plain data, and never more than MOST_SERIES series. Pure.

Counters go on from tick to tick: a ``Metrics`` keeps them. What is told of processes, services and remote networks is
told of those TOP of each that matter most; all others together are ``other``. What matters is what a group had lately
of everything on this host: its part of the connections, of the payload, twice that of the segments sent again, each in
percent, and the worst score of its connections. Whoever is in stays until another matters twice as much. One that
comes in begins at zero, and one that goes out is gone, so that no series ever leaps; the host's own counters are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import diagnosis
from tcptop_ops import format as text
from tcptop_ops.diagnosis import CAUSES
from tcptop_ops.endings import ENDS, end_codes
from tcptop_ops.fate import BAD_SCORE
from tcptop_ops.groups import put_together
from tcptop_ops.operators import OPERATORS
from tcptop_ops.snapshot import STATE_NAMES, Snapshot, State, find_sorted
from tcptop_ops.tracker import Flows, Rows

Floats = NDArray[np.float64]

TOP = 20
"""Of the processes, of the services, and of the remote networks."""

OTHER = "other"
LONGEST_LABEL = 64
HALF_LIFE_S = 60.0
"""After so long what was is worth half."""

MOST_SERIES = 1000

EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets of round-trip times; what is longer is in the last, which has none."""

DIMENSIONS = {"process": "process", "service": "cgroup", "remote": "remote-net"}
"""What is told of by label: that of a key of ``groups``."""

NOT_TOLD = "not-told"


@dataclass(frozen=True)
class Histogram:
    """How many were at most each of EDGES_S, and all; and their sum."""

    at_most: tuple[float, ...]
    sum: float


@dataclass(frozen=True)
class Family:
    """Metrics of one name. Of each series: the values of the labels, and its value. A counter's name has no _total."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...]
    series: tuple[tuple[tuple[str, ...], float | Histogram], ...]


@dataclass(frozen=True)
class Own:
    """What the monitor has cost since its start."""

    cpu_s: float
    rss_bytes: int


def count_series(families: Iterable[Family]) -> int:
    """As Prometheus counts them: a histogram is one for each bucket, one for the sum, one for the count."""
    return sum(
        len(value.at_most) + 2 if isinstance(value, Histogram) else 1
        for family in families
        for _, value in family.series
    )


# --- what a row adds in a tick


@dataclass(frozen=True)
class _Tick:
    """Of all rows of a tick, live ones first: what they did in it. ``which``: those that are connections."""

    flows: Flows
    which: NDArray[np.intp]
    is_live: NDArray[np.bool_]
    score: Floats
    added: Floats  # a row of COUNTED each
    observed: NDArray[np.intp]  # the bucket of the round-trip time; -1: nothing moved, so that it says nothing
    srtt_s: Floats


COUNTED = (
    ("retransmitted_segments", "retrans_per_s", "Segments sent again."),
    ("timeouts", "rto_per_s", "Retransmission timeouts."),
    ("sent_bytes", "tx_bytes_per_s", "Payload sent and acknowledged."),
    ("received_bytes", "rx_bytes_per_s", "Payload received."),
)
"""Counters of groups: name, what in the rates it is made of, help."""


def _rate(name: str) -> Callable[[Rows, Flows], NDArray[Any]]:
    return lambda rows, _: rows.rates[name]


def _connects(rows: Rows, _: Flows) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (rows.sockets["state"] != State.LISTEN) & (rows.sockets["rport"] != 0)
    return found


def _tick_of(flows: Flows) -> _Tick:
    rates = [flows.column(_rate(source)) for _, source, _ in COUNTED]
    added = np.rint(np.column_stack(rates) * flows.seconds)
    connects = flows.column(_connects)
    srtt_s = flows.column(lambda rows, _: rows.sockets["srtt_us"]) / 1e6
    moved = connects & (added[:, 2:] > 0).any(axis=1) & (srtt_s > 0)
    return _Tick(
        flows,
        np.flatnonzero(connects),
        np.arange(len(flows)) < len(flows.live),
        np.nan_to_num(flows.column(_rate("score")).astype("f8")),
        added,
        np.where(moved, np.searchsorted(EDGES_S, srtt_s), -1),
        srtt_s,
    )


# --- groups


BUCKETS = len(EDGES_S) + 1


@dataclass
class _Kept:
    """A group that is told of. ``now``: its connections, and the bad ones; ``srtt``: observations by bucket."""

    label: str
    worth: float
    counters: Floats = field(default_factory=lambda: np.zeros(len(COUNTED)))
    srtt: Floats = field(default_factory=lambda: np.zeros(BUCKETS))
    srtt_sum: float = 0.0
    now: Floats = field(default_factory=lambda: np.zeros(2))

    def take(self, sums: _Sums, group: int) -> None:
        """What it did in a tick."""
        self.counters += sums.added[group]
        self.srtt += sums.srtt[group]
        self.srtt_sum += float(sums.srtt_sum[group])
        self.now = sums.now[group]


@dataclass(frozen=True)
class _Sums:
    """Of each group of a tick; of the last row: all together."""

    added: Floats
    srtt: Floats
    srtt_sum: Floats
    now: Floats

    def less(self, groups: list[int]) -> _Sums:
        """One row: all but these. A counter never falls, however the floats of very large sums are rounded."""
        parts = (self.added, self.srtt, self.srtt_sum, self.now)
        return _Sums(*(np.maximum(part[-1:] - part[groups].sum(axis=0), 0.0) for part in parts))


def _summed(values: NDArray[Any], starts: NDArray[np.intp]) -> Floats:
    """The sum of each group's values, and that of all."""
    wide = values.astype("f8")
    if not len(starts):
        return np.zeros((1, *values.shape[1:]))
    return np.concatenate([np.add.reduceat(wide, starts), wide.sum(axis=0, keepdims=True)])


def _sums_of(tick: _Tick, members: NDArray[np.intp], starts: NDArray[np.intp]) -> _Sums:
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


def _worth(tick: _Tick, sums: _Sums, members: NDArray[np.intp], starts: NDArray[np.intp]) -> Floats:
    """How much each group matters."""
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
    """The groups of one kind that are told of: at most ``top``, and the others."""

    def __init__(self, name: str, key: str, top: int) -> None:
        self.name, self._key, self._top = name, key, top
        self._kept: dict[int, _Kept] = {}
        self._rest = _Kept(OTHER, 0.0)

    def take(self, tick: _Tick) -> None:
        """Another tick."""
        groups = put_together(tick.flows, self._key, tick.which)
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
            self._kept[identity].take(sums, place)
        self._rest.take(sums.less(list(places.values())), 0)

    def _age(self, seconds: float) -> None:
        fade = 0.5 ** (seconds / HALF_LIFE_S)
        for kept in self._kept.values():
            kept.worth *= fade
            kept.now = np.zeros(2)

    def _places(self, identities: NDArray[np.int64], order: NDArray[np.intp], worth: Floats) -> dict[int, int]:
        """Where in this tick each kept group is; their worth is brought up to date."""
        held = np.fromiter(self._kept, np.int64, len(self._kept))
        at, there = find_sorted(identities[order], held)
        places = {int(one): int(order[where]) for one, where in zip(held[there], at[there], strict=True)}
        for identity, place in places.items():
            self._kept[identity].worth = max(self._kept[identity].worth, float(worth[place]))
        return places

    def _admit(
        self, identity: int, worth: float, places: dict[int, int], group: int, title: Callable[[int], str]
    ) -> bool:
        """Take it in, if there is room, or if it matters twice as much as the least; False: no other need ask."""
        if len(self._kept) >= self._top:
            least = min(self._kept, key=lambda each: self._kept[each].worth)
            if worth <= 2 * self._kept[least].worth:
                return False
            del self._kept[least]
            places.pop(least, None)
        self._kept[identity] = _Kept(self._label(title(group)), worth)
        places[identity] = group
        return True

    def _label(self, title: str) -> str:
        """One that no other has: two series of one name would spoil the whole answer."""
        label = text.shorten(title, LONGEST_LABEL)
        used = {kept.label for kept in self._kept.values()} | {OTHER}
        number = 2
        while label in used:
            label = f"{text.shorten(title, LONGEST_LABEL)} ({number})"
            number += 1
        return label

    def families(self) -> list[Family]:
        """What is known of them."""
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
        for number, (name, _, help) in enumerate(COUNTED):
            found.append(family(name, "counter", f"{help[:-1]}, {of}.", (kept.counters[number] for kept in listed)))
        if self.name == "remote":
            series = tuple(((kept.label,), _histogram(kept)) for kept in listed)
            found.append(Family("tcptop_remote_srtt_seconds", "histogram", f"{SRTT} {of}.", (self.name,), series))
        return found


SRTT = "Smoothed round-trip time of each connection that moved data, observed every tick,"


def _histogram(kept: _Kept) -> Histogram:
    return Histogram(tuple(np.cumsum(kept.srtt).tolist()), kept.srtt_sum)


# --- the host


class Metrics:
    """Counters since the start, from ticks in their order. Used by one thread."""

    def __init__(self, top: int = TOP) -> None:
        self._dimensions = [Dimension(name, key, top) for name, key in DIMENSIONS.items()]
        self._host = _Kept("", 0.0)
        self._opened = 0
        self._ends = np.zeros(len(ENDS))
        self._ticks = 0

    def take(self, flows: Flows, own: Own) -> tuple[Family, ...]:
        """All families, after another tick."""
        tick = _tick_of(flows)
        self._ticks += 1
        if flows.seconds > 0:  # what came before the first is its baseline alone
            self._count(tick)
        for dimension in self._dimensions:
            dimension.take(tick)
        of_groups = [family for dimension in self._dimensions for family in dimension.families()]
        return (*self._traffic(), *_present(tick), *self._monitor(flows, own), *of_groups)

    def _count(self, tick: _Tick) -> None:
        """The host's own sums: a loopback pair counts once, and what ended is in it however short it stays listed."""
        flows, totals = tick.flows, tick.flows.totals
        payload = np.rint(np.array([totals.tx_bytes_per_s, totals.rx_bytes_per_s]) * flows.seconds)
        self._host.counters += (totals.retrans_segs, totals.rto_events, *payload)
        seen = tick.observed >= 0
        self._host.srtt += np.bincount(tick.observed[seen], minlength=BUCKETS)
        self._host.srtt_sum += float(tick.srtt_s[seen].sum())
        self._opened += totals.opened
        self._ends += _ends(flows.snapshot)

    def _traffic(self) -> list[Family]:
        ends = (((name or NOT_TOLD,), float(count)) for name, count in zip(ENDS, self._ends, strict=True))
        counters = [
            _single(name, "counter", help, float(value))
            for (name, _, help), value in zip(COUNTED, self._host.counters, strict=True)
        ]
        return [
            *counters,
            _single("opened_connections", "counter", "Connections that were opened.", self._opened),
            Family("tcptop_closed_connections", "counter", "Connections by how they ended.", ("end",), tuple(ends)),
            Family("tcptop_srtt_seconds", "histogram", f"{SRTT[:-1]}.", (), (((), _histogram(self._host)),)),
        ]

    def _monitor(self, flows: Flows, own: Own) -> list[Family]:
        """What this monitor sees, and what it costs."""
        snapshot = flows.snapshot
        calls = snapshot.counters["calls"]
        mode = snapshot.callbacks_mode
        operators = (((each.name,), float(calls[each.number])) for each in OPERATORS if mode)
        return [
            Family(
                "tcptop_monitor",
                "info",
                "Where figures are from.",
                ("source", "callbacks"),
                (((snapshot.source, mode), 1.0),),
            ),
            Family(
                "tcptop_callbacks", "counter", "Calls of the program by the kernel.", ("operator",), tuple(operators)
            ),
            _single(
                "untracked_sockets",
                "counter",
                "Births that the full map turned away.",
                float(snapshot.counters["untracked"]),
            ),
            _single("namespaces", "gauge", "Network namespaces that are watched.", snapshot.namespaces),
            _single("ticks", "counter", "Looks at the kernel.", self._ticks),
            _single("tick_timestamp_seconds", "gauge", "When the last look was.", snapshot.time),
            _single("tick_interval_seconds", "gauge", "Between the last look and the one before.", flows.seconds),
            _single("self_poll_seconds", "gauge", "What the last look took.", snapshot.poll_s),
            _single("self_cpu_seconds", "counter", "Processor time of the monitor.", own.cpu_s),
            _single("self_resident_memory_bytes", "gauge", "Memory of the monitor.", own.rss_bytes),
        ]


def _single(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Family:
    return Family(f"tcptop_{name}", kind, help, (), (((), float(value)),))


def _present(tick: _Tick) -> list[Family]:
    """What is there now. Every state and every cause is told, most are 0: an alert needs its series from the start."""
    flows = tick.flows
    states = dict.fromkeys(STATE_NAMES.values(), 0) | flows.totals.by_state
    causes = np.bincount(flows.live.rates["cause"], minlength=len(CAUSES))
    named = zip(diagnosis.NAMES.tolist(), causes.tolist(), strict=True)
    return [
        Family("tcptop_sockets", "gauge", "Sockets by state.", ("state",), _by_label(states)),
        Family(
            "tcptop_flows",
            "gauge",
            "Connections and listeners by what is wrong with them.",
            ("cause",),
            _by_label({name.decode(): count for name, count in named}),
        ),
        _single(
            "bad_flows",
            "gauge",
            f"Those of them that score {BAD_SCORE:g} or more.",
            float((tick.score[tick.is_live] >= BAD_SCORE).sum()),
        ),
    ]


def _by_label(values: Mapping[str, float]) -> tuple[tuple[tuple[str, ...], float], ...]:
    return tuple(((name,), float(value)) for name, value in values.items())


def _ends(snapshot: Snapshot) -> Floats:
    """How many connections ended in this tick, by the number of the end; listeners apart."""
    final = snapshot.closed
    codes = end_codes(final["socket"], final["events"], final["ending"])
    counts: Floats = np.bincount(codes[final["ending"]["from_state"] != State.LISTEN], minlength=len(ENDS)).astype("f8")
    return counts
