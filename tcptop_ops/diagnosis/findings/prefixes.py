"""Remote prefixes that hold many bad rows: grown from whole addresses on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import Numbers, Table
from tcptop_ops.diagnosis.findings.groups import Prefix, halves_of_mask
from tcptop_ops.model.arrays import Mask

SHORTEST_V4, SHORTEST_V6 = 8, 16
"""Bits of the shortest prefixes that are tried."""

V4_AT = 96
"""Bit at which an IPv4 address begins, which is mapped."""


def prefixes(table: Table, left: Mask, least: int) -> Iterator[Prefix]:
    """Yield prefixes with ``least`` or more of the rows ``left``: whole addresses, then each shorter one with more."""
    for is_v4, first, shortest in ((True, V4_AT, SHORTEST_V4), (False, 0, SHORTEST_V6)):
        which = left & table.has_remote & (table.is_v4 == is_v4)
        if int(which.sum()) < least:
            continue
        high, low = (half[which] for half in table.remote)
        order = np.lexsort((low, high))
        for length, (upper, lower) in _grown(high[order], low[order], range(128, first + shortest - 1, -1), least):
            yield Prefix(length, upper, lower, is_v4)


def _grown(
    high: Numbers, low: Numbers, lengths: range, least: int
) -> Iterator[tuple[int, tuple[np.uint64, np.uint64]]]:
    """Yield length and address of the prefix that holds the most of these sorted addresses, wherever that grows."""
    held = 0
    for length in lengths:
        network, count = _most_common(high, low, length)
        if count >= least and count > held:
            held = count
            yield length, network


def _most_common(high: Numbers, low: Numbers, length: int) -> tuple[tuple[np.uint64, np.uint64], int]:
    """Return the prefix of this length that most of the addresses have, and how many do. They are sorted."""
    masks = halves_of_mask(length)
    high, low = high & masks[0], low & masks[1]
    begins = np.flatnonzero(np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])]))
    counts = np.diff(np.append(begins, len(high)))
    most = int(counts.argmax())
    return (high[begins[most]], low[begins[most]]), int(counts[most])
