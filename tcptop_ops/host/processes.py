"""What this host tells of processes and users: names, users, and which tasks are kernel threads."""

from __future__ import annotations

import pwd
from collections.abc import Callable

import numpy as np
import psutil
from numpy.typing import NDArray

from tcptop_ops.bpf.helper import TICK_NS, stat_of
from tcptop_ops.host.owners import Owners
from tcptop_ops.model.arrays import distinct
from tcptop_ops.model.records import EVENTS, Records

PF_KTHREAD = 0x00200000  # include/linux/sched.h


def is_kernel_thread(pid: int, comm: bytes) -> bool:
    """Return whether a task is a kernel thread: by PF_KTHREAD in field 9 of /proc/PID/stat (proc_pid_stat(5)).

    Of one that is gone, its name decides.
    """
    try:
        return bool(int(stat_of(pid)[1][6]) & PF_KTHREAD)
    except OSError:
        return comm.startswith((b"kworker/", b"ksoftirqd/", b"kthread"))


def full_name(pid: int, start_ns: int) -> bytes:
    """Return the name of a process, not cut at 15 bytes; empty where it is gone or hidden.

    ``start_ns``: when it started, CLOCK_BOOTTIME. A process that started at another time only has the same number; they
    are compared in clock ticks, as field 22 of /proc/PID/stat has it.
    """
    try:
        if int(stat_of(pid)[1][19]) != start_ns // TICK_NS:
            return b""
        return psutil.Process(pid).name().encode("utf-8", "surrogateescape")
    except (OSError, psutil.Error):
        return b""


def polled_owners(scan: Callable[[], Records]) -> Callable[[Records], Records]:
    """Return a function from SOCKET to OWNED rows, for a source without events.

    It calls ``scan``, which returns OWNER rows, when a socket appeared whose owner is not known.
    """
    owners = Owners(full_name, is_kernel_thread)

    def of(sockets: Records) -> Records:
        if not owners.is_current(sockets):
            owners.learn(scan(), sockets)
        return owners.assign(sockets, np.zeros(len(sockets), EVENTS))

    return of


class Users:
    """Names of users by uid, each looked up once."""

    def __init__(self) -> None:
        """Begin with no names."""
        self.names: dict[int, str] = {}

    def learn(self, uids: NDArray[np.uint32]) -> dict[int, str]:
        """Look up the uids that are new, and return the names of all known so far; "" for a user without one."""
        for uid in distinct(uids).tolist():
            if uid not in self.names:
                self.names[uid] = user_name(uid)
        return self.names


def user_name(uid: int) -> str:
    """Return a user's name from the user database; empty where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""
