"""Netlink messages and attributes, found in a whole buffer at once without a Python loop over messages. Pure.

Each chunk (what one recv returned) holds whole messages, one behind the other. A step of the loop handles the first
message of every chunk, the next step the second of every chunk, and so on; likewise the attributes of all messages.
Messages and attributes are padded to 4 bytes (NLMSG_ALIGN, NLA_ALIGN of include/uapi/linux/netlink.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.errors import Failed
from tcptop_ops.model.records import Records

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

HEADER = np.dtype([("length", "u4"), ("type", "u2"), ("flags", "u2"), ("sequence", "u4"), ("port", "u4")])
"""struct nlmsghdr; ``length`` includes the header."""

ATTRIBUTE = np.dtype([("length", "u2"), ("kind", "u2")])
"""struct nlattr; ``length`` includes it."""

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_DUMP_INTR = 0x10
NLA_TYPE_MASK = 0x3FFF  # the two bits above are NLA_F_NESTED and NLA_F_NET_BYTEORDER

SLACK = 1024
"""Bytes that a buffer must have behind its last message: ``at`` reads structures whole, even if a shorter one came."""


def damaged(what: str) -> Failed:
    """Return (not raise) the error for an answer that breaks the rules of netlink."""
    return Failed(f"the kernel's answer is damaged: {what}", "a bug: please report it")


def at(buffer: Bytes, dtype: np.dtype[np.void], positions: Ints) -> Records:
    """Return copies of the structures that begin at these positions (bytes, multiples of 4), one row per position.

    ``buffer`` ends with SLACK bytes.
    """
    count = max(0, (len(buffer) - dtype.itemsize) // 4 + 1)
    opaque = np.dtype((np.void, dtype.itemsize))  # copied as a whole, not member by member: thirty times as fast
    overlapping: Records = np.ndarray((count,), opaque, buffer, strides=(4,))
    found: Records = overlapping[positions >> 2].view(dtype)
    return found


@dataclass(frozen=True)
class Messages:
    """Messages in the order of their positions in a buffer; the arrays are aligned."""

    begin: Ints  # position of the header, bytes
    end: Ints  # position behind the message, without its padding
    header: Records  # HEADER

    def take(self, which: NDArray[np.generic]) -> Messages:
        """Return the messages at these indices, or where this mask is true."""
        return Messages(self.begin[which], self.end[which], self.header[which])


def messages(buffer: Bytes, begin: Iterable[int], end: Iterable[int]) -> Messages:
    """Find all messages of the chunks that begin and end at these positions, bytes. Raises Failed if one is cut."""
    words = buffer[: len(buffer) & ~3].view("u4")
    position, limit = np.array(list(begin), np.int64) >> 2, np.array(list(end), np.int64)
    begins, limits = [position], [limit]
    while len(position):
        # Lengths are checked after the loop, all at once. Here each step only has to move on, by a header at least.
        position = position + np.maximum((words[position] + np.uint32(3)) >> 2, HEADER.itemsize >> 2)
        more = position << 2 < limit
        if not more.all():
            position, limit = position[more], limit[more]
        begins.append(position)
        limits.append(limit)
    # The chunks lie one behind the other, so begins and limits still match when each is sorted by itself.
    first, last = np.sort(np.concatenate(begins)) << 2, np.sort(np.concatenate(limits))
    header = at(buffer, HEADER, first)
    length = header["length"].astype(np.int64)
    if bool(((length < HEADER.itemsize) | (length > last - first)).any()):
        raise damaged("a message of impossible length")
    return Messages(first, first + length, header)


def attributes(buffer: Bytes, begin: Ints, end: Ints, kinds: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Find the payloads of these kinds of attributes: positions and lengths, a row per kind, a column per message.

    ``begin``: position of each message's first attribute; ``end``: of the message's end. Where a message has none of a
    kind, the length is -1 and the position that of ``begin``. Of several, the last counts. Raises Failed if one is cut.
    """
    slot = np.full(NLA_TYPE_MASK + 1, len(kinds), np.intp)  # the last row is for all other kinds
    slot[list(kinds)] = np.arange(len(kinds))
    places = np.tile(begin, (len(kinds) + 1, 1))
    lengths = np.full_like(places, -1)
    rows, position, limit = np.arange(len(begin)), begin, end
    while True:
        more = limit - position >= ATTRIBUTE.itemsize
        if not more.all():
            rows, position, limit = rows[more], position[more], limit[more]
        if not len(rows):
            return places[:-1], lengths[:-1]
        header = at(buffer, ATTRIBUTE, position)
        length = header["length"].astype(np.int64)
        if bool(((length < ATTRIBUTE.itemsize) | (length > limit - position)).any()):
            raise damaged("an attribute of impossible length")
        kind = slot[header["kind"] & NLA_TYPE_MASK]
        if len(rows) == len(begin) and bool((kind == kind[0]).all()):  # the usual case; scattering is slower
            places[kind[0]] = position + ATTRIBUTE.itemsize
            lengths[kind[0]] = length - ATTRIBUTE.itemsize
        else:
            places[kind, rows] = position + ATTRIBUTE.itemsize
            lengths[kind, rows] = length - ATTRIBUTE.itemsize
        position = position + ((length + 3) & ~3)
