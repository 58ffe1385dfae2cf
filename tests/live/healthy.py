"""Flows of every healthy kind, for the tests that ask what must never be called bad.

    python -I healthy.py serve ADDRESS     prints ``ready PORT``; accepts, and does what a connection's first byte says
    python -I healthy.py run ADDRESS PORT HOLE   25 connections that stay, and some that come and go; prints ``ready``

Kinds: bulk, request and response, idlers with keepalive, slow writers; and, again and again, connects to HOLE (a port
that does not answer) that are given up soon, as happy eyeballs do, half-closed downloads, uploads that end by a reset
once all was acknowledged, and orderly short ones. Standard library only; the end of the input ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

SINK, ECHO, FEED = b"s", b"e", b"f"
CHUNK = bytes(65536)
BULK, ECHOES, IDLERS, WRITERS = 2, 9, 8, 6
LIVE = BULK + ECHOES + IDLERS + WRITERS
"""Connections of ``run`` that stay."""


def serve(address: str) -> None:
    door = socket.create_server((address, 0), backlog=128)
    print("ready", door.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(door,), daemon=True).start()
    sys.stdin.read()


def accept(door: socket.socket) -> None:
    while True:
        connection, _ = door.accept()
        threading.Thread(target=attend, args=(connection,), daemon=True).start()


def attend(connection: socket.socket) -> None:
    """Until the other side has had enough, however it says so."""
    with connection, contextlib.suppress(ConnectionError):
        kind = connection.recv(1)
        if kind == FEED:
            for _ in range(4):
                connection.sendall(CHUNK)
            return
        while data := connection.recv(len(CHUNK)):
            if kind == ECHO:
                connection.sendall(data)


def dial(address: str, port: int, kind: bytes, control: bytes = b"cubic") -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control)
    made.connect((address, port))
    made.sendall(kind)
    return made


def bulk(connection: socket.socket) -> None:
    """8 MB as fast as they go, eight times a second; less by TCPTOP_SCALE on a slow machine."""
    chunks = max(16, int(128 * float(os.environ.get("TCPTOP_SCALE", "1"))))
    while True:
        for _ in range(chunks):
            connection.sendall(CHUNK)
        time.sleep(0.1)


def echo(connection: socket.socket, size: int) -> None:
    while True:
        connection.sendall(CHUNK[:size])
        left = size
        while left:
            left -= len(connection.recv(left))
        time.sleep(0.03)


def idle(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)


def write_slowly(connection: socket.socket, size: int) -> None:
    while True:
        connection.sendall(CHUNK[:size])
        time.sleep(0.2)


def arrived(connection: socket.socket) -> None:
    """Wait until all that was sent is acknowledged."""
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
        time.sleep(0.001)


def come_and_go(address: str, port: int, hole: int) -> None:
    """A connection of each passing kind, four times a second."""
    for turn in itertools.count():
        with socket.socket() as abandoned:
            abandoned.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                abandoned.connect((address, hole))
            time.sleep(0.1)
            fed = dial(address, port, FEED)  # it wins: the other is closed at once
        with fed:
            if turn % 2:
                fed.shutdown(socket.SHUT_WR)
            while fed.recv(len(CHUNK)):
                pass
        with dial(address, port, SINK) as sender:
            sender.sendall(CHUNK)
            if turn % 2:  # closing with a linger of no time at all sends RST
                arrived(sender)
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with dial(address, port, ECHO) as short:
            short.sendall(b"?")
            short.recv(1)
        time.sleep(0.1)


def to_the_end(function: Callable[..., None], *args: object) -> None:
    """Call it; when the server goes first, that is the end too."""
    with contextlib.suppress(ConnectionError):
        function(*args)


def run(address: str, port: int, hole: int) -> None:
    work: list[tuple[Any, ...]] = []
    work += [(bulk, dial(address, port, SINK, (b"cubic", b"bbr")[i % 2])) for i in range(BULK)]
    work += [(echo, dial(address, port, ECHO), (1, 100, 20_000)[i % 3]) for i in range(ECHOES)]
    work += [(write_slowly, dial(address, port, SINK), (10, 30_000)[i % 2]) for i in range(WRITERS)]
    idlers = [dial(address, port, SINK) for _ in range(IDLERS)]
    for idler in idlers:
        idle(idler)
    for function, *args in [*work, (come_and_go, address, port, hole)]:
        threading.Thread(target=to_the_end, args=(function, *args), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
