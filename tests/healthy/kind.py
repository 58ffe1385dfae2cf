"""What a kind of healthy traffic is; standard library only, as its processes are many."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CHUNK = bytes(1 << 20)
LINGER_NONE = struct.pack("ii", 1, 0)
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h

Option = tuple[int, int, int]
"""Level, name and value for setsockopt."""

HOLE_PORT = 7
FIRST_PORT = 7100


@dataclass(frozen=True)
class Place:
    """Where a kind is at work: the server's address, and its port for this kind."""

    address: str
    port: int

    def open(self, *options: Option) -> socket.socket:
        """Return a socket that is not connected."""
        made = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET)
        for option in options:
            made.setsockopt(*option)
        return made

    def dial(self, *options: Option) -> socket.socket:
        """Return a connection to the server."""
        made = self.open(*options)
        try:
            made.connect((self.address, self.port))
        except OSError:
            made.close()
            raise
        return made


def hold(door: socket.socket, attend: Callable[[socket.socket], None]) -> None:
    """Accept each at once, and attend to it in a thread of its own."""

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                attend(connection)
            except ConnectionError:
                return  # however the other side said that it has had enough

    while True:
        connection, _ = door.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


Serve = Callable[[socket.socket, Callable[[socket.socket], None]], None]


@dataclass(frozen=True)
class Kind:
    """A kind of traffic.

    ``use`` is one life of a client, begun again when it returns; ``copies`` of it are at work at once. ``attend`` is
    what the server does with a connection, which is closed afterwards; ``serve`` how it accepts. ``options``: of the
    listener, inherited by what it accepts.
    """

    name: str
    use: Callable[[Place], None]
    attend: Callable[[socket.socket], None]
    copies: int = 1
    serve: Serve = hold
    options: tuple[Option, ...] = field(default=())
    backlog: int = 128


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return so many bytes. Raises ConnectionError where the other side ends before."""
    parts = []
    while count:
        part = connection.recv(min(count, 1 << 16))
        if not part:
            raise ConnectionAbortedError("the end came early")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def drain(connection: socket.socket) -> None:
    """Read until the other side shuts its side."""
    while connection.recv(1 << 16):
        pass


def acknowledged(connection: socket.socket) -> None:
    """Wait until all that was sent is acknowledged."""
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
        time.sleep(0.001)
