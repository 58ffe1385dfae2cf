"""What this host tells of processes and users: names, command lines, users, and which tasks are kernel threads."""

from __future__ import annotations

import pwd
import time

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf.proc_walk import TICK_NS, stat_of
from tcptop_ops.host.command_lines import telling
from tcptop_ops.host.owners import COMM_LENGTH
from tcptop_ops.model.arrays import distinct
from tcptop_ops.model.processes import process_keys
from tcptop_ops.model.records import Records

PF_KTHREAD = 0x00200000  # include/linux/sched.h

MOST_ARGUMENTS = 4
"""Words of a command line among which a long name is looked for: behind an interpreter and its options."""

LONGEST_LINE = 4096
"""Bytes of a command line that are read."""


def is_kernel_thread(pid: int, comm: bytes) -> bool:
    """Return whether a task is a kernel thread: by PF_KTHREAD in field 9 of /proc/PID/stat (proc_pid_stat(5)).

    Of one that is gone, its name decides.
    """
    try:
        return bool(int(stat_of(pid)[1][6]) & PF_KTHREAD)
    except OSError:
        return comm.startswith((b"kworker/", b"ksoftirqd/", b"kthread"))


def command_line(pid: int, start_ns: int, comm: bytes) -> bytes:
    """Return the command line of a process as /proc/PID/cmdline has it; empty where it is gone or hidden.

    ``start_ns``: when it started, CLOCK_BOOTTIME. A process that started at another time only has the same number; they
    are compared in clock ticks, as field 22 of /proc/PID/stat has it. 0: not known, then the name has to be ``comm``.
    """
    try:
        name, stat = stat_of(pid)
        if int(stat[19]) != start_ns // TICK_NS if start_ns else name != comm[:COMM_LENGTH]:
            return b""
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(LONGEST_LINE)
    except OSError:
        return b""


def full_name(pid: int, start_ns: int, comm: bytes) -> bytes:
    """Return the name of a process, not cut at 15 bytes as ``comm`` is; empty where it is gone or hidden.

    The kernel's name of a process is the beginning of a file's: that of the program, or of a script behind the
    interpreter. For ``start_ns`` see ``command_line``.
    """
    words = command_line(pid, start_ns, comm).split(b"\0")
    if not words[0]:
        return b""
    names = [word.rpartition(b"/")[2] for word in words[:MOST_ARGUMENTS]]
    return next((name for name in names if name.startswith(comm)), comm)


class Commands:
    """What the processes run that own sockets, by ``process_keys``. Each is looked up once."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[int, tuple[bytes, str, float]] = {}  # name, command, when it was last wanted
        self._told: dict[int, str] = {}
        self._seen: list[Records] = []

    def learn(self, *owned: Records) -> dict[int, str]:
        """Return what the processes of these OWNED rows run; that of others may be among them, for rows that closed.

        Rows that are the arrays of the last call are not looked at again. A dict that was returned is not changed.
        """
        new = [rows for rows in owned if len(rows) and not any(rows is seen for seen in self._seen)]
        self._seen = list(owned)
        changed = [self._look(rows) for rows in new]
        if any(changed):
            self._told = {key: command for key, (_, command, _) in self._known.items() if command}
        return self._told

    def _look(self, owned: Records) -> bool:
        """Return whether there was something new to see."""
        now = time.monotonic()
        keys, at = np.unique(process_keys(owned), return_index=True)
        names = owned["name"][at].tolist()
        grown = False
        for key, name, row in zip(keys.tolist(), names, at.tolist(), strict=True):
            known = self._known.get(key)
            if not key:
                continue
            if known is None or known[0] != name:  # the name is another where it has executed another program
                line = command_line(int(owned["pid"][row]), int(owned["start_ns"][row]), name)
                known = (name, telling(line) or (known[1] if known else ""), now)
                grown = True
            self._known[key] = (*known[:2], now)
        return self._forget(now) or grown

    def _forget(self, now: float) -> bool:
        """Forget processes that nobody asked about for a while; return whether there were any."""
        old = [key for key, (_, _, wanted) in self._known.items() if now - wanted > KEPT_S]
        if len(old) < len(self._known) // 2 + 16:
            return False
        for key in old:
            del self._known[key]
        return True


KEPT_S = 90.0
"""How long a command is kept that no live row has: longer than a row that closed is listed."""


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
