"""Listeners in trouble, alone and with the clients of this host."""

from __future__ import annotations

from typing import Any

from tcptop_ops.model.enums import Direction, State
from tests.support.bad_rows import Row, found, row, texts


def listener(score: float = 95.0, address: str = "0.0.0.0", port: int = 443, **fields: Any) -> Row:
    usual: Row = {"state": State.LISTEN, "local": (address, port), "peer": ("0.0.0.0", 0), "name": b"nginx", "pid": 9}
    usual |= {"direction": Direction.LISTEN, "netns": 5, "dropped": 50}
    return row("accept-queue", score, **(usual | fields))


def client(peer: tuple[str, int], netns: int = 5, cause: str = "accept-queue", **fields: Any) -> Row:
    """One that waits for the first row, if nothing else is said."""
    usual: Row = {"state": State.SYN_SENT, "peer": peer, "netns": netns, "name": b"curl", "pid": 7, "listener": 1}
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
    rows = [listener(), *[client(("127.0.0.1", 443))] * 6, *[client(("10.81.0.2", 443), 8)] * 4]
    rows += [client(("10.81.0.2", 443), 8, closed=1.0)] * 3
    [one] = found(rows)
    assert one.text == (
        "the accept queue of nginx, port 443, is full: 50 dropped in 20 s, "
        "10 attempts of curl on this host wait for it, 3 attempts of curl on this host gave up"
    )
    assert (one.rows, one.blame) == (14, "app")


def test_those_of_another_listener_are_told_with_that() -> None:
    rows = [listener(), listener(netns=6, pid=8, name=b"other")]
    rows += [client(("127.0.0.1", 443))] * 4 + [client(("127.0.0.1", 443), 6, listener=2)] * 3
    one, other = sorted(found(rows), key=lambda one: one.rows)
    assert (one.rows, other.rows) == (4, 5)
    assert "3 attempts" in one.text
    assert "4 attempts" in other.text


def test_those_who_wait_for_no_listener_are_not() -> None:
    other = client(("127.0.0.1", 443), 6, "syn-unanswered", listener=0)
    one, rest = found([listener(), *[other] * 4])
    assert (one.rows, rest.rows) in ((1, 4), (4, 1))


def test_clients_are_shown_where_a_filter_lets_them_through() -> None:
    rows = [listener(), *[client(("127.0.0.1", 443))] * 6]
    assert texts(rows, "pid = 7") == ["curl -> 127.0.0.1:443 6 failed in 50 s: the listener's accept queue is full"]
    assert texts(rows, "state = listen") == ["the accept queue of nginx, port 443, is full: 50 dropped in 20 s"]
