"""Two hundred connections of every kind, brought to rest: what a monitor and ``ss`` have to agree on.

All sockets are this process's own, made inside three namespaces and one cgroup, so that they cost no process each.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.lab import End, Lab, Link
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run
from tests.support.witness import SsSocket, ss_sockets

CONTROLS = (b"cubic", b"reno", b"bbr")
WAYS = ("ipv4", "ipv6", "dual", "mapped")
SMALL, SEGMENTS = 100, 5  # bytes of the segment that is lost again and again; whole segments behind it
HEADERS = {4: 20 + 32, 6: 40 + 32}  # IP, and TCP with timestamps
TALK = 20_011
LOST = 40_009
SO_COOKIE = 57  # asm-generic/socket.h


def cookie_of(made: socket.socket) -> int:
    return int.from_bytes(made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


@dataclass
class Pair:
    """A connection: the end that connected, the end that was accepted (None: by nobody)."""

    near: socket.socket
    far: socket.socket | None
    link: Link

    @property
    def cookies(self) -> tuple[int, int]:
        """The kernel's numbers of the two ends; 0 for none. Ports may repeat from one family or peer to the next."""
        return cookie_of(self.near), cookie_of(self.far) if self.far else 0


@dataclass
class Doors:
    """Listeners of a namespace, one for each way to come in."""

    ipv4: socket.socket
    ipv6: socket.socket
    dual: socket.socket

    def of(self, way: str) -> socket.socket:
        """An IPv4-mapped client meets an IPv4 listener; an IPv4 client of a dual-stack one is mapped at its far end."""
        return {"ipv4": self.ipv4, "ipv6": self.ipv6, "dual": self.dual, "mapped": self.ipv4}[way]


def listener(end: End, family: socket.AddressFamily, *, dual: bool = False, backlog: int = 128) -> socket.socket:
    """A listener at every address of the namespace."""
    made = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    made.bind(("", 0))
    made.listen(backlog)
    return made


class Crowd:
    """Everything is open until ``close``; ``namespaces`` are the full names of three."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stack = ExitStack()
        self._controls = itertools.cycle(CONTROLS)
        self.links = [lab.link("one", far, offload=False) for far in ("two", "three")]
        self.near = self.links[0].a.ns
        self.namespaces = [self.near, *(link.b.ns for link in self.links)]
        self.pairs: list[Pair] = []
        self.stuck: list[Pair] = []
        self.holes: list[Pair] = []

    def close(self) -> None:
        self._stack.close()

    def keep(self, made: socket.socket) -> socket.socket:
        return self._stack.enter_context(made)

    def build(self) -> None:
        """Make them all. What still moves by itself at the end: timers of those that wait for an answer."""
        for link in self.links:
            doors = self._doors(link.b)
            for way in WAYS:
                self._quiet(link, way, doors.of(way))
            self._lossy(link, doors)
            self._acknowledgements_lost(link, doors)
        self._on_one_host()
        self._link_local(self.links[0])
        for link in self.links:
            self._not_accepted(link)
            self._holes(link)
            self._black_holed(link)
            self._stuck(link)
        for number, pair in enumerate(self.pairs[::5]):
            os.fchown(pair.near.fileno(), 1000 + number, -1)  # the owner of a socket's inode is its user
        self._settle()

    def _doors(self, end: End) -> Doors:
        four, six = socket.AF_INET, socket.AF_INET6
        made = in_netns(end.ns, lambda: (listener(end, four), listener(end, six), listener(end, six, dual=True)))
        return Doors(*map(self.keep, made))

    def _connect(self, link: Link, way: str, port: int, *, wait: bool = True, sndbuf: int = 0) -> socket.socket:
        target = {"ipv6": link.b.ipv6, "mapped": f"::ffff:{link.b.ipv4}"}.get(way, link.b.ipv4)
        family = socket.AF_INET6 if ":" in target else socket.AF_INET

        def there() -> socket.socket:
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, next(self._controls))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sndbuf:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
            made.setblocking(wait)
            with suppress(BlockingIOError):
                made.connect((target, port))
            return made

        return self.keep(in_netns(link.a.ns, there))

    def pair(self, link: Link, way: str, door: socket.socket, *, sndbuf: int = 0) -> Pair:
        """One more connection that stands."""
        near = self._connect(link, way, door.getsockname()[1], sndbuf=sndbuf)
        made = Pair(near, self.keep(door.accept()[0]), link)
        self.pairs.append(made)
        return made

    def _quiet(self, link: Link, way: str, door: socket.socket) -> None:
        """Idle; all said and read; with unread bytes; half closed by either side."""
        for _ in range(7):
            self.pair(link, way, door)
        for _ in range(7):
            self._talk([self.pair(link, way, door)], TALK)
        for _ in range(2):
            self.pair(link, way, door).near.sendall(b"u" * 5_003)
        for closer in ("near", "far"):
            closing: socket.socket = getattr(self.pair(link, way, door), closer)
            closing.sendall(b"bye")
            closing.shutdown(socket.SHUT_WR)

    @staticmethod
    def _talk(pairs: list[Pair], count: int) -> None:
        """So many bytes there, all at once, then half of it back."""
        with ThreadPoolExecutor(2 * len(pairs)) as pool:
            for source, target, size in (("near", "far", count), ("far", "near", count // 2)):
                said = [pool.submit(getattr(pair, source).sendall, b"x" * size) for pair in pairs]
                heard = [pool.submit(_receive, getattr(pair, target), size) for pair in pairs]
                for each in said + heard:
                    each.result(60)

    def _lossy(self, link: Link, doors: Doors) -> None:
        pairs = [self.pair(link, way, doors.of(way)) for way in WAYS for _ in range(5)]
        link.loss.every(9)
        self._talk(pairs, LOST)
        link.loss.set(0)

    def _acknowledgements_lost(self, link: Link, doors: Doors) -> None:
        """Segments that arrive twice: the far end drops one and says so (DSACK)."""
        pairs = [self.pair(link, way, doors.of(way)) for way in WAYS]
        back = self._lab.loss(link.a, 100)
        for pair in pairs:
            pair.near.sendall(b"y" * SMALL)
        self._wait(link.a.ns, pairs, lambda found: found.value("retrans_total") >= 1, "what is sent again")
        back.set(0)
        self._wait(link.a.ns, pairs, lambda found: found.quiet and found.value("dsack_dups") >= 1, "a DSACK")

    def _holes(self, link: Link) -> None:
        """The first segment never arrives, those behind it do: sacked, lost, backed off, out of order."""
        door = self.keep(in_netns(link.b.ns, lambda: listener(link.b, socket.AF_INET6, dual=True)))
        port = door.getsockname()[1]
        hole = self._lab.black_hole(link.b.ns, port)
        hole.open()
        pairs = [self.pair(link, way, door) for way in ("dual", "ipv6", "mapped")]
        self.holes += pairs
        lengths = ", ".join(str(headers + SMALL) for headers in HEADERS.values())
        hole.replace(f"tcp dport {port} meta length {{ {lengths} }}")
        for pair in pairs:
            pair.near.sendall(b"h" * SMALL)
            mss = pair.near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            for _ in range(SEGMENTS):
                pair.near.sendall(b"s" * mss)
        self._wait(link.a.ns, pairs, lambda found: found.value("backoff") >= 1, "a timeout")

    def _not_accepted(self, link: Link) -> None:
        """Two wait at a full listener; its drops are those who are turned away."""
        door = self.keep(
            in_netns(link.b.ns, lambda: listener(link.b, socket.AF_INET6, dual=True, backlog=1)),
        )
        port = door.getsockname()[1]
        for way in ("ipv4", "ipv6"):
            self.pairs.append(Pair(self._connect(link, way, port), None, link))
        self._lost_syns(link, port)

    def _black_holed(self, link: Link) -> None:
        self._lab.black_hole(link.b.ns, 9)
        for _ in range(2):
            self._lost_syns(link, 9)

    def _lost_syns(self, link: Link, port: int) -> None:
        for way in ("ipv4", "ipv6"):
            self.pairs.append(Pair(self._connect(link, way, port, wait=False), None, link))

    def _stuck(self, link: Link) -> None:
        """A small send buffer, full, and a receiver that does not read."""
        door = self.keep(in_netns(link.b.ns, lambda: listener(link.b, socket.AF_INET6, dual=True)))
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pairs = [self.pair(link, way, door, sndbuf=4096) for way in ("dual", "ipv6", "mapped")]
        for pair in pairs:
            pair.near.setblocking(False)
        self.stuck += pairs

    def _on_one_host(self) -> None:
        """Both ends in one namespace, each at an address of its own."""
        for here, there in (("127.0.0.1", "127.0.0.5"), ("::1", "::1")):
            family = socket.AF_INET6 if ":" in here else socket.AF_INET

            def both(family: socket.AddressFamily = family, here: str = here, there: str = there) -> None:
                door = self.keep(socket.socket(family))
                door.bind((there, 0))
                door.listen()
                for _ in range(3):
                    near = self.keep(socket.socket(family))
                    near.bind((here, 0))
                    near.connect((there, door.getsockname()[1]))
                    self.pairs.append(Pair(near, self.keep(door.accept()[0]), self.links[0]))

            in_netns(self.near, both)

    def _link_local(self, link: Link) -> None:
        for end, address in ((link.a, "fe80::a"), (link.b, "fe80::b")):
            run(["ip", "-n", end.ns, "address", "add", f"{address}/64", "dev", end.device, "nodad"])
        door = self.keep(in_netns(link.b.ns, lambda: listener(link.b, socket.AF_INET6)))

        def there() -> socket.socket:
            near = socket.socket(socket.AF_INET6)
            near.connect(("fe80::b", door.getsockname()[1], 0, socket.if_nametoindex(link.a.device)))
            return near

        for _ in range(2):
            self.pairs.append(Pair(self.keep(in_netns(self.near, there)), self.keep(door.accept()[0]), link))

    def _wait(self, ns: str, pairs: list[Pair], ready: Callable[[SsSocket], bool], what: str) -> None:
        """Until ``ss`` says so of the near end of all of these."""
        cookies = {pair.cookies[0] for pair in pairs}

        def all_ready() -> bool:
            found = [each for each in ss_sockets(ns) if each.cookie in cookies]
            return len(found) == len(cookies) and all(map(ready, found))

        wait_until(all_ready, 20, what)

    def _fill(self) -> None:
        for pair in self.stuck:
            with suppress(BlockingIOError):
                while select.select([], [pair.near], [], 0)[1]:
                    pair.near.send(b"z" * 4096)

    def _settle(self) -> None:
        """Until the stuck ones are stuck, and the others have had all their acknowledgements."""

        def stuck(found: SsSocket) -> bool:
            self._fill()
            return found.timer.startswith("persist")

        self._wait(self.near, self.stuck, stuck, "a full window")
        moving = {cookie for pair in self.stuck + self.holes for cookie in pair.cookies}

        def quiet() -> bool:
            found = [each for ns in self.namespaces for each in ss_sockets(ns) if each.state in ("ESTAB", "FIN-WAIT-2")]
            return all(each.quiet or each.cookie in moving for each in found)

        wait_until(quiet, 20, "rest")


def _receive(connection: socket.socket, count: int) -> None:
    while count:
        count -= len(connection.recv(count))


@contextmanager
def crowded(lab: Lab, cgroup: Path) -> Iterator[Crowd]:
    """The crowd, in this cgroup; this process moves back out of it, its sockets stay."""
    crowd = Crowd(lab)
    try:
        with lab.inside(cgroup):
            crowd.build()
        yield crowd
    finally:
        crowd.close()
