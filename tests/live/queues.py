"""Listeners whose queues are filled by this process itself, step by step, for the tests of what is said of them.

Every socket belongs to this process, so that a test decides what is accepted between two ticks.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.support.lab import End, Lab, Link
from tests.support.leftovers import MARK
from tests.support.netns import in_netns, run

SYN, RST = 0x02, 0x04


def address(end: End, family: int) -> str:
    """The address of one end of a link."""
    return end.ipv4 if family == socket.AF_INET else end.ipv6


class Doors:
    """Listeners at the far end of a link, and clients at the near one."""

    def __init__(self, lab: Lab, link: Link, cgroup: Path, family: int = socket.AF_INET) -> None:
        self._lab, self._link, self._cgroup, self._family = lab, link, cgroup, family
        self._made: list[socket.socket] = []
        self.accepted: list[socket.socket] = []

    def _socket(self, ns: str, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        with self._lab.inside(self._cgroup):
            made = in_netns(ns, lambda: socket.socket(self._family, kind, protocol))
        made.setblocking(False)
        self._made.append(made)
        return made

    def listen(self, backlog: int, port: int = 0) -> socket.socket:
        """A listener; several may share a port."""
        door = self._socket(self._link.b.ns)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        door.bind((address(self._link.b, self._family), port))
        with self._lab.inside(self._cgroup):
            door.listen(backlog)
        return door

    def shut(self) -> socket.socket:
        """A socket with an address where nobody listens: what is dialled there is refused."""
        door = self._socket(self._link.b.ns)
        door.bind((address(self._link.b, self._family), 0))
        return door

    def dial(self, door: socket.socket, number: int) -> list[socket.socket]:
        """So many attempts at once, which are not waited for. On this link the handshakes are done by the return."""
        found = []
        for _ in range(number):
            client = self._socket(self._link.a.ns)
            client.connect_ex(door.getsockname()[:2])
            found.append(client)
        return found

    def accept(self, door: socket.socket) -> int:
        """Accept all that wait, and return how many there were."""
        before = len(self.accepted)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.accepted.append(door.accept()[0])
        return len(self.accepted) - before

    def packets(self, door: socket.socket, flags: int, number: int) -> None:
        """Send so many segments of no connection to a listener, each from a port of its own."""
        raw = self._socket(self._link.a.ns, socket.SOCK_RAW, socket.IPPROTO_TCP)
        target, port = door.getsockname()[:2]
        if self._family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, 7, 16)  # IPV6_CHECKSUM: the kernel fills it in, there
        for source in range(30_000, 30_000 + number):
            segment = struct.pack("!HHIIBBHHH", source, port, 7, 0, 5 << 4, flags, 1000, 0, 0)
            if self._family == socket.AF_INET:
                ends = socket.inet_aton(self._link.a.ipv4) + socket.inet_aton(target)
                sent = checksum(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(segment)) + segment)
                segment = segment[:16] + struct.pack("!H", sent) + segment[18:]
            raw.sendto(segment, (target, 0))

    def swallow_answers(self, port: int) -> None:
        """Let what this port sends vanish at the near end: its handshakes stay half-open."""
        rule = f"type filter hook input priority 0; policy accept; tcp sport {port} drop"
        run(["nft", "-f", "-"], ns=self._link.a.ns, text=f"table inet {MARK}q{port} {{ chain i {{ {rule}\n}}\n}}\n")

    def sysctl(self, name: str, value: int) -> None:
        """Set one of the far end's namespace."""
        run(["sh", "-ec", f"echo {value} > /proc/sys/net/{name}"], ns=self._link.b.ns)

    def counted(self, name: str) -> int:
        """A counter of the far end's namespace, as /proc/net/netstat names it."""
        lines = run(["cat", "/proc/thread-self/net/netstat"], ns=self._link.b.ns).splitlines()
        names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
        return int(values[names.index(name)])

    def hang_up(self) -> None:
        """Close what was accepted."""
        while self.accepted:
            self.accepted.pop().close()

    def close(self) -> None:
        """Close all sockets."""
        for made in (*self._made, *self.accepted):
            made.close()


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


@contextlib.contextmanager
def doors(lab: Lab, cgroup: Path, family: int = socket.AF_INET, link: Link | None = None) -> Iterator[Doors]:
    """At a link; if none is named, between two new namespaces."""
    made = Doors(lab, link or lab.link("near", "far"), cgroup, family)
    with contextlib.closing(made):
        yield made
