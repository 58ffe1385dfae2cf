"""Make the recording that ``--demo`` plays: ``python -m tests.support.make_demo`` (as root), a minute and a half.

The traffic is real, between namespaces, and so is all that the kernel tells of it. One host is recorded, and nothing of
the machine on which it is made: rows that are not the lab's are left out, and the host, its devices and its services
have made-up names. Addresses are those for documentation (RFC 5737, RFC 3849).
"""

from __future__ import annotations

import contextlib
import ipaddress
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tcptop_ops.bpf.attach import Options
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling import schedule
from tcptop_ops.recording import demo
from tcptop_ops.recording.writer import Writer
from tcptop_ops.sources.base import AnnotatedSource
from tcptop_ops.sources.sockops import SockOpsSource
from tcptop_ops.tracking.tracker import Tracker
from tests.support.lab import End, Lab, Link, Traffic
from tests.support.netns import run

TICKS = 90
HOST = HostDescription(host="shop-1.example", kernel="6.18.0", program="demo")
OURS, OURS6 = "192.0.2.10", "2001:db8::10"
APP = "192.0.2.21"
VISITORS = ((77, "50mbit"), (78, "30mbit"), (14, "80mbit"))
"""Hosts of 198.51.100.0/24, and how fast the way to them is."""

FOREVER = 10**9

USERS = {0: "root", 33: "www-data", 105: "postgres", 106: "redis", 107: "haproxy", 108: "kafka", 109: "syslog"}
RUNS_AS = {"nginx": 33, "gunicorn": 33, "curl": 33, "postgres": 105, "walsender": 105, "redis-server": 106} | {
    "haproxy": 107,
    "kafka-producer": 108,
    "rsyslogd": 109,
}


def _raw(address: str) -> bytes:
    """As the records have it."""
    found = ipaddress.ip_address(address)
    return found.packed if found.version == 6 else b"\0" * 10 + b"\xff\xff" + found.packed


class Disguised(AnnotatedSource):
    """A source of which one host is left, whose cgroups and devices have other names."""

    def __init__(self, source: SockOpsSource, prefix: str) -> None:
        super().__init__(source, "")
        self._prefix = prefix
        self._addresses = np.frombuffer(_raw(OURS) + _raw(OURS6), "V16")

    def poll(self) -> Snapshot:
        """See Source."""
        now = self._source.poll()
        kept, kept_closed = self._ours(now.sockets), self._ours(now.closed["socket"])
        owners = None if now.closed_owners is None else now.closed_owners[kept_closed]
        sockets, closed = now.sockets[kept], now.closed[kept_closed]
        _hand_over(sockets, now.owners[kept]["name"])
        _hand_over(closed["socket"], closed["events"]["comm"])
        return replace(
            now,
            sockets=sockets,
            events=now.events[kept],
            owners=now.owners[kept],
            closed=closed,
            closed_owners=owners,
            half_open=now.half_open[self._ours(now.half_open)],
            time_wait=0,
            syn_recv=0,
            namespaces=1,
            notes=(),
            users=USERS,
            cgroups={key: f"/system.slice/{path.rsplit('/', 1)[-1]}" for key, path in self._services(now)},
            devices=dict.fromkeys(now.devices, "eth0"),
        )

    def _services(self, now: Snapshot) -> list[tuple[int, str]]:
        return [(key, path) for key, path in now.cgroups.items() if self._prefix in path and path.endswith(".service")]

    def _ours(self, sockets: Records) -> Records:
        return np.isin(np.ascontiguousarray(sockets["laddr"]).view("V16").reshape(-1), self._addresses)


def _hand_over(sockets: Records, names: Records) -> None:
    """To the users that such programs have."""
    for name, uid in RUNS_AS.items():
        sockets["uid"][names == name.encode()] = uid


class Stage:
    """The host, and who it talks to. Far ends are not watched."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.watched = lab.cgroup("watched")
        self._peers = 0

    def link(self, there: str, **options: str) -> Link:
        """To one more peer, whose address is given; every packet is one segment."""
        self._peers += 1
        link = self.lab.link("shop", f"p{self._peers}", offload=False, **options)  # type: ignore[arg-type]
        here = OURS6 if ":" in there else OURS
        for end, own, other in ((link.a, here, there), (link.b, there, here)):
            nodad, length = (["nodad"], 128) if ":" in there else ([], 32)
            run(["ip", "-n", end.ns, "address", "add", f"{own}/{length}", "dev", end.device, *nodad])
            run(["ip", "-n", end.ns, "route", "add", other, *self._way(link, end, other), "src", own])
        if link.router is not None:
            self._through(link, there)
        return link

    def _way(self, link: Link, end: End, other: str) -> list[str]:
        """To the other end: by way of the router, or at once."""
        peer = link.b if end is link.a else link.a
        if link.router is not None:
            gateway = run(["ip", "-n", end.ns, "-4", "route", "show", peer.ipv4])
            return ["via", gateway.split("via ")[1].split()[0], "dev", end.device]
        run(["ip", "-n", end.ns, "neighbour", "replace", other, "lladdr", peer.mac, "dev", end.device])
        return ["dev", end.device]

    def _through(self, link: Link, there: str) -> None:
        """Teach the router both addresses."""
        assert link.router is not None
        for address, end in ((OURS, link.a), (there, link.b)):
            inner = ipaddress.ip_network(f"{end.ipv4}/24", strict=False)
            shown = run(["ip", "-n", link.router, "-4", "route", "show"]).splitlines()
            [device] = [line.split()[2] for line in shown if line.startswith(str(inner))]
            run(["ip", "-n", link.router, "route", "add", address, "via", end.ipv4, "dev", device])

    def service(self, name: str) -> Path:
        """Its cgroup."""
        made = self.watched / f"{name}.service"
        if not made.exists():
            self.lab.cgroup(f"watched/{name}.service")
        return made

    def serve(self, link: Link, comm: str, port: int, mode: str, count: int = 0, **options: str | int) -> Traffic:
        """A server of the host."""
        return self.lab.server(
            link.a.ns, mode, count, cgroup=self.service(comm), address=OURS, port=port, comm=comm, **options
        )

    def call(self, link: Link, comm: str, there: str, port: int, mode: str, pause: str = "0") -> Traffic:
        """A client of the host."""
        source = OURS6 if ":" in there else OURS
        known: dict[str, str | int] = {"address": there, "port": port, "comm": comm, "source": source, "pause": pause}
        return self.lab.client(link.a.ns, mode, FOREVER, cgroup=self.service(comm), **known)

    def far(self, link: Link, there: str, port: int, mode: str = "serve-sink", count: int = 0) -> Traffic:
        """A server of a peer."""
        return self.lab.server(link.b.ns, mode, count, address=there, port=port)

    def visit(self, link: Link, there: str, port: int, mode: str, pause: str = "0") -> Traffic:
        """A client of a peer."""
        count = 0 if mode == "receive" else FOREVER
        return self.lab.client(link.b.ns, mode, count, address=OURS, port=port, source=there, pause=pause)


class Day:
    """What happens when: ticks to what is done then."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._acts: dict[int, list[Callable[[], object]]] = {}

    def at(self, tick: int, act: Callable[[], object]) -> None:
        """Do this then."""
        self._acts.setdefault(tick, []).append(act)

    def during(self, first: int, last: int, begin: Callable[[], Traffic]) -> None:
        """A program that runs for a while."""
        started: list[Traffic] = []

        def begun() -> None:
            started.append(begin())

        def end() -> None:
            for one in started:
                one.end()

        self.at(first, begun)
        self.at(last, end)

    def reach(self, tick: int) -> None:
        """Do what is to be done now."""
        for act in self._acts.pop(tick, ()):
            act()


def _play(stage: Stage) -> Day:
    """What is well all day begins at once; the rest is in the plan."""
    day = Day(stage)
    shop = stage.link(APP, rate="400mbit", latency="10ms")
    for comm, port in (("postgres", 5432), ("redis-server", 6379), ("haproxy", 80)):
        stage.serve(shop, comm, port, "serve-echo", then="close")
    for pause in ("0.003", "0.01", "0.02", "0.05", "0.2"):
        stage.visit(shop, APP, 5432, "exchange", pause)
    for pause in ("0.002", "0.005"):
        stage.visit(shop, APP, 6379, "exchange", pause)
    stage.visit(shop, APP, 80, "short-connections", "0.15")
    admin = stage.link("203.0.113.9", rate="50mbit", latency="30ms")
    stage.serve(admin, "sshd", 22, "serve-echo")
    stage.visit(admin, "203.0.113.9", 22, "exchange", "0.7")
    stage.visit(admin, "203.0.113.9", 22, "connect-only")

    stage.serve(shop, "nginx", 443, "serve-source", 2_000_000_000)
    visitors = [stage.link(f"198.51.100.{host}", rate=rate, latency="40ms") for host, rate in VISITORS]
    for link, (host, _) in zip(visitors, VISITORS, strict=True):
        for _ in range(2):
            stage.visit(link, f"198.51.100.{host}", 443, "receive")
    day.at(26, lambda: visitors[0].loss.every(40))
    day.at(62, lambda: visitors[0].loss.set(0))

    store = stage.link("198.51.100.30", rate="20mbit", latency="1500ms")
    stage.far(store, "198.51.100.30", 873)
    day.during(12, 80, lambda: stage.call(store, "backup", "198.51.100.30", 873, "send-endless"))

    logs = stage.link("198.51.100.50")
    stage.far(logs, "198.51.100.50", 514, "serve-sink", 1)  # reads a byte, and then no more
    day.during(20, 66, lambda: stage.call(logs, "rsyslogd", "198.51.100.50", 514, "send-endless"))
    stage.lab.black_hole(logs.b.ns, 8443)
    day.during(30, 64, lambda: stage.call(logs, "curl", "198.51.100.50", 8443, "connect-only"))

    queue = stage.link("198.51.100.60")
    stage.far(queue, "198.51.100.60", 9092)
    for _ in range(2):
        stage.call(queue, "kafka-producer", "198.51.100.60", 9092, "messages", "0.02")
    day.at(34, lambda: queue.loss.tails(2))
    day.at(58, lambda: queue.loss.set(0))

    replica = stage.link("2001:db8::20")
    stage.far(replica, "2001:db8::20", 5433)
    for _ in range(2):
        stage.call(replica, "walsender", "2001:db8::20", 5433, "messages", "0.01")
    day.at(40, lambda: replica.loss.set(100))
    day.at(54, lambda: replica.loss.set(0))

    day.during(36, 70, lambda: stage.serve(shop, "gunicorn", 8000, "listen-only", backlog=1))
    for tick in (37, 38, 39, 41):
        day.during(tick, 69, lambda: stage.visit(shop, APP, 8000, "connect-only"))
    return day


def make(path: Path) -> None:
    """Write the recording, in place of the one that is there."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with Lab() as lab:
        stage = Stage(lab)
        source = SockOpsSource(Options(cgroup=str(stage.watched)))
        with contextlib.closing(Disguised(source, lab.prefix)) as disguised:
            day = _play(stage)
            tracker = Tracker()
            with contextlib.closing(Writer(str(fresh), HOST)) as writer:
                ticks = schedule.ticks(disguised, tracker, 1.0, threading.Event(), TICKS)
                for number, flows in enumerate(ticks, 1):
                    writer.write(flows.copy())
                    day.reach(number)
    _shut(fresh)
    fresh.replace(path)


def _shut(path: Path) -> None:
    """One file that needs no log beside it, as small as it can be: only frames are played."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("VACUUM")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else demo.PATH
    make(target)
    print(target.stat().st_size, "bytes", file=sys.stderr)
