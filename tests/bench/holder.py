"""Connections that are held: ``python -I holder.py COUNT [TALKING]`` makes so many sockets, a listener and pairs.

They are on the loopback. It says ``ready`` and holds them until the end of its input. Each second TALKING pairs, by
turns, send a message; without it all rest. A line of its input with a number changes it. Standard library only.
"""

from __future__ import annotations

import itertools
import resource
import select
import socket
import sys
import time

MESSAGE = b"x" * 1000


def pairs(count: int) -> list[socket.socket]:
    """Both ends of so many connections, and their listener."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen(16)
    held = [door]
    address = door.getsockname()
    for _ in range(count):
        near = socket.socket()
        near.connect(address)
        held += (near, door.accept()[0])
    return held


def talk(held: list[socket.socket], each_second: int) -> None:
    """Evenly, in tenths of a second, until the input ends."""
    turns = itertools.cycle(zip(held[1::2], held[2::2], strict=True))
    begun = time.monotonic()
    for tenth in itertools.count(1):
        for near, far in itertools.islice(turns, each_second // 10):
            near.sendall(MESSAGE)
            far.recv(len(MESSAGE))
        wait_s = max(begun + tenth / 10 - time.monotonic(), 0) if each_second else None
        if select.select([sys.stdin], [], [], wait_s)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            each_second = int(line)
            begun = time.monotonic() - tenth / 10


def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = pairs(int(sys.argv[1]) // 2)
    print("ready", len(held), flush=True)
    talk(held, int(sys.argv[2]) if len(sys.argv) > 2 else 0)


if __name__ == "__main__":
    main()
