"""In which listener's queue a connection attempt waits, where it dials an address of this host. Pure.

A namespace's own addresses come first; else it is the one other namespace that has the address, and a listener on the
port. The listener is looked up as the kernel does (``model.listeners``); of several that share an address
(SO_REUSEPORT) it is the one whose accept queue is full, since any other would have answered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import Case
from tcptop_ops.diagnosis.rules import OF_LISTENER
from tcptop_ops.model.addresses import are_mapped, halves, is_loopback, is_loopback_address
from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.listeners import AF_INET, AF_INET6, Groups, Listeners
from tcptop_ops.model.namespace_addresses import ADDRESS
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.model.snapshot import Snapshot

LOOPBACK_DEVICE = 1
"""Interface index of ``lo``, by which a packet to an own address comes: LOOPBACK_IFINDEX of the kernel."""

Indices = NDArray[np.intp]


def listeners_of(snapshot: Snapshot, attempts: Indices) -> Indices:
    """Return for each live row the index of the row in LISTEN in whose queue it waits; -1: none, or not certain.

    ``attempts``: indices of the rows in SYN-SENT. One whose handshake is in SYN-RECV has got through.
    """
    sockets = snapshot.sockets
    found = np.full(len(sockets), -1, np.intp)
    attempts = attempts[sockets["retransmits"][attempts] > 0]
    if not len(attempts):
        return found
    listening = np.flatnonzero(sockets["state"] == State.LISTEN)
    listening = listening[np.isin(sockets["lport"][listening], sockets["rport"][attempts])]
    waiting = gather(sockets, attempts)
    through = _are_half_open(waiting, snapshot.half_open)
    attempts, waiting = attempts[~through], waiting[~through]
    if not (len(listening) and len(attempts)):
        return found
    doors = gather(sockets, listening)
    listeners = Listeners(doors)
    group = _groups(waiting, listeners, _known_addresses(snapshot, doors))
    door = _doors(listeners, doors)
    inside = group >= 0
    found[attempts[inside]] = listening[door[group[inside]]]
    return found


def waited_for(case: Case, cause: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the cookie of the listener that each row waits for by its cause, 0 if it does not; and one of how many.

    They are more than one where several share an address (SO_REUSEPORT) and are full: any of them may be meant.
    ``case``: the live rows; of a row whose cause is kept the listener may be the last tick's.
    """
    found, of_how_many = np.zeros(len(case), "u8"), np.zeros(len(case), "u1")
    waits = np.flatnonzero(OF_LISTENER[cause] & case.is_in(State.SYN_SENT))
    at = case.listener[waits]
    found[waits] = np.where(at >= 0, case.sockets["cookie"][at], case.memory["listener"][waits])
    known = waits[at >= 0]
    if len(known):
        doors = gather(case.sockets, np.flatnonzero(case.is_in(State.LISTEN)))
        listeners = Listeners(doors)
        full = np.bincount(listeners.group, doors["recv_q"] > doors["send_q"], len(listeners))
        group = listeners.groups_of(gather(case.sockets, case.listener[known]))
        of_how_many[known] = np.clip(full[group], 1, 255)
    return found, of_how_many


def _known_addresses(snapshot: Snapshot, doors: Records) -> Records:
    """Return ADDRESS rows: those that were asked for, and the addresses that listeners and their connections have."""
    sockets = snapshot.sockets
    near = np.flatnonzero(np.isin(sockets["lport"], doors["lport"]))
    parts = [gather(sockets, near), snapshot.half_open]
    told = np.zeros(sum(map(len, parts)), ADDRESS)
    for name, field in (("address", "laddr"), ("netns", "netns")):
        told[name] = np.concatenate([part[field] for part in parts])
    return np.concatenate([snapshot.addresses, told])


def _are_half_open(waiting: Records, half_open: Records) -> Mask:
    """Return which attempts have a request socket, whose addresses and ports are crosswise."""
    if not len(half_open):
        return np.zeros(len(waiting), np.bool_)
    crosswise = _tuples(half_open, ("raddr", "laddr", "rport", "lport"))
    return np.isin(_tuples(waiting, ("laddr", "raddr", "lport", "rport")), crosswise)


def _tuples(rows: Records, names: tuple[str, str, str, str]) -> NDArray[np.bytes_]:
    held = np.zeros(len(rows), np.dtype([(name, SOCKET[name]) for name in names] + [("end", "u1")]))
    for name in names:
        held[name] = rows[name]
    held["end"] = 1  # numpy takes trailing zeros of bytes for padding
    kind = held.dtype
    renamed = held.astype(np.dtype([(str(at), kind[name]) for at, name in enumerate(kind.names or ())]))
    return renamed.view(f"S{kind.itemsize}")


def _groups(waiting: Records, listeners: Listeners, known: Records) -> Groups:
    """Return the group of listeners at which each attempt waits, -1 where there is none, or more than one may be."""
    _, where = np.unique(np.ascontiguousarray(waiting["raddr"]), axis=0, return_inverse=True)
    where = where.reshape(-1)
    found = np.full(len(waiting), -1, np.intp)
    for dialled in range(int(where.max()) + 1):
        which = np.flatnonzero(where == dialled)
        here = known[(known["address"] == waiting["raddr"][which[0]]).all(axis=1)]
        found[which] = _groups_at(gather(waiting, which), listeners, here)
    return found


def _groups_at(waiting: Records, listeners: Listeners, here: Records) -> Groups:
    """Return the same for attempts that dial one address. ``here``: ADDRESS rows of the namespaces that have it."""
    stays = is_loopback(waiting) | is_loopback_address(waiting["raddr"]) | np.isin(waiting["netns"], here["netns"])
    found = _heard(waiting, listeners, waiting["netns"], LOOPBACK_DEVICE)
    found[~stays] = -1
    spaces, first = np.unique(here["netns"], return_index=True)
    several = np.zeros(len(waiting), np.bool_)
    for netns, at in zip(spaces.tolist(), first.tolist(), strict=True):
        there = _heard(waiting, listeners, netns, int(here["ifindex"][at]))
        there[stays] = -1
        several |= (found >= 0) & (there >= 0)
        found = np.where(there >= 0, there, found)
    found[several] = -1
    return found


def _heard(waiting: Records, listeners: Listeners, netns: NDArray[np.uint32] | int, device: int) -> Groups:
    """Return the group that takes what these attempts send, if it comes to this namespace by this device."""
    as_accepted = waiting.copy()
    as_accepted["netns"], as_accepted["ifindex"] = netns, device
    as_accepted["lport"], as_accepted["laddr"] = waiting["rport"], waiting["raddr"]
    is_v4 = are_mapped(*halves(waiting["raddr"]))
    as_accepted["family"] = np.where(is_v4, AF_INET, AF_INET6)
    found = listeners.of(as_accepted)
    missing = np.flatnonzero(is_v4 & (found < 0))
    if len(missing):  # an IPv6 socket may take IPv4 too
        others = gather(as_accepted, missing)
        others["family"] = AF_INET6
        found[missing] = listeners.of(others)
    return found


def _doors(listeners: Listeners, doors: Records) -> Indices:
    """Return for each group the listener that is meant: the one whose accept queue is longest beyond its limit."""
    over = doors["recv_q"].astype("i8") - doors["send_q"]
    order = np.lexsort((-over, listeners.group))
    _, first = np.unique(listeners.group[order], return_index=True)
    found: Indices = order[first]
    return found
