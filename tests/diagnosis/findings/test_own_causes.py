"""Faults of connections that are no fault of the path, each searched by itself."""

from __future__ import annotations

from tcptop_ops.model.enums import Direction, ResetBy, State
from tests.support.bad_rows import found, row, texts

LEAK = {"state": State.CLOSE_WAIT, "state_s": 120.0}


def test_a_leak_is_one_finding_for_its_process_whatever_the_peers() -> None:
    rows = [row("not-closed", 20.0, pid=4242, name=b"python3", peer=(f"10.0.{n}.9", 80), **LEAK) for n in range(200)]
    rows += [row("not-closed", 20.0, pid=4243, name=b"python3", peer=("10.0.0.9", 80), **LEAK) for n in range(9)]
    rows += [row(pid=4242, name=b"python3", peer=("10.0.3.9", 80))] * 900
    one, other = found(rows)
    assert one.text == "python3 4242 has not closed 200 sockets that their peers closed, the oldest since 2 min"
    assert other.text.startswith("python3 4243 has not closed 9 sockets")
    assert one.filter == "pid = 4242 and score >= 10"


def test_a_socket_or_two_that_are_half_closed_are_no_leak() -> None:
    assert found([row("not-closed", 20.0, pid=4242, **LEAK)] * 2) == []


def test_causes_at_one_process_are_several_findings() -> None:
    """The same connections' process both leaks and does not read: each filter shows its own rows."""
    rows = [row("not-closed", 20.0, pid=7, name=b"app", peer=("10.0.0.9", 80), **LEAK)] * 9
    rows += [row("not-reading", pid=7, name=b"app", peer=("10.0.0.9", 80))] * 4
    assert texts(rows) == [
        "4 connections of app to 10.0.0.9:80 are not read by their process",
        "app 7 has not closed 9 sockets that their peers closed, the oldest since 2 min",
    ]


def test_writers_to_a_peer_that_does_not_read() -> None:
    rows = [row("peer-not-reading", peer=("10.0.0.9", 80), pid=n, name=b"w%d" % n) for n in range(6)]
    assert texts(rows) == ["6 connections to 10.0.0.9:80 wait for a peer that does not read"]


def test_at_a_listener() -> None:
    rows = [
        row("not-reading", direction=Direction.IN, local=("10.9.9.9", 80), peer=(f"10.0.{n}.9", 5000 + n), netns=5)
        for n in range(6)
    ]
    assert texts(rows) == ["6 connections to the listener on port 80 are not read by their process"]


def test_resets_are_blamed_on_whoever_made_most_of_them() -> None:
    """As their rows do."""
    for by, blame in ((ResetBy.BETWEEN, "network"), (ResetBy.US, "app"), (ResetBy.PEER, "peer")):
        rows = [row("reset", peer=("10.0.0.9", 80), name=b"pool", closed=1.0, reset_by=by)] * 5
        rows += [row("reset", peer=("10.0.0.9", 80), name=b"pool", closed=1.0, reset_by=ResetBy.UNKNOWN)] * 2
        [one] = found(rows)
        assert (one.blame, one.rows) == (blame, 7)


def test_resets_of_a_few_places_are_told_place_by_place() -> None:
    """Their addresses begin with the same bits by chance."""
    counts = {"10.94.0.2": 15, "10.70.2.1": 5, "10.91.0.2": 4}
    rows = [row("reset", peer=(at, 80), name=b"pool", closed=1.0) for at, count in counts.items() for _ in range(count)]
    rows += [row(peer=(f"10.80.{n}.1", 80)) for n in range(9)]
    assert sorted(one.rows for one in found(rows)) == [4, 5, 15]
    many = [row("reset", peer=(f"10.94.{n}.2", 80), name=b"pool", closed=1.0) for n in range(40)]
    [one] = found([*many, *rows[-9:]])
    assert one.rows == 40
