"""The processes of the traffic: one for each kind and side, children of one for each place.

    python -m tests.healthy.traffic serve ADDRESS KIND...   prints ``ready`` once all listen
    python -m tests.healthy.traffic use ADDRESS KIND...     prints ``ready`` once all have begun

``broken KIND ERROR`` is a life of a client that ended otherwise than it should. The end of the input ends all.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

from tests.healthy.child import child
from tests.healthy.kind import Kind, Place
from tests.healthy.kinds import KINDS, PORTS

AGAIN_S = 0.5


def listener(place: Place, kind: Kind) -> socket.socket:
    """Return the listener of a kind."""
    made = place.open(*kind.options, (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    made.bind((place.address, place.port))
    made.listen(kind.backlog)
    return made


def say(line: str) -> None:
    """Print a line whole, whatever other processes print to the same pipe (PIPE_BUF)."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def live(kind: Kind, place: Place) -> None:
    """Be a client for ever, a life after the other."""
    while True:
        try:
            kind.use(place)
        except OSError as error:
            say(f"broken {kind.name} {error}")
            time.sleep(AGAIN_S)


def use(kind: Kind, place: Place) -> None:
    """Be all clients of a kind."""
    threads = [threading.Thread(target=live, args=(kind, place)) for _ in range(kind.copies)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()


def main(mode: str, address: str, *names: str) -> None:
    """Start all, and wait for the end of the input."""
    doors = []
    for name in names:
        kind, place = KINDS[name], Place(address, PORTS[name])
        if mode == "serve":
            door = listener(place, kind)
            doors.append(door)
            child(name, lambda door=door, kind=kind: kind.serve(door, kind.attend))  # type: ignore[misc]
            door.close()
        else:
            child(name, lambda kind=kind, place=place: use(kind, place))  # type: ignore[misc]
    say("ready")
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
