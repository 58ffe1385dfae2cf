"""Names that others choose, to steer a terminal, to break a table or a parser: and processes that bear them.

As a program (``python -I hostile.py``, standard library only) it forks one process a line of its input, in hexadecimal
``COMM ARGV0 [CGROUP]``: each takes the name, lies in its command line, moves into the cgroup and connects. It says
``ready PORT``, then ``connected N`` when all are; the end of the input ends them all.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import signal
import socket
import sys

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
COMM = 15
"""Bytes of a process's name: TASK_COMM_LEN of include/linux/sched.h, without its zero."""

PIECES: tuple[bytes, ...] = (
    # what steers a terminal
    b"\x1b[2J",
    b"\x1b]0;evil\x07",
    b"\x1b[31m",
    b"\x1bc",
    b"\x9b31m",
    "\x9b2J".encode(),
    b"\x1bP+q\x1b\\",
    b"\x0e",
    b"\x08\x08",
    b"\x7f",
    # what breaks a line or a column
    b"\r",
    b"\n",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x85",
    "\u2028".encode(),
    "\x85".encode(),
    # markup, quotes, and what begins a formula
    b"[red]x[/red]",
    b"[@click=quit]",
    b"[/]",
    b"[[",
    b'"\\',
    b"','",
    b"{0!r}",
    b"%s%n",
    b"=1+1",
    b"$(id)",
    b"~",
    b"\\x1b",
    # what turns, widens, joins or hides
    "\u202eexe".encode(),
    "\u2066".encode(),
    "\u200f".encode(),
    "数据库".encode(),
    "\uff46\uff55\uff4c\uff4c".encode(),
    "e\u0301\u0301".encode(),
    "\u200b".encode(),
    "\ufeff".encode(),
    "👩\u200d💻".encode(),
    "\ufdfd".encode(),
    "é".encode(),
    # what is no UTF-8
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\x80",
    # what only looks odd
    b" ",
    b"  lead",
    b")",
    b"(",
    b"a b) S 1",
    b"-",
    b"?",
    b"x",
)


def names(count: int, seed: int = 0, most: int = COMM) -> list[bytes]:
    """So many different names of at most ``most`` bytes, none of them empty: the pieces, then pieces joined and cut.

    Cut anywhere, also in the middle of a character. None holds a zero, which ends a name, nor is ``.`` or ``..``.
    """
    rng = random.Random(seed)
    found = dict.fromkeys(piece[:most] for piece in PIECES)
    while len(found) < count:
        joined = b"".join(rng.choices(PIECES, k=rng.randint(2, 6)))
        found[joined[: rng.randint(1, most)]] = None
    return list(found)[:count]


def directories(count: int, seed: int = 0) -> list[bytes]:
    """Names that a cgroup may have: no slash, and no newline (cgroup_mkdir() of kernel/cgroup/cgroup.c)."""
    cleaned = (name.replace(b"/", b"_").replace(b"\n", b"\r") for name in names(3 * count, seed, 60))
    return list(dict.fromkeys(name for name in cleaned if name.strip(b".")))[:count]


def disguise(argv0: bytes) -> None:
    """Write over the memory that is shown as this process's command line: fields 48 and 49 of proc_pid_stat(5)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    ctypes.memmove(begin, argv0[: end - begin - 1].ljust(end - begin, b"\0"), end - begin)


def impersonate(words: list[bytes], door: socket.socket, port: int) -> None:
    """What a child does: it never returns."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    door.close()
    if len(words) > 2:
        with open(os.path.join(words[2], b"cgroup.procs"), "w") as file:
            file.write("0")
    disguise(words[1])
    libc.prctl(PR_SET_NAME, words[0], 0, 0, 0)
    near = socket.create_connection(("127.0.0.1", port))
    signal.pause()
    near.close()


def main() -> None:
    """All children are there before the first connection is accepted: none inherits another's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("room", nargs="?", help="makes the command line long enough to be written over")
    count = parser.parse_args().count
    door = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = door.getsockname()[1]
    for _ in range(count):
        words = [bytes.fromhex(word) for word in sys.stdin.readline().split()]
        if not os.fork():
            impersonate(words, door, port)
    print("ready", port, flush=True)
    held = [door.accept()[0] for _ in range(count)]
    print("connected", len(held), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
