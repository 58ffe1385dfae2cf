"""Faults of a listener, and twins of them that are none (see ``faults``)."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.live.queues import RST, SYN
from tests.live.stage import Fault, Stage

NONE = "healthy"


def _at(cause: str, door: socket.socket, addresses: set[str]) -> Fault:
    return Fault(cause, [door.getsockname()[:2]], addresses)


def accept_queue(stage: Stage) -> Fault:
    """A server that does not accept."""
    link = stage.link()
    server = stage.server(link, "listen-only", backlog=1)
    stage.clients(link, server.port, "connect-only", 5)
    return Fault("accept-queue", [(link.b.ipv4, server.port)], {link.a.ipv4, link.b.ipv4})


def accept_queue_burst(stage: Stage) -> Fault:
    """A burst that is over, and accepted as far as it fitted, before the next tick."""
    doors, addresses = stage.doors()
    door = doors.listen(8)
    stage.tick()
    clients = doors.dial(door, 9 + 20)
    doors.accept(door)
    for client in clients:
        client.close()
    doors.hang_up()
    return _at("accept-queue", door, addresses)


def syn_queue(stage: Stage, cookies: int = 0) -> Fault:
    """SYN-ACKs that do not arrive, of more clients than the backlog holds."""
    doors, addresses = stage.doors()
    doors.sysctl("ipv4/tcp_syncookies", cookies)
    door = doors.listen(8)
    doors.swallow_answers(door.getsockname()[1])
    stage.tick()
    doors.dial(door, 9 + 20)
    return _at("syn-queue", door, addresses)


def syn_queue_cookies(stage: Stage) -> Fault:
    """The same, with SYN cookies."""
    return syn_queue(stage, 1)


def fits(stage: Stage) -> Fault:
    """A burst that fills the queue to its last place, and is accepted late."""
    doors, addresses = stage.doors()
    door = doors.listen(8)
    doors.dial(door, 9)
    stage.tick()
    doors.accept(door)
    doors.dial(door, 9)
    doors.accept(door)
    doors.dial(door, 7)
    return _at(NONE, door, addresses)


def keeps_up(stage: Stage) -> Fault:
    """A process that accepts once a tick, all that wait: the queue is nearly full each time, and nothing is dropped."""
    doors, addresses = stage.doors()
    door = doors.listen(8)
    for _ in range(4):
        doors.dial(door, 8)
        stage.tick()
        doors.accept(door)
    return _at(NONE, door, addresses)


def refused_elsewhere(stage: Stage) -> Fault:
    """A scan of ports where nobody listens, beside a listener."""
    doors, addresses = stage.doors()
    door = doors.listen(8)
    stage.tick()
    for _ in range(20):
        doors.dial(doors.shut(), 1)
    return _at(NONE, door, addresses)


def stray(stage: Stage, flags: int = RST) -> Fault:
    """Resets of no connection, while another listener of the namespace overflows."""
    doors, addresses = stage.doors()
    door, other = doors.listen(8), doors.listen(8)
    stage.tick()
    doors.packets(door, flags, 20)
    stage.tick()
    doors.packets(door, flags, 2)
    doors.dial(other, 9 + 20)
    return _at(NONE, door, addresses)


def scanned(stage: Stage) -> Fault:
    """A half-open scan: each SYN-ACK is answered by a reset."""
    return stray(stage, SYN)


FAULTS: dict[str, Callable[[Stage], Fault]] = {
    "accept-queue": accept_queue,
    "accept-queue, a burst": accept_queue_burst,
    "syn-queue": syn_queue,
    "syn-queue, with cookies": syn_queue_cookies,
}

TWINS: dict[str, Callable[[Stage], Fault]] = {
    "a burst that fits the queue": fits,
    "a slow accepter that keeps up": keeps_up,
    "refusals at other ports": refused_elsewhere,
    "stray resets at a listener": stray,
    "a half-open scan": scanned,
}
"""What looks alike and is no fault: its listener must never be named, nor score."""
