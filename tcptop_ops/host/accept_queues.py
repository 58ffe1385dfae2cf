"""Whose the connections are that wait to be accepted: of the listener of their address. Pure.

Listeners that share an address (SO_REUSEPORT) have a queue each. In which of them a connection waits is told by the
pass over descriptors, which follows those queues; else by the lengths of the queues, if only one can hold them; else by
what is the same whichever it is. Where it can't be told, no process is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.enums import OwnerKind
from tcptop_ops.model.listeners import Groups, Listeners
from tcptop_ops.model.records import OWNED, OWNER, SOCKET, Records


class Queued:
    """In which listener's queue connections wait, both by cookie."""

    def __init__(self, rows: Records | None = None) -> None:
        """Take OWNER rows whose ``cookie`` is the connection's and whose ``inode`` is the cookie of its listener."""
        rows = np.zeros(0, OWNER) if rows is None else rows
        order = np.argsort(rows["cookie"], kind="stable")
        self._cookies, self._listeners = rows["cookie"][order], rows["inode"][order]

    def listener_of(self, cookies: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the cookie of the listener that each of these waits at; 0: not known."""
        at, found = find_sorted(self._cookies, cookies)
        listeners = np.zeros(len(cookies), "u8")
        listeners[found] = self._listeners[at[found]]
        return listeners


@dataclass(frozen=True)
class _Doors:
    """The listeners, each with its owner."""

    sockets: Records = field(default_factory=lambda: np.zeros(0, SOCKET))
    owned: Records = field(default_factory=lambda: np.zeros(0, OWNED))
    listeners: Listeners = field(default_factory=lambda: Listeners(np.zeros(0, SOCKET)))


class AcceptQueues:
    """The listeners of the last tick, and who waits at them."""

    def __init__(self) -> None:
        """Begin with no listeners."""
        self._doors = _Doors()
        self._unclear = self._tried = np.zeros(0, "u8")

    @property
    def are_unclear(self) -> bool:
        """Whether a connection waits at one of several listeners, and descriptors were not looked at on its behalf."""
        return not bool(np.isin(self._unclear, self._tried).all())

    def looked(self) -> None:
        """Remember that the descriptors were looked at."""
        self._tried = self._unclear

    def open(self, sockets: Records, owned: Records) -> None:
        """Take the SOCKET rows of the listeners, and their OWNED rows."""
        self._doors = _Doors(sockets, owned, Listeners(sockets))
        self._unclear = np.zeros(0, "u8")

    def owners(self, waiting: Records, queued: Queued, before: Records, live: bool = True) -> Records:
        """Return the OWNED rows of connections (SOCKET) that wait to be accepted; zeros where nobody listens there.

        ``before``: OWNED rows that they had. ``live``: they are all that wait now.
        """
        doors = self._doors
        groups = doors.listeners.of(waiting)
        at_door, certain = _by_queue(doors, queued.listener_of(waiting["cookie"]))
        choice, alike = _choices(doors, groups if live else groups[:0])
        found = np.zeros(len(waiting), OWNED)
        inside = groups >= 0
        at_door[~certain & inside] = choice[groups[~certain & inside]]
        named = at_door >= 0
        found[named] = gather(doors.owned, at_door[named])
        unclear = inside & ~named
        found["name"][unclear] = alike[groups[unclear]]
        found["how"] = np.where(named & (found["pid"] != 0) | (unclear & (found["name"] != b"")), OwnerKind.LISTENER, 0)
        kept = unclear & (before["how"] == OwnerKind.LISTENER) & (before["pid"] != 0)
        found[kept] = before[kept]
        if live:
            self._unclear = waiting["cookie"][unclear & ~kept]
        return found


def _by_queue(doors: _Doors, listeners: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the index of each of these listeners (cookies), -1 where it is none; and which are known."""
    order = np.argsort(doors.sockets["cookie"], kind="stable")
    at, found = find_sorted(doors.sockets["cookie"][order], listeners)
    known = found & (listeners != 0)
    index = np.full(len(listeners), -1, np.intp)
    index[known] = order[at[known]]
    return index, known


def _choices(doors: _Doors, waiting: Groups) -> tuple[NDArray[np.intp], NDArray[np.bytes_]]:
    """Return for each group of listeners the one that must be meant, -1 where it may be any; and the name of them all.

    ``waiting``: the groups of the connections that wait.
    """
    group, count = doors.listeners.group, len(doors.listeners)
    if not count:
        return np.zeros(0, np.intp), np.zeros(0, "S32")
    first, same, alike = np.full(count, -1, np.intp), np.ones(count, np.bool_), np.ones(count, np.bool_)
    first[group[::-1]] = np.arange(len(group))[::-1]
    pids, names, lengths = doors.owned["pid"], doors.owned["name"], doors.sockets["recv_q"]
    same[group[pids != pids[first[group]]]] = False
    alike[group[names != names[first[group]]]] = False
    lone = np.full(count, -1, np.intp)
    filled = np.flatnonzero(lengths)
    lone[group[filled]] = filled
    waits = np.bincount(waiting[waiting >= 0], minlength=count)
    queues = np.bincount(group[filled], minlength=count)
    lone[(queues != 1) | (waits == 0) | (waits > lengths[lone])] = -1
    return np.where(same, first, lone), np.where(alike, names[first], b"")
