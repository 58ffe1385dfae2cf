"""Socket -> process: who holds it, and that process's name.

The descriptor iterator tells who holds a socket now; the sock_ops program who connected, listened or closed. Kernel
threads own nothing: what a kworker sends, somebody else asked for.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from tcptop_ops.snapshot import EVENTS, OWNED, OWNER, Records, gather

PF_KTHREAD = 0x00200000  # include/linux/sched.h
COMM_LENGTH = 15


def holders(descriptors: Records, key: str) -> Records:
    """One OWNER row a socket, sorted by ``key`` (its cookie or inode): the youngest process that holds it.

    A server that forks after accept() leaves the older copy with the parent, which closes it.
    """
    order = np.lexsort((descriptors["start_ns"], descriptors[key]))
    ordered = descriptors[key][order]
    last = np.ones(len(ordered), np.bool_)
    last[:-1] = ordered[1:] != ordered[:-1]
    return gather(descriptors, order[last])


def holder_counts(descriptors: Records, key: str) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Cookies or inodes, sorted, and how many processes hold each."""
    order = np.lexsort((descriptors["pid"], descriptors[key]))
    keys, pids = descriptors[key][order], descriptors["pid"][order]
    again = np.zeros(len(keys), np.bool_)
    again[1:] = (keys[1:] == keys[:-1]) & (pids[1:] == pids[:-1])
    return np.unique(keys[~again], return_counts=True)


@dataclass(frozen=True)
class Process:
    """A process: what ``psutil`` tells of it."""

    pid: int
    name: str
    user: str
    cmdline: tuple[str, ...]


class Owners:
    """Who owns each socket. ``assign`` is called with every snapshot, ``learn`` with all descriptors now and then.

    ``key``: the field that descriptors and sockets are joined by, the cookie where the descriptors tell it.
    """

    def __init__(self, key: str = "cookie") -> None:
        self._key = key
        self._owned = np.zeros(0, OWNED)
        self._keys = np.zeros(0, "u8")
        self._unheld = np.zeros(0, "u8")
        self._names: dict[tuple[int, int], bytes] = {}
        self._kernel: dict[int, bool] = {}

    def is_current(self, sockets: Records) -> bool:
        """Whether another look at the descriptors would tell nothing new of these sockets, all of which have one.

        A process may hide its descriptors even from root: a socket that the last look did not find is not asked for
        again.
        """
        keys = sockets[self._key]
        return bool(np.isin(keys[~self._knows(keys)], self._unheld).all())

    def _knows(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not len(self._keys):
            return np.zeros(len(keys), np.bool_)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.equal(self._keys[at], keys)

    def learn(self, descriptors: Records, sockets: Records) -> None:
        """Take in all descriptors (OWNER rows), gathered for the sake of these sockets."""
        found = holders(descriptors, self._key)
        owned = np.zeros(len(found), OWNED)
        owned["pid"], owned["start_ns"], owned["certain"] = found["pid"], found["start_ns"], 1
        self._keys, owned["holders"] = holder_counts(descriptors, self._key)
        owned["name"] = self._full_names(found)
        self._owned = owned
        keys = sockets[self._key]
        self._unheld = keys[~self._knows(keys)]

    def assign(self, sockets: Records, events: Records) -> Records:
        """OWNED rows for these sockets: the holder; else the task that connected, listened or closed."""
        keys = sockets[self._key]
        owned = np.zeros(len(keys), OWNED)
        known = self._knows(keys)
        if known.any():
            owned[known] = gather(self._owned, np.searchsorted(self._keys, keys[known]))
        called = ~known & (events["pid"] != 0)
        called[called] &= ~self._are_kernel_threads(events["pid"][called], events["comm"][called])
        owned["pid"][called] = events["pid"][called]
        owned["name"][called] = events["comm"][called]
        owned["certain"][called] = 1
        return owned

    def of(self, sockets: Records) -> Records:
        """OWNED rows for these sockets, from a scan of /proc where one is due; for a source that has no events."""
        held = gather(sockets, sockets["inode"] != 0)
        if not self.is_current(held):
            self.learn(scan_descriptors(), held)
        return self.assign(sockets, np.zeros(len(sockets), EVENTS))

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


def scan_descriptors() -> Records:
    """All descriptors of sockets that /proc shows this user: OWNER rows without cookies, where there is no iterator.

    Costs a system call a descriptor: five times the iterator.
    """
    found: list[tuple[int, int, int, bytes]] = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                comm = Path(entry.path, "comm").read_bytes().rstrip(b"\n")
                found += [(inode, int(entry.name), fd, comm) for inode, fd in _sockets_of(entry.path)]
    rows = np.zeros(len(found), OWNER)
    for at, name in enumerate(("inode", "pid", "fd", "comm")):
        rows[name] = [row[at] for row in found]
    return rows


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
