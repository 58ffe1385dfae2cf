"""Segments that vanish, over several ticks: what is remembered of them, and what is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.case import MEMORY
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import flow, snapshot

ASKED: dict[str, Any] = {
    "pmtu": 1500,
    "bytes_acked": 501,
    "delivered": 2,
    "data_segs_out": 1,
    "segs_in": 2,
    "rto_us": 200_000,
    "snd_wnd": 65_535,
    "last_received_us": 500_000,
    "last_ack_received_us": 500_000,
}
"""A connection whose small request was acknowledged."""

FULL = ASKED | {"unacked": 10, "send_q": 14_480, "data_segs_out": 11}


def lost(times: int, **more: Any) -> dict[str, Any]:
    """Return the same connection after so many timeouts of a full segment."""
    return FULL | {"retransmits": times, "backoff": times, "rto_us": 200_000 << times, "retrans_segs": times} | more


def run(*ticks: dict[str, Any], told: Tracker | None = None, probing: int | None = None) -> Flows:
    """Return the flows of the last of these ticks, a second each."""
    tracker = told or Tracker()
    counters = np.zeros(0 if probing is None else 1, NETNS)
    counters["netns"], counters["mtu_probing"] = 7, probing or 0
    for second, fields in enumerate(ticks):
        made = snapshot(second, [flow(1, netns=7, first_ns=0, **fields)], namespace_counters=counters)
        flows = tracker.update(made)
    return flows


def said(flows: Flows) -> tuple[str, float, str]:
    rates = flows.live.rates[0]
    return CAUSES[int(rates["cause"])].name, round(float(rates["score"]), 1), evidence.sentence(flows.live, flows)


def test_nothing_comes_in_after_full_segments() -> None:
    cause, score, words = said(run(ASKED, lost(1), lost(3), probing=0))
    assert (cause, score) == ("mtu", 90)
    assert words == (
        "MTU suspected: segments of 1448 B never acknowledged, smaller ones were, retransmitted 3 times, nothing came"
        " in since: the peer may be gone instead, MSS 1448 B, path MTU 1500 B, net.ipv4.tcp_mtu_probing = 0: off"
    )


def test_nothing_had_come_for_long_before_the_stall() -> None:
    rested = {"last_received_us": 20_000_000, "last_ack_received_us": 20_000_000}
    cause, _, words = said(run(ASKED, lost(1, **rested), lost(3, **rested)))
    assert cause == "dead-peer"
    assert words.endswith("none of 1448 B was ever acknowledged: the MTU may be at fault")


def test_the_peer_goes_on_to_send() -> None:
    ticks = (lost(n, bytes_received=100 * n, segs_in=2 + n, data_segs_in=n) for n in (1, 2, 3))
    cause, score, words = said(run(ASKED, *ticks))
    assert (cause, score) == ("mtu", 90)
    assert words.startswith("MTU: segments of 1448 B never acknowledged, smaller ones are, retransmitted 3 times")


@pytest.mark.parametrize(("came", "cause"), [(100, "mtu"), (0, "loss")])
def test_full_segments_were_acknowledged_before(came: int, cause: str) -> None:
    """What comes twice is no sign that our acknowledgements arrive."""
    before = {"bytes_acked": 144_801, "delivered": 101, "data_segs_out": 111}
    ticks = [
        lost(n, segs_in=2 + n, bytes_received=came * n, total_rto=n, total_rto_ms=300 * n, **before)
        for n in range(1, 6)
    ]
    flows = run(ASKED, FULL | {"bytes_acked": 501}, FULL | before, *ticks)
    told, _, words = said(flows)
    assert told == cause
    assert ("are no longer acknowledged" in words) == (cause == "mtu")


def test_the_kernel_lowers_the_mss() -> None:
    cured = ASKED | {"mss": 1236, "bytes_acked": 100_501, "delivered": 90, "segs_in": 40, "retrans_segs": 5}
    tracker = Tracker()
    flows = run(ASKED, lost(1), lost(3), cured, told=tracker)
    cause, score, words = said(flows)
    assert (cause, score) == ("mtu", round(90 * 0.5**0.1, 1))
    assert words.startswith(
        "the kernel lowered the MSS from 1448 to 1236 B, packets of 1500 B do not pass, those of 1288 B do (MTU)"
    )
    for second in range(4, 60):
        flows = tracker.update(snapshot(second, [flow(1, netns=7, first_ns=0, **cured)]))
    assert said(flows)[:2] == ("idle", 0)


@pytest.mark.parametrize("pmtu", [1300, UNKNOWN_U32])
def test_a_router_that_tells_of_its_mtu(pmtu: int) -> None:
    """Ten segments are retransmitted, which were too large: no loss."""
    narrow = ASKED | {"pmtu": pmtu, "mss": 1248, "bytes_acked": 14_981, "delivered": 14, "segs_in": 9}
    cause, score, _ = said(run(ASKED, FULL, narrow | {"retrans_segs": 10, "data_segs_out": 22}))
    assert (cause, score) == (("healthy", 0) if pmtu == 1300 else ("loss", 90))


def test_acknowledgements_of_what_was_reported_before_are_not_larger() -> None:
    """Ten segments of 100 bytes, nine of them by SACK a tick ago."""
    small = ASKED | {"unacked": 10, "send_q": 1000, "delivered": 11, "sacked": 9, "segs_in": 11}
    after = {"bytes_acked": 1501, "delivered": 12, "segs_in": 12}
    flows = run(ASKED, small, ASKED | after, lost(1, **after))
    assert flows.live.rates["acked_size"][0] == 250  # the first: 501 bytes in two segments, SYN and request


def test_what_is_remembered_is_small() -> None:
    assert MEMORY.itemsize <= 160  # a row a socket: 100,000 of them are 16 MB
