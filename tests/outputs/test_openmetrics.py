"""Metrics: what is counted, and how many series there can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.model.enums import State
from tcptop_ops.outputs.metric_family import EDGES_S, Histogram, count_series
from tcptop_ops.outputs.metric_groups import DIMENSIONS, LONGEST_LABEL, OTHER, TOP
from tcptop_ops.outputs.openmetrics import MOST_SERIES
from tests.support.fakes import BOOT_NS, HOSTILE, finals, flow, scrambled
from tests.support.metrics import Watched


def test_counters_go_on_and_gauges_are_now() -> None:
    watched = Watched()
    watched.tick([flow(1), flow(2)], opened=2)
    watched.tick([flow(1, retrans_segs=3, bytes_acked=1000), flow(2, bytes_received=50)])
    watched.tick([flow(1, retrans_segs=4, bytes_acked=1500), flow(2, bytes_received=50)], opened=5)
    assert watched.value("retransmitted_segments") == 4
    assert (watched.value("sent_bytes"), watched.value("received_bytes")) == (1500, 50)
    assert watched.value("opened_connections") == 7
    assert watched.value("sockets", "ESTAB") == 2
    assert watched.value("sockets", "LISTEN") == 0
    assert watched.value("process_connections", "nginx") == 2
    assert watched.value("process_retransmitted_segments", "nginx") == 4
    assert watched.value("process_sent_bytes", "nginx") == 1500
    assert watched.value("ticks") == 4
    watched.tick([])
    assert watched.value("process_connections", "nginx") == 0
    assert watched.value("process_sent_bytes", "nginx") == 1500


def test_what_came_before_the_start_does_not_count() -> None:
    watched = Watched()
    tracker_sees_it_now = flow(1, retrans_segs=900, bytes_acked=10**9, origin=0, first_ns=0)
    watched.tick([tracker_sees_it_now]).tick([tracker_sees_it_now])
    assert (watched.value("retransmitted_segments"), watched.value("sent_bytes")) == (0, 0)


def test_a_connection_that_closed_is_counted_by_its_end() -> None:
    watched = Watched()
    gone = finals([flow(1, states=1 << 9 | 1 << 8, first_ns=BOOT_NS + 1, bytes_acked=70)], BOOT_NS + 500_000_000)
    listener = finals([flow(2, first_ns=BOOT_NS + 1)], BOOT_NS + 500_000_000, from_state=State.LISTEN)
    watched.tick([], closed=gone).tick([], closed=listener)
    assert watched.value("closed_connections", "peer-closed") == 1
    assert sum(watched.family("closed_connections").values()) == 1
    assert watched.value("process_sent_bytes", "nginx") == 70
    assert watched.value("process_connections", "nginx") == 0


def test_listeners_are_no_connections() -> None:
    watched = Watched().tick([flow(1, state=State.LISTEN, peer=("0.0.0.0", 0), name=b"door")])
    assert watched.value("sockets", "LISTEN") == 1
    assert watched.value("process_connections", OTHER) == 0
    assert watched.labels("process") == watched.labels("remote") == set()


def test_round_trip_times_of_those_that_moved_data() -> None:
    watched = Watched()
    for sent in (100, 200, 300):
        watched.tick(
            [
                flow(1, bytes_acked=sent, srtt_us=900),
                flow(2, bytes_acked=sent, srtt_us=9_000_000, peer=("192.0.2.1", 5)),
                flow(3, bytes_acked=100, srtt_us=10, first_ns=0, origin=0),
            ]
        )
    found = watched.value("srtt_seconds")
    assert isinstance(found, Histogram)
    at_most = dict(zip((*EDGES_S, None), found.at_most, strict=True))
    observed = at_most[None]
    assert (at_most[0.0005], at_most[0.001], at_most[2.5]) == (0, observed / 2, observed / 2)
    assert found.sum == pytest.approx(observed / 2 * 9.0009)
    there = watched.value("remote_srtt_seconds", "192.0.2.0/24")
    assert (there.at_most[-2], there.at_most[-1]) == (0, observed / 2)


def test_flows_by_cause() -> None:
    full = flow(3, state=State.LISTEN, peer=("0.0.0.0", 0), recv_q=9, send_q=8)
    watched = Watched()
    for tries in (0, 1, 2):
        watched.tick([flow(1, state=State.SYN_SENT, retransmits=tries, retrans_segs=tries), flow(2), full])
    causes = {labels[0]: count for labels, count in watched.family("flows").items() if count}
    assert causes == {"syn-unanswered": 1, "idle": 1, "accept-queue": 1}
    assert watched.value("bad_flows") == 2
    assert watched.value("process_bad_connections", "nginx") == 1
    assert watched.family("findings") == {("network",): 0, ("peer",): 0, ("app",): 1, ("host",): 0}
    assert watched.value("finding_connections", "app") == 1


def crowd(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Each of a process, a service and a network of its own."""
    return [
        flow(n, name=b"p%d" % n, peer=(f"10.{n >> 8}.{n & 255}.1", 1), cgroup_id=n, bytes_acked=n, **fields)
        for n in range(1, count + 1)
    ]


def services(count: int) -> dict[int, str]:
    return {n: f"/system.slice/s{n}.service" for n in range(1, count + 1)}


def test_the_number_of_series_is_bounded() -> None:
    watched = Watched()
    for _ in range(3):
        watched.tick(crowd(600), cgroups=services(600))
    for dimension in DIMENSIONS:
        assert len(watched.labels(dimension)) == TOP
    assert 500 < count_series(watched.families) < MOST_SERIES


def test_those_that_matter_are_told_of_and_the_others_are_together() -> None:
    watched = Watched(top=2)
    bad = flow(1000, name=b"ill", retrans_segs=9)
    heavy = flow(1001, name=b"heavy", bytes_acked=10**9)
    watched.tick([*crowd(30), bad, heavy], cgroups=services(30))
    watched.tick([*crowd(30), bad | {"retrans_segs": 20}, heavy | {"bytes_acked": 2 * 10**9}], cgroups=services(30))
    assert watched.labels("process") == {"ill", "heavy"}
    assert watched.value("process_connections", OTHER) == 30
    sent = watched.family("process_sent_bytes")
    assert sum(sent.values()) == watched.value("sent_bytes")


def test_a_newcomer_that_matters_more_takes_a_place_and_no_counter_leaps() -> None:
    watched = Watched(top=1)
    watched.tick([flow(1, name=b"first", bytes_acked=100)])
    assert watched.labels("process") == {"first"}
    watched.tick([flow(1, name=b"first", bytes_acked=200), flow(2, name=b"much", bytes_acked=10, first_ns=BOOT_NS)])
    assert watched.labels("process") == {"first"}, "it matters no more than that"
    before = watched.value("process_sent_bytes", OTHER)
    for sent in range(1, 300):
        watched.tick([flow(2, name=b"much", bytes_acked=sent * 10**6, retrans_segs=sent)])
        if watched.labels("process") == {"much"}:
            break
        assert watched.value("process_sent_bytes", OTHER) >= before
        before = watched.value("process_sent_bytes", OTHER)
    assert watched.labels("process") == {"much"}
    assert watched.value("process_sent_bytes", OTHER) == before
    assert watched.value("process_sent_bytes", "much") <= 10**6


def test_no_two_series_have_the_same_labels() -> None:
    """A process may be called other; two names cut to one length may look the same, or be told alike."""
    long = "x" * (LONGEST_LABEL + 10)
    cgroups = {1: f"/{long}1", 2: f"/{long}2", 3: "/other", 4: ""}
    rows = [flow(n, name=name, cgroup_id=n % 5) for n, name in enumerate([*HOSTILE, b"other", b"\x1b", b"\\x1b"])]
    watched = Watched().tick(rows, cgroups=cgroups)
    for family in watched.families:
        assert len(dict(family.series)) == len(family.series), family.name
    assert {"other", "other (2)"} <= {label for (label,) in watched.family("process_connections")}
    for (label,) in (*watched.family("process_connections"), *watched.family("service_connections")):
        assert len(label) <= LONGEST_LABEL + 5
        assert all(" " <= c <= "~" for c in label)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_anything_can_be_measured(seed: int) -> None:
    watched = Watched(top=3)
    for number in range(3):
        watched.take(scrambled(6, seed + number, number + 1))
    assert count_series(watched.families) < MOST_SERIES
    for family in watched.families:
        for _, value in family.series:
            numbers = [*value.at_most, value.sum] if isinstance(value, Histogram) else [value]
            assert all(np.isfinite(number) and number >= 0 for number in numbers), family.name
