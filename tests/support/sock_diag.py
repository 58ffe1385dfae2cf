"""Dumps of sock_diag: real ones, made up ones, and the sockets that they tell of."""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from contextlib import ExitStack
from typing import Any, cast

import numpy as np

from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources import netlink
from tcptop_ops.sources.inet_diag import Dump
from tcptop_ops.sources.sock_diag import ALL_STATES, SockDiag, open_socket, request

DONE = struct.pack("=IHHIIi", 20, netlink.NLMSG_DONE, 2, 1, 0, 0)
FULL = 1 << 6 | 1 << 1 | 1 << 3  # SKMEMINFO, INFO, CONG


class FakeNetlink:
    """Answers each request with the same datagrams."""

    def __init__(self, *datagrams: bytes) -> None:
        """Answer with these."""
        self.datagrams = datagrams
        self.waiting: deque[bytes] = deque()
        self.asked = 0

    def send(self, _request: bytes) -> None:
        """Count the request, and have the answer wait."""
        self.asked += 1
        self.waiting.extend(self.datagrams)

    def recv(self, length: int, _flags: int) -> bytes:
        """Return a datagram, cut. Raises BlockingIOError where none waits."""
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft()[:length]

    def recv_into(self, room: memoryview, length: int, flags: int) -> int:
        """Return the whole length of a datagram, and put as much as there is room for."""
        if not self.waiting:
            raise BlockingIOError
        whole = len(self.waiting[0])
        data = self.recv(length, flags)
        room[: len(data)] = data
        return whole

    def close(self) -> None:
        """Forget what waits."""
        self.waiting.clear()


def diag(*datagrams: bytes) -> SockDiag:
    """Return a sock_diag that is answered with these datagrams."""
    return SockDiag(cast(socket.socket, FakeNetlink(*datagrams)))


def capture() -> list[bytes]:
    """Return the datagrams of a real dump that told no socket twice: where others come and go meanwhile, one may."""
    while True:
        found = capture_once()
        cookies = [message[60:68] for message in split(found)[:-1] if message[17] != State.TIME_WAIT]
        if len(set(cookies)) == len(cookies):
            return found


def capture_once() -> list[bytes]:
    """Return the datagrams of a real dump."""
    with open_socket() as asking:
        asking.send(request(ALL_STATES, FULL))
        found: list[bytes] = []
        while not found or struct.unpack_from("=H", found[-1], 4)[0] != netlink.NLMSG_DONE:
            found.append(asking.recv(1 << 16))
        return found


class Opened:
    """A few sockets on loopback: IPv4, IPv6, mapped, a listener with a queue, half-closed, with data unread."""

    def __init__(self, stack: ExitStack) -> None:
        """Open them all, and have bytes flow."""
        self._stack = stack
        self.listener = self._listen(socket.AF_INET, "127.0.0.1")
        self.pairs = [self._pair(self.listener, socket.AF_INET) for _ in range(3)]
        self.kept = self._stack.enter_context(socket.create_connection(self.listener.getsockname()))  # never accepted
        self._pairs_of_ipv6()
        self.pairs[1][0].sendall(b"unread")
        self.pairs[2][0].shutdown(socket.SHUT_WR)
        assert self.pairs[2][1].recv(1) == b""
        for client, server in self.pairs[:1] + self.pairs[3:]:
            client.sendall(b"x" * 54321)
            self._read(server, 54321)

    def _pairs_of_ipv6(self) -> None:
        try:
            listener = self._listen(socket.AF_INET6, "::")
        except OSError:
            return  # a host without IPv6
        self.pairs.append(self._pair(listener, socket.AF_INET6, "::1"))
        self.pairs.append(self._pair(listener, socket.AF_INET, "127.0.0.1"))  # mapped, on the server's side

    def _listen(self, family: int, address: str) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        listener.listen(7)
        return listener

    def _pair(
        self, listener: socket.socket, family: int, address: str = "127.0.0.1"
    ) -> tuple[socket.socket, socket.socket]:
        client = self._stack.enter_context(socket.socket(family))
        client.connect((address, listener.getsockname()[1]))
        return client, self._stack.enter_context(listener.accept()[0])

    @staticmethod
    def _read(sock: socket.socket, count: int) -> None:
        while count:
            count -= len(sock.recv(count))

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them, at both ends."""
        return [self.listener, self.kept, *(sock for pair in self.pairs for sock in pair)]


def row_of(dump: Dump, sock: socket.socket) -> Any:
    """Return the row of one of the test's own sockets, by inode."""
    (found,) = dump.sockets[dump.sockets["inode"] == os.fstat(sock.fileno()).st_ino]
    return found


def packed(address: str) -> bytes:
    """Return an address as rows have it, in 16 bytes."""
    six = ":" in address
    return socket.inet_pton(socket.AF_INET6, address if six else f"::ffff:{address}")


def is_same(one: Records, two: Records) -> bool:
    """Compare field by field: what pads a record is nobody's."""
    return len(one) == len(two) and all(np.array_equal(one[name], two[name]) for name in SOCKET.names or ())


def split(datagrams: list[bytes]) -> list[bytes]:
    """Return the single messages."""
    found = []
    for data in datagrams:
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("=I", data, at)
            found.append(data[at : at + length])
            at += length + 3 & ~3
    return found


def rate_of(row: Any) -> float:
    """Return what a reader of these rows makes of them, bytes a second."""
    interval = int(row["rate_interval_us"])
    return int(row["rate_delivered"]) * int(row["mss"]) * 1e6 / interval if interval else 0.0


def failure(code: int) -> bytes:
    """Return a message of an error number."""
    return struct.pack("=IHHIIi", 36, netlink.NLMSG_ERROR, 0, 1, 0, -code) + bytes(16)
