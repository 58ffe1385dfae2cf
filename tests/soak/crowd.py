"""The traffic of the soak: connections that rest, come and go, and namespaces that do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.live.watch import WORKERS
from tests.soak.judge import Made
from tests.soak.plan import (
    GROUP,
    HALF_OPEN,
    LOSS_PERCENT,
    LOSSY_SHARE,
    PATIENCE_S,
    REST_PORT,
    SHORT_PORT,
    TALK_PORT,
    TALKERS,
    Plan,
)
from tests.support.lab import Lab, Traffic
from tests.support.netns import run
from tests.support.witness import ss_sockets

MAKER = Path(__file__).with_name("traffic.py")


class Rest:
    """Connections that rest, in groups of a server and a client with an address of their own."""

    def __init__(self, maker: Callable[..., Traffic], ns: str, count: int) -> None:
        """Start the servers and clients, which have no connections yet."""
        self._shares = [min(GROUP, count - start) for start in range(0, count, GROUP)]
        addresses = [f"127.0.1.{1 + number}" for number in range(len(self._shares))]
        for address in addresses:
            maker(ns, "serve", address, REST_PORT)
        self._clients = [maker(ns, "rest", address, REST_PORT) for address in addresses]
        self.listeners = len(addresses)

    def open(self, first: bool) -> int:
        """Open half of them, or the others; return how many that were."""
        opened = 0
        for client, share in zip(self._clients, self._shares, strict=True):
            client.tell(f"open {share // 2 if first else share - share // 2}")
            opened += int(client.expect("opened", PATIENCE_S))
        return opened

    def touch(self) -> None:
        """Exchange a second byte, there and back, on each."""
        for client in self._clients:
            client.tell("touch")
        for client in self._clients:
            client.expect("touched", PATIENCE_S)


class Visits:
    """Namespaces that come and go, with a listener and a connection in each; two are there at a time."""

    def __init__(self, lab: Lab, cgroup: Path) -> None:
        """Have none there yet."""
        self._lab, self._cgroup = lab, cgroup
        self._there: list[tuple[str, Traffic]] = []
        self.count = 0

    def next(self) -> None:
        """Have one come, and the older one go."""
        ns = self._lab.namespace(f"visit{self.count}")
        argv = [sys.executable, "-I", str(WORKERS), "pair"]
        guest = Traffic(self._lab.popen(ns, argv, cgroup=self._cgroup))
        self.count += 1
        self._there.append((ns, guest))
        guest.expect("connected")
        if len(self._there) > 2:
            self._leave()

    def _leave(self) -> None:
        """By turns the name goes first, and the process keeps the namespace, or the process."""
        ns, guest = self._there.pop(0)
        delete = ["ip", "netns", "delete", ns]
        name_first = self.count % 2 == 0
        if name_first:
            run(delete)
        guest.end()
        if not name_first:
            run(delete)

    def all_leave(self) -> None:
        """Have all of them go."""
        while self._there:
            self._leave()


class Crowd:
    """All the traffic. What is watched is in one cgroup, both ends of everything."""

    def __init__(self, lab: Lab, cgroup: Path, plan: Plan) -> None:
        """Start all processes, and open the first half of the resting connections."""
        self._lab, self._cgroup = lab, cgroup
        self.calm = lab.namespace("calm")
        link = lab.link("near", "far", loss_percent=LOSS_PERCENT, offload=False)
        self._near, self._far = link.a, link.b
        far = link.b.ipv4
        self.rest = Rest(self._maker, self.calm, plan.open)
        self._maker(self.calm, "serve", "127.0.0.1", SHORT_PORT, "--then", "close")
        self._maker(link.b.ns, "serve", far, SHORT_PORT, "--then", "close")
        self._maker(link.b.ns, "serve", far, TALK_PORT)
        lossy = plan.rate * LOSSY_SHARE
        self._short = [
            self._maker(self.calm, "short", "127.0.0.1", SHORT_PORT, "--rate", str(plan.rate - lossy)),
            self._maker(link.a.ns, "short", far, SHORT_PORT, "--rate", str(lossy)),
        ]
        self._talk = self._maker(link.a.ns, "rest", far, TALK_PORT)
        self.visits = Visits(lab, cgroup)
        self._late = self.failed = self._finished = 0
        self.at_first = 2 * self.rest.open(first=True) + self.rest.listeners + 3

    def _maker(self, ns: str, mode: str, address: str, port: int, *words: str) -> Traffic:
        argv = [sys.executable, "-I", str(MAKER), mode, "--address", address, "--port", str(port), *words]
        made = Traffic(self._lab.popen(ns, argv, cgroup=self._cgroup))
        made.expect("ready")
        return made

    def go(self) -> None:
        """Begin with what comes and goes."""
        self._late = self.rest.open(first=False)
        self._talk.tell(f"talk {TALKERS}")
        self._talk.expect("opened")
        for flow in self._short:
            flow.tell("go")
        self.half_open()

    def half_open(self) -> None:
        """Begin a few handshakes that nobody completes: the kernel gives them up after a minute or so."""
        words = ("--address", self._far.ipv4, "--port", str(SHORT_PORT), "--each", str(HALF_OPEN))
        argv = [sys.executable, "-I", str(WORKERS), "flood", *words]
        flood = Traffic(self._lab.popen(self._near.ns, argv, cgroup=self._cgroup))
        flood.expect("finished")
        flood.end()

    def stop(self) -> Made:
        """Wait until all that was short is closed; return what there was."""
        self.visits.all_leave()
        self._talk.tell("stop")
        for flow in self._short:
            flow.tell("stop")
        for flow in self._short:
            opened, failed = map(int, flow.expect("finished", PATIENCE_S).split())
            self._finished += opened
            self.failed += failed
        self._talk.expect("talked", PATIENCE_S)
        visits = self.visits.count
        both_ends = self._finished + visits + self._late + TALKERS
        return Made(opened=2 * both_ends, closed=2 * (self._finished + visits))

    @property
    def short(self) -> int:
        """How many short connections there were."""
        return self._finished

    def cookies(self) -> set[int]:
        """Return the cookies of the ends of resting connections, as ss tells them."""
        found = ss_sockets(self.calm)
        return {s.cookie for s in found if REST_PORT in (s.local_port, s.peer_port) and s.state == "ESTAB"}
