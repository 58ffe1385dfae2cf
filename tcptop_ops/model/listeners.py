"""Which listener a connection came in through, by address, port, device and namespace. Pure.

As the kernel looks a listener up (__inet_lookup_listener(), inet6_lookup_listener()): one that is bound to the very
address before one that is bound to all, and of these one that is bound to the device before one that is not. A
connection or handshake has the family of its listener's socket, also where an IPv6 socket took in IPv4 packets
(inet_reqsk_alloc()), so that listeners for IPv4 and IPv6 on one port are told apart whether or not IPV6_V6ONLY is set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records

AF_INET, AF_INET6 = 2, 10

_BOUND = np.dtype(
    [("netns", "u4"), ("ifindex", "u4"), ("lport", "u2"), ("six", "u1"), ("laddr", "u1", (16,)), ("end", "u1")]
)
"""The end is 1, since numpy strips zeros from the end of bytes."""

_ANY_IPV4 = np.frombuffer(b"\0" * 10 + b"\xff\xff" + b"\0" * 4, "u1")

Groups = NDArray[np.intp]
"""Numbers of groups of listeners that share an address; -1: none."""


def _bound(rows: Records) -> Records:
    """Return what each row is bound to."""
    bound = np.zeros(len(rows), _BOUND)
    for name in ("netns", "ifindex", "lport", "laddr"):
        bound[name] = rows[name]
    bound["six"] = rows["family"] == AF_INET6
    bound["end"] = 1
    return bound


def _as_bytes(bound: Records) -> NDArray[np.bytes_]:
    comparable: NDArray[np.bytes_] = np.ascontiguousarray(bound).view(f"S{_BOUND.itemsize}")
    return comparable


class Listeners:
    """Listening sockets, in groups: those of a group share address, port, device and namespace (SO_REUSEPORT)."""

    def __init__(self, sockets: Records) -> None:
        """Take SOCKET rows, all of them in LISTEN. ``group`` is the number of each one's group."""
        self._keys, group = np.unique(_as_bytes(_bound(sockets)), return_inverse=True)
        self.group: Groups = group.reshape(-1)
        self._ports = np.unique(_ports(sockets))

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._keys)

    def groups_of(self, listeners: Records) -> Groups:
        """Return the group of each of these SOCKET rows in LISTEN, which need not be those taken; -1: none."""
        at, found = find_sorted(self._keys, _as_bytes(_bound(listeners)))
        return np.where(found, at, -1)

    def of(self, sockets: Records) -> Groups:
        """Return the group that each of these SOCKET rows came in through, or would come in through; -1: none.

        Rows are connections or handshakes. That something listens there does not mean that they were not dialled.
        """
        found = np.full(len(sockets), -1, np.intp)
        if not len(self._keys) or not len(sockets):
            return found
        candidates = np.flatnonzero(find_sorted(self._ports, _ports(sockets))[1])
        if not len(candidates):
            return found
        bound = _bound(gather(sockets, candidates))
        for wildcard in (False, True):
            if wildcard:
                bound = _to_any(bound)
            for device in (True, False):
                at, there = find_sorted(self._keys, _as_bytes(_device(bound, device)))
                take = there & (found[candidates] < 0)
                found[candidates[take]] = at[take]
        return found


def among(sockets: Records) -> Listeners:
    """Return the listeners among these SOCKET rows."""
    return Listeners(gather(sockets, sockets["state"] == State.LISTEN))


def _ports(sockets: Records) -> NDArray[np.uint64]:
    ports: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(16) | sockets["lport"]
    return ports


def _device(bound: Records, kept: bool) -> Records:
    if kept:
        return bound
    without: Records = bound.copy()
    without["ifindex"] = 0
    return without


def _to_any(bound: Records) -> Records:
    """Return the same with the address that means all: 0.0.0.0, of an IPv6 socket ``::``."""
    to_any: Records = bound.copy()
    to_any["laddr"] = np.where(bound["six"][:, None] != 0, np.uint8(0), _ANY_IPV4)
    return to_any
