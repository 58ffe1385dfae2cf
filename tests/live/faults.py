"""Faults staged on the real kernel, at links of their own, beside fifty healthy flows; and twins that are no faults.

``python -m tests.live.faults`` (as root) stages all of them, prints how many were named, and the confusion matrix in
Markdown (``quality``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from tcptop_ops.diagnosis import ending, rules
from tests.live import faults_connecting, faults_ending, faults_listening, faults_receiving, faults_sending
from tests.live.stage import Fault, Stage, at_clients
from tests.support.lab import Lab

PATIENCE_S = 2.0
"""Instead of a minute, for not-closed."""

HARMLESS = {cause.name for cause in rules.CAUSES} - {rule.name for rule in rules.RULES}


def refused(stage: Stage) -> Fault:
    """A port where nobody listens."""
    link = stage.link()
    return at_clients("refused", link, stage.clients(link, 9, "connect-only"))


def unreachable(stage: Stage) -> Fault:
    """An address of the local network that no neighbour answers for."""
    link = stage.link()
    nobody = str(ipaddress.ip_address(link.b.ipv4) + 70)
    fault = at_clients("unreachable", link, stage.clients(link, 9, "connect-only", address=nobody))
    fault.addresses.add(nobody)
    return fault


def syn_unanswered(stage: Stage) -> Fault:
    """A firewall that swallows SYNs."""
    link = stage.link()
    stage.lab.black_hole(link.b.ns, 9)
    return at_clients("syn-unanswered", link, stage.clients(link, 9, "connect-only"))


def local_drop(stage: Stage) -> Fault:
    """Own output rules that drop, from a quiet moment on."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "connect-only")
    stage.lab.own_drop(link.a)
    for client in clients:
        client.tell("send 20000")
    return at_clients("local-drop", link, clients)


def local_drop_in_flight(stage: Stage) -> Fault:
    """Own output rules that drop, just when what was in flight is lost and must be sent again."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "send-endless")
    stage.tick()
    link.loss.set(100)
    stage.lab.own_drop(link.a)
    return at_clients("local-drop", link, clients)


def dead_peer(stage: Stage) -> Fault:
    """From the middle of a transfer on, nothing arrives."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "send-endless")
    stage.tick()
    link.loss.set(100)
    return at_clients("dead-peer", link, clients)


def dead_peer_small(stage: Stage) -> Fault:
    """A message after a rest, which nobody hears any more."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "connect-only")
    link.loss.set(100)
    for client in clients:
        client.tell("send 1000")
    return at_clients("dead-peer", link, clients)


def dead_peer_idle(stage: Stage) -> Fault:
    """A connection at rest, whose keepalive probes nobody answers any more."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "connect-only", keepalive=1)
    link.loss.set(100)
    return at_clients("dead-peer", link, clients)


def rto_stall(stage: Stage) -> Fault:
    """The end of every message is lost, and its tail-loss probe; what the timeout sends arrives."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "messages", 1)
    link.loss.tails(2)
    return at_clients("rto-stall", link, clients)


def reordering(stage: Stage) -> Fault:
    """A path on which every tenth segment is late, some by so much that they are sent again."""
    link = stage.slow_path(delay_ms=5, late_every=10, late_ms="1 60")
    return at_clients("reordering", link, stage.connected(link, stage.server(link).port, "send-endless", 1))


def spurious(stage: Stage) -> Fault:
    """The acknowledgement of every message is lost, but not what tells of a duplicate: what arrived is sent again."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "messages", 1)
    stage.lab.loss(link.a).plain_acks()
    return at_clients("spurious", link, clients)


def tail_loss(stage: Stage) -> Fault:
    """The end of every message is lost when it is first sent; its tail-loss probe arrives."""
    link = stage.link()
    clients = stage.connected(link, stage.server(link).port, "messages", 1)
    link.loss.tails(1)
    return at_clients("tail-loss", link, clients)


def loss(stage: Stage) -> Fault:
    """Two percent of what is sent."""
    link = stage.link()
    link.loss.every(50)
    return at_clients("loss", link, stage.connected(link, stage.server(link).port, "send-endless"))


def inbound_loss(stage: Stage) -> Fault:
    """Two percent of what is received."""
    link = stage.link()
    stage.lab.loss(link.a).every(50)
    server = stage.server(link, "serve-source", 2_000_000_000)
    return at_clients("inbound-loss", link, stage.connected(link, server.port, "receive"))


def bufferbloat(stage: Stage) -> Fault:
    """A bottleneck with a queue of a second and a half."""
    link = stage.link(rate="20mbit", latency="1500ms")
    return at_clients("bufferbloat", link, stage.connected(link, stage.server(link).port, "send-endless", 1))


def not_closed(stage: Stage) -> Fault:
    """A server that does not close what its clients closed."""
    link = stage.link()
    server = stage.server(link)
    for client in stage.connected(link, server.port, "connect-only"):
        client.tell("close")
    ports = [int(server.expect("accepted")) for _ in range(2)]
    assert all(ports)
    return Fault("not-closed", [(link.b.ipv4, server.port)], {link.a.ipv4, link.b.ipv4})


def disorder(stage: Stage) -> Fault:
    """Every tenth segment is late by too little to be retransmitted: the receiver of a path that only reorders."""
    link = stage.slow_path(delay_ms=20, late_every=10, late_ms="1 4")
    server = stage.server(link)
    stage.connected(link, server.port, "send-endless", 1, pace=2_000_000)
    return Fault("healthy", [(link.b.ipv4, server.port)], {link.a.ipv4, link.b.ipv4})


FAULTS: dict[str, Callable[[Stage], Fault]] = {
    **faults_listening.FAULTS,
    **faults_connecting.FAULTS,
    **faults_ending.FAULTS,
    **faults_receiving.FAULTS,
    **faults_sending.FAULTS,
    "refused": refused,
    "unreachable": unreachable,
    "syn-unanswered": syn_unanswered,
    "local-drop": local_drop,
    "local-drop, in flight": local_drop_in_flight,
    "dead-peer": dead_peer,
    "dead-peer, a message": dead_peer_small,
    "dead-peer, at rest": dead_peer_idle,
    "rto-stall": rto_stall,
    "reordering": reordering,
    "spurious": spurious,
    "tail-loss": tail_loss,
    "loss": loss,
    "inbound-loss": inbound_loss,
    "bufferbloat": bufferbloat,
    "not-closed": not_closed,
}

TWINS: dict[str, Callable[[Stage], Fault]] = {
    **faults_listening.TWINS,
    **faults_connecting.TWINS,
    **faults_ending.TWINS,
    "out of order, nothing lost": disorder,
    **faults_receiving.TWINS,
    **faults_sending.TWINS,
}
"""What looks like a fault and is none: its rows must never be called bad."""

LISTENERS = ("accept-queue", "syn-queue", faults_listening.NONE)
"""Causes whose rows are listeners; of twins NONE of ``faults_listening``, while those of connections are idle."""


BESIDE = {
    "accept-queue": {"accept-queue"},  # those who wait at that door
    "syn-queue": {"syn-queue", "syn-unanswered"},  # of some the answer is lost
    "syn-unanswered": {"syn-unanswered"},  # the later attempts
    "peer-not-reading": {"not-reading"},
    "dead-peer": {"not-reading"},  # at a shut window
    "receive-buffer": {"receive-buffer", "inbound-loss", "loss"},  # until the namespace has counted what it dropped
    "not-reading": {"peer-not-reading", "tail-loss", "loss"},  # it drops what is sent before its window shuts
    "loss": {"inbound-loss"},
    "inbound-loss": {"loss", "rto-stall", "spurious"},  # of what the sender retransmits, half may have arrived
}
"""What the other rows that a fault touches may be called: both ends are on this host."""


@contextlib.contextmanager
def staged(**options: Any) -> Iterator[Stage]:
    """A stage, with less patience than the program has."""
    with (
        Lab() as lab,
        patch.object(ending, "PATIENCE_S", PATIENCE_S),
        contextlib.closing(Stage(lab, **options)) as stage,
    ):
        yield stage


if __name__ == "__main__":
    from tests.live import quality  # which looks at what is above

    sys.exit(quality.main())
