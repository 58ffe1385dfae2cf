"""The other end of each connection, where that is on this host, too: the one place that finds it. Pure.

The two ends of a connection have the same addresses and ports, crosswise. A packet to an address of its own network
namespace does not leave that (the kernel's table of local addresses comes first), so that of several candidates the one
in the same namespace is the other end; addresses of a loopback device, and connections from an address to itself, never
leave it. Between namespaces only one candidate counts: of two that fit, nobody can tell. Behind NAT the addresses
differ, and nothing is found.

An end (address and port, and the namespace where it can't be left) is known by a hash of 64 bits, so that two different
connections would be taken for one once in 2^128 times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records

Indices = NDArray[np.intp]
Numbers = NDArray[np.uint64]

_FIELDS = SOCKET.fields
assert _FIELDS is not None
assert _FIELDS["raddr"][1] == _FIELDS["laddr"][1] + 16
assert _FIELDS["laddr"][1] % 8 == 0
_BEGIN, _END = _FIELDS["laddr"][1], -(-(_FIELDS["netns"][1] + 4) // 8) * 8
_PART = [name for name in SOCKET.names or () if _BEGIN <= _FIELDS[name][1] < _END]
_ENDS = np.dtype(
    {
        "names": _PART,
        "formats": [_FIELDS[name][0] for name in _PART],
        "offsets": [_FIELDS[name][1] - _BEGIN for name in _PART],
        "itemsize": _END - _BEGIN,
    }
)
"""The part of SOCKET from laddr to netns: words of 8 bytes."""

_OPAQUE = np.dtype(
    {"names": ["ends"], "formats": [f"V{_ENDS.itemsize}"], "offsets": [_BEGIN], "itemsize": SOCKET.itemsize}
)
_PORTS_AT = _FIELDS["lport"][1]
_ODD = tuple(np.uint64(pow(0x9E3779B97F4A7C15, power, 2**64)) for power in range(1, 7))
_HALF = np.uint64(32)


def _as_word(eight: bytes) -> np.uint64:
    """Return 8 bytes as the number that they are in an array of numbers."""
    word: np.uint64 = np.frombuffer(eight, "u8")[0]
    return word


_IPV4_BYTES, _IN_127 = _as_word(b"\0\0\xff\xff\xff\0\0\0"), _as_word(b"\0\0\xff\xff\x7f\0\0\0")
_ONE = _as_word(b"\0\0\0\0\0\0\0\1")

CHECKED, TURNS = 4096, 16
"""Rows whose ports are looked at in a tick: so many, or one of so many, whichever is more."""


def _hashed_ends(sockets: Records, which: Indices | None = None) -> NDArray[np.uint64]:
    """Return hashes of the local and of the remote end of these rows: an array of two rows and a column a socket.

    They are 0 for what can have no other end: a listener, or a connection that is connected to itself. ``which``: the
    indices of the rows meant; None: all.
    """
    opaque = np.ascontiguousarray(sockets).view(_OPAQUE)["ends"]
    part = (opaque.copy() if which is None else opaque[which]).view(_ENDS)
    words = np.ascontiguousarray(part.view("u8").reshape(len(part), _ENDS.itemsize // 8).T)
    halves = (words[0], words[1]), (words[2], words[3])
    both = np.empty((2, len(part)), "u8")
    for side, ((high, low), port) in enumerate(zip(halves, (part["lport"], part["rport"]), strict=True)):
        np.multiply(high, _ODD[0], out=both[side])
        both[side] += low * _ODD[1]
        both[side] += port * _ODD[2]
    same = (halves[0][0] == halves[1][0]) & (halves[0][1] == halves[1][1])
    stays = same | _is_loopback(*halves[0]) | _is_loopback(*halves[1])
    both += part["netns"] * _ODD[3] * stays
    both ^= both >> _HALF
    both *= _ODD[4]
    both ^= both >> _HALF
    both[:, np.flatnonzero((part["rport"] == 0) | (both[0] == both[1]))] = 0
    return both


def _is_loopback(high: Numbers, low: Numbers) -> Mask:
    """Return which addresses are in 127.0.0.0/8, or ::1."""
    found: Mask = high == 0
    if found.any():
        found &= (low & _IPV4_BYTES == _IN_127) | (low == _ONE)
    return found


def partners_of(sockets: Records) -> Indices:
    """Return for each of these SOCKET rows the index of the row of its other end, -1 where there is none for certain.

    A connection attempt has none, since what seems its other end may be left of an earlier connection; nor has a
    listener, nor a connection that is connected to itself.
    """
    ends = _hashed_ends(sockets)
    ends[:, np.flatnonzero(sockets["state"] == State.SYN_SENT)] = 0
    return _paired(ends[0], ends[1], sockets["netns"])


def other_ends(asked: Records, among: Records) -> tuple[Indices, Indices]:
    """Return which of the SOCKET rows asked for have their other end among these: their indices, and those of the ends.

    The cost grows with the rows that have their ports, of which none may be among those asked for.
    """
    likely = np.flatnonzero(np.isin(among["lport"], asked["rport"]) & np.isin(among["rport"], asked["lport"]))
    partner = partners_of(np.concatenate([asked, gather(among, likely)]))[: len(asked)]
    which = np.flatnonzero(partner >= len(asked))
    return which, likely[partner[which] - len(asked)]


_BY_SLOT = ("_ports_of", "_local_of", "_remote_of", "_is_attempt_of", "_paired_of")


class Partners:
    """The partners of the live rows, and which are ``attempts``. What is remembered of a row is in arrays, by slot.

    Ends are hashed where a row is new, is no attempt any more, or has other ports; the hashes are matched anew only
    where there were such rows, or rows went. A socket that connects anew is known by its ports: those of a part of all
    rows are looked at, CHECKED at the least, so that in a tick in which nothing happens hardly anything is read.
    """

    def __init__(self) -> None:
        """Begin before the first tick, without a hash of any end."""
        self._slots: Indices | None = None
        self._ports_of = np.zeros(0, "u4")
        self._local_of = self._remote_of = np.zeros(0, "u8")
        self._is_attempt_of = self._paired_of = self._attempting = np.zeros(0, np.bool_)
        self._partner = self.attempts = np.zeros(0, np.intp)
        self.learned = self.attempts
        """Indices of the rows whose ends were worked out in this tick."""
        self._checked = 0

    def update(self, sockets: Records, states: NDArray[np.uint8], slots: Indices, new: Mask) -> Indices:
        """Return the partners of these rows, as ``partners_of``: an array that holds until rows come or go.

        ``states``: of the sockets; ``slots``: what ``Slots.assign`` gave the rows, the same array where they are the
        same as at the last tick; ``new``: which slots, or lives, are new.
        """
        if slots is not self._slots:
            self._grow(int(slots.max(initial=-1)) + 1)
        attempting, moved = states == State.SYN_SENT, self._moved(sockets, slots)
        is_same = slots is self._slots and not len(moved) and not new.any()
        if is_same and np.array_equal(attempting, self._attempting):
            self.learned = moved
            return self._partner
        other = new | (attempting != self._is_attempt_of[slots])
        other[moved] = True
        self.learned = np.flatnonzero(other)
        self._learn(sockets, slots, attempting, self.learned)
        self._slots, self._attempting, self.attempts = slots, attempting, np.flatnonzero(attempting)
        self._partner = _paired(self._local_of[slots], self._remote_of[slots], sockets["netns"])
        self._paired_of[slots[self._partner >= 0]] = True
        return self._partner

    def paired(self, slots: Indices) -> Mask:
        """Return whether the rows with these slots have a partner, or had one when they were last looked at."""
        return self._paired_of[slots]

    def _moved(self, sockets: Records, slots: Indices) -> Indices:
        """Return the indices of rows that have other ports than before, of those whose turn it is to be looked at."""
        size = max(CHECKED, len(sockets) // TURNS + 1)
        begin = self._checked if self._checked < len(sockets) else 0
        self._checked = begin + size
        part = slice(begin, begin + size)
        return begin + np.flatnonzero(_ports(sockets[part]) != self._ports_of[slots[part]])

    def _learn(self, sockets: Records, slots: Indices, attempting: Mask, rows: Indices) -> None:
        """Work out what is remembered of these rows."""
        ends = _hashed_ends(sockets, rows if len(rows) < len(sockets) else None)
        ends[:, np.flatnonzero(attempting[rows])] = 0
        of = slots[rows]
        self._local_of[of], self._remote_of[of] = ends
        self._ports_of[of] = _ports(sockets)[rows] if len(rows) == len(sockets) else _ports(gather(sockets, rows))
        self._is_attempt_of[of], self._paired_of[of] = attempting[rows], False

    def move(self, moved: Indices) -> None:
        """Move these slots, in this order, to the first ones, and forget all others."""
        for name in _BY_SLOT:
            setattr(self, name, getattr(self, name)[moved])

    def _grow(self, count: int) -> None:
        before = len(self._ports_of)
        if count > before:
            grown = max(count, before * 3 // 2)
            for name in _BY_SLOT:
                values = np.zeros(grown, getattr(self, name).dtype)
                values[:before] = getattr(self, name)
                setattr(self, name, values)


def _ports(sockets: Records) -> NDArray[np.uint32]:
    """Return both ports of each row as one number."""
    wide = np.dtype({"names": ["both"], "formats": ["u4"], "offsets": [_PORTS_AT], "itemsize": SOCKET.itemsize})
    both: NDArray[np.uint32] = np.ascontiguousarray(sockets).view(wide)["both"].copy()
    return both


def _paired(local: Numbers, remote: Numbers, netns: NDArray[np.uint32]) -> Indices:
    """Return the index of each row's other end, -1 where there is none; hashes of ends are 0 where none is wanted."""
    which = np.flatnonzero(local)
    a, b, crowded = (which[found] for found in _twos((local[which] + remote[which]) * _ODD[5]))
    crosswise = (local[a] == remote[b]) & (remote[a] == local[b])
    partner = np.full(len(local), -1, np.intp)
    _join(partner, a[crosswise], b[crosswise])
    if len(crowded):
        c, d = _in_crowd(local[crowded], remote[crowded], netns[crowded].astype("u8"))
        _join(partner, crowded[c], crowded[d])
    return partner


def _join(partner: Indices, a: Indices, b: Indices) -> None:
    partner[a], partner[b] = b, a


def _twos(keys: Numbers) -> tuple[Indices, Indices, Indices]:
    """Return the indices of keys that are there exactly twice: of the one, of the other; and of those there more often.

    The index is packed into the lowest bits, since numbers are sorted several times as fast as their indices are.
    """
    low = np.uint64((1 << max(len(keys) - 1, 1).bit_length()) - 1)
    packed = keys & ~low
    packed |= np.arange(len(keys), dtype="u8")
    packed.sort()
    index = (packed & low).astype(np.intp)
    same = np.zeros(len(keys) + 2, np.bool_)  # [at]: as the one before
    same[1 : len(keys)] = packed[1:] ^ packed[:-1] <= low
    begins = same[1:-1] & ~same[:-2]  # [at]: the one behind it is the same, and the one before is not
    first = np.flatnonzero(begins & ~same[2:])
    crowd = same[:-2] | same[1:-1]
    crowd[first] = crowd[first + 1] = False
    return index[first], index[first + 1], index[np.flatnonzero(crowd)]


def _in_crowd(local: Numbers, remote: Numbers, netns: Numbers) -> tuple[Indices, Indices]:
    """Return the pairs among rows of which several have the same ends: those that are certain."""
    side = local < remote
    connection = np.stack([np.minimum(local, remote), np.maximum(local, remote)], axis=1)
    a, b = _opposite(np.column_stack([connection, netns]), side)
    left = np.ones(len(local), np.bool_)
    left[a] = left[b] = False
    rest = np.flatnonzero(left)
    c, d = _opposite(connection[rest], side[rest])
    return np.concatenate([a, rest[c]]), np.concatenate([b, rest[d]])


def _opposite(connection: Numbers, side: Mask) -> tuple[Indices, Indices]:
    """Return the indices of the two ends of each connection that has exactly one row of either side."""
    _, group, count = np.unique(connection, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    two = np.flatnonzero(count[group] == 2)
    both = two[np.argsort(group[two], kind="stable")].reshape(-1, 2)
    both = both[side[both[:, 0]] != side[both[:, 1]]]
    return both[:, 0], both[:, 1]
