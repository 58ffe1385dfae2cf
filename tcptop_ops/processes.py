"""Socket -> process: who holds it, and that process's name.

The descriptor iterator tells who holds a socket now; the sock_ops program who connected, listened or closed. Kernel
threads own nothing: what a kworker sends, somebody else asked for.
"""

from __future__ import annotations

import pwd
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from tcptop_ops.snapshot import OWNED, Records

PF_KTHREAD = 0x00200000  # include/linux/sched.h
COMM_LENGTH = 15


def holders(descriptors: Records) -> Records:
    """One OWNER row a socket, sorted by cookie, of all its descriptors (OWNER): the youngest process that holds it.

    A server that forks after accept() leaves the older copy with the parent, which closes it.
    """
    order = np.lexsort((descriptors["start_ns"], descriptors["cookie"]))
    ordered = descriptors[order]
    last = np.ones(len(ordered), np.bool_)
    last[:-1] = ordered["cookie"][1:] != ordered["cookie"][:-1]
    return ordered[last]


def holder_counts(descriptors: Records) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Cookies, sorted, and how many processes hold each."""
    pairs = np.unique(descriptors[["cookie", "pid"]])
    return np.unique(pairs["cookie"], return_counts=True)


@dataclass(frozen=True)
class Process:
    """A process: what ``psutil`` tells of it."""

    pid: int
    name: str
    user: str
    cmdline: tuple[str, ...]


class Owners:
    """Who owns each socket. ``assign`` is called with every snapshot, ``learn`` with each pass of the iterator."""

    def __init__(self) -> None:
        self._owned = np.zeros(0, OWNED)
        self._cookies = np.zeros(0, "u8")
        self._unheld = np.zeros(0, "u8")
        self._names: dict[tuple[int, int], bytes] = {}
        self._kernel: dict[int, bool] = {}

    def is_current(self, cookies: NDArray[np.uint64]) -> bool:
        """Whether another pass of the iterator would tell nothing new of these sockets, all of which have a descriptor.

        A process may hide its descriptors even from root: a socket that the last pass did not find is not asked for
        again.
        """
        unknown = cookies[~self.knows(cookies)]
        return bool(np.isin(unknown, self._unheld).all())

    def knows(self, cookies: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of these sockets have a holder as far as the last pass told."""
        if not len(self._cookies):
            return np.zeros(len(cookies), np.bool_)
        at = np.minimum(np.searchsorted(self._cookies, cookies), len(self._cookies) - 1)
        return np.equal(self._cookies[at], cookies)

    def learn(self, descriptors: Records, cookies: NDArray[np.uint64]) -> None:
        """Take in a whole pass of the descriptor iterator (OWNER rows), made for the sake of these sockets."""
        found = holders(descriptors)
        held, counts = holder_counts(descriptors)
        owned = np.zeros(len(found), OWNED)
        owned["pid"], owned["start_ns"], owned["certain"] = found["pid"], found["start_ns"], 1
        owned["holders"] = counts
        owned["name"] = self._full_names(found)
        self._owned, self._cookies = owned, held
        self._unheld = cookies[~self.knows(cookies)]

    def assign(self, cookies: NDArray[np.uint64], events: Records) -> Records:
        """OWNED rows for these sockets: the holder; else the task that connected, listened or closed."""
        owned = np.zeros(len(cookies), OWNED)
        known = self.knows(cookies)
        if known.any():
            owned[known] = self._owned[np.searchsorted(self._cookies, cookies[known])]
        called = ~known & (events["pid"] != 0)
        called[called] &= ~self._are_kernel_threads(events["pid"][called], events["comm"][called])
        owned["pid"][called] = events["pid"][called]
        owned["name"][called] = events["comm"][called]
        owned["certain"][called] = 1
        return owned

    def _full_names(self, found: Records) -> NDArray[np.bytes_]:
        """The kernel's comm; the whole name where that was cut."""
        names = found["comm"].astype("S32")
        cut = np.flatnonzero(np.char.str_len(found["comm"]) >= COMM_LENGTH)
        pairs, inverse = np.unique(found[["pid", "start_ns"]][cut], return_inverse=True)
        table = [self._full_name(int(pid), int(start)) for pid, start in pairs.tolist()]
        if table:
            longer = np.array(table, "S32")[inverse]
            names[cut] = np.where(longer == b"", names[cut], longer)
        return names

    def _full_name(self, pid: int, start_ns: int) -> bytes:
        if (pid, start_ns) not in self._names:
            self._names[pid, start_ns] = psutil_name(pid).encode("utf-8", "surrogateescape")
        return self._names[pid, start_ns]

    def _are_kernel_threads(self, pids: NDArray[np.uint32], comms: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        unique, at, inverse = np.unique(pids, return_index=True, return_inverse=True)
        table = [self._is_kernel_thread(int(pid), bytes(comms[i])) for pid, i in zip(unique, at, strict=True)]
        return np.array(table, np.bool_)[inverse] if table else np.zeros(0, np.bool_)

    def _is_kernel_thread(self, pid: int, comm: bytes) -> bool:
        if pid not in self._kernel:
            self._kernel[pid] = is_kernel_thread(pid, comm)
        return self._kernel[pid]


def is_kernel_thread(pid: int, comm: bytes) -> bool:
    """By the task's flags (proc(5), stat field 9); of one that is gone, by its name."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return comm.startswith((b"kworker/", b"ksoftirqd/", b"kthread"))
    return bool(int(fields[6]) & PF_KTHREAD)


def psutil_name(pid: int) -> str:
    """The name of a process, not cut at 15 characters; empty where it is gone or hidden."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


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
        for uid in np.unique(uids).tolist():
            if uid not in self.names:
                self.names[uid] = user_name(uid)
        return self.names


def user_name(uid: int) -> str:
    """A user's name; empty where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""
