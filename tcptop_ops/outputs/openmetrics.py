"""Flows to families of metrics, as OpenMetrics defines them: plain data, never more than MOST_SERIES series. Pure.

Counters go on from tick to tick: a ``Metrics`` keeps them. The host's own counters are exact; processes, services and
remote networks have theirs (``metric_groups``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tcptop_ops.diagnosis import rules
from tcptop_ops.diagnosis.cause import Blame
from tcptop_ops.diagnosis.findings.bad_rows import BAD_SCORE
from tcptop_ops.diagnosis.host_readings import readings
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.model.endings import ENDS, end_codes
from tcptop_ops.model.enums import STATE_NAMES, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.outputs.metric_family import Family
from tcptop_ops.outputs.metric_groups import (
    BUCKETS,
    DIMENSIONS,
    GROUP_COUNTERS,
    SRTT,
    TOP,
    Dimension,
    Floats,
    Group,
    GroupTick,
    histogram,
    tick_of,
)

MOST_SERIES = 1000
"""Of all families: the tests hold it."""

NOT_TOLD = "not-told"
"""The label of an end that is not known."""


@dataclass(frozen=True)
class Own:
    """What the monitor has cost since its start."""

    cpu_s: float
    rss_bytes: int


class Metrics:
    """Counters since the start, from ticks in their order. Used by one thread."""

    def __init__(self, top: int = TOP) -> None:
        """Take how many groups of each kind may have series."""
        self._dimensions = [Dimension(name, key, top) for name, key in DIMENSIONS.items()]
        self._host = Group("", 0.0)
        self._opened = 0
        self._ends = np.zeros(len(ENDS))
        self._ticks = 0

    def add(self, flows: Flows, own: Own) -> tuple[Family, ...]:
        """Count another tick, and return all families."""
        tick = tick_of(flows)
        self._ticks += 1
        if flows.seconds > 0:  # what came before the first is its baseline alone
            self._count(tick)
        for dimension in self._dimensions:
            dimension.add(tick)
        of_groups = [family for dimension in self._dimensions for family in dimension.families()]
        return (*self._traffic(), *_present(tick), *_host(flows), *self._monitor(flows, own), *of_groups)

    def _count(self, tick: GroupTick) -> None:
        """Add to the host's own sums, where a pair counts once; what ended is in them however short it is listed."""
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
            for (name, _, help), value in zip(GROUP_COUNTERS, self._host.counters, strict=True)
        ]
        return [
            *counters,
            _single("opened_connections", "counter", "Connections that were opened.", self._opened),
            Family("tcptop_closed_connections", "counter", "Connections by how they ended.", ("end",), tuple(ends)),
            Family("tcptop_srtt_seconds", "histogram", f"{SRTT[:-1]}.", (), (((), histogram(self._host)),)),
        ]

    def _monitor(self, flows: Flows, own: Own) -> list[Family]:
        """Return the families about this monitor: what it sees, and what it costs."""
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


def _present(tick: GroupTick) -> list[Family]:
    """Return what is there now. Every state and cause has a series, most are 0: an alert needs it from the start."""
    flows = tick.flows
    states = dict.fromkeys(STATE_NAMES.values(), 0) | flows.totals.by_state
    causes = np.bincount(flows.live.rates["cause"], minlength=len(CAUSES))
    named = zip(rules.NAMES.tolist(), causes.tolist(), strict=True)
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
        Family(
            "tcptop_findings",
            "gauge",
            "Findings, what bad connections have in common, by who is to blame.",
            ("blame",),
            _by_label({blame: sum(one.blame == blame for one in flows.findings) for blame in get_args(Blame)}),
        ),
        Family(
            "tcptop_finding_connections",
            "gauge",
            "Connections of these findings, closed ones of the last minute included, by who is to blame.",
            ("blame",),
            _by_label(
                {blame: sum(one.rows for one in flows.findings if one.blame == blame) for blame in get_args(Blame)}
            ),
        ),
    ]


def _host(flows: Flows) -> list[Family]:
    """Return the figures of the host: counters from the start on, others as far as they are known."""
    found = readings(flows)
    known = [one for one in found if one.value is not None]
    of_now = {one.figure.name: float(one.value or 0) for one in known if not one.figure.is_counter}
    limits = {one.figure.name: float(one.limit) for one in known if one.limit is not None}
    events = {one.figure.name: float(one.value or 0) for one in found if one.figure.is_counter}
    return [
        Family("tcptop_host", "gauge", "What the host holds, by figure.", ("figure",), _by_label(of_now)),
        Family("tcptop_host_limit", "gauge", "The limit of such a figure.", ("figure",), _by_label(limits)),
        Family("tcptop_host_events", "counter", "What the host counted, by figure.", ("figure",), _by_label(events)),
    ]


def _by_label(values: Mapping[str, float]) -> tuple[tuple[tuple[str, ...], float], ...]:
    return tuple(((name,), float(value)) for name, value in values.items())


def _ends(snapshot: Snapshot) -> Floats:
    """Return how many connections ended in this tick, by the number of the end; listeners do not count."""
    final = snapshot.closed
    codes = end_codes(final["socket"], final["events"], final["ending"])
    counts: Floats = np.bincount(codes[final["ending"]["from_state"] != State.LISTEN], minlength=len(ENDS)).astype("f8")
    return counts
