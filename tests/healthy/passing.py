"""Connections that come and go: who closes first and how, races, bursts, health checks."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from tests.healthy.kind import CHUNK, HOLE_PORT, LINGER_NONE, Kind, Place, acknowledged, drain, read_exactly

FAREWELL = bytes(31)
"""As long as a close_notify of TLS 1.2."""


def asks_and_closes(place: Place) -> None:
    """Ask, read the answer, close first."""
    with place.dial() as connection:
        connection.sendall(b"?")
        read_exactly(connection, 300)
    time.sleep(0.6)


def answers(connection: socket.socket) -> None:
    """Answer until the client closes."""
    while connection.recv(1):
        connection.sendall(CHUNK[:300])


def asks_and_reads_to_the_end(place: Place) -> None:
    """Ask, and read until the server closes."""
    with place.dial() as connection:
        connection.sendall(b"?")
        drain(connection)
    time.sleep(0.6)


def answers_and_closes(connection: socket.socket) -> None:
    """Answer once, and close first."""
    connection.recv(1)
    connection.sendall(CHUNK[:20_000])


def closes_together(place: Place) -> None:
    """Close just when the server does."""
    with place.dial() as connection:
        connection.sendall(b"?")
        read_exactly(connection, 20_000)
    time.sleep(0.6)


def resets_when_done(place: Place) -> None:
    """Leave by a reset, after all was read."""
    with place.dial() as connection:
        connection.sendall(b"?")
        read_exactly(connection, 300)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    time.sleep(0.8)


def resets_after_upload(place: Place) -> None:
    """Leave by a reset, after all was acknowledged."""
    with place.dial() as connection:
        connection.sendall(CHUNK[:50_000])
        acknowledged(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    time.sleep(0.8)


def checks(place: Place) -> None:
    """Connect and close: a health check."""
    place.dial().close()
    time.sleep(1.0)


def checks_by_reset(place: Place) -> None:
    """The same, by a reset, as load balancers do."""
    with place.dial() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    time.sleep(1.0)


def says_farewell(place: Place) -> None:
    """Ask, read the answer, send a close_notify and close: that of the server comes too late."""
    with place.dial() as connection:
        connection.sendall(b"?")
        read_exactly(connection, 300)
        connection.sendall(FAREWELL)
    time.sleep(0.8)


def answers_farewells(connection: socket.socket) -> None:
    """Answer; answer the close_notify by one, and close."""
    connection.recv(1)
    connection.sendall(CHUNK[:300])
    read_exactly(connection, len(FAREWELL))
    connection.sendall(FAREWELL)


def leaves_a_farewell_unread(place: Place) -> None:
    """Read the answer, and close; the server's close_notify is there, and unread."""
    with place.dial() as connection:
        connection.sendall(b"?")
        read_exactly(connection, 300)
        time.sleep(0.05)
        connection.sendall(FAREWELL)
    time.sleep(0.8)


def ends_by_farewell(connection: socket.socket) -> None:
    """Answer, send a close_notify, and close."""
    connection.recv(1)
    connection.sendall(CHUNK[:300])
    connection.sendall(FAREWELL)


def races(stagger_s: float) -> Callable[[Place], None]:
    """Return a client whose first attempt, at a port that does not answer, loses to another, as happy eyeballs do."""

    def use(place: Place) -> None:
        with place.open() as loser:
            loser.setblocking(False)
            with suppress(BlockingIOError):
                loser.connect((place.address, HOLE_PORT))
            time.sleep(stagger_s)
            winner = place.dial()
        with winner:
            winner.sendall(b"?")
            read_exactly(winner, 300)
        time.sleep(0.7)

    return use


def gives_up_once(place: Place) -> None:
    """Give up one attempt after a third of a second; nothing more for a minute and a half."""
    with place.open() as attempt:
        attempt.setblocking(False)
        with suppress(BlockingIOError):
            attempt.connect((place.address, HOLE_PORT))
        time.sleep(0.3)
    time.sleep(90)


def bursts(place: Place) -> None:
    """Forty at once, which fit the queue."""
    made = [place.dial() for _ in range(40)]
    for connection in made:
        connection.sendall(b"?")
    for connection in made:
        read_exactly(connection, 300)
        connection.close()
    time.sleep(4)


def accepts_in_turns(door: socket.socket, attend: object) -> None:
    """Accept all that wait, three times a second."""
    door.setblocking(False)
    while True:
        with suppress(BlockingIOError):
            while True:
                connection, _ = door.accept()
                connection.setblocking(True)
                with connection:
                    if connection.recv(1):
                        connection.sendall(CHUNK[:300])
        time.sleep(0.3)


def waits_its_turn(place: Place) -> None:
    """Ask, and wait until accepted."""
    with place.dial() as connection:
        connection.sendall(b"?")
        read_exactly(connection, 300)
    time.sleep(0.1)


KINDS = [
    Kind("short", asks_and_closes, answers, copies=2),
    Kind("short-server-closes", asks_and_reads_to_the_end, answers_and_closes, copies=2),
    Kind("short-together", closes_together, answers_and_closes),
    Kind("reset-when-done", resets_when_done, answers),
    Kind("reset-after-upload", resets_after_upload, drain),
    Kind("check", checks, drain),
    Kind("check-by-reset", checks_by_reset, drain),
    Kind("farewell", says_farewell, answers_farewells),
    Kind("farewell-unread", leaves_a_farewell_unread, ends_by_farewell),
    Kind("race", races(0.0), answers),
    Kind("race-staggered", races(0.25), answers),
    Kind("given-up-once", gives_up_once, drain),
    Kind("burst", bursts, answers, backlog=64),
    Kind("accepted-in-turns", waits_its_turn, drain, copies=4, serve=accepts_in_turns, backlog=16),
    Kind("deferred", asks_and_closes, answers, options=((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3),)),
]
