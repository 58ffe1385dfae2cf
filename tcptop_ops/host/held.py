"""Which processes hold each socket, and which of several is its owner. Pure.

Of a listener and of a connection that was dialled, the owner is the process that called listen() or connect() while it
still holds the socket, else the oldest holder: whoever got a copy later got it by fork(), or was handed it.

Of a connection that was accepted, it is the one that shut it down, if any; else the youngest holder, since a server
that forks after accept() leaves a copy with the parent. A process that was forked and then executed another program
does not count, if it has the descriptor under the number that the oldest holder has: that is how one leaks. Who is
meant to have it gets it as standard input or output, or under a number of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather, places_of
from tcptop_ops.model.enums import OwnerKind
from tcptop_ops.model.records import OWNED, OWNER, Records

STANDARD = 3
"""Descriptors below this are standard input, output and error."""

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]
AreAccepted = Callable[[Indices], Mask]
"""Indices of rows -> which of them are connections that were accepted."""


class Held:
    """The holders of each socket that has a descriptor, by cookie or by inode."""

    def __init__(self, descriptors: Records, key: str) -> None:
        """Index the descriptors (OWNER) by ``key``: "cookie" or "inode"."""
        order = np.lexsort((descriptors["fd"], descriptors["pid"], descriptors[key]))
        keys, pids = descriptors[key][order], descriptors["pid"][order]
        new_key, new_pid = np.ones(len(keys), np.bool_), np.ones(len(keys), np.bool_)
        new_key[1:] = keys[1:] != keys[:-1]
        new_pid[1:] = new_key[1:] | (pids[1:] != pids[:-1])
        self.keys: NDArray[np.uint64] = keys[new_key]
        self.descriptors = gather(descriptors, order[new_pid])  # one of each process, by key and pid
        of_key = (np.cumsum(new_key) - 1)[new_pid]
        self._pairs = _pairs(of_key, self.descriptors["pid"])
        self.owned = np.zeros(len(self.descriptors), OWNED)
        for target, source in (("pid", "pid"), ("start_ns", "start_ns"), ("name", "comm")):
            self.owned[target] = self.descriptors[source]
        self.owned["how"] = OwnerKind.HOLDER
        holders = np.bincount(of_key, minlength=len(self.keys))
        self.owned["holders"] = holders[of_key]
        self._shared = holders > 1
        self._oldest, self._worker = self._choose(of_key)

    def _choose(self, of_key: Indices) -> tuple[Indices, Indices]:
        """Return the oldest holder of each key, and that which an accepted connection belongs to."""
        found = self.descriptors
        by_age = np.lexsort((found["pid"], found["start_ns"], of_key))
        first = np.ones(len(by_age), np.bool_)
        first[1:] = of_key[by_age][1:] != of_key[by_age][:-1]
        oldest = by_age[first]
        its = oldest[of_key]
        meant = (found["image"] == found["image"][its]) | (found["fd"] < STANDARD) | (found["fd"] != found["fd"][its])
        candidates = by_age[meant[by_age]]
        last = np.ones(len(candidates), np.bool_)
        last[:-1] = of_key[candidates][1:] != of_key[candidates][:-1]
        return oldest, candidates[last]

    def knows(self, keys: NDArray[np.uint64]) -> Mask:
        """Return which of these keys have an owner."""
        return find_sorted(self.keys, keys)[1]

    def of(
        self, keys: NDArray[np.uint64], callers: NDArray[np.uint32], are_accepted: AreAccepted
    ) -> tuple[Records, Mask]:
        """Return the OWNED rows of those keys that have an owner, and which these are (as ``knows``).

        ``callers``: pid of the process that called listen() or connect(), or shut an accepted one down; 0: not known.
        ``are_accepted`` is asked by indices into ``keys``, and only for sockets that several processes hold.
        """
        at = places_of(keys, self.keys)
        known = at >= 0
        here = at[known]
        chosen = self._oldest[here]
        several = np.flatnonzero(self._shared[here])
        if len(several):
            rows = np.flatnonzero(known)[several]
            accepted = several[are_accepted(rows)]
            chosen[accepted] = self._worker[here[accepted]]
            place, holds = find_sorted(self._pairs, _pairs(here[several], callers[rows]))
            chosen[several[holds]] = place[holds]
        return gather(self.owned, chosen), known


def _pairs(of_key: Indices, pids: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return both as one number."""
    pairs: NDArray[np.uint64] = of_key.astype("u8") << np.uint64(32) | pids
    return pairs


NOBODY = Held(np.zeros(0, OWNER), "cookie")
"""Of no descriptors."""
