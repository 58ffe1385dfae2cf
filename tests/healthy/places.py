"""Where the traffic is: network namespaces of a lab, joined by links of several sorts."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.healthy.kind import HOLE_PORT
from tests.healthy.kinds import BY_TURNS, LONG, PLAIN, SHAPED
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import NETNS
from tests.support.netns import run

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@dataclass
class Site:
    """Namespaces of the client and of the server, the server's address, and what is at work there."""

    name: str
    near: str
    far: str
    address: str
    kinds: list[str]


def sites(lab: Lab) -> list[Site]:
    """Make all places."""
    link = lab.link("left", "right")
    long = lab.slow_path("near", "far", delay_ms=12)
    shaped = lab.link("shop", "bank", rate="50mbit", latency="40ms")
    old, marked = lab.link("old-a", "old-b"), lab.link("ecn-a", "ecn-b")
    for ends, settings in ((old, ("tcp_sack=0", "tcp_timestamps=0")), (marked, ("tcp_ecn=1",))):
        _set(ends, *settings)
    even, odd = BY_TURNS[::2], BY_TURNS[1::2]
    here = link.a.ns
    return [
        Site("loopback, IPv4", here, here, "127.0.0.1", even),
        Site("loopback, IPv6", here, here, "::1", odd),
        Site("link, IPv4", here, link.b.ns, link.b.ipv4, odd),
        Site("link, IPv6", here, link.b.ns, link.b.ipv6, even),
        Site("long path, IPv4", long.a.ns, long.b.ns, long.b.ipv4, LONG[::2]),
        Site("long path, IPv6", long.a.ns, long.b.ns, long.b.ipv6, LONG[1::2]),
        Site("bottleneck", shaped.a.ns, shaped.b.ns, shaped.b.ipv4, SHAPED),
        Site("no SACK, no timestamps", old.a.ns, old.b.ns, old.b.ipv4, PLAIN),
        Site("ECN", marked.a.ns, marked.b.ns, marked.b.ipv6, PLAIN),
    ]


def _set(link: Link, *settings: str) -> None:
    for end in (link.a, link.b):
        for setting in settings:
            name, _, value = setting.partition("=")
            run(["sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}"], ns=end.ns)


def netns(site: Site) -> set[int]:
    """Return the inodes of its namespaces."""
    return {os.stat(NETNS / ns).st_ino for ns in (site.near, site.far)}


def start(lab: Lab, cgroup: Path, places: list[Site]) -> list[Traffic]:
    """Start all servers, then all clients; return the clients."""
    for ns in {site.far for site in places}:
        lab.black_hole(ns, HOLE_PORT)
    started = []
    for mode in ("serve", "use"):
        started = [_program(lab, cgroup, site, mode) for site in places]
        for each in started:
            each.expect("ready", PATIENCE_S)
    return started


def _program(lab: Lab, cgroup: Path, site: Site, mode: str) -> Traffic:
    argv = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.healthy.traffic", mode, site.address, *site.kinds]
    return Traffic(lab.popen(site.far if mode == "serve" else site.near, argv, cgroup=cgroup))
