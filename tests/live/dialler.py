"""Connection attempts that their own program gives up, or that lose to another of it.

    python -I dialler.py give-up ADDRESS PORT --every S --after S --count N
    python -I dialler.py race ADDRESS PORT --winner ADDRESS PORT --stagger S --every S --count N
    python -I dialler.py proxy ADDRESS PORT --winner ADDRESS PORT --every S --after S --count N

``give-up`` closes each attempt after a while; ``race`` opens a second one after ``--stagger``, and closes the first as
soon as that stands, as happy eyeballs do; ``proxy`` gives attempts up while as many to another place succeed. A line
``tried PORT`` is printed for each, its local port, then ``done``. Standard library only; the end of the input ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import socket
import sys
import threading
import time

PR_SET_NAME = 15  # linux/prctl.h


def dial(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        made.connect((address, port))
    print("tried", made.getsockname()[1], flush=True)
    return made


def established(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port))


def give_up(args: argparse.Namespace) -> None:
    threads = []
    for _ in range(args.count):
        made = dial(args.address, args.port)
        threads.append(threading.Timer(args.after, made.close))
        threads[-1].start()
        time.sleep(args.every)
    for thread in threads:
        thread.join()


def race(args: argparse.Namespace) -> None:
    held = []
    for _ in range(args.count):
        loser = dial(args.address, args.port)
        time.sleep(args.stagger)
        winner = established(*args.winner)
        loser.close()
        held.append(winner)
        time.sleep(args.every)
    print("done", flush=True)
    sys.stdin.read()


def proxy(args: argparse.Namespace) -> None:
    """The requests to the other place do not wait for these."""
    over = threading.Event()

    def succeed() -> None:
        while not over.wait(0.73 * args.every):  # at another pace, so that no close follows one by design
            established(*args.winner).close()

    threading.Thread(target=succeed, daemon=True).start()
    give_up(args)
    over.set()


MODES = {"give-up": give_up, "race": race, "proxy": proxy}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--winner", nargs=2)
    parser.add_argument("--stagger", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=0.1)
    parser.add_argument("--after", type=float, default=0.3)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--comm", default="dialler")
    args = parser.parse_args()
    args.winner = args.winner and (args.winner[0], int(args.winner[1]))
    ctypes.CDLL(None).prctl(PR_SET_NAME, args.comm.encode(), 0, 0, 0)
    MODES[args.mode](args)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
