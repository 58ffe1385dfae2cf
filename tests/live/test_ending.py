"""How connections end, at both ends: resets by the peer, by us and by something between; what was given up; and twins.

A twin is a normal end that looks like a fault: no row of it may score.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.watch import Watch
from tests.support.lab import End, Lab, Link
from tests.support.leftovers import MARK, wait_until
from tests.support.netns import in_netns, run

pytestmark = pytest.mark.halved

PORT = 7217
LINGER_0 = struct.pack("ii", 1, 0)
TCP_USER_TIMEOUT = 18
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])


def address(end: End, family: int) -> str:
    return end.ipv4 if family == socket.AF_INET else end.ipv6


class Rule:
    """A rule on what arrives at one end for PORT: nothing, a drop, or a rejection with a reset."""

    def __init__(self, ns: str) -> None:
        self._ns = ns
        self._nft(f"table inet {MARK}end {{\nchain input {{ type filter hook input priority 0; }}\n}}\n")

    def set(self, verdict: str, match: str = f"tcp dport {PORT}") -> None:
        self._nft(f"flush chain inet {MARK}end input\nadd rule inet {MARK}end input {match} {verdict}\n")

    def reject(self) -> None:
        self.set("reject with tcp reset", f"meta l4proto tcp tcp dport {PORT}")

    def clear(self) -> None:
        self._nft(f"flush chain inet {MARK}end input\n")

    def _nft(self, commands: str) -> None:
        run(["nft", "-f", "-"], ns=self._ns, text=commands)


def told(sock: socket.socket, at: int) -> int:
    """A field of struct tcp_info."""
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232), at)[0])


@dataclass
class Pair:
    """Both ends of a connection, both watched: ``near`` was dialled, ``far`` accepted."""

    near: socket.socket
    far: socket.socket
    near_port: int
    watch: Watch
    rule: Rule
    near_rule: Rule
    link: Link
    door: socket.socket

    def exchange(self) -> None:
        """A request and its answer, read and acknowledged."""
        self.near.send(b"request")
        assert self.far.recv(9) == b"request"
        self.far.send(b"answer")
        assert self.near.recv(9) == b"answer"

    def acknowledged(self, sock: socket.socket) -> None:
        """Wait until the other side has got all that was sent (tcpi_unacked)."""
        wait_until(lambda: told(sock, 24) == 0, what="an acknowledgement")

    def rests(self, sock: socket.socket) -> None:
        """Wait until nothing has moved for a while (tcpi_last_data_sent, tcpi_last_data_recv, ms)."""
        wait_until(lambda: min(told(sock, 44), told(sock, 52)) >= 20, what="a rest")

    def closed(self, *, near: bool = True) -> dict[str, Any]:
        """The closed row of one end, waited for."""

        def there() -> dict[str, Any] | None:
            for row in self.watch.rows():
                mine = row["lport"] == self.near_port if near else row["rport"] == self.near_port
                if mine and row["closed_s"] is not None:
                    return row
            return None

        found = wait_until(there, what=f"the end of {'near' if near else 'far'}")
        assert found
        return found


@pytest.fixture
def pair(lab: Lab, cgroup: Path, watch: Watch, family: int) -> Iterator[Pair]:
    link = lab.link("near", "far", rate="100mbit")
    with ExitStack() as stack:
        with lab.inside(cgroup):
            door = stack.enter_context(in_netns(link.b.ns, lambda: socket.socket(family, socket.SOCK_STREAM)))
            near = stack.enter_context(in_netns(link.a.ns, lambda: socket.socket(family, socket.SOCK_STREAM)))
            door.bind((address(link.b, family), PORT))
            door.listen()
            near.connect(door.getsockname())
        far = stack.enter_context(door.accept()[0])
        watch.tick()
        yield Pair(near, far, near.getsockname()[1], watch, Rule(link.b.ns), Rule(link.a.ns), link, door)


def linger(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    sock.close()


def arrived(sock: socket.socket) -> None:
    select.select([sock], [], [], 5)


def receive_all(sock: socket.socket) -> None:
    while sock.recv(1 << 16):
        pass


def fails(sock: socket.socket, *codes: int) -> None:
    """The application gets the error."""
    sock.settimeout(20)
    with pytest.raises(OSError, match=r".") as error:
        receive_all(sock)
    assert error.value.errno in codes


def is_reset(row: dict[str, Any], blame: str, *words: str) -> None:
    assert (row["cause"], row["end"], row["blame"]) == ("reset", "reset", blame), row["evidence"]
    assert row["score"] >= 30  # listed for a minute
    assert [word for word in words if word not in row["evidence"]] == [], row["evidence"]


def is_well(row: dict[str, Any]) -> None:
    assert (row["score"], row["cause"] in ("idle", "healthy")) == (0, True), (row["cause"], row["evidence"])


@FAMILIES
def test_by_the_peers_process_at_rest(pair: Pair) -> None:
    pair.exchange()
    pair.rests(pair.near)
    linger(pair.far)
    fails(pair.near, errno.ECONNRESET)
    row = pair.closed()
    is_reset(row, "peer", "reset by the peer")
    assert row["evidence"].endswith("just after data had moved") or "at rest for" in row["evidence"]
    is_well(pair.closed(near=False))


@FAMILIES
def test_by_the_peers_process_that_closes_with_unread_data(pair: Pair) -> None:
    pair.near.send(b"request")
    arrived(pair.far)
    pair.far.close()
    fails(pair.near, errno.ECONNRESET)
    is_reset(pair.closed(), "peer", "reset by the peer")
    is_reset(pair.closed(near=False), "app", "reset by its own process", "7B unread")


@FAMILIES
def test_by_us_with_unread_data(pair: Pair) -> None:
    pair.near.send(b"request")
    assert pair.far.recv(9) == b"request"
    pair.far.send(b"answer")
    arrived(pair.near)
    pair.acknowledged(pair.far)
    pair.near.close()
    fails(pair.far, errno.ECONNRESET)
    is_reset(pair.closed(), "app", "reset by its own process", "6B unread")
    is_reset(pair.closed(near=False), "peer", "reset by the peer")


@FAMILIES
def test_by_us_with_unsent_data(pair: Pair) -> None:
    pair.near.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            pair.near.send(bytes(1 << 16))
    linger(pair.near)
    is_reset(pair.closed(), "app", "reset by its own process", "not sent yet")


@FAMILIES
def test_by_something_between_in_mid_flow(pair: Pair) -> None:
    """The other end is on this host, and knows nothing of it."""
    pair.exchange()
    pair.rule.reject()
    pair.near.send(bytes(5000))
    fails(pair.near, errno.ECONNRESET)
    is_reset(pair.closed(), "network", "reset by something between", "while 5.0kB were unacknowledged")


@FAMILIES
def test_by_a_kernel_that_knows_no_such_connection(pair: Pair) -> None:
    """As a peer that was started anew: its reset had no one to reach."""
    pair.exchange()
    pair.near_rule.set("drop", f"tcp sport {PORT}")
    linger(pair.far)
    pair.closed(near=False)
    pair.near_rule.clear()
    pair.near.send(b"more")
    fails(pair.near, errno.ECONNRESET)
    is_reset(pair.closed(), "peer", "reset by the peer", "while 4B were unacknowledged")


@FAMILIES
def test_by_a_process_that_was_killed_with_unread_data(pair: Pair, lab: Lab, cgroup: Path) -> None:
    program = (
        "import socket, sys\n"
        f"s = socket.create_connection(({address(pair.link.b, pair.near.family)!r}, {PORT}))\n"
        "print('port', s.getsockname()[1], flush=True)\nsys.stdin.read()"
    )
    victim = lab.popen(pair.link.a.ns, [sys.executable, "-I", "-c", program], cgroup=cgroup)
    far, peer = pair.door.accept()
    with closing(far):
        far.send(b"unread")
        pair.acknowledged(far)
        pair.watch.tick()
        victim.kill()
        fails(far, errno.ECONNRESET)
        pair.near_port = peer[1]
        is_reset(pair.closed(), "app", "6B unread")
        is_reset(pair.closed(near=False), "peer", "reset by the peer")


@FAMILIES
@pytest.mark.parametrize("answers", [False, True])
def test_half_closed(pair: Pair, answers: bool) -> None:
    """In FIN-WAIT-2, before or after a part of the answer came."""
    pair.near.send(b"request")
    pair.near.shutdown(socket.SHUT_WR)
    assert pair.far.recv(9) == b"request"
    assert pair.far.recv(9) == b""
    if answers:
        pair.far.send(b"answer")
        assert pair.near.recv(9) == b"answer"
        pair.acknowledged(pair.far)
    linger(pair.far)
    fails(pair.near, errno.ECONNRESET)
    is_reset(pair.closed(), "peer", "reset by the peer", "half-closed")
    is_well(pair.closed(near=False))


@FAMILIES
def test_in_fin_wait_1(pair: Pair) -> None:
    pair.exchange()
    pair.rule.reject()
    pair.near.shutdown(socket.SHUT_WR)
    fails(pair.near, errno.ECONNRESET)
    is_reset(pair.closed(), "network", "something between", "half-closed")


@FAMILIES
def test_in_close_wait(pair: Pair) -> None:
    pair.exchange()
    pair.far.shutdown(socket.SHUT_WR)
    assert pair.near.recv(9) == b""
    pair.rule.reject()
    pair.near.send(b"more")
    wait_until(lambda: not pair.watch.lists(pair.near_port), what="the reset")
    is_reset(pair.closed(), "network", "while 4B were unacknowledged", "after the peer had closed its side")


@FAMILIES
def test_in_last_ack(pair: Pair) -> None:
    pair.exchange()
    pair.far.shutdown(socket.SHUT_WR)
    assert pair.near.recv(9) == b""
    pair.rule.set("drop")
    pair.near.send(b"more")
    pair.near.close()
    pair.rule.reject()
    is_reset(pair.closed(), "network", "while 4B were unacknowledged")


@FAMILIES
def test_a_listener_that_closes_with_connections_in_its_queue(pair: Pair, lab: Lab, cgroup: Path, family: int) -> None:
    with lab.inside(cgroup):
        near = in_netns(pair.link.a.ns, lambda: socket.socket(family, socket.SOCK_STREAM))
    with closing(near):
        near.connect(pair.door.getsockname())
        near.send(b"request")
        pair.watch.tick()
        pair.door.close()
        fails(near, errno.ECONNRESET)
        pair.near_port = near.getsockname()[1]
        is_reset(pair.closed(), "peer", "reset by the peer")
        is_well(pair.closed(near=False))
        listeners = [row for row in pair.watch.rows() if row["lport"] == PORT and not row["rport"]]
        assert [row["score"] for row in listeners] == [0]


@FAMILIES
def test_user_timeout_at_a_shut_window(pair: Pair) -> None:
    pair.near.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 2500)
    pair.near.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            pair.near.send(bytes(1 << 16))
            select.select([], [pair.near], [], 0.3)

    def named() -> bool:
        return bool(pair.watch.open(pair.near_port)["cause"] == "peer-not-reading")

    with suppress(ValueError):  # it may be over
        wait_until(named, what="peer-not-reading")
    row = pair.closed()
    assert (row["cause"], row["end"], row["blame"]) == ("peer-not-reading", "timed-out", "peer")
    assert row["score"] >= 30
    assert row["evidence"].startswith("given up while the peer's window was shut")
    assert " 0B" not in row["evidence"]
    assert " 0 " not in row["evidence"].partition("before its end")[0]
    assert row["stall_ms"] <= row["age_s"] * 1000 + 1


@FAMILIES
@pytest.mark.parametrize("ticks", [True, False])
def test_user_timeout_of_data(pair: Pair, ticks: bool) -> None:
    pair.near.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)
    pair.exchange()
    pair.rule.set("drop")
    pair.near.send(bytes(700))
    if ticks:
        wait_until(lambda: not pair.watch.lists(pair.near_port), what="the end")
    else:
        fails(pair.near, errno.ETIMEDOUT)
    row = pair.closed()
    assert (row["cause"], row["end"]) == ("dead-peer", "timed-out")
    assert "nothing came back" in row["evidence"]
    assert "700B not acknowledged" in row["evidence"]
    assert row["stall_ms"] <= row["age_s"] * 1000 + 1


@FAMILIES
def test_keepalive(pair: Pair) -> None:
    pair.exchange()
    pair.near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        pair.near.setsockopt(socket.IPPROTO_TCP, option, value)
    pair.rule.set("drop")
    fails(pair.near, errno.ETIMEDOUT)
    row = pair.closed()
    assert (row["cause"], row["end"]) == ("dead-peer", "timed-out")
    assert row["evidence"].startswith("given up, 2 keepalive probes unanswered")


@FAMILIES
def test_icmp_in_mid_flow(pair: Pair, family: int) -> None:
    pair.near.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)
    pair.exchange()
    code = "icmp type host-unreachable" if family == socket.AF_INET else "icmpv6 type no-route"
    pair.rule.set(f"reject with {code}")
    pair.near.send(bytes(700))
    fails(pair.near, errno.EHOSTUNREACH, errno.ENETUNREACH)
    row = pair.closed()
    assert (row["cause"], row["end"]) == ("dead-peer", "unreachable")
    assert row["evidence"].startswith("ended by ICMP or a missing route: n")
    assert "SYN" not in row["evidence"]


def all_read(pair: Pair) -> None:
    """The dialler leaves by a reset after the answer."""
    pair.exchange()
    pair.acknowledged(pair.far)
    linger(pair.near)


def all_sent(pair: Pair) -> None:
    """The dialler leaves by a reset after an upload that was acknowledged."""
    pair.near.send(bytes(5000))
    pair.acknowledged(pair.near)
    linger(pair.near)


def scanned(pair: Pair) -> None:
    """A health check of a load balancer, a port scanner."""
    linger(pair.near)


def half_closed_download(pair: Pair) -> None:
    pair.near.send(b"request")
    pair.near.shutdown(socket.SHUT_WR)
    assert pair.far.recv(9) == b"request"
    assert pair.far.recv(9) == b""
    for _ in range(20):
        pair.far.sendall(bytes(50_000))
        left = 50_000
        while left:
            left -= len(pair.near.recv(left))
        pair.watch.tick()
    pair.far.close()
    assert pair.near.recv(9) == b""
    pair.near.close()


def near_closes_first(pair: Pair) -> None:
    pair.exchange()
    pair.near.close()
    assert pair.far.recv(9) == b""
    pair.far.close()


def far_closes_first(pair: Pair) -> None:
    pair.exchange()
    pair.far.close()
    assert pair.near.recv(9) == b""
    pair.near.close()


def server_half_closes_and_the_client_leaves(pair: Pair) -> None:
    """The lingering close of a web server: it waits until the client is gone, however it goes."""
    pair.exchange()
    pair.far.shutdown(socket.SHUT_WR)
    assert pair.near.recv(9) == b""
    pair.acknowledged(pair.far)
    linger(pair.near)


TWINS: list[Callable[[Pair], None]] = [
    all_read,
    all_sent,
    scanned,
    half_closed_download,
    near_closes_first,
    far_closes_first,
    server_half_closes_and_the_client_leaves,
]


@FAMILIES
@pytest.mark.parametrize("ends", TWINS, ids=lambda ends: ends.__name__)
def test_twins_are_never_named(pair: Pair, ends: Callable[[Pair], None]) -> None:
    ends(pair)
    for near in (True, False):
        is_well(pair.closed(near=near))
