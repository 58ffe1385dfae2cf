"""Both ends of a connection on this host: an incident is told once, and its filter shows both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.model.enums import Direction, ResetBy
from tcptop_ops.model.flows import Finding
from tests.support.bad_rows import Row, check, found, narrowed, row, tick

WRITER: Row = {"name": b"writer", "pid": 7, "netns": 5}
READER: Row = {"name": b"reader", "pid": 8, "netns": 6, "direction": Direction.IN}
HERE, THERE = "10.0.0.1", "10.9.0.2"


def pairs(count: int, near: str, far: str, address: str = THERE, port: int = 80, **fields: Any) -> list[Row]:
    """Connections of writer to reader, with these causes at the two ends; ``by_near``, ``by_far``: see ``reset_by``."""
    by_near, by_far = fields.pop("by_near", 0), fields.pop("by_far", 0)
    rows = []
    for n in range(count):
        local, peer = (HERE, 30000 + 100 * port + n), (address, port)
        rows.append(row(near, local=local, peer=peer, reset_by=by_near, **(WRITER | fields)))
        rows.append(row(far, local=peer, peer=local, reset_by=by_far, **(READER | fields)))
    return rows


ELSEWHERE = [row(peer=(f"192.0.2.{host}", 443), netns=5) for host in range(1, 11)]


def test_a_path_whose_two_ends_suffer_is_one_incident_of_the_sender() -> None:
    [one] = found(pairs(6, "loss", "inbound-loss") + ELSEWHERE)
    assert one.text == "6 of 6 flows to 10.9.0.2:80 lose 5.0 %; other 10: 0.0 %"
    assert (one.rows, one.blame) == (12, "network")
    assert one.filter == "(raddr = 10.9.0.2 and rport = 80 or laddr = 10.9.0.2 and lport = 80) and score >= 10"


def test_the_other_end_does_not_speak_against_a_path_either() -> None:
    """Two of the receivers are told of, four are well: none is among those that it is compared with."""
    rows = pairs(2, "loss", "inbound-loss") + pairs(4, "loss", "healthy", port=81)
    [one] = found([one | {"pid": 7} for one in rows] + ELSEWHERE)
    assert "other 10: 0.0 %" in one.text


def test_others_are_counted_once_for_both_ends() -> None:
    rows = pairs(6, "loss", "inbound-loss") + pairs(8, "healthy", "healthy", "10.8.0.2")
    [one] = found(rows)
    assert one.text.endswith("; other 8: 0.0 %")


def test_several_places_of_a_lossy_network() -> None:
    rows = [one for n in range(6) for one in pairs(1, "loss", "inbound-loss", f"10.9.0.{16 + n}", 80 + n)]
    [one] = found(rows + ELSEWHERE)
    assert one.text.startswith("6 of 6 flows to 10.9.0.16/29 lose")
    assert one.filter == "(raddr = 10.9.0.16/29 or laddr = 10.9.0.16/29) and score >= 10"


def test_a_peer_that_does_not_read_is_that_process() -> None:
    """Who is to blame is on this host: the writer's own words are not told beside."""
    [one] = found(pairs(4, "peer-not-reading", "not-reading"))
    assert one.text == "4 connections to the listener of reader, port 80 are not read by their process"
    assert (one.rows, one.blame) == (8, "app")


def test_without_the_other_end_the_peer_is_to_blame() -> None:
    [one] = found(pairs(4, "peer-not-reading", "not-reading"), "process = writer")
    assert (one.rows, one.blame) == (4, "peer")


@pytest.mark.parametrize("closed", [{}, {"closed": 1.0}], ids=["live", "closed"])
@pytest.mark.parametrize(
    ("near", "far", "blame", "whose"),
    [
        (ResetBy.PEER, ResetBy.US, "app", "to the listener of reader, port 80"),
        (ResetBy.US, ResetBy.PEER, "app", "of writer to 10.9.0.2:80"),
        (ResetBy.BETWEEN, ResetBy.BETWEEN, "network", "of writer to 10.9.0.2:80"),
    ],
)
def test_resets_are_told_once_of_who_sent_them(
    near: int, far: int, blame: str, whose: str, closed: dict[str, Any]
) -> None:
    [one] = found(pairs(8, "reset", "reset", by_near=near, by_far=far, **closed))
    assert one.text.startswith(f"8 of 8 connections {whose} were reset in")
    assert (one.rows, one.blame) == (16, blame)


def test_one_end_is_closed_and_the_other_not_yet() -> None:
    rows = pairs(5, "reset", "reset", by_near=ResetBy.PEER, by_far=ResetBy.US)
    for one in rows[::2]:
        one["closed"] = 1.0
    [told] = found(rows)
    assert (told.rows, told.blame) == (10, "app")


def test_loopback_of_another_namespace_is_another_connection() -> None:
    rows = []
    for n in range(4):
        near, far = ("127.0.0.1", 30000 + n), ("127.0.0.1", 80)
        rows.append(row("reset", local=near, peer=far, closed=1.0, **WRITER))
        rows.append(row("reset", local=far, peer=near, closed=1.0, **READER))
    assert [one.rows for one in found(rows)] == [4, 4]
    assert [one.rows for one in found([one | {"netns": 5} for one in rows])] == [8]


def test_faults_of_their_own_at_both_ends_are_two_incidents() -> None:
    """The writer's path loses, and the reader leaks its end."""
    rows = pairs(6, "loss", "not-closed", state_s=120.0)
    assert sorted(one.rows for one in found(rows + ELSEWHERE)) == [6, 6]


def test_one_process_with_three_faults() -> None:
    rows = pairs(6, "loss", "inbound-loss") + pairs(4, "peer-not-reading", "not-reading", "10.8.0.2", 90)
    rows += [row("refused", peer=("10.7.0.2", 9), closed=1.0, **WRITER) for _ in range(4)]
    rows += [row(peer=("10.6.0.2", 9), **WRITER)] * 9
    told = found(rows)
    assert sorted((one.blame, one.rows) for one in told) == [("app", 8), ("network", 12), ("peer", 4)]


def test_where_nobody_looked_for_pairs_live_ends_are_told_as_they_were() -> None:
    flows = replace(tick(pairs(4, "peer-not-reading", "not-reading")), pairs=None)
    told: list[Finding] = list(findings(flows))
    check(flows, told)
    assert [one.rows for one in told] == [4, 4]
    assert len(findings(flows, narrowed(flows, "process = reader"))) == 1
