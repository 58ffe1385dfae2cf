"""Findings of the host: from which share or count on, their words, and what rows tell better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.findings import tell
from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.diagnosis.findings.tell import Narrowed
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Finding, Flows
from tcptop_ops.model.host_counters import HOST
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import matching
from tests.support.fakes import flow, snapshot

LIMITS = {
    "tcp_mem_low": 750,
    "tcp_mem_pressure": 1000,
    "tcp_mem_high": 1500,
    "max_orphans": 400,
    "max_files": 1000,
}
NET = {"netns": 7, "conntrack_max": 1000, "max_tw_buckets": 100, "out_segs": 10_000}
BEFORE = 1_000_000
"""What was counted before the start, of everything: it must not matter."""

COUNTERS = (
    *("abort_on_memory", "memory_pressures", "prune_called", "tw_overflow", "retrans_fail", "retrans_segs"),
    *("listen_overflows", "req_q_full_drop", "conntrack_drops", "out_discards", "backlog_drops", "backlog_packets"),
)


def shot(seconds: int, rows: Sequence[dict[str, Any]], **told: int) -> Snapshot:
    host, net = np.zeros(1, HOST), np.zeros(1, NETNS)
    values = dict.fromkeys(COUNTERS, BEFORE) | LIMITS | NET
    for name, value in told.items():
        values[name] = value + (BEFORE if name in COUNTERS else 0)
    for record in (host, net):
        for name in record.dtype.names or ():
            record[name] = values.get(name, 0)
    return snapshot(seconds, list(rows), host_counters=host, namespace_counters=net, namespace_names={7: "blue"})


ROWS = [
    flow(1, netns=7, inode=5),
    flow(2, netns=7, recv_q=9, inode=6),
    flow(3, netns=7, state=State.FIN_WAIT1),
    flow(4, netns=8, inode=7),
]


def ticked(rows: Sequence[dict[str, Any]] = ROWS, **told: int) -> Flows:
    """Three ticks within ten seconds: what is told was counted between the first and the second."""
    tracker = Tracker(20.0)
    gauges = {name: value for name, value in told.items() if name not in COUNTERS}
    tracker.update(shot(0, rows, **gauges))
    tracker.update(shot(8, rows, **told))
    return tracker.update(shot(10, rows, **told))


def found(**told: int) -> tuple[Finding, ...]:
    return tell.findings(ticked(ROWS, **told))


@pytest.mark.parametrize(
    "told",
    [
        {"tcp_mem_pages": 899, "orphans": 359, "files": 899},
        {"prune_called": 500},
        {"conntrack": 899, "conntrack_drops": 3},
        {"tw": 100},
        {"retrans_fail": 4, "retrans_segs": 4},
        {"retrans_fail": 10, "retrans_segs": 20},
        {"listen_overflows": 5, "req_q_full_drop": 4},
        {"backlog_drops": 19, "backlog_packets": 100},
        {"backlog_drops": 100, "backlog_packets": 1_000_000},
        {"out_discards": 500},
    ],
)
def test_below_its_limit_nothing_is_told(told: dict[str, int]) -> None:
    assert found(**told) == ()


@pytest.mark.parametrize(
    ("told", "words", "rows", "key"),
    [
        (
            {"tcp_mem_pages": 900},
            "TCP sockets hold 900 pages of memory, 90 % of where pressure begins (net.ipv4.tcp_mem 750 1000 1500)",
            1,
            "tcp-memory host",
        ),
        (
            {"tcp_mem_pages": 1200, "memory_pressures": 1, "prune_called": 7, "abort_on_memory": 3},
            "TCP sockets hold 1200 pages of memory, over where pressure begins (net.ipv4.tcp_mem 750 1000 1500); "
            "pressure began once in 10s; receive queues pruned 7 times; 3 connections reset for it in 10s",
            1,
            "tcp-memory host",
        ),
        ({"orphans": 360}, "360 orphans of 400 (net.ipv4.tcp_max_orphans)", 1, "too-many-orphans host"),
        (
            {"orphans": 101, "abort_on_memory": 2},
            "101 orphans of 400 (net.ipv4.tcp_max_orphans); 2 connections reset for it in 10s",
            1,
            "too-many-orphans host",
        ),
        (
            {"files": 950},
            "950 files are open of 1000 (fs.file-max): accept() and socket() may fail",
            3,
            "files-used-up host",
        ),
        (
            {"backlog_drops": 20, "backlog_packets": 10_000},
            "20 packets dropped at the input queues of the processors in 10s, 0.2 % of all "
            "(net.core.netdev_max_backlog)",
            0,
            "backlog-drop host",
        ),
        (
            {"conntrack": 900},
            "900 of 1000 connections tracked (net.netfilter.nf_conntrack_max): when it is full, new ones may be "
            "dropped in namespace blue",
            3,
            "conntrack-full 7",
        ),
        (
            {"conntrack": 1000, "conntrack_drops": 42},
            "1000 of 1000 connections tracked (net.netfilter.nf_conntrack_max): 42 packets dropped in 10s "
            "in namespace blue",
            3,
            "conntrack-full 7",
        ),
        (
            {"tw": 100, "tw_overflow": 1},
            "1 connection closed without TIME-WAIT in 10s: 100 of 100 are in it (net.ipv4.tcp_max_tw_buckets) "
            "in namespace blue",
            3,
            "time-wait-full 7",
        ),
        (
            {"retrans_fail": 5, "retrans_segs": 6, "out_discards": 8},
            "5 of 6 retransmits dropped by this host in 10s, and 8 other packets in namespace blue",
            3,
            "local-drop 7",
        ),
        (
            {"listen_overflows": 9, "req_q_full_drop": 1},
            "10 handshakes dropped at full queues in 10s (no listener that is seen explains it) in namespace blue",
            3,
            "accept-queue 7",
        ),
    ],
)
def test_what_is_told(told: dict[str, int], words: str, rows: int, key: str) -> None:
    [one] = found(**told)
    assert (one.text, one.rows, one.key, one.blame) == (words, rows, key, "host")


def test_a_filter_shows_the_rows_that_are_counted() -> None:
    everything = ticked(
        tcp_mem_pages=900,
        orphans=360,
        files=950,
        conntrack=990,
        retrans_fail=9,
        tw_overflow=1,
        backlog_drops=99,
        backlog_packets=100,
        listen_overflows=50,
    )
    told = tell.findings(everything)
    assert len(told) == 8
    for one in told:
        shown = np.count_nonzero(matching(everything, compiler.compile(one.filter)))
        assert shown == one.rows, one.filter


def test_several_listeners_of_which_none_is_known_to_have_dropped() -> None:
    rows = [flow(n, netns=7, state=State.LISTEN, local=("10.0.0.1", 80 + n), inode=n) for n in (1, 2, 3)]
    [one] = tell.findings(ticked(rows, listen_overflows=30))
    assert one.text.startswith("30 handshakes dropped at full queues in 10s (which of 3 listeners is not known)")


def test_handshakes_dropped_within_two_seconds_are_waited_for() -> None:
    tracker = Tracker(20.0)
    told = [len(tell.findings(tracker.update(shot(at, ROWS, listen_overflows=30 * min(at, 1))))) for at in range(4)]
    assert told == [0, 0, 0, 1]


def test_listeners_that_explain_it_stand_alone() -> None:
    tracker = Tracker(20.0)
    told = []
    for second in range(4):
        listener = flow(1, netns=7, state=State.LISTEN, recv_q=11, send_q=10, inode=1, drops=20 * second)
        flows = tracker.update(shot(second, [listener], listen_overflows=20 * second))
        told = [one.key for one in tell.findings(flows)]
    assert len(told) == 1
    assert not told[0].startswith("accept-queue 7")


def test_limits_that_are_not_known_raise_no_alarm() -> None:
    unknown = dict.fromkeys((*LIMITS, "conntrack_max", "max_tw_buckets"), 0)
    assert found(**unknown, tcp_mem_pages=5000, orphans=5000, files=5000, conntrack=5000, tw=500, tw_overflow=9) == ()
    [one] = found(**unknown, tcp_mem_pages=5000, orphans=9, memory_pressures=2)
    assert one.text == "TCP sockets hold 5000 pages of memory; pressure began twice in 10s".replace("twice", "2 times")


def test_one_incident_stays_one_finding_with_its_beginning() -> None:
    tracker, memory = Tracker(20.0), FindingsMemory()
    told = [memory.complete(tracker.update(shot(at, ROWS, orphans=360 + at))).findings for at in range(5)]
    assert [len(one) for one in told] == [1] * 5
    assert {one[0].key for one in told} == {"too-many-orphans host"}
    assert {one[0].since for one in told} == {told[0][0].since}


def test_a_filter_of_the_user_leaves_what_concerns_its_rows() -> None:
    both = ticked(orphans=380, conntrack=950)

    def keys(*which: int) -> list[str]:
        wanted = np.isin(np.arange(len(both)), which)
        return [one.key for one in tell.findings(both, Narrowed(wanted, "x"))]

    assert keys(0) == ["too-many-orphans host", "conntrack-full 7"]
    assert keys(3) == ["too-many-orphans host"]
    assert keys() == []
