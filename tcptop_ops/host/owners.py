"""The owner of each socket, from descriptors and events. Pure, but for the callables that look up names.

The first that is known: the process that holds a descriptor of the socket now (of several, see ``held``); the task that
called connect() or listen(), or that closed an accepted socket; for a connection that is not accepted yet, the process
that listens (see ``accept_queues``). A kernel thread is never named as the caller: a kworker acts on behalf of somebody
else. A connection that its process has closed, or that outlived it, is nobody's: OwnerKind.FORMER, with its name. What
has closed keeps the owner that it had.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.host.accept_queues import AcceptQueues, Queued
from tcptop_ops.host.held import NOBODY, Held, Indices, Mask
from tcptop_ops.model.arrays import find_sorted, gather, places_of, scatter
from tcptop_ops.model.enums import Direction, OwnerKind, State
from tcptop_ops.model.listeners import among
from tcptop_ops.model.records import OWNED, Records

COMM_LENGTH = 15
"""Longest name that the kernel keeps of a task: TASK_COMM_LEN, less the zero byte."""

QUEUED = 0xFFFFFFFF
"""In place of a descriptor's number (``fields.OWNER``): the connection waits in the queue of a listener."""

FullName = Callable[[int, int, bytes], bytes]
"""(pid, start in ns of CLOCK_BOOTTIME, comm) -> the whole name of the process that started then, or that has this comm
where the start is 0; empty if it is gone."""

IsKernelThread = Callable[[int, bytes], bool]
"""(pid, comm) -> whether that task is a kernel thread."""


def _states(*states: State) -> Mask:
    mask = np.zeros(16, np.bool_)
    mask[list(states)] = True
    return mask


_CLOSED_BY_US = _states(State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)
_NOT_ACCEPTED = _states(State.ESTABLISHED, State.CLOSE_WAIT, State.SYN_RECV)


_NONE = np.zeros(0, np.intp)


class Memory:
    """What was assigned at the last two ticks that differed, by cookie."""

    def __init__(self) -> None:
        """Begin with two ticks at which no socket had an owner."""
        nothing = (np.zeros(0, "u8"), np.zeros(0, OWNED))
        self._ticks = [nothing, nothing]

    @property
    def cookies(self) -> NDArray[np.uint64]:
        """The cookies of ``newest``."""
        return self._ticks[0][0]

    @property
    def newest(self) -> Records:
        """The OWNED rows that were kept last."""
        return self._ticks[0][1]

    def keep(self, cookies: NDArray[np.uint64], owned: Records) -> None:
        """Remember these OWNED rows, and forget those of the last but one."""
        self._ticks = [(cookies, owned), self._ticks[0]]

    def of(self, cookies: NDArray[np.uint64]) -> Records:
        """Return the OWNED rows of a few sockets: zeros of those that are not known."""
        found = np.zeros(len(cookies), OWNED)
        for known, owned in self._ticks:
            missing = np.flatnonzero(found["pid"] == 0)
            if len(missing):
                order = missing[np.argsort(cookies[missing])]
                at, there = find_sorted(cookies[order], known)
                rows = np.flatnonzero(there)
                scatter(found, order[at[rows]], gather(owned, rows))
        return found


class Owners:
    """Finds the owners of sockets. ``assign`` is called for every snapshot, ``learn`` when descriptors were listed."""

    def __init__(self, full_name: FullName, is_kernel_thread: IsKernelThread, follows_queues: bool = False) -> None:
        """Begin with no descriptors. The two callables look into /proc, so their answers are remembered.

        ``follows_queues``: descriptors are listed with those connections that wait at a listener (QUEUED).
        """
        self._follows_queues = follows_queues
        self._full_name = full_name
        self._is_kernel_thread = is_kernel_thread
        self._by_cookie, self._by_inode = NOBODY, NOBODY
        self._queued = Queued()
        self._missed = self._unheld = np.zeros(0, "u8")
        self._decided: list[Records] = []
        self._assigned = np.zeros(0, OWNED)
        self._is_special = np.zeros(0, np.bool_)
        self._changed: Indices | None = None
        self._memory = Memory()
        self._names: dict[tuple[int, int, bytes], bytes] = {}
        self._caller_names: dict[tuple[int, int, bytes], bytes] = {}
        self._kernel: dict[tuple[int, bytes], bool] = {}
        self._queues = AcceptQueues()

    @property
    def unheld(self) -> NDArray[np.uint64]:
        """The cookies of the sockets that have an inode, and that no process was found to hold twice in a row."""
        return self._unheld

    def is_current(self, sockets: Records) -> bool:
        """Return whether listing the descriptors again would find no further owners of these sockets.

        A process may hide its descriptors even from root, so a socket that the last two listings did not have is not
        looked for again.
        """
        return bool(np.isin(self.unknown(sockets)["cookie"], self._unheld).all()) and not self._asks_for_queues

    @property
    def _asks_for_queues(self) -> bool:
        return self._follows_queues and self._queues.are_unclear

    def unknown(self, sockets: Records) -> Records:
        """Return those of the sockets that have an inode, but no known process that holds them."""
        cookies, inodes = sockets["cookie"], sockets["inode"]
        rest = (inodes != 0) & ~self._by_cookie.knows(cookies)
        rest[rest] = ~self._by_inode.knows(inodes[rest])
        return gather(sockets, rest)

    def learn(self, descriptors: Records, sockets: Records) -> None:
        """Replace the known descriptors by these (OWNER rows, all of them), listed on behalf of these sockets.

        Rows without a cookie are joined by inode: those from /proc, and of an MPTCP socket, whose subflows have its
        inode. Those with QUEUED in place of a number tell where connections wait.
        """
        self._decided = []
        queued = descriptors["fd"] == QUEUED
        self._queued = Queued(gather(descriptors, queued))
        self._queues.looked()
        with_cookie = descriptors["cookie"] != 0
        self._by_cookie = Held(gather(descriptors, with_cookie & ~queued), "cookie")
        self._by_inode = Held(gather(descriptors, ~with_cookie), "inode")
        used: dict[tuple[int, int, bytes], bytes] = {}
        for held in (self._by_cookie, self._by_inode):
            self._lengthen(held.owned, self._names, used)
        self._names = used
        unknown = self.unknown(sockets)["cookie"]
        self._unheld = unknown[np.isin(unknown, self._missed)]
        self._missed = unknown

    def _lengthen(
        self, owned: Records, known: dict[tuple[int, int, bytes], bytes], used: dict[tuple[int, int, bytes], bytes]
    ) -> None:
        """Replace names of COMM_LENGTH bytes, which may be cut, by whole ones; add those looked up to ``used``."""
        cut = np.flatnonzero(np.char.str_len(owned["name"]) == COMM_LENGTH)
        if not len(cut):
            return
        processes, inverse = np.unique(owned[["pid", "start_ns", "name"]][cut], return_inverse=True)
        asked = [(int(pid), int(start), bytes(name)) for pid, start, name in processes.tolist()]
        for process in asked:
            used[process] = known[process] if process in known else self._full_name(*process)
        longer = np.array([used[process] or process[2] for process in asked], "S32")
        owned["name"][cut] = longer[inverse.reshape(-1)]

    @property
    def changed(self) -> Indices | None:
        """Indices of the rows whose owner ``assign`` told otherwise than at the last call; None: any may be."""
        return self._changed

    def assign(self, sockets: Records, events: Records, changed: Indices | None = None) -> Records:
        """Return the OWNED rows of these live sockets, the same array as before if nothing that decides has changed.

        ``changed``: indices of the rows that may be others than at the last call, in ``sockets`` or ``events``; None:
        all may be.
        """
        decides = [sockets["cookie"], sockets["inode"], sockets["state"], events["pid"], events["direction"]]
        is_known = len(self._decided) == len(decides) and len(self._decided[0]) > 0 and not self._asks_for_queues
        if not is_known or changed is None:
            if not is_known or not all(map(np.array_equal, self._decided, decides)):
                self._assign_all(sockets, events)
                self._decided = [values.copy() for values in decides]
            else:
                self._changed = _NONE
            return self._assigned
        before = None
        if not np.array_equal(decides[0], self._decided[0]):
            before = places_of(decides[0], self._decided[0])
            self._decided = [values[before] for values in self._decided]
            self._is_special = self._is_special[before]
        rows = np.zeros(len(sockets), np.bool_)
        rows[changed] = True
        if before is not None:
            rows |= before < 0
        asked = np.flatnonzero(rows)
        differs = np.zeros(len(asked), np.bool_)
        for known, values in zip(self._decided, decides, strict=True):
            now = values[asked]
            differs |= known[asked] != now
            known[asked] = now
        if before is None and not differs.any():
            self._changed = _NONE
            return self._assigned
        rows[asked[~differs]] = False
        if before is not None:
            rows |= before < 0
        self._assign_some(sockets, events, np.flatnonzero(rows | self._is_special), before)
        return self._assigned

    def _assign_all(self, sockets: Records, events: Records) -> None:
        held, told, self._is_special = self._assign_live(sockets, events, is_all=True)
        is_same = np.array_equal(self._memory.cookies, sockets["cookie"])
        self._changed = np.flatnonzero(_differ(told, self._assigned)) if is_same else None
        self._memory.keep(sockets["cookie"].copy(), held)
        self._assigned = told

    def _assign_some(self, sockets: Records, events: Records, rows: Indices, before: Indices | None) -> None:
        """Work out these rows, among them all whose owner others decide about (``_is_special``); the rest have theirs.

        ``before``: where each row was at the last call; None: where it is now.
        """
        held, told = (part.copy() if before is None else gather(part, before) for part in self._now)
        their_held, theirs, special = self._assign_live(gather(sockets, rows), gather(events, rows), is_all=False)
        other = _differ(gather(told, rows), theirs)
        if before is not None:
            other |= before[rows] < 0
        scatter(held, rows, their_held)
        scatter(told, rows, theirs)
        self._is_special = np.zeros(len(sockets), np.bool_)
        self._is_special[rows[special]] = True
        self._changed = rows[other]
        self._memory.keep(sockets["cookie"].copy(), held)
        self._assigned = told

    @property
    def _now(self) -> tuple[Records, Records]:
        """What was found at the last call: with those that nobody holds any more, and as it was told."""
        return self._memory.newest, self._assigned

    def _assign_live(self, sockets: Records, events: Records, *, is_all: bool) -> tuple[Records, Records, Mask]:
        """Return the OWNED rows as long as anybody held them, as they are told, and whose owner others decide about.

        Those are listeners, for whom others wait; connections that wait to be accepted, or of which only a listener
        tells that they were; and orphans. All of them are among these rows. ``is_all``: these are all rows.
        """
        special: Mask = sockets["state"] == State.LISTEN
        owned = self._held_or_called(sockets, events, is_all=is_all)
        doors = np.flatnonzero(special)
        special |= (owned["holders"] > 1) & (events["direction"] == Direction.UNKNOWN)
        self._queues.open(gather(sockets, doors), gather(owned, doors))
        waiting = np.flatnonzero(
            (owned["pid"] == 0)
            & (sockets["inode"] == 0)
            & _NOT_ACCEPTED[sockets["state"] & 15]
            & (events["direction"] != Direction.OUT)
        )
        special[waiting] = True
        if len(waiting):
            rows = gather(sockets, waiting)
            scatter(owned, waiting, self._queues.owners(rows, self._queued, self._memory.of(rows["cookie"])))
        orphans = np.flatnonzero((sockets["inode"] == 0) & _CLOSED_BY_US[sockets["state"] & 15])
        special[orphans] = True
        if not len(orphans):
            return owned, owned, special
        scatter(owned, orphans, self._as_before(gather(owned, orphans), sockets["cookie"][orphans]))
        return owned, _disowned(owned, orphans), special

    def _as_before(self, owned: Records, cookies: NDArray[np.uint64]) -> Records:
        """Return what a few sockets had while they were open, where that is known better than ``owned`` is now."""
        before = self._memory.of(cookies)
        better = np.isin(before["how"], (OwnerKind.HOLDER, OwnerKind.CALLER)) | (owned["pid"] == 0)
        return np.where(better & (before["pid"] != 0), before, owned)

    def assign_closed(self, sockets: Records, events: Records) -> Records:
        """Return the OWNED rows of sockets that closed: as they had it, else as known from before."""
        if not len(sockets):
            return np.zeros(0, OWNED)
        owned = self._as_before(self._held_or_called(sockets, events, is_all=False), sockets["cookie"])
        waiting = (owned["pid"] == 0) & (sockets["inode"] == 0) & (events["direction"] != Direction.OUT)
        waiting &= sockets["state"] != State.SYN_SENT
        rows = np.flatnonzero(waiting)
        if len(rows):
            nothing = np.zeros(len(rows), OWNED)
            scatter(owned, rows, self._queues.owners(gather(sockets, rows), self._queued, nothing, live=False))
        return owned

    def _held_or_called(self, sockets: Records, events: Records, *, is_all: bool) -> Records:
        cookies, inodes, callers = sockets["cookie"], sockets["inode"], events["pid"]

        def are_accepted(rows: Indices) -> Mask:
            direction = events["direction"][rows]
            accepted: Mask = direction == Direction.IN
            unsure = np.flatnonzero((direction == Direction.UNKNOWN) & (sockets["state"][rows] != State.LISTEN))
            if len(unsure):
                accepted[unsure] = among(sockets).of(gather(sockets, rows[unsure])) >= 0
            return accepted

        owned = np.zeros(len(cookies), OWNED)
        owners, held = self._by_cookie.of(cookies, callers, are_accepted)
        owned[held] = owners
        others = np.flatnonzero(~held & (inodes != 0))
        owners, held = self._by_inode.of(inodes[others], callers[others], lambda rows: are_accepted(others[rows]))
        owned[others[held]] = owners
        called = (owned["pid"] == 0) & (callers != 0)
        called[called] &= ~self._are_kernel_threads(callers[called], events["comm"][called], is_all)
        if called.any():
            owned[called] = self._callers(gather(events, called), is_all)
        return owned

    def _callers(self, events: Records, is_all: bool) -> Records:
        owned = np.zeros(len(events), OWNED)
        for target, source in (("pid", "pid"), ("name", "comm"), ("how", "owner")):
            owned[target] = events[source]
        used: dict[tuple[int, int, bytes], bytes] = {}
        self._lengthen(owned, self._caller_names, used)
        self._caller_names = used if is_all else self._caller_names | used
        return owned

    def _are_kernel_threads(
        self, pids: NDArray[np.uint32], comms: NDArray[np.bytes_], is_all: bool
    ) -> NDArray[np.bool_]:
        unique, at, inverse = np.unique(pids, return_index=True, return_inverse=True)
        keys = [(int(pid), bytes(comms[i])) for pid, i in zip(unique, at, strict=True)]
        told = {key: self._kernel[key] if key in self._kernel else self._is_kernel_thread(*key) for key in keys}
        self._kernel = told if is_all else self._kernel | told
        return np.array([told[key] for key in keys], np.bool_)[inverse] if keys else np.zeros(0, np.bool_)


def _differ(ours: Records, theirs: Records) -> Mask:
    """Return which OWNED rows are others: a row has no padding, so that its bytes tell."""
    found: Mask = (_as_bytes(ours) != _as_bytes(theirs)).any(axis=1)
    return found


def _as_bytes(owned: Records) -> NDArray[np.uint8]:
    flat: NDArray[np.uint8] = np.ascontiguousarray(owned).view(np.uint8).reshape(len(owned), OWNED.itemsize)
    return flat


def _disowned(owned: Records, orphans: Indices) -> Records:
    """Return a copy in which these rows are nobody's: the name alone stays."""
    told: Records = owned.copy()
    gone = np.zeros(len(orphans), OWNED)
    gone["name"] = owned["name"][orphans]
    gone["how"] = np.where(owned["pid"][orphans] != 0, OwnerKind.FORMER, OwnerKind.UNKNOWN)
    told[orphans] = gone
    return told
