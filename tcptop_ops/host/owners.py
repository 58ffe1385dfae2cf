"""The owner of each socket, from descriptors and events. Pure, but for the callables that look up names.

The first that is known: the process that holds a descriptor of the socket now; the task that called connect() or
listen(), or that closed an accepted socket; for a connection that is not accepted yet, the process that listens. A
kernel thread is never named as the caller: a kworker acts on behalf of somebody else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import bound_to, find_sorted, gather
from tcptop_ops.model.enums import OwnerKind, State
from tcptop_ops.model.records import OWNED, Records

COMM_LENGTH = 15
"""Longest name that the kernel keeps of a task: TASK_COMM_LEN, less the zero byte."""

FullName = Callable[[int, int], bytes]
"""(pid, start in ns of CLOCK_BOOTTIME) -> the whole name of the process that started then; empty if it is gone."""

IsKernelThread = Callable[[int, bytes], bool]
"""(pid, comm) -> whether that task is a kernel thread."""


class Held:
    """The owner of each socket that has a descriptor, by cookie or by inode.

    Of several processes it is the youngest: a server that forks after accept() leaves a copy with the parent.
    """

    def __init__(self, descriptors: Records, key: str) -> None:
        """Index the descriptors (OWNER) by ``key``: "cookie" or "inode"."""
        order = np.lexsort((descriptors["start_ns"], descriptors["pid"], descriptors[key]))
        keys, pids = descriptors[key][order], descriptors["pid"][order]
        new_key, new_pid = np.ones(len(keys), np.bool_), np.ones(len(keys), np.bool_)
        new_key[1:] = keys[1:] != keys[:-1]
        new_pid[1:] = new_key[1:] | (pids[1:] != pids[:-1])
        youngest = order[np.lexsort((pids, descriptors["start_ns"][order], keys))]
        last = np.ones(len(keys), np.bool_)
        last[:-1] = new_key[1:]
        self.descriptors = gather(descriptors, youngest[last])
        self.keys: NDArray[np.uint64] = keys[new_key]
        self.owned = np.zeros(len(self.keys), OWNED)
        self.owned["pid"], self.owned["start_ns"] = self.descriptors["pid"], self.descriptors["start_ns"]
        self.owned["name"], self.owned["how"] = self.descriptors["comm"], OwnerKind.HOLDER
        self.owned["holders"] = np.bincount(np.cumsum(new_key)[new_pid] - 1, minlength=len(self.keys))

    def knows(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which of these keys have an owner."""
        return find_sorted(self.keys, keys)[1]

    def of(self, keys: NDArray[np.uint64]) -> tuple[Records, NDArray[np.bool_]]:
        """Return the OWNED rows of those keys that have an owner, and which these are (as ``knows``)."""
        at, known = find_sorted(self.keys, keys)
        return gather(self.owned, at[known]), known


class Owners:
    """Finds the owners of sockets. ``assign`` is called for every snapshot, ``learn`` when descriptors were listed."""

    def __init__(self, full_name: FullName, is_kernel_thread: IsKernelThread) -> None:
        """Begin with no descriptors. The two callables look into /proc, so their answers are remembered."""
        self._full_name = full_name
        self._is_kernel_thread = is_kernel_thread
        nothing = np.zeros(0, [("cookie", "u8"), ("inode", "u8"), ("start_ns", "u8"), ("pid", "u4"), ("comm", "S16")])
        self._by_cookie, self._by_inode = Held(nothing, "cookie"), Held(nothing, "inode")
        self._missed = self._unheld = np.zeros(0, "u8")
        self._decided: list[Records] = []
        self._assigned = np.zeros(0, OWNED)
        self._names: dict[tuple[int, int], bytes] = {}
        self._kernel: dict[tuple[int, bytes], bool] = {}
        self._listeners = (np.zeros(0, "u8"), np.zeros(0, OWNED))

    def is_current(self, sockets: Records) -> bool:
        """Return whether listing the descriptors again would find no further owners of these sockets.

        A process may hide its descriptors even from root, so a socket that the last two listings did not have is not
        looked for again.
        """
        return bool(np.isin(self._unknown(sockets), self._unheld).all())

    def _unknown(self, sockets: Records) -> NDArray[np.uint64]:
        """Return the cookies of the sockets that have an inode, but no known process that holds them."""
        cookies, inodes = sockets["cookie"], sockets["inode"]
        rest = (inodes != 0) & ~self._by_cookie.knows(cookies)
        rest[rest] = ~self._by_inode.knows(inodes[rest])
        unknown: NDArray[np.uint64] = cookies[rest]
        return unknown

    def learn(self, descriptors: Records, sockets: Records) -> None:
        """Replace the known descriptors by these (OWNER rows, all of them), listed on behalf of these sockets.

        Rows without a cookie are joined by inode: those from /proc, and of an MPTCP socket, whose subflows have its
        inode.
        """
        self._decided = []
        with_cookie = descriptors["cookie"] != 0
        self._by_cookie = Held(gather(descriptors, with_cookie), "cookie")
        self._by_inode = Held(gather(descriptors, ~with_cookie), "inode")
        used: dict[tuple[int, int], bytes] = {}
        for held in (self._by_cookie, self._by_inode):
            self._lengthen_names(held, used)
        self._names = used
        unknown = self._unknown(sockets)
        self._unheld = unknown[np.isin(unknown, self._missed)]
        self._missed = unknown

    def _lengthen_names(self, held: Held, used: dict[tuple[int, int], bytes]) -> None:
        """Replace names of COMM_LENGTH bytes, which may be cut, by whole ones; add those looked up to ``used``."""
        cut = np.flatnonzero(np.char.str_len(held.descriptors["comm"]) >= COMM_LENGTH)
        if not len(cut):
            return
        pairs, inverse = np.unique(held.owned[["pid", "start_ns"]][cut], return_inverse=True)
        for pid, start in pairs.tolist():
            known = self._names.get((pid, start))
            used[pid, start] = self._full_name(pid, start) if known is None else known
        longer = np.array([used[pair] for pair in pairs.tolist()], "S32")[inverse]
        held.owned["name"][cut] = np.where(longer == b"", held.owned["name"][cut], longer)

    def assign(self, sockets: Records, events: Records) -> Records:
        """Return the OWNED rows of these live sockets, the same array as before if nothing that decides has changed."""
        decides = [sockets["cookie"], sockets["inode"], sockets["state"], events["pid"], events["owner"]]
        same = len(self._decided) == len(decides) and all(map(np.array_equal, self._decided, decides))
        if not same:
            self._assigned = self._assign_live(sockets, events)
            self._decided = [values.copy() for values in decides]
        return self._assigned

    def _assign_live(self, sockets: Records, events: Records) -> Records:
        owned = self._assign(sockets, events)
        listens = (sockets["state"] == State.LISTEN) & (owned["pid"] != 0)
        keys = bound_to(sockets)[listens]
        order = np.argsort(keys, kind="stable")
        self._listeners = keys[order], owned[listens][order]
        self._assign_to_listeners(sockets, owned)
        return owned

    def assign_closed(self, sockets: Records, events: Records) -> Records:
        """Return the OWNED rows of sockets that closed, by the descriptors and listeners known from before."""
        owned = self._assign(sockets, events)
        self._assign_to_listeners(sockets, owned)
        return owned

    def _assign(self, sockets: Records, events: Records) -> Records:
        cookies, inodes = sockets["cookie"], sockets["inode"]
        owned = np.zeros(len(cookies), OWNED)
        owners, held = self._by_cookie.of(cookies)
        owned[held] = owners
        by_inode = ~held & (inodes != 0)
        owners, by_inode[by_inode] = self._by_inode.of(inodes[by_inode])
        owned[by_inode] = owners
        called = (owned["pid"] == 0) & (events["pid"] != 0)
        called[called] &= ~self._are_kernel_threads(events["pid"][called], events["comm"][called])
        for target, source in (("pid", "pid"), ("name", "comm"), ("how", "owner")):
            owned[target][called] = events[source][called]
        return owned

    def _assign_to_listeners(self, sockets: Records, owned: Records) -> None:
        keys, listeners = self._listeners
        waiting = (owned["pid"] == 0) & (sockets["inode"] == 0) & (sockets["state"] != State.SYN_SENT)
        if not len(keys) or not waiting.any():
            return
        at, found = find_sorted(keys, bound_to(sockets)[waiting])
        rows = np.flatnonzero(waiting)[found]
        owned[rows] = listeners[at[found]]
        owned["how"][rows] = OwnerKind.LISTENER

    def _are_kernel_threads(self, pids: NDArray[np.uint32], comms: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        unique, at, inverse = np.unique(pids, return_index=True, return_inverse=True)
        keys = [(int(pid), bytes(comms[i])) for pid, i in zip(unique, at, strict=True)]
        self._kernel = {key: self._kernel[key] if key in self._kernel else self._is_kernel_thread(*key) for key in keys}
        return np.array([self._kernel[key] for key in keys], np.bool_)[inverse] if keys else np.zeros(0, np.bool_)
