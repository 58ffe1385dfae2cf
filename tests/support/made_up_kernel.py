"""A kernel with made-up TCP sockets in made-up namespaces: what sock_diag answers of them, and how many it counts."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from pathlib import Path
from typing import Any, cast

import numpy as np

from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records
from tcptop_ops.sources import inet_diag, netlink
from tcptop_ops.sources.inet_diag import INFO, MESSAGE, REQUEST
from tcptop_ops.sources.sock_diag import NLM_F_DUMP_REQUEST, TCPDIAG_GETSOCK
from tests.support.fakes import flow, records
from tests.support.sock_diag import DONE, failure

WALK_S, SOCKET_S, QUESTION_S = 0.002, 0.000_002, 0.000_010


class Kernel:
    """``sockets``: those of each namespace by cookie, as ``fakes.flow`` has them. ``requests``: their half-open ones.

    ``now_s`` is the time and ``cpu_s`` what its answers have cost. ``log`` has what it was asked: ("dump", namespace,
    states), ("exact", namespace, cookie).
    """

    def __init__(self, place: Path, *namespaces: int) -> None:
        """``place``: a directory of its own. The first namespace is the reader's."""
        self._place = place
        self.sockets: dict[int, dict[int, dict[str, Any]]] = {one: {} for one in namespaces or (1,)}
        self.requests: dict[int, list[dict[str, Any]]] = {}
        self.time_wait: dict[int, int] = {}
        self.hides: set[int] = set()  # namespaces whose counts can't be read
        self.counts_too_many = 0
        self.silent: set[int] = set()  # cookies of which no question is answered
        self.now_s, self.cpu_s = 100.0, 0.0
        self.log: list[tuple[str, int, int]] = []

    def add(self, *cookies: int, netns: int = 1, **fields: Any) -> None:
        """Open sockets, each with a port of its own."""
        for cookie in cookies:
            made = flow(cookie, netns=netns, **{"local": ("10.0.0.1", cookie)} | fields)
            self.sockets[netns][cookie] = made

    def close(self, *cookies: int) -> None:
        """Take sockets away."""
        for cookie in cookies:
            for sockets in self.sockets.values():
                sockets.pop(cookie, None)

    def held(self, *cookies: int) -> Records:
        """SOCKET rows of these, as a pass over descriptors has them."""
        all_of = {cookie: made for sockets in self.sockets.values() for cookie, made in sockets.items()}
        return records([all_of[cookie] for cookie in cookies])[0]

    def files(self, namespace: int) -> list[int]:
        """Descriptors of sockstat and sockstat6, which say what is true when they are read. Raises OSError."""
        if namespace in self.hides or namespace not in self.sockets:
            raise OSError(errno.ENOENT, "gone")
        return [os.open(path, os.O_RDONLY) for path in self._written(namespace)]

    def tell(self) -> None:
        """Write all counts anew."""
        for namespace in self.sockets:
            self._written(namespace)

    def _written(self, namespace: int) -> list[Path]:
        families = [made["family"] for made in self.sockets[namespace].values() if made["state"] != State.CLOSE]
        inet = families.count(socket.AF_INET) + self.counts_too_many
        waiting = self.time_wait.get(namespace, 0)
        first, second = (self._place / f"{namespace}-{name}" for name in ("sockstat", "sockstat6"))
        first.write_text(f"sockets: used 9\nTCP: inuse {inet} orphan 0 tw {waiting} alloc 8 mem 1\nUDP: inuse 4\n")
        second.write_text(f"TCP6: inuse {families.count(socket.AF_INET6)}\nUDP6: inuse 3\n")
        return [first, second]


class MadeUpAccess:
    """Access to a Kernel's namespaces."""

    def __init__(self, kernel: Kernel) -> None:
        """Reach all of them."""
        self._kernel = kernel
        self.own, self.note = next(iter(kernel.sockets)), ""
        self.opened: list[Netlink] = []

    def namespaces(self, thoroughly: bool = False) -> set[int]:
        """Return those that exist now."""
        return set(self._kernel.sockets) | {self.own}

    def socket_counts(self, namespace: int) -> list[int]:
        """Return new descriptors (see Reach)."""
        return self._kernel.files(namespace)

    def diag(self, namespace: int) -> socket.socket:
        """Return what stands for a netlink socket (see Reach)."""
        if namespace not in self._kernel.sockets:
            raise OSError(errno.ENOENT, "gone")
        self.opened.append(Netlink(self._kernel, namespace))
        return cast(socket.socket, self.opened[-1])

    def devices(self, namespace: int) -> dict[int, str]:
        """Return the name of one device."""
        return {1: "lo"}


def access(kernel: Kernel) -> NamespaceAccess:
    """Return access to it, as what it stands for."""
    return cast(NamespaceAccess, MadeUpAccess(kernel))


class Netlink:
    """A netlink socket of sock_diag in one namespace."""

    def __init__(self, kernel: Kernel, namespace: int) -> None:
        """Ask this kernel, there."""
        self._kernel, self._namespace = kernel, namespace
        self._waiting: deque[bytes] = deque()
        self.is_open = True

    def send(self, data: bytes) -> None:
        """Have the answers to all requests of a datagram wait."""
        at = 0
        while at < len(data):
            length, _, flags = struct.unpack_from("=IHH", data, at)
            asked = np.frombuffer(data[at : at + length].ljust(REQUEST.itemsize, b"\0"), REQUEST)[0]
            if flags == NLM_F_DUMP_REQUEST:
                self._dump(int(asked["states"]), int(asked["extensions"]))
            else:
                self._exact(asked)
            at += length + 3 & ~3

    def _dump(self, states: int, extensions: int) -> None:
        self._kernel.log.append(("dump", self._namespace, states))
        self._kernel.cpu_s += WALK_S
        found = [m for m in self._kernel.sockets[self._namespace].values() if states & 1 << m["state"]]
        self._kernel.cpu_s += SOCKET_S * len(found)
        self._waiting.extend(message(made, bool(extensions)) for made in found)
        if states & 1 << State.SYN_RECV:
            self._waiting.extend(message(made, False) for made in self._kernel.requests.get(self._namespace, []))
        self._waiting.append(DONE)

    def _exact(self, asked: np.void) -> None:
        cookie = int(asked["cookie"][0]) | int(asked["cookie"][1]) << 32
        self._kernel.log.append(("exact", self._namespace, cookie))
        self._kernel.cpu_s += QUESTION_S
        made = self._kernel.sockets[self._namespace].get(cookie)
        if made is None or cookie in self._kernel.silent:
            self._waiting.append(failure(errno.ENOENT))
            return
        same = np.frombuffer(message(made, False), MESSAGE, 1, netlink.HEADER.itemsize)[0]
        assert all((asked[name] == same[name]).all() for name in ("family", "lport", "rport", "laddr", "raddr"))
        self._waiting.append(message(made, True))

    def recv(self, length: int, _flags: int) -> bytes:
        """Return a datagram. Raises BlockingIOError where none waits."""
        if not self._waiting:
            raise BlockingIOError
        return self._waiting.popleft()[:length]

    def recv_into(self, room: memoryview, length: int, flags: int) -> int:
        """Put a datagram there; return its length."""
        data = self.recv(length, flags)
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_open = False


def message(made: dict[str, Any], is_whole: bool) -> bytes:
    """Return the struct inet_diag_msg of a socket, and its struct tcp_info where the answer is to be whole."""
    row = records([made])[0]
    told = np.zeros(1, MESSAGE)
    for name in ("family", "state", "lport", "rport", "ifindex", "recv_q", "send_q", "uid", "inode"):
        told[name] = row[name]
    asked = inet_diag.requests(row, TCPDIAG_GETSOCK, 0)
    for name in ("laddr", "raddr", "cookie"):
        told[name] = asked[name]
    body = told.tobytes()
    if is_whole:
        info = np.zeros(1, INFO)
        info["state"], info["srtt_us"] = row["state"], row["srtt_us"]
        body += struct.pack("=HH", 4 + INFO.itemsize, inet_diag.INET_DIAG_INFO) + info.tobytes()
    body += struct.pack("=HHQ", 12, inet_diag.INET_DIAG_CGROUP_ID, int(row["cgroup_id"][0]))
    return struct.pack("=IHHII", 16 + len(body), TCPDIAG_GETSOCK, 2, 1, 0) + body
