"""Faults at the end of connections, and ends that only look like faults (see ``faults``)."""

from __future__ import annotations

from collections.abc import Callable

from tests.live.stage import Fault, Stage, at_clients
from tests.support.lab import Link, Traffic
from tests.support.leftovers import MARK
from tests.support.netns import run

NONE = "idle"


def _after_a_message(stage: Stage) -> tuple[Link, Traffic, list[Traffic]]:
    """Two connections at rest, after 1000 bytes that were read."""
    link = stage.link()
    server = stage.server(link, "serve-sink", 1000)
    clients = stage.connected(link, server.port, "connect-only")
    for client in clients:
        client.tell("send 1000")
        client.expect("done")
        server.expect("done")
    return link, server, clients


def by_the_peer(stage: Stage) -> Fault:
    """A server that ends its idle connections by resets."""
    link, server, clients = _after_a_message(stage)
    server.tell("reset")
    return at_clients("reset", link, clients)


def by_a_rule(stage: Stage) -> Fault:
    """A firewall that no longer knows the connections of a transfer."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "send-endless")
    stage.tick()
    chain = "chain input { type filter hook input priority 0; meta l4proto tcp reject with tcp reset; }"
    run(["nft", "-f", "-"], ns=link.b.ns, text=f"table inet {MARK}end {{\n{chain}\n}}\n")
    return at_clients("reset", link, clients)


def half_closed(stage: Stage) -> Fault:
    """A server that resets those who wait for its answer."""
    link, server, clients = _after_a_message(stage)
    for client in clients:
        client.tell("shutdown")
        client.expect("done")
    server.tell("reset")
    return at_clients("reset", link, clients)


def given_up_at_a_shut_window(stage: Stage) -> Fault:
    """TCP_USER_TIMEOUT, at a peer that reads one byte, and then no more."""
    link = stage.link()
    server = stage.server(link, "serve-sink", 1)
    clients = stage.connected(link, server.port, "send-endless", user_timeout=2000)
    return at_clients("peer-not-reading", link, clients)


def given_up_by_keepalive(stage: Stage) -> Fault:
    """A connection at rest, given up after the second probe that nobody answers."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "connect-only", keepalive=1, probes=2)
    link.loss.set(100)
    return at_clients("dead-peer", link, clients)


def lingering(stage: Stage) -> Fault:
    """Clients that close by a reset, after all was read and acknowledged."""
    link, _, clients = _after_a_message(stage)
    for client in clients:
        client.tell("reset")
        client.expect("done")
    return at_clients(NONE, link, clients)


def half_closed_download(stage: Stage) -> Fault:
    """Clients that close their side, and then receive for a while."""
    link = stage.link()
    server = stage.server(link, "serve-source", 30_000_000, pace=8_000_000, then="close")
    clients = stage.connected(link, server.port, "half-close-and-receive", then="close")
    return at_clients(NONE, link, clients)


def slow_download(stage: Stage) -> Fault:
    """The same, a segment or two a second, which takes far longer than the patience with who forgets to close."""
    link = stage.link()
    server = stage.server(link, "serve-source", 1_000_000, pace=3000)
    stage.connected(link, server.port, "half-close-and-receive")
    return Fault(NONE, [(link.b.ipv4, server.port)], {link.a.ipv4, link.b.ipv4})


def not_closed_unread(stage: Stage) -> Fault:
    """A server that neither reads the rest of what its clients sent, nor closes what they have closed."""
    link = stage.link()
    server = stage.server(link, "serve-sink", 1)
    for client in stage.connected(link, server.port, "connect-only"):
        for line in ("send 1000", "close"):
            client.tell(line)
            client.expect("done")
    return Fault("not-closed", [(link.b.ipv4, server.port)], {link.a.ipv4, link.b.ipv4})


FAULTS: dict[str, Callable[[Stage], Fault]] = {
    "reset, by the peer": by_the_peer,
    "reset, by a rule in a transfer": by_a_rule,
    "reset, half-closed": half_closed,
    "peer-not-reading, given up": given_up_at_a_shut_window,
    "dead-peer, given up by keepalive": given_up_by_keepalive,
    "not-closed, data unread": not_closed_unread,
}

TWINS: dict[str, Callable[[Stage], Fault]] = {
    "closes by reset, all read": lingering,
    "half-closed downloads": half_closed_download,
    "half-closed downloads, slow": slow_download,
}
"""What looks alike and is no fault: its rows must never be named, nor score."""
