"""Where it is measured: the lab, the program at work in it, and what a process has used, as /proc tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcptop_ops.bpf import kernel_calls
from tests.bench.figures import Nonsense
from tests.support.lab import Lab, Traffic
from tests.support.leftovers import wait_until

ROOT = Path(__file__).parents[2]
HOLDER = Path(__file__).with_name("holder.py")
PATIENCE_S = 60.0
HELD_EACH = 16_000
"""Sockets of one holder: some systems allow no more than 20,000 descriptors."""

NO_ROWS = "port = 1"
"""A filter that nothing matches: rows as JSON would measure the writer."""


@dataclass(frozen=True)
class Setting:
    """What a benchmark is given. ``quick``: as few runs as tell whether it works."""

    quick: bool

    def of(self, full: int, quick: int) -> int:
        """How many runs."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Place:
    """A namespace and a cgroup of a benchmark's own."""

    lab: Lab
    ns: str
    cgroup: Path


@contextmanager
def place() -> Iterator[Place]:
    """Gone afterwards, with all that was started in it."""
    with Lab() as lab:
        yield Place(lab, lab.namespace("bench"), lab.cgroup("watched"))


class Held:
    """Sockets in a namespace and a cgroup: as many as ``grow`` was last told.

    ``talking``: so many pairs of each holder send a message each second; all others rest.
    """

    def __init__(self, where: Place, *, talking: int = 0) -> None:
        self._where = where
        self._words = [str(talking)] if talking else []
        self.count = 0
        self._holders: list[Traffic] = []

    def talk(self, sockets: int) -> None:
        """So many of them talk each second from now on, evenly over the holders."""
        for holder in self._holders:
            holder.tell(str(sockets // 2 // len(self._holders)))

    def grow(self, count: int) -> None:
        """So many in all, made by several processes side by side."""
        making: list[Traffic] = []
        while self.count < count:
            more = min(HELD_EACH, count - self.count)
            argv = [sys.executable, "-I", str(HOLDER), str(more), *self._words]
            making.append(Traffic(self._where.lab.popen(self._where.ns, argv, cgroup=self._where.cgroup)))
            self.count += more
        for each in making:
            each.expect("ready", PATIENCE_S)
        self._holders += making


def attached(path: Path) -> list[int]:
    """The ids of the sock_ops programs that are attached to this very cgroup."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return list(kernel_calls.programs_at(fd)[0])
    finally:
        os.close(fd)


def environment() -> dict[str, str]:
    """For the program: the settings of whoever runs this are not measured."""
    return os.environ | {"TCPTOP_NO_CONFIG": "1", "TERM": "xterm-256color", "LANG": "C.UTF-8"}


def command(path: Path, *options: str) -> list[str]:
    """The program, watching this cgroup."""
    return [sys.executable, "-m", "tcptop_ops", "--cgroup", str(path), *options]


class Monitor:
    """The real program at work, attached to a cgroup, no rows printed; its ticks are read as they come."""

    def __init__(self, path: Path, *options: str, root: Path = ROOT) -> None:
        self._path, self._words = path, " ".join(options)
        self._before = set(attached(path))
        argv = command(path, "--json", "-f", NO_ROWS, *options)
        self.process = subprocess.Popen(argv, cwd=root, env=environment(), stdout=subprocess.PIPE, text=True)
        self.ticks: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.ticks.append(json.loads(line))

    def programs(self) -> set[int]:
        """The ids of its programs that are attached to this very cgroup."""
        return set(attached(self._path)) - self._before

    def is_attached(self) -> bool:
        """To this very cgroup."""
        return bool(self.programs())

    def require(self) -> None:
        """Raises Nonsense where nothing is measured."""
        if self.process.poll() is not None or not self.is_attached():
            raise Nonsense(f"{self._words}: the program is not attached")

    def wait_for_tick(self) -> dict[str, Any]:
        """The next one. Raises Nonsense where it ends before that."""
        seen = len(self.ticks)
        wait_until(lambda: len(self.ticks) > seen or self.process.poll() is not None, PATIENCE_S, "a tick")
        self.require()
        return self.ticks[-1]

    def close(self) -> None:
        """End it; then it is detached."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self._reader.join(PATIENCE_S)
            assert self.process.stdout
            self.process.stdout.close()
        wait_until(lambda: not self.is_attached(), PATIENCE_S, "a detached program")


@contextmanager
def monitored(path: Path, *options: str, root: Path = ROOT) -> Iterator[Monitor]:
    """A monitor that has had its first tick. Raises Nonsense where it is not attached all the time.

    ``root``: the tree that it is of.
    """
    monitor = Monitor(path, *options, root=root)
    try:
        monitor.wait_for_tick()
        yield monitor
        monitor.require()
    finally:
        monitor.close()


def cpu_ns(pid: int) -> int:
    """Nanoseconds that all threads of a process have run (/proc/PID/task/*/schedstat), but for those that ended."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def shared_out_mb(pid: int) -> float:
    """Its memory, with its share of what several processes have (PSS), in millions of bytes."""
    [line] = [line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024 / 1e6


def resident_mb(pid: int) -> float:
    """Resident memory, in millions of bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb(pid: int) -> float:
    """The most that was resident."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def run_cpu_ms(argv: Sequence[str], output: Path) -> float:
    """Milliseconds of CPU that a command and its children took; what it prints goes to a file."""
    with ExitStack() as stack:
        file = stack.enter_context(output.open("wb"))
        process = stack.enter_context(subprocess.Popen(argv, stdout=file))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Nonsense(f"{' '.join(argv)} ended with status {process.returncode}")
    return 1000 * (used.ru_utime + used.ru_stime)
