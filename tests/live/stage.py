"""The stage of the faults: a lab, a watch that ticks by the clock, and fifty healthy flows; what a fault is."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcptop_ops.model.flows import Flows
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.polling import schedule
from tcptop_ops.views import view
from tests.live.queues import Doors
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic

HEALTHY = Path(__file__).with_name("healthy.py")
HOLE = 7

Key = tuple[str, int]
"""Local address and port."""


@dataclass
class Fault:
    """A fault that goes on: the cause that must be named, and where. ``addresses``: of all rows that it touches.

    ``later``: in so many more ticks than others it must be named, since only time tells.
    """

    cause: str
    where: list[Key]
    addresses: set[str]
    later: int = 0


class Stage:
    """A lab, a watch that ticks by the clock, and the fifty healthy flows."""

    def __init__(self, lab: Lab, *, crowd: bool = True, **options: Any) -> None:
        """``options``: of the monitor (``Watch``)."""
        self.lab = lab
        self.cgroup = lab.cgroup("watched")
        self.hosts = 0
        self.crowd: list[str] = []
        if crowd:
            self._start_crowd()
        self.watch = Watch(self.cgroup, **options)
        self.on_tick: Callable[[], None] | None = None
        self._doors: list[Doors] = []
        self._stop = threading.Event()
        self._ticks = schedule.ticks(self.watch.source, self.watch.tracker, 1.0, self._stop)

    def _start_crowd(self) -> None:
        link = self.lab.link("left", "right")
        for ns, address in ((link.a.ns, "127.0.0.1"), (link.b.ns, link.b.ipv4)):
            self.lab.black_hole(ns, HOLE)
            server = self._program(ns, "serve", address)
            self._program(link.a.ns, "run", address, server.port, HOLE)
            self.crowd.append(address)
        self.crowd.append(link.a.ipv4)

    def _program(self, ns: str, *words: object) -> Traffic:
        argv = [sys.executable, "-I", str(HEALTHY), *map(str, words)]
        started = Traffic(self.lab.popen(ns, argv, cgroup=self.cgroup))
        started.port = int(started.expect("ready") or 0)
        return started

    def tick(self) -> Flows:
        """The next, a second after the last one or later."""
        self.watch.flows = next(self._ticks)
        if self.on_tick:
            self.on_tick()
        return self.watch.flows

    def causes(self) -> Counter[str]:
        """How many live rows have which cause."""
        rows = connections(view.make(self.watch.flows, view.Spec()))
        return Counter(row["cause"] for row in rows if row["closed_s"] is None)

    def close(self) -> None:
        self._stop.set()
        self.watch.source.close()
        for doors in self._doors:
            doors.close()

    def doors(self) -> tuple[Doors, set[str]]:
        """Listeners and clients of this process, at a link of their own whose addresses come with them."""
        link = self.link()
        self._doors.append(Doors(self.lab, link, self.cgroup))
        return self._doors[-1], {link.a.ipv4, link.b.ipv4}

    def link(self, **options: Any) -> Link:
        """Between two new namespaces, every packet one segment."""
        self.hosts += 1
        return self.lab.link(f"a{self.hosts}", f"b{self.hosts}", offload=False, **options)

    def slow_path(self, **options: float | str) -> Link:
        self.hosts += 1
        return self.lab.slow_path(f"a{self.hosts}", f"b{self.hosts}", **options)

    def server(self, link: Link, mode: str = "serve-sink", count: int = 0, **options: Any) -> Traffic:
        """At the far end."""
        return self.lab.server(link.b.ns, mode, count, address=link.b.ipv4, cgroup=self.cgroup, **options)

    def clients(self, link: Link, port: int, mode: str, number: int = 2, **options: Any) -> list[Traffic]:
        """At the near end, to the far one."""
        options = {"address": link.b.ipv4} | options
        return [self.lab.client(link.a.ns, mode, port=port, cgroup=self.cgroup, **options) for _ in range(number)]

    def connected(self, link: Link, port: int, mode: str, number: int = 2, **options: Any) -> list[Traffic]:
        """The same, once they stand."""
        clients = self.clients(link, port, mode, number, **options)
        for client in clients:
            client.expect("connected")
        return clients


def at_clients(cause: str, link: Link, clients: list[Traffic], later: int = 0) -> Fault:
    """A fault that the near end has to tell."""
    where = [(link.a.ipv4, client.port) for client in clients]
    return Fault(cause, where, {link.a.ipv4, link.b.ipv4}, later)
