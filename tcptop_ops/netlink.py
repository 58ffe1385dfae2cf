"""Netlink messages and attributes found in whole buffers at once: a Python loop over positions, never over messages.

Every chunk (what one recv returned) holds whole messages, one behind the other. The first message of all chunks is
looked at together, then the second of all chunks, and so on; likewise the attributes of all messages. Everything is
padded to 4 bytes (NLMSG_ALIGN, NLA_ALIGN of include/uapi/linux/netlink.h), so each header is in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.errors import Failed
from tcptop_ops.snapshot import Records

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

HEADER = np.dtype([("length", "u4"), ("type", "u2"), ("flags", "u2"), ("sequence", "u4"), ("port", "u4")])
"""struct nlmsghdr; ``length`` counts the header too."""

ATTRIBUTE = np.dtype([("length", "u2"), ("kind", "u2")])
"""struct nlattr; ``length`` counts it too."""

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_DUMP_INTR = 0x10
NLA_TYPE_MASK = 0x3FFF  # above are NLA_F_NESTED and NLA_F_NET_BYTEORDER

SLACK = 1024
"""Bytes that a buffer must have behind its last message: a structure is read whole, and then cut to what is there."""


def damaged(what: str) -> Failed:
    return Failed(f"the kernel's answer is damaged: {what}", "a bug: please report it")


def at(buffer: Bytes, dtype: np.dtype[np.void], positions: Ints) -> Records:
    """The structures that begin at these positions (bytes, multiples of 4), copied. ``buffer`` has its slack."""
    count = max(0, (len(buffer) - dtype.itemsize) // 4 + 1)
    opaque = np.dtype((np.void, dtype.itemsize))  # copied as a whole, not member by member: thirty times as fast
    overlapping: Records = np.ndarray((count,), opaque, buffer, strides=(4,))
    found: Records = overlapping[positions >> 2].view(dtype)
    return found


@dataclass(frozen=True)
class Messages:
    """Messages in the order in which they lie: where each begins and ends (bytes), and its header."""

    begin: Ints
    end: Ints
    header: Records

    def take(self, which: NDArray[np.generic]) -> Messages:
        """Those at these indices, or where this mask is true."""
        return Messages(self.begin[which], self.end[which], self.header[which])


def messages(buffer: Bytes, begin: Iterable[int], end: Iterable[int]) -> Messages:
    """All messages of these chunks. Raises Failed where one is not whole."""
    words = buffer[: len(buffer) & ~3].view("u4")
    position, limit = np.array(list(begin), np.int64) >> 2, np.array(list(end), np.int64)
    begins, limits = [position], [limit]
    while len(position):
        # Headers are judged later, all at once. Until then it is enough that each step goes forward, and not too far.
        position = position + np.maximum((words[position] + np.uint32(3)) >> 2, HEADER.itemsize >> 2)
        more = position << 2 < limit
        if not more.all():
            position, limit = position[more], limit[more]
        begins.append(position)
        limits.append(limit)
    # One chunk lies behind the other, so that sorted apart they still belong together.
    first, last = np.sort(np.concatenate(begins)) << 2, np.sort(np.concatenate(limits))
    header = at(buffer, HEADER, first)
    length = header["length"].astype(np.int64)
    if bool(((length < HEADER.itemsize) | (length > last - first)).any()):
        raise damaged("a message of impossible length")
    return Messages(first, first + length, header)


def attributes(buffer: Bytes, begin: Ints, end: Ints, kinds: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Where the payloads of these kinds of attributes are, and their lengths: a row a kind, a column a message.

    ``begin``: of each message's first attribute; ``end``: of the message. Length -1: there is none, and the place is
    the message's own. Of several of a kind, the last counts. Raises Failed where an attribute is not whole.
    """
    slot = np.full(NLA_TYPE_MASK + 1, len(kinds), np.intp)  # the last row takes all that nobody wants
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
        if len(rows) == len(begin) and bool((kind == kind[0]).all()):  # the rule; scattering takes longer
            places[kind[0]] = position + ATTRIBUTE.itemsize
            lengths[kind[0]] = length - ATTRIBUTE.itemsize
        else:
            places[kind, rows] = position + ATTRIBUTE.itemsize
            lengths[kind, rows] = length - ATTRIBUTE.itemsize
        position = position + ((length + 3) & ~3)
