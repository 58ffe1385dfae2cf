"""What rows may have in common: the keys by which they are put into groups."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.findings.bad_rows import Numbers, Table, hashed
from tcptop_ops.model.arrays import Mask, find_sorted

MOST_NUMBERS = 1 << 16
"""Keys below this are counted in a table of that size."""


class Kind(IntEnum):
    """What the rows of a group share, the narrower first: of groups of the same rows the first is told."""

    PROCESS_TO_PLACE = 0  # name of the process, remote address and port
    PLACE = 1  # remote address and port
    LISTENER = 2  # namespace and local port of connections that came in
    PROCESS_TO_NET = 3  # name of the process and remote network, of several places in that
    PID = 4
    NAME = 5  # name of the process, which may have been started again
    PREFIX = 6  # of the remote address, a whole address included
    NAMESPACE = 7


NARROW = (Kind.PROCESS_TO_PLACE, Kind.PLACE, Kind.LISTENER, Kind.PROCESS_TO_NET)
"""Groups whose rows have so much in common that each of them is one incident."""


@dataclass(frozen=True)
class Prefix:
    """A remote prefix: ``length`` of 128 bits, an IPv4 one mapped, and its address as two numbers."""

    length: int
    high: np.uint64
    low: np.uint64
    is_v4: bool

    def holds(self, table: Table) -> Mask:
        """Return which rows have a remote address in it."""
        found: Mask = self.covers(*table.remote) & table.has_remote & (table.is_v4 == self.is_v4)
        return found

    def covers(self, high: Numbers, low: Numbers) -> Mask:
        """Return which of these addresses, given as upper and lower halves, have this prefix."""
        masks = halves_of_mask(self.length)
        found: Mask = (high & masks[0] == self.high) & (low & masks[1] == self.low)
        return found

    @property
    def is_address(self) -> bool:
        """Whether it is a single address."""
        return self.length == 128


@dataclass(frozen=True)
class Group:
    """Rows of a table that have something in common."""

    kind: Kind
    which: Mask  # which rows of the table
    key: int  # of these rows; 0 for a prefix
    prefix: Prefix | None = None

    def holds(self, table: Table) -> Mask:
        """Return which rows of any table have this in common."""
        if self.prefix is not None:
            return self.prefix.holds(table)
        found: Mask = keys(self.kind, table) == np.uint64(self.key)
        return found


def keys(kind: Kind, table: Table) -> Numbers:
    """Return the key of each row, 0 for one that has none of this kind."""
    return _KEYS[kind](table)


def _of_process_to_place(table: Table) -> Numbers:
    process, place = table.hashed_name, table.place
    return np.where((process != 0) & (place != 0), hashed(process, place), np.uint64(0))


def _of_place(table: Table) -> Numbers:
    return table.place


def _of_listener(table: Table) -> Numbers:
    found: Numbers = np.where(table.came_in, table.netns << np.uint64(16) | table.lport, np.uint64(0))
    return found


def _of_process_to_net(table: Table) -> Numbers:
    process, net = table.hashed_name, np.where(table.place != 0, networks(table), np.uint64(0))
    return np.where((process != 0) & (net != 0), hashed(process, net), np.uint64(0))


def _of_pid(table: Table) -> Numbers:
    return table.pid


def _of_name(table: Table) -> Numbers:
    return table.hashed_name


def _of_address(table: Table) -> Numbers:
    return np.where(table.has_remote, hashed(*table.remote), np.uint64(0))


def _of_namespace(table: Table) -> Numbers:
    return table.netns


_KEYS = {
    Kind.PROCESS_TO_PLACE: _of_process_to_place,
    Kind.PLACE: _of_place,
    Kind.LISTENER: _of_listener,
    Kind.PROCESS_TO_NET: _of_process_to_net,
    Kind.PID: _of_pid,
    Kind.NAME: _of_name,
    Kind.PREFIX: _of_address,
    Kind.NAMESPACE: _of_namespace,
}


NET_V4, NET_V6 = 96 + 24, 64
"""Length, of 128 bits, of the prefixes that usually are one network."""


def networks(table: Table) -> Numbers:
    """Return a key of the remote network of each row, /24 or IPv6 /64; 0 where there is none."""
    high, low = table.remote
    v4, v6 = halves_of_mask(NET_V4), halves_of_mask(NET_V6)
    high = np.where(table.is_v4, high & v4[0], high & v6[0])
    low = np.where(table.is_v4, low & v4[1], low & v6[1])
    return np.where(table.has_remote, hashed(high, low), np.uint64(0))


def network_of(rows: Table) -> Prefix:
    """Return the remote address of these rows, which share a network, or that network if they have several."""
    (high, low), is_v4 = rows.remote, bool(rows.is_v4[0])
    is_one = bool(((high == high[0]) & (low == low[0])).all())
    length = 128 if is_one else NET_V4 if is_v4 else NET_V6
    masks = halves_of_mask(length)
    return Prefix(length, high[0] & masks[0], low[0] & masks[1], is_v4)


def halves_of_mask(length: int) -> tuple[np.uint64, np.uint64]:
    """Return the mask of an IPv6 prefix of ``length`` bits, as its upper and its lower half."""
    mask = (1 << length) - 1 << 128 - length
    return np.uint64(mask >> 64), np.uint64(mask & (1 << 64) - 1)


def counted(values: Numbers) -> tuple[Numbers, NDArray[np.intp]]:
    """Return the distinct keys, sorted, and how many rows have each; key 0 left out."""
    found, counts = np.unique(values, return_counts=True)
    return (found[1:], counts[1:]) if len(found) and found[0] == 0 else (found, counts)


def most_alike(values: Numbers) -> int:
    """Return how many rows have the most frequent key; 0 where none has any."""
    return int(counted(values)[1].max(initial=0))


def count(found: Numbers, values: Numbers) -> NDArray[np.intp]:
    """Count how often each of ``found``, which is sorted and not empty, occurs among the keys."""
    if found[-1] < MOST_NUMBERS:  # as pids mostly are: a look into a table is faster than a search
        table = np.bincount(np.minimum(values, np.uint64(MOST_NUMBERS)).astype(np.intp), minlength=MOST_NUMBERS)
        counts: NDArray[np.intp] = table[found.astype(np.intp)]
        return counts
    at, is_one = find_sorted(found, values)
    return np.bincount(at[is_one], minlength=len(found))
