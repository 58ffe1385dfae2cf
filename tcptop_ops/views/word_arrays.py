"""Tools over arrays of 64-bit words, a row of words for each row: their order, runs of equal ones, a hash."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.views.group_keys import Words


def order_of(numbers: Words) -> NDArray[np.intp]:
    """Return an order in which equal numbers are adjacent.

    Four passes over 16-bit digits, for which numpy uses a radix sort, take half the time of one sort of 64-bit numbers.
    """
    digits = numbers.view("u2").reshape(len(numbers), 4)
    order = np.argsort(digits[:, 0], kind="stable")
    for place in (1, 2, 3):
        order = order[np.argsort(digits[order, place], kind="stable")]
    return order


def run_starts(ordered: Words) -> NDArray[np.intp]:
    """Return the positions at which a row differs from the one before it."""
    differs = np.zeros(len(ordered), np.bool_)
    differs[:1] = True
    for column in ordered.T:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)


def hash_rows(words: Words) -> Words:
    """Return a 64-bit hash of each row of words: multiply by an odd constant, then fold high bits into low ones."""
    found = np.zeros(len(words), "u8")
    for column in words.T:
        found = (found ^ column) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(32)
    return found
