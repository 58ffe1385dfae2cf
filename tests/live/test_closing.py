"""Sockets that their process forgets to close, met when they are old; and half-closed ones that are in use."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from tcptop_ops.diagnosis import ending
from tcptop_ops.diagnosis.findings.tell import findings
from tests.live.faults import HARMLESS
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns

pytestmark = pytest.mark.halved

OLDER_S = 1.5
"""By how much the leaks are older than what is in use."""

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


def key(sock: socket.socket) -> tuple[str, int, int]:
    return sock.getsockname()[0], sock.getsockname()[1], sock.getpeername()[1]


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
def doors(lab: Lab, cgroup: Path) -> Iterator[list[Door]]:
    link = lab.link("client", "server")
    with ExitStack() as stack, lab.inside(cgroup):
        yield [Door(link, family, stack) for family in (socket.AF_INET, socket.AF_INET6)]


@pytest.mark.parametrize("polled", [False, True], ids=["sockops", "polled"])
def test_old_leaks_are_told_at_once_and_what_is_in_use_is_not(cgroup: Path, doors: list[Door], polled: bool) -> None:
    leaks: list[socket.socket] = []
    used: list[socket.socket] = []
    downloads: list[socket.socket] = []
    pools: list[socket.socket] = []
    for door in doors:
        leaks += [forgotten(door, 0, 0), forgotten(door, 900, 900), forgotten(door, 931, 900)]
        takes, gives = door.pair()
        takes.shutdown(socket.SHUT_WR)
        downloads.append(gives)
        near, far = door.pair()
        pools.append(near)
        used += [takes, gives, near, far, *door.pair()]
    wait_until(lambda: min(quiet_s(sock) for sock in leaks) > OLDER_S, what="old leaks")
    for gives in downloads:
        gives.send(b"another chunk")
    for pool in pools:
        pool.close()  # its other end is in CLOSE-WAIT from now on, after a rest that was as long
    with Watch(cgroup, polled=polled) as watch:
        with patch.object(ending, "PATIENCE_S", min(quiet_s(sock) for sock in leaks) - OLDER_S / 2):
            ticks = [watch.rows(), watch.rows()]
        found = [finding.text for finding in findings(watch.flows)]
    for rows in ticks:
        told = {(row["laddr"], row["lport"], row["rport"]): row for row in rows}
        for sock in leaks:
            row = told[key(sock)]
            assert (row["state"], row["cause"], row["blame"]) == ("CLOSE-WAIT", "not-closed", "app"), row["evidence"]
            assert row["evidence"].startswith("in CLOSE-WAIT for "), row["evidence"]
        for sock in used:
            row = told.get(key(sock) if sock.fileno() >= 0 else ("", 0, 0), {"score": 0, "cause": "idle"})
            assert (row["score"], row["cause"] in HARMLESS) == (0, True), row
    assert [text for text in found if f"has not closed {len(leaks)} sockets that their peers closed" in text], found
