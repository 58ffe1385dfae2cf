"""Faults of a path that lets small segments pass, or tells by ICMP that there is none; and what looks like them."""

from __future__ import annotations

from collections.abc import Callable

from tests.live.stage import Fault, Stage, at_clients
from tests.support.lab import Link, Traffic
from tests.support.netns import run

NONE = "idle"
SMALL, LARGE = 500, 60_000
"""Bytes of a message that passes, and of one in full segments, which a send buffer has room for."""


def _small_then_large(stage: Stage, link: Link) -> list[Traffic]:
    clients = stage.connected(link, stage.server(link).port, "connect-only")
    for size in (SMALL, LARGE):
        for client in clients:
            client.tell(f"send {size}")
            client.expect("done")
    return clients


def mtu(stage: Stage) -> Fault:
    """A tunnel on the path swallows what is longer than 1300 bytes, and nobody tells."""
    link = stage.link()
    link.loss.longer_than(1300)
    return at_clients("mtu", link, _small_then_large(stage, link))


def no_route(stage: Stage) -> Fault:
    """A router that loses its route in a transfer, and says so: the timeout does not grow (RFC 6069)."""
    link = stage.link(rate="100mbit")
    clients = stage.connected(link, stage.server(link).port, "send-endless", pace=1_000_000)
    stage.tick()
    assert link.router
    run(["ip", "-n", link.router, "route", "replace", "unreachable", link.b.ipv4])
    return at_clients("dead-peer", link, clients)


def told_by_icmp(stage: Stage) -> Fault:
    """A path with a smaller MTU, of which the router tells."""
    link = stage.link(rate="100mbit")
    assert link.router
    device = run(["ip", "-n", link.router, "-o", "route", "get", link.b.ipv4]).split(" dev ")[1].split()[0]
    run(["ip", "-n", link.router, "link", "set", device, "mtu", "1300"])
    return at_clients(NONE, link, _small_then_large(stage, link))


FAULTS: dict[str, Callable[[Stage], Fault]] = {"mtu": mtu, "dead-peer, told by ICMP": no_route}

TWINS: dict[str, Callable[[Stage], Fault]] = {"a smaller MTU, told by ICMP": told_by_icmp}
"""What looks alike and is no fault: its rows must never be named, nor score."""
