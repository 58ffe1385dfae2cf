"""The real program, started as a user would start it: under a terminal of the test's own, or for its JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.leftovers import wait_until

WIDTH, HEIGHT = 120, 40
PATIENCE_S = 20
ROOT = Path(__file__).parents[2]
PROGRAM = ("-m", "tcptop_ops")

QUIET_S = 0.12
"""More than Textual waits for what may follow an Escape (ESCDELAY)."""

LEAVES_ALTERNATE_SCREEN, SHOWS_CURSOR = b"\x1b[?1049l", b"\x1b[?25h"
Status = dict[str, str]


class Started:
    """A monitor under a pty: what it wrote is kept.

    ``before``: words that start it; ``program``: what Python is to run in its place.
    """

    def __init__(
        self,
        *options: str,
        environment: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        program: tuple[str, ...] = PROGRAM,
    ) -> None:
        self.near, far = pty.openpty()
        self.resize(WIDTH, HEIGHT)
        self.modes = termios.tcgetattr(far)
        self.far = far
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *before, sys.executable, *program, *options],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", "TCPTOP_NO_CONFIG": "1"}
            | (environment or {}),
            stdin=far,
            stdout=far,
            stderr=far,
        )
        self.written = bytearray()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The monitor's."""
        return self.process.pid

    def _read(self) -> None:
        """Never waits in read(): that would keep the terminal open after it was closed."""
        with suppress(OSError):
            while not self._over.is_set():
                if select.select([self.near], [], [], 0.05)[0]:
                    self.written += os.read(self.near, 65536)

    def resize(self, width: int, height: int) -> None:
        """The kernel tells the program (SIGWINCH)."""
        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def wait_for(self, words: str) -> None:
        """Until it wrote them, at any time."""
        wait_until(lambda: words in self.text() or self.process.poll() is not None, PATIENCE_S, f"{words!r}")
        assert words in self.text(), bytes(self.written)[-2000:]

    def wait_for_picture(self) -> None:
        """Until the table is drawn."""
        self.wait_for("s win")

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.near, keys.encode())

    def press_each(self, keys: Iterable[str]) -> None:
        """One after the other, each once the picture stands still: an Escape at once before a letter is another key."""
        for key in keys:
            self.press(key)
            self._stand_still()

    def _stand_still(self) -> None:
        before, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_S:
            if len(self.written) != before:
                before, since = len(self.written), time.monotonic()
            self._over.wait(0.01)

    def text(self) -> str:
        """All that it wrote, without what steers the terminal."""
        return re.sub(r"\x1b\[[0-9;?<>=]*[a-zA-Z]", "", self.written.decode("utf-8", "replace"))

    def close_terminal(self) -> None:
        """As a lost connection does."""
        self._over.set()
        self._reader.join()
        for fd in (self.far, self.near):
            with suppress(OSError):
                os.close(fd)

    def close(self) -> None:
        """End it, whatever it is at."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(20)
        self.close_terminal()


@contextmanager
def started(*options: str, **how: Any) -> Iterator[Started]:
    """A monitor that is gone afterwards."""
    monitor = Started(*options, **how)
    try:
        yield monitor
    finally:
        monitor.close()


def status(pid: int, thread: int | None = None) -> Status:
    """/proc/PID/status, or that of one of its threads."""
    path = Path(f"/proc/{pid}/status") if thread is None else Path(f"/proc/{pid}/task/{thread}/status")
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def threads(pid: int) -> list[int]:
    """Of a process."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def children(pid: int) -> list[int]:
    """Processes that this one started, by any of its threads."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == pid and fields[0] != b"Z":
                    found.append(int(name))
    return found


def helper_of(monitor: int) -> int:
    """The helper's pid, waited for: it was the loader before."""

    def there() -> list[int]:
        return [pid for pid in children(monitor) if status(pid)["Name"] == "tcptop-helper"]

    return int(wait_until(there, PATIENCE_S, "the helper")[0])


def alive(pid: int) -> bool:
    """Whether it still runs: a zombie does not."""
    try:
        return status(pid)["State"][0] != "Z"
    except (OSError, KeyError):
        return False


def json_ticks(*options: str, count: int = 1) -> list[dict[str, Any]]:
    """So many objects of --json."""
    argv = [sys.executable, "-m", "tcptop_ops", "--json", "-n", str(count), *options]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def limited(*words: str, limit: str, as_user: int = 0) -> subprocess.CompletedProcess[str]:
    """Two ticks of the program under a limit of prlimit(1), from its start."""
    before = ["setpriv", f"--reuid={as_user}", "--clear-groups"] if as_user else []
    argv = [*before, "prlimit", limit, sys.executable, *PROGRAM, "-d", "0.3", "-n", "2", *words]
    environment = {"TCPTOP_NO_CONFIG": "1", "PATH": os.environ["PATH"]}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def told_ticks(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The objects of --json of a program that had nothing else to say."""
    assert done.stderr == ""
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]
