"""Requests and their answers; pools of connections that mostly rest; several processes at one port."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable

from tests.healthy.child import child
from tests.healthy.kind import CHUNK, Kind, Place, Serve, hold, read_exactly

NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
)
TCP_USER_TIMEOUT = 18  # linux/tcp.h


def asking(
    think_s: float, size: int, answer: int, *options: tuple[int, int, int], turns: int = 0
) -> Callable[[Place], None]:
    """Return a client that asks in one write, waits for the answer and thinks; for ever or so many turns."""

    def use(place: Place) -> None:
        with place.dial(*options) as connection:
            done = 0
            while not turns or done < turns:
                connection.sendall(CHUNK[:size])
                read_exactly(connection, answer)
                time.sleep(think_s)
                done += 1

    return use


def answering(size: int, answer: int, think_s: float = 0) -> Callable[[socket.socket], None]:
    """Return a server of such clients."""

    def attend(connection: socket.socket) -> None:
        while True:
            read_exactly(connection, size)
            time.sleep(think_s)
            connection.sendall(CHUNK[:answer])

    return attend


def pipelines(place: Place) -> None:
    """Ask twenty times in one write, and read twenty answers."""
    with place.dial() as connection:
        while True:
            connection.sendall(CHUNK[: 20 * 100])
            read_exactly(connection, 20 * 1_000)
            time.sleep(0.1)


def rests(*options: tuple[int, int, int]) -> Callable[[Place], None]:
    """Return a client that asks once, and then rests for good."""

    def use(place: Place) -> None:
        with place.dial(*options) as connection:
            connection.sendall(CHUNK[:100])
            read_exactly(connection, 200)
            time.sleep(3600)

    return use


def is_dropped(place: Place) -> None:
    """A pooled connection: the server closes it, the client notices some seconds later, in CLOSE-WAIT."""
    with place.dial() as connection:
        connection.sendall(CHUNK[:100])
        read_exactly(connection, 200)
        time.sleep(5)
    time.sleep(0.5)


def drops_idlers(connection: socket.socket) -> None:
    """Answer once, and close what rests for two seconds."""
    read_exactly(connection, 100)
    connection.sendall(CHUNK[:200])
    time.sleep(2)


def prefork(number: int, group: bool) -> Serve:
    """Return how several processes serve: each with a listener of its own (SO_REUSEPORT), or all with one."""

    def serve(door: socket.socket, attend: Callable[[socket.socket], None]) -> None:
        for turn in range(1, number):
            child(f"worker-{turn}", lambda: hold(another(door) if group else door, attend))
        hold(door, attend)

    return serve


def another(door: socket.socket) -> socket.socket:
    """Close it, and return one more listener at its address."""
    where = door.getsockname()[:2]
    door.close()
    made = socket.socket(door.family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(where)
    made.listen(64)
    return made


def forks(door: socket.socket, attend: Callable[[socket.socket], None]) -> None:
    """Serve each connection by a process of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = door.accept()

        def serve(connection: socket.socket = connection) -> None:
            door.close()
            with connection, contextlib.suppress(ConnectionError):  # however the client says that it is done
                attend(connection)

        child("forked", serve)
        connection.close()


REUSEPORT = ((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),)

KINDS = [
    Kind("ask", asking(0.05, 100, 500), answering(100, 500), copies=2),
    Kind("ask-nodelay", asking(0.02, 80, 80, NODELAY), answering(80, 80), options=(NODELAY,), copies=2),
    Kind("ask-large", asking(0.3, 20_000, 200_000), answering(20_000, 200_000)),
    Kind("ask-upload", asking(0.5, 500_000, 50), answering(500_000, 50)),
    Kind("think", asking(1.7, 300, 3_000), answering(300, 3_000), copies=3),
    Kind("think-long", asking(7.3, 300, 30_000), answering(300, 30_000), copies=2),
    Kind("server-thinks", asking(0.1, 300, 3_000), answering(300, 3_000, 1.3), copies=2),
    Kind("long-poll", asking(0.0, 200, 150), answering(200, 150, 9.0), copies=2),
    Kind("pipeline", pipelines, answering(100, 1_000)),
    Kind("keystrokes", asking(0.04, 1, 1, NODELAY), answering(1, 1), options=(NODELAY,)),
    Kind("pool", rests(), answering(100, 200), copies=20),
    Kind("pool-keepalive", rests(*KEEPALIVE), answering(100, 200), copies=5),
    Kind("pool-server-keepalive", rests(), answering(100, 200), options=KEEPALIVE, copies=3),
    Kind("pool-dropped", is_dropped, drops_idlers, copies=3),
    Kind(
        "user-timeout",
        asking(0.5, 100, 200, (socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 3000), *KEEPALIVE),
        answering(100, 200),
    ),
    Kind(
        "reuseport",
        asking(0.1, 50, 50, turns=8),
        answering(50, 50),
        copies=4,
        serve=prefork(3, True),
        options=REUSEPORT,
    ),
    Kind("prefork", asking(0.1, 50, 50, turns=8), answering(50, 50), copies=4, serve=prefork(3, False)),
    Kind("fork", asking(0.2, 50, 50, turns=5), answering(50, 50), copies=2, serve=forks),
]
