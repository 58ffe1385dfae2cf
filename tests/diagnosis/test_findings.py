"""What bad flows share: told where the contrast is real, and not otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.diagnosis import findings
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.flows import Finding, Flows
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import finals, flow, scrambled, snapshot

NUMBER = {cause.name: number for number, cause in enumerate(CAUSES)}


def flows_of(rows: list[dict[str, Any]], verdicts: list[tuple[str, float]]) -> Flows:
    """Live flows with these causes and scores; bad ones lost 5 of 100 segments, the others none."""
    flows = Tracker().update(snapshot(0, rows))
    rates = flows.live.rates
    rates["cause"] = [NUMBER[name] for name, _ in verdicts]
    rates["score"] = [score for _, score in verdicts]
    rates["win"]["data_segs_out"] = 100
    rates["win"]["retrans_segs"] = [5 * (score > 0) for _, score in verdicts]
    return flows


def told(bad: list[dict[str, Any]], good: list[dict[str, Any]], cause: str = "loss") -> list[Finding]:
    rows = [flow(number, **fields) for number, fields in enumerate([*bad, *good], 1)]
    return findings.findings(flows_of(rows, [(cause, 60.0)] * len(bad) + [("healthy", 0.0)] * len(good)))


def to(address: str, **fields: Any) -> dict[str, Any]:
    return {"peer": (address, 443), "pid": 0} | fields


ELSEWHERE = [to(f"192.0.2.{host}") for host in range(1, 11)]


def test_a_prefix_is_grown_until_it_holds_them_all() -> None:
    [found] = told([to(f"10.2.0.{host}") for host in (1, 2, 77, 130, 201, 250)], ELSEWHERE)
    assert found.text == "6 of 6 flows to 10.2.0.0/24 lose 5.0 %; other 10: 0.0 %"
    assert (found.filter, found.rows) == ("host = 10.2.0.0/24", 6)
    assert compiler.compile(found.filter).text


def test_one_host_is_no_wider_prefix() -> None:
    [found] = told([to("10.2.0.9")] * 5, [*ELSEWHERE, to("10.2.0.8"), to("10.2.0.10")])
    assert found.text.startswith("5 of 5 flows to 10.2.0.9 lose")


def test_ipv6() -> None:
    [found] = told([to(f"2001:db8:7::{host}") for host in range(1, 7)], [to(f"2001:db8:9::{n}") for n in range(1, 9)])
    assert found.text.startswith("6 of 6 flows to 2001:db8:7::/125 lose")
    assert compiler.compile(found.filter).text


def test_good_ones_inside_are_counted() -> None:
    inside = [to(f"10.2.0.{host}") for host in range(32, 48)]
    [found] = told(inside[:12], [*ELSEWHERE, *inside[12:]])
    assert found.text.startswith("12 of 1")


def test_a_process() -> None:
    bad = [to(f"10.{n}.{n}.{n}", pid=7, name=b"backup") for n in range(1, 200, 33)]
    good = [to(f"10.{n}.{n}.{n}", pid=8) for n in range(2, 250, 20)]
    [found] = told(bad, good, "rto-stall")
    assert found.text == f"7 of 7 flows of backup 7 stall on timeouts; other {len(good)}: 0 of them"
    assert found.filter == "pid = 7"


def test_of_several_causes_the_two_most_frequent_are_named() -> None:
    rows = [flow(number, **fields) for number, fields in enumerate([to("10.2.0.9")] * 6 + ELSEWHERE, 1)]
    causes = ["dead-peer"] * 3 + ["rto-stall"] * 2 + ["unreachable"]
    [found] = findings.findings(
        flows_of(rows, [(cause, 60.0) for cause in causes] + [("healthy", 0.0)] * len(ELSEWHERE))
    )
    assert found.text == "6 of 6 flows to 10.2.0.9 are bad: 3 dead-peer, 2 rto-stall; other 10: 0 of them"


def test_a_listener() -> None:
    bad = [to(f"10.{n}.{n}.{n}", local=("10.9.9.9", 8080), direction=Direction.IN, netns=5) for n in range(1, 200, 33)]
    good = [to(f"10.{n}.{n}.{n}", local=("10.9.9.9", 22), direction=Direction.IN, netns=5) for n in range(2, 250, 20)]
    [found] = told(bad, good, "dead-peer")
    assert "to the listener on port 8080 hear nothing" in found.text
    assert compiler.compile(found.filter).text


def test_a_namespace() -> None:
    bad = [to(f"10.{n}.{n}.{n}", netns=77) for n in range(1, 200, 33)]
    good = [to(f"10.{n}.{n}.{n}", netns=78) for n in range(2, 250, 20)]
    [found] = told(bad, good)
    assert "in network namespace 77" in found.text
    assert found.filter == "netns = 77"


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ([to(f"10.2.0.{n}") for n in range(4)], ELSEWHERE),  # four are too few
        ([to(f"10.2.0.{n}") for n in range(9)], ELSEWHERE[:4]),  # nothing to compare with
        ([to(f"{n}.{n}.{n}.{n}") for n in range(20, 120, 7)], [to(f"{n}.{n}.{n}.9") for n in range(21, 121, 7)]),
        ([to(f"10.2.0.{n}") for n in range(0, 12, 2)], [to(f"10.2.0.{n}") for n in range(1, 13, 2)] * 2),
        ([], ELSEWHERE),
    ],
    ids=["few", "alone", "scattered", "mixed", "healthy"],
)
def test_where_nothing_is_shared_nothing_is_said(bad: list[dict[str, Any]], good: list[dict[str, Any]]) -> None:
    assert told(bad, good) == []


def test_causes_of_the_own_host_are_no_fault_of_a_path() -> None:
    assert told([to(f"10.2.0.{n}") for n in range(9)], ELSEWHERE, "not-reading") == []


def failed(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [flow(n, state=State.CLOSE, segs_in=1, states=1 << 2, **fields) for n in range(1, count + 1)]


@pytest.mark.parametrize(("count", "said"), [(2, False), (3, True), (41, True)])
def test_failures_alike_are_told_as_one(count: int, said: bool) -> None:
    tracker = Tracker()
    first = tracker.update(snapshot(0, []))
    rows = failed(count, peer=("192.0.2.10", 443), name=b"curl", first_ns=first.snapshot.now_ns + 1)
    closed = finals(rows, first.snapshot.now_ns + 500_000_000, from_state=State.SYN_SENT, error=111)
    found = findings.findings(tracker.update(snapshot(1, [], closed)))
    if not said:
        assert found == []
        return
    assert [one.text for one in found] == [f"curl -> 192.0.2.10:443 {count} failed / 60 s: refused"]
    assert compiler.compile(found[0].filter).text


@given(st.integers(0, 2**32 - 1))
def test_any_rows_make_findings_that_can_be_filtered_by(seed: int) -> None:
    made = scrambled(60, seed, 0)
    made.sockets["cookie"] = np.arange(60)
    flows = Tracker().update(made)
    flows.live.rates["score"] = 50
    flows.live.rates["cause"][:30] = NUMBER["loss"]
    flows.live.rates["win"]["data_segs_out"] = 9
    for found in findings.findings(flows):
        assert compiler.compile(found.filter).text
        assert found.text.isprintable()
