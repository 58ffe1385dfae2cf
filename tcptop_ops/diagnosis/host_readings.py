"""What the figures of the host are at a tick, and how bad that is. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tcptop_ops.diagnosis.host_figures import FIGURES, Figure
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_counters import HostTick

NEAR = 0.9
"""Share of a limit from which on a figure is bad: what comes in a burst then finds no room."""

NEARING = 0.75
"""Share of a limit from which on a figure is a warning."""

RETRANS_PCT = (0.5, 2.0)
"""Share of the segments that were retransmitted, percent: a warning, bad. As of the column retrans_pct."""

FEW_SEGMENTS = 200
"""Segments below which their share of retransmits tells nothing."""


class Reading(NamedTuple):
    """What a figure is at a tick; None where it is not known.

    ``value``: of a counter the growth since the first tick. ``netns``: the inode number of the namespace that has least
    room, or in which most was counted; 0 where it is the host's, or nothing was. ``level``: as of a column.
    """

    figure: Figure
    value: int | None = None
    limit: int | None = None
    per_s: float | None = None
    grown: int = 0  # of a counter, within W
    netns: int = 0
    level: int = 0

    @property
    def share(self) -> float | None:
        """Value by limit; None where one is not known, or there is no limit."""
        return None if self.value is None or not self.limit else self.value / self.limit


def readings(flows: Flows) -> tuple[Reading, ...]:
    """Return FIGURES as they are at this tick."""
    sent = _grown(flows.host, "out_segs")[0]
    return tuple(_reading(flows, figure, sent) for figure in FIGURES)


def _reading(flows: Flows, figure: Figure, sent: int) -> Reading:
    host = flows.host
    if figure.is_counter:
        return _counted(host, figure, sent)
    if figure.name == "local_ports":
        return _ports(flows, figure)
    names = host.now.dtype.names or ()
    if figure.gauge not in names:
        return _fullest(host, figure)
    if not len(host.now):
        return Reading(figure)
    limit = int(host.now[figure.limit][0]) if figure.limit else 0
    return _held(figure, int(host.now[figure.gauge][0]), limit)


def _held(figure: Figure, value: int, limit: int, netns: int = 0) -> Reading:
    """Return the reading of a number of now. ``limit``: 0 where it is not known."""
    share = value / limit if limit else 0.0
    level = figure.worst if share >= NEAR else min(figure.worst, 1) if share >= NEARING else 0
    return Reading(figure, value, limit or None, netns=netns, level=level)


def _fullest(host: HostTick, figure: Figure) -> Reading:
    """Return the reading of the namespace that has least room."""
    if not len(host.namespaces):
        return Reading(figure)
    net = host.namespaces["net"]
    value, limit = net[figure.gauge].astype("f8"), net[figure.limit].astype("f8")
    if not limit.any():
        return Reading(figure) if figure.gauge == "conntrack" else Reading(figure, int(value.max()))
    at = int((value / np.where(limit > 0, limit, np.inf)).argmax())
    return _held(figure, int(value[at]), int(limit[at]), int(host.namespaces["netns"][at]) if value[at] else 0)


def _ports(flows: Flows, figure: Figure) -> Reading:
    """Return the reading of the destination that has taken most: it is counted where nearly all may be."""
    rows = flows.snapshot.used_ports
    if not len(rows):
        return Reading(figure)
    size = rows["port_high"].astype("i8") - rows["port_low"] + 1
    taken = rows["time_wait"].astype("i8") + rows["open"]
    at = int((taken / size).argmax())
    return _held(figure, int(taken[at]), int(size[at]), int(rows["netns"][at]))


def _grown(host: HostTick, counter: str) -> tuple[int, int]:
    """Return the growth of a counter within W, over all namespaces, and the one in which it was most; 0 for none."""
    if counter in host.grown:
        return host.grown[counter], 0
    if not len(host.namespaces) or counter not in (host.namespaces["net"].dtype.names or ()):
        return 0, 0
    grown = host.namespaces["net"][counter]
    total = int(grown.sum())
    return total, int(host.namespaces["netns"][grown.argmax()]) if total else 0


def _counted(host: HostTick, figure: Figure, sent: int) -> Reading:
    value = host.since_start.get(figure.counter)
    if value is None or not (len(host.namespaces) or figure.counter in host.grown):
        return Reading(figure)
    grown, netns = _grown(host, figure.counter)
    level = figure.worst if grown else 0
    if figure.counter == "retrans_segs":
        percent = retransmitted_percent(grown, sent)
        level = 0 if percent is None else sum(percent >= least for least in RETRANS_PCT)
    per_s = grown / host.seconds if host.seconds > 0 else None
    return Reading(figure, value, None, per_s, grown, netns, level)


def retransmitted_percent(again: int, sent: int) -> float | None:
    """Return the share of the segments sent that were retransmits; None where too few were sent to tell."""
    return 100.0 * again / (again + sent) if again + sent >= FEW_SEGMENTS else None
