"""Sets socket options that nobody would, and tells what came of it: for a comparison with and without a program.

Run isolated (``-I``), standard library only. It says ``ready``; on a line of input, a number, it makes the calls, for a
number the same ones each time, on new sockets, and prints ``results`` and JSON: for each call what it was, whether it
had a length but no value, its errno, and what getsockopt() then returns.
"""

from __future__ import annotations

import ctypes
import json
import random
import socket
import struct
import sys

LENGTHS = (0, 1, 4, 8, 16, 32, 33, 64, 4095, 4096, 4097, 100_000, -1)
LEVELS = (
    socket.SOL_SOCKET,
    socket.IPPROTO_IP,
    socket.IPPROTO_IPV6,
    socket.IPPROTO_TCP,
    socket.IPPROTO_UDP,
    0x54434F50,
    7777,
)
NAMES = (*range(80), 0x464C4147, 1008, 9999, -1)
CALLS = 1200
libc = ctypes.CDLL(None, use_errno=True)


def sockets() -> list[socket.socket]:
    """TCP of both families, one that listens and one that is connected, UDP, and of the unix family."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen()
    near = socket.create_connection(door.getsockname())
    far, _ = door.accept()
    pair = socket.socketpair()
    return [
        *(door, near, far, *pair),
        *(socket.socket(family, kind) for family in (socket.AF_INET, socket.AF_INET6) for kind in (1, 2)),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    ]


def value(chance: random.Random, length: int) -> ctypes.Array[ctypes.c_char]:
    """A small number and zeros, or noise."""
    size = max(length, 4)
    text = struct.pack("=i", chance.choice((0, 1, 2, 100))) if chance.random() < 0.7 else chance.randbytes(4)
    return ctypes.create_string_buffer(text.ljust(size, b"\0"), size)


def getsockopt(fd: int, level: int, name: int) -> tuple[int, bytes]:
    """What it returns now: errno and the first bytes."""
    buffer, size = ctypes.create_string_buffer(64), ctypes.c_uint32(64)
    failed = libc.getsockopt(fd, level, name, buffer, ctypes.byref(size))
    return ctypes.get_errno() if failed else 0, buffer.raw[: 0 if failed else min(size.value, 16)]


def tried(seed: int) -> list[tuple[str, bool, int, str]]:
    """The calls, and what came of each."""
    chance = random.Random(seed)
    results: list[tuple[str, bool, int, str]] = []
    there = sockets()
    for _ in range(CALLS):
        at, level = chance.randrange(len(there)), chance.choice(LEVELS)
        name, length = chance.choice(NAMES), chance.choice(LENGTHS)
        optval = None if chance.random() < 0.1 else value(chance, length)
        fd = there[at].fileno()
        failed = libc.setsockopt(fd, level, name, optval, length)
        error = ctypes.get_errno() if failed else 0
        got = str(getsockopt(fd, level, name)) if not failed else ""
        results.append((f"{at} {level} {name} {length}", optval is None and length > 0, error, got))
    for each in there:
        each.close()
    return results


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        print("results", json.dumps(tried(int(line))), flush=True)


if __name__ == "__main__":
    main()
