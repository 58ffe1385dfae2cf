"""Faults of a path: told where the contrast is real, or where there is nothing to compare with."""

from __future__ import annotations

import pytest

from tcptop_ops.model.enums import Direction
from tcptop_ops.model.flows import Finding
from tests.support.bad_rows import Row, found, row, texts


def told(bad: list[Row], good: list[Row], cause: str = "loss") -> list[Finding]:
    return found([row(cause, **fields) for fields in bad] + [row(**fields) for fields in good])


def to(address: str, port: int = 443) -> Row:
    return {"peer": (address, port)}


ELSEWHERE = [to(f"192.0.2.{host}") for host in range(1, 11)]


def scattered(start: int, step: int) -> list[Row]:
    """Addresses that have no prefix in common."""
    return [to(f"{n}.{n}.{n}.{n}") for n in range(start, 220, step)]


def test_a_prefix_is_grown_until_it_holds_them_all() -> None:
    [found] = told([to(f"10.2.0.{host}") for host in (1, 2, 77, 130, 201, 250)], ELSEWHERE)
    assert found.text == "6 of 6 flows to 10.2.0.0/24 lose 5.0 %; other 10: 0.0 %"
    assert (found.filter, found.rows) == ("raddr = 10.2.0.0/24 and score >= 10", 6)
    assert found.blame == "network"


def test_remote_and_port_are_told_together() -> None:
    [found] = told([to("10.2.0.9")] * 5, [*ELSEWHERE, to("10.2.0.8"), to("10.2.0.9", 80)])
    assert found.text.startswith("5 of 5 flows to 10.2.0.9:443 lose")


def test_an_address_whose_ports_all_suffer() -> None:
    [found] = told([to("10.2.0.9", 440 + n // 2) for n in range(8)], ELSEWHERE)
    assert found.text.startswith("8 of 8 flows to 10.2.0.9 lose")


def test_ipv6() -> None:
    [found] = told([to(f"2001:db8:7::{host}") for host in range(1, 7)], [to(f"2001:db8:9::{n}") for n in range(1, 9)])
    assert found.text.startswith("6 of 6 flows to 2001:db8:7::/125 lose")
    [found] = told([to("2001:db8:7::1")] * 5, [to(f"2001:db8:9::{n}") for n in range(1, 9)])
    assert found.text.startswith("5 of 5 flows to [2001:db8:7::1]:443 lose")


def test_good_ones_inside_are_counted_and_not_shown() -> None:
    inside = [to(f"10.2.0.{host}") for host in range(32, 48)]
    [found] = told(inside[:12], [*ELSEWHERE, *inside[12:]])
    assert found.text.startswith("12 of 1")
    assert found.rows == 12


def test_a_process() -> None:
    bad = [one | {"pid": 7, "name": b"backup"} for one in scattered(1, 33)]
    good = [one | {"pid": 8} for one in scattered(2, 20)]
    [found] = told(bad, good, "rto-stall")
    assert found.text == f"7 of 7 flows of backup 7 stall on timeouts; other {len(good)}: 0 of them"
    assert found.filter == "pid = 7 and score >= 10"


def test_a_process_that_is_started_again_and_again() -> None:
    bad = [one | {"pid": 7 + n, "name": b"backup"} for n, one in enumerate(scattered(1, 33))]
    [found] = told(bad, scattered(2, 20), "rto-stall")
    assert found.text.startswith("7 of 7 flows of backup stall on timeouts")
    assert found.filter == "process = backup and score >= 10"


def test_of_several_causes_of_one_incident_the_two_most_frequent_are_named() -> None:
    causes = ["dead-peer"] * 3 + ["rto-stall"] * 2 + ["loss"]
    rows = [row(cause, **to("10.2.0.9")) for cause in causes] + [row(**one) for one in ELSEWHERE]
    assert texts(rows) == ["6 of 6 flows to 10.2.0.9:443 are bad: 3 dead-peer, 2 rto-stall; other 10: 0 of them"]


def test_a_listener() -> None:
    came = {"direction": Direction.IN, "netns": 5}
    bad = [one | came | {"local": ("10.9.9.9", 8080)} for one in scattered(1, 33)]
    good = [one | came | {"local": ("10.9.9.9", 22)} for one in scattered(2, 20)]
    [found] = told(bad, good, "dead-peer")
    assert "to the listener on port 8080 hear nothing" in found.text


@pytest.mark.parametrize("names", [{}, {77: "blue"}])
def test_a_namespace_is_named(names: dict[int, str]) -> None:
    bad = [row("loss", netns=77, **one) for one in scattered(1, 33)]
    good = [row(netns=78, **one) for one in scattered(2, 20)]
    [one] = found(bad + good, namespace_names=names)
    assert ("in namespace blue" if names else "in network namespace 77") in one.text
    assert one.filter == "netns = 77 and score >= 10"


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ([to(f"10.2.0.{n}") for n in range(4)], ELSEWHERE),
        ([to(f"10.2.0.{n}") for n in range(9)], ELSEWHERE[:4]),
        (scattered(20, 7), [to(f"{n}.{n}.{n}.9") for n in range(21, 121, 7)]),
        ([to(f"10.2.0.{n}") for n in range(0, 12, 2)], [to(f"10.2.0.{n}") for n in range(1, 13, 2)] * 2),
        ([], ELSEWHERE),
    ],
    ids=["few", "alone", "scattered", "mixed", "healthy"],
)
def test_where_nothing_is_shared_nothing_is_said(bad: list[Row], good: list[Row]) -> None:
    assert told(bad, good) == []


def test_where_there_is_nothing_to_compare_with_remote_and_port_are_told_plainly() -> None:
    [found] = told([to("10.0.0.2")] * 8, [])
    assert found.text == "all 8 flows to 10.0.0.2:443 lose 5.0 %"
    [found] = told([to("10.0.0.2")] * 8, [to("10.0.0.2")] * 2)
    assert found.text == "8 of 10 flows to 10.0.0.2:443 lose 5.0 %"


@pytest.mark.parametrize("healthy", [0, 10])
def test_two_places_at_once_are_two_findings(healthy: int) -> None:
    """The bad flows of one do not speak against the other."""
    bad = [to("10.0.0.2")] * 12 + [to("10.7.0.9", 5432)] * 8
    found = told(bad, ELSEWHERE[:healthy])
    assert [one.rows for one in found] == [12, 8]
    assert "to 10.0.0.2:443 lose" in found[0].text
    assert "to 10.7.0.9:5432 lose" in found[1].text


def test_two_networks_at_once_are_two_findings() -> None:
    bad = [to(f"10.2.0.{n}") for n in range(8, 16)] + [to(f"10.7.0.{n}") for n in range(16, 22)]
    assert [one.text.split(" lose")[0] for one in told(bad, ELSEWHERE)] == [
        "8 of 8 flows to 10.2.0.8/29",
        "6 of 6 flows to 10.7.0.16/29",
    ]


def test_a_healthy_twin_beside_it_stays_out() -> None:
    """The same process to another port of the same host, and another process to a neighbour."""
    bad = [to("10.0.0.2") | {"pid": 5, "name": b"app"}] * 6
    twins = [to("10.0.0.2", 80) | {"pid": 5, "name": b"app"}, to("10.0.0.3") | {"pid": 6}] * 6
    [found] = told(bad, twins)
    assert found.text == "6 of 6 flows to 10.0.0.2:443 lose 5.0 %; other 12: 0.0 %"


def test_a_process_at_a_place_where_another_is_well() -> None:
    bad = [to("10.0.0.2") | {"pid": 5, "name": b"app"}] * 6
    [found] = told(bad, [to("10.0.0.2") | {"pid": 6, "name": b"other"}] * 6)
    assert found.text == "6 of 6 flows of app to 10.0.0.2:443 lose 5.0 %; other 6: 0.0 %"


def test_a_filter_narrows_and_the_others_still_are_the_contrast() -> None:
    bad = [row("loss", pid=5 + n % 2, **to("10.0.0.2")) for n in range(14)]
    good = [row(**one) for one in ELSEWHERE]
    [whole] = found(bad + good)
    [part] = found(bad + good, "pid = 5")
    assert whole.text == "14 of 14 flows to 10.0.0.2:443 lose 5.0 %; other 10: 0.0 %"
    assert part.text == "7 of 7 flows to 10.0.0.2:443 lose 5.0 %; other 10: 0.0 %"
    assert part.filter == "(pid = 5) and raddr = 10.0.0.2 and rport = 443 and score >= 10"
    assert found(bad + good, "pid = 9") == []
    assert [one.text for one in found(bad + good, whole.filter)] == [whole.text]
