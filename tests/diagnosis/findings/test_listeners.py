"""Listeners in trouble, alone and with the clients of this host."""

from __future__ import annotations

from typing import Any

import pytest

from tcptop_ops.model.enums import Direction, State
from tests.support.bad_rows import Row, found, row, texts


def listener(score: float = 95.0, address: str = "0.0.0.0", port: int = 443, **fields: Any) -> Row:
    usual: Row = {"state": State.LISTEN, "local": (address, port), "peer": ("0.0.0.0", 0), "name": b"nginx", "pid": 9}
    usual |= {"direction": Direction.LISTEN, "netns": 5, "dropped": 50}
    return row("accept-queue", score, **(usual | fields))


def client(peer: tuple[str, int], netns: int = 5, cause: str = "syn-unanswered", **fields: Any) -> Row:
    usual: Row = {"state": State.SYN_SENT, "peer": peer, "netns": netns, "name": b"curl", "pid": 7}
    return row(cause, **(usual | fields))


def test_a_single_one_is_told() -> None:
    [one] = found([listener(), row(peer=("10.0.0.1", 80))])
    assert one.text == "the accept queue of nginx, port 443, is full: 50 dropped in 20 s"
    assert one.rows == 1


def test_one_that_recovers_is_not() -> None:
    assert found([listener(29.0)]) == []


def test_one_without_drops_at_one_address() -> None:
    assert texts([listener(60.0, "2001:db8::1", dropped=0)]) == [
        "the accept queue of nginx, [2001:db8::1]:443, is full"
    ]


def test_two_at_one_port_are_two() -> None:
    assert len(found([listener(address="10.0.0.1"), listener(address="10.0.0.2")])) == 2
    assert len(found([listener(netns=5), listener(netns=6)])) == 2


def test_those_that_share_an_address_are_one() -> None:
    [one] = found([listener(), listener(), listener(0.0)])
    assert one.rows == 2
    assert "100 dropped" in one.text


def test_clients_of_this_host_are_told_with_it() -> None:
    """Over loopback, from another namespace, and after they gave up."""
    child = row(local=("10.81.0.2", 443), peer=("10.81.0.1", 5000), direction=Direction.IN, netns=5)
    rows = [listener(), child, *[client(("127.0.0.1", 443))] * 6, *[client(("10.81.0.2", 443), 8)] * 4]
    rows += [client(("10.81.0.2", 443), 8, closed=1.0)] * 3
    [one] = found(rows)
    assert one.text == (
        "the accept queue of nginx, port 443, is full: 50 dropped in 20 s, "
        "10 attempts of curl on this host wait for it, 3 attempts of curl on this host gave up"
    )
    assert one.rows == 14


@pytest.mark.parametrize(
    "other",
    [client(("127.0.0.1", 443), 6), client(("10.81.0.3", 443)), client(("127.0.0.1", 80)), client(("::1", 443), 6)],
    ids=["other loopback", "other host", "other port", "other IPv6 loopback"],
)
def test_those_who_wait_elsewhere_are_not(other: Row) -> None:
    child = row(local=("10.81.0.2", 443), peer=("10.81.0.1", 5000), direction=Direction.IN, netns=5)
    one, rest = found([listener(), child, *[other] * 4])
    assert (one.rows, rest.rows) in ((1, 4), (4, 1))


def test_clients_are_shown_where_a_filter_lets_them_through() -> None:
    rows = [listener(), *[client(("127.0.0.1", 443))] * 6]
    assert texts(rows, "pid = 7") == ["curl -> 127.0.0.1:443 6 failed in 50 s: no answer"]
    assert texts(rows, "state = listen") == ["the accept queue of nginx, port 443, is full: 50 dropped in 20 s"]
