"""When to look at the descriptors of all processes, for the owners of sockets."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.host.owners import Owners
from tcptop_ops.host.processes import full_name, is_kernel_thread
from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.records import EVENTS, OWNER, Records

REST = 10
"""So many times as long as it took is the least between two looks at all descriptors."""

SCAN_SWEEP_S = 60.0
"""Seconds between two scans of /proc where no socket is new."""

Listed = Callable[[], Records]
"""Returns OWNER rows."""


class DescriptorSweep:
    """Looks at all descriptors if a socket's holder is not known yet; and every ``every_s``, since they move.

    Sockets that two listings did not have are looked for where descriptors are hidden, each once.
    """

    def __init__(self, owners: Owners, listed: Listed, hidden: Listed, every_s: float) -> None:
        """Take what lists the descriptors, and what lists those that are in no /proc/PID/fd (inodes alone)."""
        self._owners, self._listed, self._hidden, self._every_s = owners, listed, hidden, every_s
        self._last = self._took_s = 0.0
        self._last_hidden = self._hidden_took_s = 0.0
        self._found = np.zeros(0, OWNER)
        self._searched = np.zeros(0, "u8")

    @property
    def note(self) -> str:
        """What a user should know: how many sockets nobody was found to hold."""
        count = int(np.isin(self._owners.unheld, self._searched).sum())
        if not count:
            return ""
        sockets = f"{count} sockets are" if count > 1 else "1 socket is"
        return f"{sockets} held by no process in sight: the kernel's own, or of a process out of reach"

    def look(self, sockets: Records) -> None:
        """Look for the owners of these sockets, if it is worth it and not too early."""
        now = time.monotonic()
        passed = now - self._last
        may_search = now - self._last_hidden >= REST * self._hidden_took_s
        if passed < REST * self._took_s:
            return
        if passed < self._every_s and self._owners.is_current(sockets) and not (may_search and len(self._unsearched())):
            return
        rows = self._listed()
        self._last, self._took_s = now, time.monotonic() - now
        self._found = gather(self._found, np.isin(self._found["cookie"], sockets["cookie"]))
        self._owners.learn(np.concatenate([rows, self._found]), sockets)
        new = self._unsearched()
        if len(new) and may_search:
            self._searched = self._owners.unheld
            self._search(gather(sockets, np.isin(sockets["cookie"], new)), time.monotonic())
            self._owners.learn(np.concatenate([rows, self._found]), sockets)

    def _unsearched(self) -> NDArray[np.uint64]:
        """Return the cookies of the sockets that nobody was found to hold, and that were not searched for yet."""
        unheld = self._owners.unheld
        return unheld[~np.isin(unheld, self._searched)]

    def _search(self, sockets: Records, now: float) -> None:
        rows = self._hidden()
        self._last_hidden, self._hidden_took_s = now, time.monotonic() - now
        order = np.argsort(sockets["inode"], kind="stable")
        at, there = find_sorted(sockets["inode"][order], rows["inode"])
        found = gather(rows, there)
        found["cookie"] = sockets["cookie"][order[at[there]]]  # an inode is used again
        self._found = np.concatenate([self._found, found])


class PolledOwners:
    """Owners for a source without events."""

    def __init__(self, listed: Listed, hidden: Listed) -> None:
        """Take what lists all descriptors, and what lists those in no /proc/PID/fd (see DescriptorSweep)."""
        self._owners = Owners(full_name, is_kernel_thread)
        self._sweep = DescriptorSweep(self._owners, listed, hidden, SCAN_SWEEP_S)

    @property
    def note(self) -> str:
        """What a user should know; "" for nothing."""
        return self._sweep.note

    def of(self, sockets: Records) -> Records:
        """Return the OWNED rows of these SOCKET rows."""
        self._sweep.look(sockets)
        return self._owners.assign(sockets, np.zeros(len(sockets), EVENTS))

    def of_closed(self, sockets: Records) -> Records:
        """Return the OWNED rows of SOCKET rows that are gone: as they had it while they lived."""
        return self._owners.assign_closed(sockets, np.zeros(len(sockets), EVENTS))
