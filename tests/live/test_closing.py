"""Sockets that their process forgets to close, met when they are old; and half-closed ones that are in use."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.lab import Lab, Link
from tests.support.netns import in_netns

pytestmark = pytest.mark.halved

PATIENCE_S = 2.0
LAST_ACK_RECEIVED = 56  # offset in struct tcp_info of tcpi_last_ack_recv, ms


class Door:
    """A listener of this process in one namespace, and clients in another."""

    def __init__(self, link: Link, family: int, stack: ExitStack) -> None:
        self._near, self._family, self._stack = link.a.ns, family, stack
        address = link.b.ipv4 if family == socket.AF_INET else link.b.ipv6
        self._door = stack.enter_context(in_netns(link.b.ns, lambda: socket.create_server((address, 0), family=family)))

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of a new connection: of the client, of the server."""
        near = self._stack.enter_context(in_netns(self._near, lambda: socket.socket(self._family)))
        near.connect(self._door.getsockname())
        return near, self._stack.enter_context(self._door.accept()[0])


def forgotten(door: Door, sent: int, read: int) -> socket.socket:
    """The server's end of a connection that the client has closed, after so many bytes."""
    near, far = door.pair()
    near.sendall(bytes(sent))
    left = read
    while left:
        left -= len(far.recv(left))
    near.close()
    return far


def quiet_s(sock: socket.socket) -> float:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return float(struct.unpack_from("I", info, LAST_ACK_RECEIVED)[0]) / 1000


@pytest.fixture
def doors(lab: Lab) -> Iterator[list[Door]]:
    link = lab.link("client", "server")
    with ExitStack() as stack, lab.inside(lab.cgroup("watched")):
        yield [Door(link, family, stack) for family in (socket.AF_INET, socket.AF_INET6)]


@pytest.mark.parametrize("polled", [False, True], ids=["sockops", "polled"])
def test_old_leaks_are_told_at_once_and_streams_in_use_are_not(lab: Lab, doors: list[Door], polled: bool) -> None:
    leaks: dict[str, socket.socket] = {}
    used: dict[str, socket.socket] = {}
    for name, door in zip(("IPv4", "IPv6"), doors, strict=True):
        idle, leaks[f"no data at all, {name}"] = door.pair()
        leaks[f"all read, {name}"] = forgotten(door, 900, 900)
        leaks[f"a farewell unread, {name}"] = forgotten(door, 931, 900)
        used[f"a pool's, {name}"] = door.pair()[1]
        takes, used[f"a download, {name}"] = door.pair()
        pool, used[f"a pool's, closed by the peer just now, {name}"] = door.pair()
        _, used[f"the client of such a download, {name}"] = takes, takes
        takes.shutdown(socket.SHUT_WR)
        idle.close()
        downloads.append(used[f"a download, {name}"])
        late.append(pool)
