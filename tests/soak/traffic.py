"""Traffic for the soak: a few processes that keep thousands of connections, each with one loop and no threads.

Runs isolated (``-I``), standard library only; a line of standard output for each thing that happened, and commands, a
line each, on standard input, whose end ends the program.

- ``serve``: sends back what it receives; with ``--then close`` it answers one byte and closes. ``ready PORT``.
- ``rest``: ``open N`` makes so many connections (``opened N``), which exchange one byte each, then and at ``touch``
  (``touched N``). ``talk N`` makes N, which exchange ``--size`` bytes a second until ``stop`` (``talked ROUNDS``), and
  stay.
- ``short``: after ``go``, ``--rate`` connections a second until ``stop``; then ``finished OPENED FAILED`` once none is
  open. The server closes first and keeps the TIME-WAIT; each tenth is reset instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import socket
import struct
import sys
import time
from errno import EINPROGRESS

LINGER_NONE = struct.pack("ii", 1, 0)
RESET_EACH = 10
BEAT_S = 0.005
MOST_BEHIND_S = 0.1
"""What a slow machine could not open within this long is left out, not made up for: a pace, not a burst."""

BACKLOG = 4096
STDIN = 0


def say(*words: object) -> None:
    """One line, at once."""
    print(*words, flush=True)


def raise_limit() -> None:
    """Allow as many descriptors as this process may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(args: argparse.Namespace) -> None:
    """Accept and answer until standard input ends."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((args.address, args.port))
    door.listen(BACKLOG)
    door.setblocking(False)
    poll = select.epoll()
    poll.register(STDIN, select.EPOLLIN)
    poll.register(door, select.EPOLLIN)
    held: dict[int, socket.socket] = {}
    say("ready", door.getsockname()[1])
    while True:
        for fd, _ in poll.poll():
            if fd == STDIN:
                return
            if fd == door.fileno():
                accept_all(door, poll, held)
            elif not answer(held[fd], args.then):
                let_go(poll, held.pop(fd))


def let_go(poll: select.epoll, connection: socket.socket) -> None:
    """Close it. epoll lets go of a closed file once nobody holds it: who lists descriptors does so, for a moment."""
    poll.unregister(connection)
    connection.close()


def accept_all(door: socket.socket, poll: select.epoll, held: dict[int, socket.socket]) -> None:
    """Accept whoever waits."""
    while True:
        try:
            made, _ = door.accept()
        except BlockingIOError:
            return
        held[made.fileno()] = made
        poll.register(made, select.EPOLLIN)


def answer(connection: socket.socket, then: str) -> bool:
    """Answer what was sent; return whether the connection stays open."""
    try:
        data = connection.recv(1 << 16)
        if data:
            connection.sendall(data if then == "hold" else b"!")
    except ConnectionError:
        return False
    return bool(data) and then == "hold"


def rest(args: argparse.Namespace) -> None:
    """Make connections that stay, and exchange what the commands say."""
    held: list[socket.socket] = []
    say("ready", args.port)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "open":
            made = [connected(args) for _ in range(int(words[0]))]
            exchange(made, b"?")
            held += made
            say("opened", len(made))
        elif command == "touch":
            exchange(held, b"?")
            say("touched", len(held))
        elif command == "talk":
            held += [connected(args) for _ in range(int(words[0]))]
            say("opened", len(held))
            say("talked", talk(held, bytes(args.size)))
        else:
            raise SystemExit(f"unknown command: {line!r}")


def connected(args: argparse.Namespace) -> socket.socket:
    """Return a new connection to the server."""
    return socket.create_connection((args.address, args.port))


def exchange(connections: list[socket.socket], data: bytes) -> None:
    """Send on all of them, then receive on all: what is lost is sent again for all at the same time."""
    for connection in connections:
        connection.sendall(data)
    for connection in connections:
        left = len(data)
        while left:
            got = len(connection.recv(left))
            if not got:
                raise SystemExit("a connection was closed by the server")
            left -= got


def talk(connections: list[socket.socket], data: bytes) -> int:
    """Exchange a round a second at most, until a line comes; return how many."""
    rounds = 0
    while True:
        due = time.monotonic() + 1
        exchange(connections, data)
        rounds += 1
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            sys.stdin.readline()
            return rounds


class Short:
    """Connections on their way. A descriptor is in ``unsent`` until its connection stands."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Open none yet."""
        self._target = (args.address, args.port)
        self._poll = select.epoll()
        self._poll.register(STDIN, select.EPOLLIN)
        self.live: dict[int, socket.socket] = {}
        self._unsent: set[int] = set()
        self.opened = self.failed = 0

    def open(self) -> None:
        """Begin a connection; each tenth will be reset."""
        made = socket.socket()
        made.setblocking(False)
        if made.connect_ex(self._target) not in (0, EINPROGRESS):
            self.failed += 1
            made.close()
            return
        self.opened += 1
        if self.opened % RESET_EACH == 0:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        fd = made.fileno()
        self.live[fd] = made
        self._unsent.add(fd)
        self._poll.register(fd, select.EPOLLOUT)

    def attend(self) -> bool:
        """Take what happens within a beat; return False once a line has come."""
        for fd, _ in self._poll.poll(BEAT_S):
            if fd == STDIN:
                self._poll.unregister(STDIN)
                return False
            try:
                done = self._step(fd)
            except ConnectionError:
                self.failed += 1
                done = True
            if done:
                let_go(self._poll, self.live.pop(fd))
        return True

    def _step(self, fd: int) -> bool:
        """Return whether the server has closed. Raises ConnectionError."""
        if fd in self._unsent:
            self._unsent.remove(fd)
            self.live[fd].send(b"?")
            self._poll.modify(fd, select.EPOLLIN)
            return False
        return not self.live[fd].recv(16)


def short(args: argparse.Namespace) -> None:
    """Open connections at a pace until a line comes, then wait until none is open."""
    flow = Short(args)
    say("ready", args.port)
    sys.stdin.readline()
    start = time.monotonic()
    while flow.attend():
        now = time.monotonic()
        due = int((now - start) * args.rate) - flow.opened - flow.failed
        if due > args.rate * MOST_BEHIND_S:
            start += due / args.rate - MOST_BEHIND_S
            due = int(args.rate * MOST_BEHIND_S)
        for _ in range(due):
            flow.open()
    while flow.live:
        flow.attend()
    say("finished", flow.opened, flow.failed)


MODES = {"serve": serve, "rest": rest, "short": short}


def main() -> None:
    """Do what the mode says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--then", choices=("hold", "close"), default="hold")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--size", type=int, default=16_384)
    args = parser.parse_args()
    raise_limit()
    MODES[args.mode](args)
    os._exit(0)  # thousands of sockets: the kernel closes them faster than the interpreter


if __name__ == "__main__":
    main()
