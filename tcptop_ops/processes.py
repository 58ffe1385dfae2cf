"""Socket -> process: who holds it, and that process's name.

The descriptor iterator tells who holds a socket now; the sock_ops program who connected, listened or closed. Kernel
threads own nothing: what a kworker sends, somebody else asked for.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from tcptop_ops.owners import Owners
from tcptop_ops.snapshot import EVENTS, OWNER, Records, distinct

PF_KTHREAD = 0x00200000  # include/linux/sched.h
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process: what ``psutil`` tells of it."""

    pid: int
    name: str
    user: str
    cmdline: tuple[str, ...]


def scan_descriptors() -> Records:
    """All descriptors of sockets that /proc shows this user: OWNER rows without cookies, where there is no iterator.

    Costs a system call a descriptor: five times the iterator.
    """
    found: list[tuple[int, int, int, int, bytes]] = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                comm, stat = stat_of(int(entry.name))
                start_ns = int(stat[19]) * TICK_NS
                found += [(inode, int(entry.name), start_ns, fd, comm) for inode, fd in _sockets_of(entry.path)]
    rows = np.zeros(len(found), OWNER)
    for at, name in enumerate(("inode", "pid", "start_ns", "fd", "comm")):
        rows[name] = [row[at] for row in found]
    return rows


def stat_of(pid: int) -> tuple[bytes, list[bytes]]:
    """The name of a process, and the fields of /proc/PID/stat behind it: state is the first. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        before, _, after = file.read().rpartition(b")")
    return before.partition(b"(")[2], after.split()


def _sockets_of(process: str) -> Iterator[tuple[int, int]]:
    """Inode and number of each descriptor that is a socket."""
    for entry in os.scandir(process + "/fd"):
        with suppress(OSError):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                yield int(target[8:-1]), int(entry.name)


def is_kernel_thread(pid: int, comm: bytes) -> bool:
    """By the task's flags (proc(5), stat field 9); of one that is gone, by its name."""
    try:
        return bool(int(stat_of(pid)[1][6]) & PF_KTHREAD)
    except OSError:
        return comm.startswith((b"kworker/", b"ksoftirqd/", b"kthread"))


def full_name(pid: int, start_ns: int) -> bytes:
    """The name of the process that started then, not cut at 15 characters; empty where it is gone or hidden.

    ``start_ns``: CLOCK_BOOTTIME; /proc tells it in ticks. A process that has its number now is another one.
    """
    try:
        if int(stat_of(pid)[1][19]) != start_ns // TICK_NS:
            return b""
        return psutil.Process(pid).name().encode("utf-8", "surrogateescape")
    except (OSError, psutil.Error):
        return b""


def polled_owners() -> Callable[[Records], Records]:
    """OWNED rows for sockets, from a scan of /proc where one is due; for a source that has no events."""
    owners = Owners(full_name, is_kernel_thread)

    def of(sockets: Records) -> Records:
        if not owners.is_current(sockets):
            owners.learn(scan_descriptors(), sockets)
        return owners.assign(sockets, np.zeros(len(sockets), EVENTS))

    return of


def describe(pid: int) -> Process | None:
    """What there is to say about a process; None where it is gone or hidden."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Process(pid, process.name(), process.username(), tuple(process.cmdline()))
    except psutil.Error:
        return None


class Users:
    """Names of users, each looked up once."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}

    def learn(self, uids: NDArray[np.uint32]) -> dict[int, str]:
        """Names for these uids too: all that are known."""
        for uid in distinct(uids).tolist():
            if uid not in self.names:
                self.names[uid] = user_name(uid)
        return self.names


def user_name(uid: int) -> str:
    """A user's name; empty where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""
