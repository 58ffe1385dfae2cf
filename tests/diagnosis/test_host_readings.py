"""The figures of the host at a tick: values, limits, the namespace that is meant, and from when on they are bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.host_figures import FIGURES, GROUPS, find
from tcptop_ops.diagnosis.host_readings import Reading, readings, retransmitted_percent
from tcptop_ops.model.host_counters import COUNTERS, HOST
from tcptop_ops.model.namespace_counters import NET, NETNS
from tcptop_ops.model.used_ports import USED_PORTS
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import snapshot


def read(host: dict[str, int] | None = None, **nets: dict[str, int]) -> dict[str, Reading]:
    """Two ticks, two seconds apart: counters begin at 0. ``nets``: n7={...} is namespace 7."""
    tracker = Tracker(20.0)
    for seconds in (0, 2):
        row, rows = np.zeros(0 if host is None else 1, HOST), np.zeros(len(nets), NETNS)
        for name, value in (host or {}).items():
            row[name] = value * (name not in COUNTERS or seconds > 0)
        for at, (netns, fields) in enumerate(nets.items()):
            rows["netns"][at] = int(netns[1:])
            for name, value in fields.items():
                is_gauge = name in ("tw", "conntrack", "max_tw_buckets", "conntrack_max")
                rows[name][at] = value * (is_gauge or seconds > 0)
        flows = tracker.update(snapshot(seconds, [], host_counters=row, namespace_counters=rows))
    return {one.figure.name: one for one in readings(flows)}


@pytest.mark.parametrize(("pages", "level"), [(749, 0), (750, 1), (899, 1), (900, 2), (5000, 2)])
def test_a_share_of_a_limit(pages: int, level: int) -> None:
    one = read({"tcp_mem_pages": pages, "tcp_mem_pressure": 1000})["tcp_mem_pages"]
    assert (one.value, one.limit, one.level, one.netns) == (pages, 1000, level, 0)


def test_a_limit_that_is_not_known_is_none_and_no_alarm() -> None:
    one = read({"orphans": 10**6})["orphans"]
    assert (one.value, one.limit, one.share, one.level) == (10**6, None, None, 0)


def test_of_namespaces_the_one_with_least_room_is_told() -> None:
    told = read(
        n4={"tw": 500, "max_tw_buckets": 10_000, "conntrack": 50, "conntrack_max": 0},
        n7={"tw": 90, "max_tw_buckets": 100, "conntrack": 40, "conntrack_max": 400},
    )
    assert told["time_wait"][1:3] == (90, 100)
    assert (told["time_wait"].netns, told["time_wait"].level) == (7, 1)
    assert told["tracked_connections"][1:3] == (40, 400)


def test_counters_are_summed_over_namespaces_and_the_busiest_is_named() -> None:
    one = read(n4={"listen_overflows": 2}, n7={"listen_overflows": 6})["accept_overflows"]
    assert (one.value, one.grown, one.per_s, one.netns, one.level) == (8, 8, 4.0, 7, 2)
    host = read({"backlog_drops": 10, "backlog_packets": 90})["backlog_drops"]
    assert (host.value, host.per_s, host.netns) == (10, 5.0, 0)


@pytest.mark.parametrize(("again", "level"), [(0, 0), (4, 0), (6, 1), (30, 2)])
def test_retransmits_are_judged_by_their_share(again: int, level: int) -> None:
    assert read(n4={"out_segs": 1000 - again, "retrans_segs": again})["segs_retransmitted"].level == level
    assert retransmitted_percent(again, 0) is None


def test_the_destination_that_has_taken_most_ports() -> None:
    ports = np.zeros(2, USED_PORTS)
    ports["port_low"], ports["port_high"], ports["open"], ports["netns"] = 1, 100, (80, 91), (4, 7)
    flows = Tracker().update(snapshot(0, [], used_ports=ports))
    one = next(one for one in readings(flows) if one.figure.name == "local_ports")
    assert (one.value, one.limit, one.netns, one.level) == (91, 100, 7, 2)


def test_nothing_is_known_without_rows() -> None:
    told = read()
    assert {(one.value, one.limit, one.per_s, one.level) for one in told.values()} == {(None, None, None, 0)}


def test_the_table_is_whole() -> None:
    names: list[Any] = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    assert {figure.group for figure in FIGURES} == set(GROUPS)
    fields = {*(HOST.names or ()), *(NET.names or ()), ""}
    assert {part for figure in FIGURES for part in (figure.counter, figure.gauge, figure.limit)} <= fields
    assert find("orphans") is not None
    assert find("x") is None
