"""Connection attempts that failed: closed and waiting ones, by who made them and whereto."""

from __future__ import annotations

from typing import Any

import pytest

from tcptop_ops.model.enums import State
from tests.support.bad_rows import Row, found, row, texts

CURL: Row = {"name": b"curl", "pid": 7}


def waiting(count: int, peer: tuple[str, int], cause: str = "syn-unanswered", **fields: Any) -> list[Row]:
    usual: Row = {"state": State.SYN_SENT, "peer": peer, "began": 3.0}
    return [row(cause, **(usual | fields)) for _ in range(count)]


def gave_up(count: int, peer: tuple[str, int], cause: str = "syn-unanswered", **fields: Any) -> list[Row]:
    return waiting(count, peer, cause, **({"closed": 2.0} | fields))


PLACE = ("192.0.2.10", 443)


def test_closed_and_waiting_ones_are_one_finding() -> None:
    rows = waiting(12, PLACE, **CURL) + gave_up(29, PLACE, **CURL) + gave_up(1, PLACE, began=15.0, **CURL)
    [one] = found(rows)
    assert one.text == "curl -> 192.0.2.10:443 42 failed in 15 s: no answer"
    assert one.rows == 42


@pytest.mark.parametrize(("count", "said"), [(2, False), (3, True)])
def test_three_alike_are_told_without_anything_else(count: int, said: bool) -> None:
    assert bool(found(gave_up(count, PLACE, **CURL))) == said


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        ("syn-unanswered", "no answer"),
        ("refused", "refused"),
        ("unreachable", "no way there"),
        ("local-drop", "dropped by this host"),
    ],
)
def test_why(cause: str, why: str) -> None:
    [text] = texts(gave_up(4, ("2001:db8::7", 5432), cause, **CURL))
    assert text == f"curl -> [2001:db8::7]:5432 4 failed in 3 s: {why}"


def test_a_process_that_is_started_again_is_one() -> None:
    rows = [gave_up(1, PLACE, name=b"curl", pid=100 + n)[0] for n in range(9)]
    assert texts(rows) == ["curl -> 192.0.2.10:443 9 failed in 3 s: no answer"]


def test_two_processes_at_one_place_are_one_incident() -> None:
    rows = gave_up(9, PLACE, **CURL) + gave_up(4, PLACE, name=b"wget", pid=8)
    assert texts(rows) == ["curl, wget -> 192.0.2.10:443 13 failed in 3 s: no answer"]


def test_processes_that_are_many_are_counted_and_one_that_is_not_known_is_not_named() -> None:
    rows = [gave_up(1, PLACE, name=b"job%d" % n, pid=100 + n)[0] for n in range(9)]
    assert texts(rows) == ["9 processes -> 192.0.2.10:443 9 failed in 3 s: no answer"]
    assert texts(gave_up(5, PLACE)) == ["? -> 192.0.2.10:443 5 failed in 3 s: no answer"]


def test_several_incidents_at_once_are_several_findings() -> None:
    rows = gave_up(20, PLACE, **CURL) + gave_up(9, ("10.0.0.5", 80), "refused", name=b"wget", pid=8)
    rows += gave_up(6, ("10.0.0.6", 25), name=b"postfix", pid=9) + [row(**CURL)] * 3
    assert texts(rows) == [
        "curl -> 192.0.2.10:443 20 failed in 3 s: no answer",
        "wget -> 10.0.0.5:80 9 failed in 3 s: refused",
        "postfix -> 10.0.0.6:25 6 failed in 3 s: no answer",
    ]


def test_places_too_small_to_be_told_are_told_together() -> None:
    rows = gave_up(2, PLACE, **CURL) + gave_up(1, ("10.0.0.5", 80), **CURL)
    assert texts(rows) == ["curl -> 2 places: 3 failed in 3 s: no answer"]


@pytest.mark.parametrize(("places", "findings"), [(2, 2), (4, 4), (6, 1)])
def test_few_places_are_told_one_by_one_and_many_as_one(places: int, findings: int) -> None:
    """Of one process, in networks that have nothing in common, in a namespace where nothing else happens."""
    rows = [one for n in range(places) for one in gave_up(5, (f"{n + 20}.0.0.5", 80), netns=5, **CURL)]
    found = texts(rows + [row(peer=(f"192.0.2.{n}", 80), netns=6) for n in range(9)])
    assert len(found) == findings
    if findings == 1:
        assert found == ["curl -> 6 places: 30 failed in 3 s: no answer"]


def test_places_of_one_network_are_one_incident_of_the_process() -> None:
    rows = [one for n in range(3) for one in gave_up(5, ("10.0.0.5", 80 + n), netns=5, **CURL)]
    well = [row(peer=("10.0.0.5", 22), **CURL)] * 9
    [one] = found(rows + well)
    assert one.text == "curl -> 3 ports of 10.0.0.5: 15 failed in 3 s: no answer"
    assert one.filter == "process = curl and raddr = 10.0.0.5 and score >= 10"
    [one] = found(rows + gave_up(4, ("10.0.0.77", 80), **CURL) + well)
    assert one.text == "curl -> 4 places in 10.0.0.0/24: 19 failed in 3 s: no answer"
    assert one.filter == "process = curl and raddr = 10.0.0.0/24 and score >= 10"
    six = [one for n in range(3) for one in gave_up(5, (f"2001:db8:7::{n}", 80), **CURL)]
    assert texts(six) == ["curl -> 3 places in 2001:db8:7::/64: 15 failed in 3 s: no answer"]


def test_one_place_beside_which_another_failed_once_is_told_by_itself() -> None:
    rows = gave_up(9, ("10.0.0.5", 80), **CURL) + gave_up(2, ("10.0.0.6", 80), **CURL)
    assert texts(rows) == ["curl -> 10.0.0.5:80 9 failed in 3 s: no answer"]


def test_a_process_none_of_whose_attempts_succeeds() -> None:
    rows = [one for n in range(8) for one in gave_up(1, (f"{n + 20}.0.0.5", 80), **CURL)]
    [one] = found(rows)
    assert one.text == "curl -> 8 places: 8 failed in 3 s: no answer"
    assert one.filter == "pid = 7 and score >= 10"


def test_a_process_most_of_whose_connections_stand_has_no_finding_for_single_failures() -> None:
    rows = [one for n in range(4) for one in gave_up(1, (f"{n + 20}.0.0.5", 80), **CURL)]
    assert found(rows + [row(**CURL)] * 9) == []


def test_a_scan_of_closed_ports_is_no_incident() -> None:
    rows = [one for n in range(400) for one in gave_up(1, ("10.0.0.5", 1000 + n), "refused", name=b"nmap", pid=7)]
    assert found(rows + [row(peer=("10.9.0.1", 80))] * 9) == []


def test_a_network_that_is_gone() -> None:
    rows = [one for n in range(8) for one in gave_up(1, (f"10.2.0.{n}", 80), name=b"job%d" % n, pid=10 + n)]
    rows += [row(peer=(f"192.0.2.{n}", 80)) for n in range(9)]
    assert texts(rows) == ["8 processes -> 10.2.0.0/29 8 failed in 3 s: no answer"]


def test_for_its_first_seconds_a_place_without_a_way_is_merely_unanswered() -> None:
    rows = gave_up(9, PLACE, "unreachable", **CURL) + waiting(4, PLACE, **CURL)
    assert texts(rows) == ["curl -> 192.0.2.10:443 13 failed in 3 s: no way there"]


def test_happy_eyeballs_is_nothing() -> None:
    lost = gave_up(9, PLACE, **CURL) + waiting(4, ("2001:db8::7", 443), **CURL)
    assert found([one | {"score": 0.0} for one in lost] + [row(peer=("192.0.2.11", 443), **CURL)] * 9) == []


def test_the_last_minute_counts_and_time_is_told_of_that() -> None:
    rows = gave_up(5, PLACE, began=90.0, **CURL) + gave_up(9, PLACE, closed=70.0, began=99.0, **CURL)
    [one] = found(rows)
    assert one.text == "curl -> 192.0.2.10:443 5 failed in 60 s: no answer"
    assert one.filter == (
        "process = curl and raddr = 192.0.2.10 and rport = 443 and score >= 10 and not closed_s > 60s"
    )


@pytest.mark.parametrize("name", [b"two words", b"\"\\'", b"and", b"\xff\xfe", b"\x1b[2J", "ж".encode(), b"a(b)=c"])
def test_whatever_a_process_calls_itself_its_rows_are_shown(name: bytes) -> None:
    """Another process fails at the same place, with another fault."""
    rows = gave_up(4, PLACE, name=name, pid=7) + gave_up(4, PLACE, "refused", name=b"other", pid=8)
    assert len(found(rows)) == 2


def test_a_filter_narrows() -> None:
    rows = gave_up(20, PLACE, **CURL) + gave_up(9, ("10.0.0.5", 80), "refused", name=b"wget", pid=8)
    assert texts(rows, "process = wget") == ["wget -> 10.0.0.5:80 9 failed in 3 s: refused"]
    assert texts(rows, "port = 443") == ["curl -> 192.0.2.10:443 20 failed in 3 s: no answer"]
    assert texts(rows, "cookie < 3") == []
