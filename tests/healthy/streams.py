"""Streams: data that flows in one direction, slowly or fast, and never stops for long."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from tests.healthy.kind import CHUNK, SO_MAX_PACING_RATE, Kind, Place, drain

CC = (socket.IPPROTO_TCP, socket.TCP_CONGESTION)
TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

Sends = Callable[[socket.socket], None]


def sending(rest_s: float, size: int, *options: tuple[int, int, int]) -> Callable[[Place], None]:
    """Return a client that writes so many bytes again and again, with a rest after each."""

    def use(place: Place) -> None:
        with place.dial(*options) as connection:
            while True:
                connection.sendall(CHUNK[:size])
                time.sleep(rest_s)

    return use


def pushing(rest_s: float, size: int) -> Sends:
    """Return a server that does the same."""

    def attend(connection: socket.socket) -> None:
        while True:
            connection.sendall(CHUNK[:size])
            time.sleep(rest_s)

    return attend


def pouring(connection: socket.socket) -> None:
    """Write as much as goes, for ever."""
    while True:
        connection.sendall(CHUNK[: 1 << 16])


def reading(rest_s: float, size: int, *options: tuple[int, int, int]) -> Callable[[Place], None]:
    """Return a client that reads so many bytes at most, rests, and reads again."""

    def use(place: Place) -> None:
        with place.dial(*options) as connection:
            while connection.recv(size):
                time.sleep(rest_s)

    return use


def reads_slowly(connection: socket.socket) -> None:
    """Be the server that is slow: 100 kB a second."""
    while connection.recv(10_000):
        time.sleep(0.1)


def reads_busily(connection: socket.socket) -> None:
    """Read all that has come, five hundred times a second: a processor is not to be kept busy by one kind."""
    while connection.recv(1 << 16):
        time.sleep(0.002)


def pours(place: Place) -> None:
    """Write as much as goes, for ever."""
    with place.dial() as connection:
        pouring(connection)


def reads_in_batches(connection: socket.socket) -> None:
    """Take all that has come, each 0.4 s."""
    connection.setblocking(False)
    while True:
        try:
            while True:
                if not connection.recv(1 << 20):
                    return
        except BlockingIOError:
            time.sleep(0.4)


def downloads_half_closed(place: Place) -> None:
    """Ask, shut the own side, and receive for as long as it lasts."""
    with place.dial() as connection:
        connection.sendall(b"GET")
        connection.shutdown(socket.SHUT_WR)
        drain(connection)


def feeds_half_closed(rest_s: float, size: int) -> Sends:
    """Return a server that answers slowly, to a client that has shut its side: two minutes, then the end."""

    def attend(connection: socket.socket) -> None:
        drain(connection)
        for _ in range(int(120 / rest_s)):
            connection.sendall(CHUNK[:size])
            time.sleep(rest_s)

    return attend


def uploads_to_half_closed(place: Place) -> None:
    """Go on sending after the server has shut its side, in CLOSE-WAIT."""
    with place.dial() as connection:
        drain(connection)
        for _ in range(900):
            connection.sendall(CHUNK[:2000])
            time.sleep(0.1)


def shuts_and_reads(connection: socket.socket) -> None:
    """Be its server."""
    connection.shutdown(socket.SHUT_WR)
    drain(connection)


def corks(place: Place) -> None:
    """Write pieces of a message under TCP_CORK, then let it go."""
    with place.dial() as connection:
        while True:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            for _ in range(8):
                connection.sendall(CHUNK[:700])
                time.sleep(0.02)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            time.sleep(0.1)


def corked_for_good(place: Place) -> None:
    """Write less than a segment at a time, and never let go: the kernel sends it after 200 ms."""
    with place.dial((socket.IPPROTO_TCP, socket.TCP_CORK, 1)) as connection:
        while True:
            connection.sendall(CHUNK[:500])
            time.sleep(0.6)


def corked_bulk(place: Place) -> None:
    """Files behind a header, each under TCP_CORK, as sendfile servers do."""
    with place.dial() as connection:
        while True:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            connection.sendall(CHUNK[:300])
            connection.sendall(CHUNK[:400_000])
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            time.sleep(0.15)


def paced(rate: int) -> Callable[[Place], None]:
    """Return a client with SO_MAX_PACING_RATE, in bytes a second, that always has more to send."""

    def use(place: Place) -> None:
        with place.dial((socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate)) as connection:
            pouring(connection)

    return use


def bulk(control: bytes) -> Callable[[Place], None]:
    """Return a client that sends 2 MB as fast as they go, three times a second at most."""

    def use(place: Place) -> None:
        with place.open() as connection:
            connection.setsockopt(*CC, control)
            connection.connect((place.address, place.port))
            while True:
                for _ in range(2):
                    connection.sendall(CHUNK)
                time.sleep(0.3)

    return use


def bounded(place: Place) -> None:
    """Write as much as goes with no more than 64 KB in flight: less than the queue of the bottleneck holds."""
    with place.dial((socket.SOL_SOCKET, socket.SO_SNDBUF, 48_000)) as connection:
        pouring(connection)


def buffer(size: int) -> tuple[int, int, int]:
    """Return the option SO_RCVBUF; the kernel takes twice as much."""
    return (socket.SOL_SOCKET, socket.SO_RCVBUF, size)


KINDS = [
    Kind("bulk-cubic", bulk(b"cubic"), drain),
    Kind("bulk-bbr", bulk(b"bbr"), drain),
    Kind("download", reading(0, 1 << 18), pushing(0.15, 1 << 20)),
    Kind("reader-2k", reading(0.1, 200), pouring),
    Kind("reader-20k", reading(0.1, 2_000), pouring),
    Kind("reader-100k", reading(0.1, 10_000), pouring, copies=2),
    Kind("reader-2M", reading(0.05, 100_000), pouring),
    Kind("slow-server", pours, reads_slowly),
    Kind("batch-reader", sending(0.05, 30_000), reads_in_batches),
    Kind("buffer-4k", reading(0, 4096, buffer(4096)), pushing(0.02, 4_000)),
    Kind("buffer-16k", reading(0.002, 1 << 16, buffer(8192)), pouring),
    Kind("buffer-16k-server", pours, reads_busily, options=(buffer(8192),)),
    Kind("half-closed", downloads_half_closed, feeds_half_closed(0.2, 1_000)),
    Kind("half-closed-slow", downloads_half_closed, feeds_half_closed(3.0, 100), copies=2),
    Kind("half-closed-fast", downloads_half_closed, feeds_half_closed(0.05, 50_000)),
    Kind("upload-after-fin", uploads_to_half_closed, shuts_and_reads),
    Kind("paced-20k", paced(20_000), drain),
    Kind("paced-200k", paced(200_000), drain),
    Kind("paced-5M", paced(5_000_000), drain),
    Kind("cork", corks, drain),
    Kind("corked-for-good", corked_for_good, drain),
    Kind("corked-bulk", corked_bulk, drain),
    Kind("messages", sending(0.4, 200_000), drain),
    Kind("trickle", sending(0.05, 1), drain),
    Kind("trickle-nodelay", sending(0.02, 40, NODELAY), drain),
    Kind("slow-writer", sending(2.5, 30), drain, copies=2),
    Kind("events", reading(0, 4096), pushing(1.0, 100), copies=2),
    Kind("low-water", sending(0.02, 60_000, (socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16_384)), drain),
    Kind("bounded", bounded, drain),
    Kind("small-sndbuf", sending(0.01, 60_000, (socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)), drain),
]

NARROW = {"bounded"}
"""What would keep a processor busy where nothing else slows it down."""
