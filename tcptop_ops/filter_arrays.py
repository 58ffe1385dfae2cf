"""What the filter language needs of whole arrays: a test made once for each value that occurs, addresses as numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.filter_values import MAPPED

Mask = NDArray[np.bool_]


def each(found: NDArray[np.bytes_], test: Callable[[bytes], bool]) -> Mask:
    """The test of each row's value, made once for each value that occurs."""
    occurring, inverse = distinct(found)
    return np.fromiter(map(test, occurring.tolist()), np.bool_, len(occurring))[inverse]


def distinct(found: NDArray[np.bytes_]) -> tuple[NDArray[np.bytes_], NDArray[np.intp]]:
    """The values that occur, and where: ``np.unique`` of a hash, five times as fast as of bytes, and checked."""
    width = max(-(-found.dtype.itemsize // 8), 1)
    words = np.ascontiguousarray(found, f"S{8 * width}").view("u8").reshape(len(found), width)
    odd = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(width)], "u8")
    _, first, inverse = np.unique((words * odd).sum(axis=1), return_index=True, return_inverse=True)
    occurring = found[first]
    if (occurring[inverse] == found).all():
        return occurring, inverse
    return np.unique(found, return_inverse=True)  # two values had the same hash


class Ends:
    """Endpoints as numbers: the halves of the address. Packed as columns read them: 16 + 2 + 4 bytes and a mark."""

    def __init__(self, packed: NDArray[np.bytes_]) -> None:
        self.packed = packed
        self._bytes = packed.view("u1").reshape(len(packed), packed.dtype.itemsize)
        halves = np.ascontiguousarray(self._bytes[:, :16]).view(">u8").astype("u8")
        self.high, self.low = halves[:, 0], halves[:, 1]

    def within(self, bits: int, mask: int) -> Mask:
        found = np.ones(len(self.packed), np.bool_)
        for half, shift in ((self.high, 64), (self.low, 0)):
            part = np.uint64(mask >> shift & 2**64 - 1)
            if part:
                found &= (half & part) == np.uint64((bits & mask) >> shift & 2**64 - 1)
        return found

    def mapped(self) -> Mask:
        found: Mask = (self.high == 0) & (self.low >> np.uint64(32) == np.uint64(0xFFFF))
        return found

    def unspecified(self) -> Mask:
        found: Mask = (self.high == 0) & ((self.low == 0) | (self.low == np.uint64(MAPPED)))
        return found

    def number(self, start: int, stop: int) -> NDArray[np.uint64]:
        wide = np.zeros((len(self.packed), 8), "u1")
        wide[:, 8 - (stop - start) :] = self._bytes[:, start:stop]
        return wide.view(">u8")[:, 0].astype("u8")

    def octet(self, index: int) -> NDArray[np.intp]:
        return self._bytes[:, 12 + index].astype(np.intp)
