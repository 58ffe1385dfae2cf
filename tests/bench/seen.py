"""The real program under a pseudo-terminal of 160x50, from its very start."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import Nonsense
from tests.bench.setting import PATIENCE_S, ROOT, attached, command, environment
from tests.support.leftovers import wait_until

WIDTH, HEIGHT = 160, 50
FULL = 30  # rows on it, at least: what is above and below them may take more lines
STEERING = re.compile(rb"\x1b\[[0-9;?<>=]*[a-zA-Z]")


class Seen:
    """A program and what it writes. ``started``: when it was started (``time.monotonic``)."""

    def __init__(self, path: Path, *options: str, root: Path = ROOT) -> None:
        self._path = path
        self.before = set(attached(path))
        self.written = b""
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", HEIGHT, WIDTH, 0, 0))
        argv = ["setsid", "--ctty", *command(path, *options)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, cwd=root, env=environment(), stdin=far, stdout=far, stderr=far)
        os.close(far)

    def until_attached(self) -> float:
        """Seconds from the start until the kernel calls the program. Raises Nonsense."""
        return self.until(lambda: bool(set(attached(self._path)) - self.before), "an attached program")

    def read(self, seconds: float) -> None:
        """What comes first within this time."""
        if select.select([self._near], [], [], seconds)[0]:
            try:
                self.written += os.read(self._near, 1 << 16)
            except OSError:  # EIO: nobody is at the other end any more
                raise Nonsense(f"the program ended: {self.text()[-300:]!r}") from None

    def read_for(self, seconds: float) -> None:
        """All that comes meanwhile; only the end of it is kept."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)
            self.written = self.written[-10_000:]

    def until(self, there: Callable[[], bool], what: str) -> float:
        """Seconds from the start until this is so. Raises Nonsense."""
        while not there():
            if time.monotonic() - self.started > PATIENCE_S:
                raise Nonsense(f"{what} did not come: {self.text()[-300:]!r}")
            self.read(0.001)
        return time.monotonic() - self.started

    def require_attached(self) -> None:
        """Raises Nonsense where nothing is measured."""
        if self.process.poll() is not None or not set(attached(self._path)) - self.before:
            raise Nonsense(f"the program is not attached: {self.text()[-300:]!r}")

    def text(self) -> bytes:
        """What it wrote, without what steers the terminal."""
        return STEERING.sub(b"", self.written)

    def shows_rows(self) -> bool:
        """Whether a whole screen of connections was drawn."""
        return self.written.count(b"ESTAB") >= FULL

    def close(self) -> None:
        """End it as its user does; then it is detached."""
        if self.process.poll() is None:
            os.write(self._near, b"q")
        end = time.monotonic() + PATIENCE_S
        try:
            while self.process.poll() is None and time.monotonic() < end:
                self.read(0.01)
        except Nonsense:  # that it ended is what is wanted here
            pass
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            os.close(self._near)
        wait_until(lambda: set(attached(self._path)) <= self.before, PATIENCE_S, "a detached program")


@contextmanager
def seen(path: Path, *options: str, root: Path = ROOT) -> Iterator[Seen]:
    """A program that is gone afterwards. ``root``: the tree that it is of."""
    screen = Seen(path, *options, root=root)
    try:
        yield screen
    finally:
        screen.close()
