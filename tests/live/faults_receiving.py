"""Faults of who receives, seen from both ends, and what only looks like one (see ``faults``)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.live.stage import Fault, Stage, at_clients
from tests.support.lab import Link, Traffic

NONE = "idle"

LATER = 4
"""Ticks that it takes longer until a process that could read is said not to: ``reading.UNREAD_S``."""


def peer_not_reading(stage: Stage) -> Fault:
    """A peer that reads one byte, and then no more."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link, "serve-sink", 1).port, "send-endless")
    return at_clients("peer-not-reading", link, clients, LATER)


def not_reading(stage: Stage) -> Fault:
    """The same, seen from the other end."""
    link = stage.link()
    server = stage.server(link, "serve-source", 50_000_000)
    return at_clients("not-reading", link, stage.connected(link, server.port, "connect-only"), LATER)


def stopped(stage: Stage) -> Fault:
    """Processes that are stopped, with 300 bytes unread."""
    link = stage.link()
    server = stage.server(link, "serve-source", 300)
    clients = stage.connected(link, server.port, "connect-only")
    for client in clients:
        os.kill(client.pid, signal.SIGSTOP)
    return at_clients("not-reading", link, clients)


def dead_at_a_shut_window(stage: Stage) -> Fault:
    """A peer that does not read, and from then on hears nothing."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link, "serve-sink", 1).port, "send-endless")
    stage.tick()
    link.loss.set(100)
    return at_clients("dead-peer", link, clients, LATER)


def without_memory(stage: Stage) -> Fault:
    """A service whose memory for TCP is used up: what it would read at once is dropped."""
    link = stage.link()
    server = stage.server(link)
    stage.lab.limit_tcp_memory(server, 40_960)
    clients = stage.connected(link, server.port, "send-endless", 3)
    return at_clients("receive-buffer", link, clients)


def slow_readers(stage: Stage) -> Fault:
    """Whoever reads slowly, by the second or every fifth, whose window is shut for most of the time; tiny buffers."""
    link = stage.link()
    servers = [
        stage.server(link, "serve-slowly", count, pause=pause, rcvbuf=rcvbuf)
        for count, pause, rcvbuf in ((100, 0.1, 0), (10_000, 0.1, 0), (10_000, 5, 0), (4096, 0.01, 2304))
    ]
    clients = [client for server in servers for client in stage.connected(link, server.port, "send-endless", 1)]
    return _at_both(link, servers, clients)


def thinkers(stage: Stage) -> Fault:
    """A server that thinks for a while over each request, while the next ones wait."""
    link = stage.link()
    server = stage.server(link, "serve-slowly", 10, pause=1.5)
    clients = stage.connected(link, server.port, "connect-only")
    for client in clients:
        client.tell("send 100")
    return _at_both(link, [server], clients)


def _at_both(link: Link, servers: list[Traffic], clients: list[Traffic]) -> Fault:
    """No fault, at either end."""
    fault = at_clients(NONE, link, clients)
    fault.where += [(link.b.ipv4, server.port) for server in servers]
    return fault


FAULTS: dict[str, Callable[[Stage], Fault]] = {
    "peer-not-reading": peer_not_reading,
    "not-reading": not_reading,
    "not-reading, 300 bytes, stopped": stopped,
    "dead-peer, at a shut window": dead_at_a_shut_window,
    "receive-buffer": without_memory,
}

TWINS: dict[str, Callable[[Stage], Fault]] = {
    "slow readers, tiny buffers": slow_readers,
    "requests that wait": thinkers,
}
"""What looks alike and is no fault: its rows must never be named, nor score."""
