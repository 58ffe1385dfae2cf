"""Socket -> process: who holds it, and that process's name.

The descriptor iterator tells who holds a socket now; the sock_ops program who connected, listened or closed. Kernel
threads own nothing: what a kworker sends, somebody else asked for.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from tcptop_ops.bpf.helper import TICK_NS, stat_of
from tcptop_ops.owners import Owners
from tcptop_ops.snapshot import EVENTS, Records, distinct

PF_KTHREAD = 0x00200000  # include/linux/sched.h


@dataclass(frozen=True)
class Process:
    """A process: what ``psutil`` tells of it."""

    pid: int
    name: str
    user: str
    cmdline: tuple[str, ...]


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


def polled_owners(scan: Callable[[], Records]) -> Callable[[Records], Records]:
    """OWNED rows for sockets, from a scan of /proc where one is due; for a source that has no events."""
    owners = Owners(full_name, is_kernel_thread)

    def of(sockets: Records) -> Records:
        if not owners.is_current(sockets):
            owners.learn(scan(), sockets)
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
