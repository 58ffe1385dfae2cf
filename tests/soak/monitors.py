"""The monitor as a user runs it, with --json or under a terminal, and the memory that a process takes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.soak.judge import Sample, Tick, tick_of
from tests.soak.plan import LISTED, PATIENCE_S, Plan
from tests.support.lab import Lab
from tests.support.leftovers import wait_until


class Monitor(Protocol):
    """A monitor at work."""

    pid: int
    ended: threading.Event

    def ready(self) -> bool:
        """Return whether it shows something."""
        ...

    def progress(self) -> str:
        """Return a few words for the line of the minute."""
        ...

    def end(self) -> list[str]:
        """End it as a user does; return what was wrong with that."""
        ...

    def close(self) -> None:
        """Kill it, if it was not ended."""
        ...


COMMAND = (sys.executable, "-m", "tcptop_ops")


class JsonMonitor:
    """``--json``; its lines are taken in by a thread. ``rows``: the connections of the last one."""

    def __init__(self, lab: Lab, cgroup: Path, plan: Plan) -> None:
        """Start it for this cgroup."""
        words = ("--json", "-d", f"{plan.delay_s:g}", "--cgroup", str(cgroup), "--filter", LISTED)
        self._process = lab.popen(None, [*COMMAND, *words], stderr=subprocess.PIPE)
        self.pid = self._process.pid
        self.ended = threading.Event()
        self.ticks: list[Tick] = []
        self.rows: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.endswith("\n"):  # the end cut it
                break
            said = json.loads(line)
            self.rows = said["connections"]
            self.ticks.append(tick_of(said))
        self.ended.set()

    def ready(self) -> bool:
        """Return whether it shows something."""
        return bool(self.ticks)

    def progress(self) -> str:
        """Return a few words for the line of the minute."""
        ticks = list(self.ticks)
        opened, closed = sum(t.opened for t in ticks), sum(t.closed for t in ticks)
        return f"tick {ticks[-1].number} open {ticks[-1].connections} opened {opened} closed {closed}"

    def wait_tick(self, wanted: Callable[[Tick], bool], what: str) -> None:
        """Wait until a tick that is still to come is as wanted. Raises TimeoutError."""
        seen = len(self.ticks)
        wait_until(lambda: self.ended.is_set() or any(map(wanted, self.ticks[seen:])), PATIENCE_S, what)

    def end(self) -> list[str]:
        """End it as a user does; return what was wrong with that."""
        self._process.terminate()  # not SIGINT: a shell's background job ignores that one, and so do its children
        try:
            status = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return [f"did not end within {PATIENCE_S:g} s of SIGTERM"]
        self._reader.join()
        assert self._process.stderr
        complaint = self._process.stderr.read().strip()
        return [f"exit status {status}, {complaint=}"] if status or complaint else []

    def close(self) -> None:
        """Kill it, and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()


class ScreenMonitor:
    """The screen, on a terminal of its own."""

    def __init__(self, cgroup: Path, plan: Plan) -> None:
        """Start it for this cgroup, in a session of its own."""
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        words = ("-d", f"{plan.delay_s:g}", "--cgroup", str(cgroup))
        # The terminal's session: it hangs up when we end, however we end.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color"},
        )
        os.close(theirs)
        self.pid = self._process.pid
        self.ended = threading.Event()
        self.drawn = self._told = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                got = os.read(self._terminal, 1 << 16)
            except OSError:  # EIO: nobody has the other side any more
                break
            if not got:
                break
            self.drawn += len(got)
        self.ended.set()

    def ready(self) -> bool:
        """Return whether it shows something."""
        return self.drawn > 4_000

    def progress(self) -> str:
        """Return a few words for the line of the minute."""
        last, self._told = self._told, self.drawn
        return f"drawn {self._told - last} bytes" + ("" if self._told > last else ": IT STANDS STILL")

    def end(self) -> list[str]:
        """End it as a user does; return what was wrong with that."""
        still = [] if self.drawn > self._told else ["the screen stood still"]
        with contextlib.suppress(OSError):  # it has ended already
            os.write(self._terminal, b"q")
        status = self._process.wait(PATIENCE_S)
        return still + ([f"exit status {status}"] if status else [])

    def close(self) -> None:
        """Kill it, and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._terminal)


def helper_of(pid: int) -> int:
    """Return the helper's pid. Raises ValueError when there is not exactly one child."""
    [child] = psutil.Process(pid).children()
    return child.pid


def sample(pid: int, at_s: float) -> Sample:
    """Return what a process takes now. Raises OSError when it has ended."""
    process = Path(f"/proc/{pid}")
    [rss] = [line.split()[1] for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:")]
    targets = []
    for entry in os.scandir(process / "fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append((os.readlink(entry.path), os.stat(entry.path).st_dev))
    namespace_fs = os.stat("/proc/self/ns/net").st_dev  # a link names one by its file, if it has one
    namespaces = sum(device == namespace_fs or name.startswith("socket:") for name, device in targets)
    return Sample(at_s, int(rss), len(targets) - namespaces, namespaces)
