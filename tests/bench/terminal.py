"""What the screen writes, and how soon it answers: over a terminal that is fast, and over one that is not.

``python -m tests.bench.terminal [--quick]`` prints a table.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH, HEIGHT = 160, 50
SETTLED_S = 0.15
START_S = 20.0
SLOW_BYTES_PER_S = 1000


class Terminal:
    """The near end of a terminal with a screen in it."""

    def __init__(self, *words: str, width: int = WIDTH, height: int = HEIGHT, **environment: str) -> None:
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "tests.bench.stage", *words],
            stdin=far,
            stdout=far,
            stderr=far,
            env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | environment,
        )
        os.close(far)

    def read(self, patience_s: float, most: int = 1 << 16) -> bytes:
        """What comes within this time, or nothing."""
        if not select.select([self.near], [], [], patience_s)[0]:
            return b""
        try:
            return os.read(self.near, most)
        except OSError:  # EIO: it has ended
            return b""

    def until(self, wanted: bytes) -> bytes:
        """All that comes, until this has come. Raises TimeoutError where nothing comes any more."""
        seen = b""
        while wanted not in seen:
            if not (got := self.read(START_S)):
                raise TimeoutError(f"{wanted!r} did not come: {seen[-500:]!r}")
            seen += got
        return seen

    def burst(self, patience_s: float) -> tuple[float, bytes]:
        """When the next output began, and all of it until nothing comes for SETTLED_S."""
        got = self.read(patience_s)
        began, found = time.monotonic(), got
        while got:
            got = self.read(SETTLED_S)
            found += got
        return began, found

    def press(self, key: str) -> None:
        """A key."""
        os.write(self.near, key.encode())

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.near)


@contextmanager
def staged(*words: str | int | float) -> Iterator[Terminal]:
    """A screen that has drawn its first rows."""
    terminal = Terminal(*map(str, words))
    try:
        seen, end = b"", time.monotonic() + START_S
        while b"PROCESS" not in seen:
            seen += terminal.read(1.0)
            if time.monotonic() > end:
                raise SystemExit(f"no screen came: {seen[-500:]!r}")
        terminal.burst(2.0)
        yield terminal
    finally:
        terminal.close()


def bytes_a_tick(changed: int, ticks: int) -> list[int]:
    """Of each tick: 1,000 connections, so many of the rows in sight changing."""
    with staged(1000, changed, 1.0) as terminal:
        terminal.burst(3.0)
        return [len(terminal.burst(3.0)[1]) for _ in range(ticks)]


def answer_ms(rows: int, presses: int) -> list[float]:
    """From a key to what it draws, spread over the beat of 10,000 rows."""
    found = []
    with staged(rows, 10, 1.0) as terminal:
        for number in range(presses):
            pause = time.monotonic() + 0.37 + 0.11 * (number % 9)
            while (left := pause - time.monotonic()) > 0:
                terminal.read(left)
            terminal.press("k" if number % 2 else "j")
            started, seen = time.monotonic(), b""
            while b">" not in seen.replace(b"\x1b[>", b"") and time.monotonic() < started + 5:
                seen += terminal.read(1.0)
            found.append(1000 * (time.monotonic() - started))
    return found


def slow_line(seconds: float) -> tuple[list[float], int]:
    """80x24 over a line of 1 KB/s: seconds from a key to what it draws, and the bytes that wait at the end."""
    terminal = Terminal("1000", "10", "0.5", width=80, height=24)
    answered: list[float] = []
    seen, end, pressed, due = b"", time.monotonic() + seconds, 0.0, time.monotonic() + 20
    try:
        while time.monotonic() < end:
            time.sleep(0.1)
            got = terminal.read(0, SLOW_BYTES_PER_S // 10)
            if pressed:
                seen += got
                if b">" in seen.replace(b"\x1b[>", b""):
                    answered.append(time.monotonic() - pressed)
                    pressed, due = 0.0, time.monotonic() + 2.3
            elif time.monotonic() > due:
                terminal.press("j")
                pressed, seen = time.monotonic(), b""
        left = 0
        while got := terminal.read(0.05):
            left += len(got)
    finally:
        terminal.close()
    return answered, left


def summary(name: str, values: list[float] | list[int], unit: str) -> str:
    """A line of the table."""
    if not values:
        raise SystemExit(f"{name}: nothing was measured")
    return f"{name:<64} median {statistics.median(values):8.1f} {unit}, {min(values):.1f} to {max(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few of each")
    quick = parser.parse_args().quick
    ticks, presses, seconds = (5, 6, 40.0) if quick else (30, 30, 120.0)
    print(summary("bytes a tick, 160x50, a fifth of the rows in sight changing", bytes_a_tick(8, ticks), "B "))
    print(summary("bytes a tick, nothing changing", bytes_a_tick(0, ticks), "B "))
    print(summary("from a key to the screen, ticks of 10,000 rows", answer_ms(10_000, presses), "ms"))
    answered, left = slow_line(seconds)
    print(summary("the same at 80x24 over a line of 1,000 B/s, two ticks a second", [1000 * a for a in answered], "ms"))
    print(f"bytes that waited there in the end: {left}")


if __name__ == "__main__":
    main()
