"""Connections that rest: ``python -I holder.py COUNT`` makes so many sockets, a listener and pairs on the loopback.

It says ``ready`` and holds them until the end of its input. Standard library only.
"""

from __future__ import annotations

import resource
import socket
import sys


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


def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = pairs(int(sys.argv[1]) // 2)
    print("ready", len(held), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
