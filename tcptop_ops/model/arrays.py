"""Tools over whole arrays of rows: gather, scatter, find, tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.records import Records

Mask = NDArray[np.bool_]
"""One bool for each row."""


def copied(records: Records) -> Records:
    """Return a copy of records of any shape, rows as opaque bytes as in ``gather``."""
    flat = np.ascontiguousarray(records).reshape(-1)
    whole: Records = flat.view(f"V{flat.itemsize}").copy().view(flat.dtype).reshape(np.shape(records))
    return whole


def gather(records: Records, which: NDArray[Any]) -> Records:
    """Return ``records[which]``: a copy of the rows at these indices, or where this mask is true.

    Rows are copied as opaque bytes: numpy would copy a structured row member by member, which is slower.
    """
    if not records.flags.c_contiguous:
        copied: Records = records[which]
        return copied
    opaque: Records = records.view(f"V{records.dtype.itemsize}")
    found: Records = opaque[which].view(records.dtype)
    return found


def scatter(records: Records, which: NDArray[Any], values: Records) -> None:
    """Assign ``records[which] = values`` in place, rows as opaque bytes as in ``gather``; both have the same dtype."""
    opaque = f"V{records.dtype.itemsize}"
    records.view(opaque)[which] = np.ascontiguousarray(values).view(opaque)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sorted distinct values, as ``np.unique`` does.

    Up to eight of them are found without sorting: most hosts have few namespaces, cgroups and users.
    """
    found: list[Any] = []
    rest = values
    while len(rest) and len(found) < 8:
        found.append(rest[0])
        rest = rest[rest != rest[0]]
    return np.unique(np.concatenate([np.array(found, values.dtype), rest]))


def find_sorted(sorted_values: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return where each wanted value is among the sorted ones, and whether it is there.

    Of equal sorted values the first is meant. Positions are meaningful only where the second array is True: elsewhere
    they are any index of ``sorted_values``, or 0 if it is empty, so index with ``positions[found]`` then.
    """
    if not len(sorted_values):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), np.bool_)
    positions = np.searchsorted(sorted_values, wanted)
    np.minimum(positions, len(sorted_values) - 1, out=positions)
    found: NDArray[np.bool_] = sorted_values[positions] == wanted
    return positions, found


_HASHES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_FEW = 64


def places_of(wanted: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return where each wanted value is in an array of distinct ones, in any order; -1: it is not there.

    A table of hashes finds most, a second one most of those that share a place in the first, and sorting the few that
    are left: several times as fast as to sort 100,000 and to look them up.
    """
    found = np.full(len(wanted), -1, np.intp)
    asked, left = np.arange(len(wanted)), np.arange(len(among))
    values, keys = wanted, among
    for odd in _HASHES:
        if len(keys) < _FEW or len(values) < _FEW:
            break
        shift = np.uint64(64 - (2 * len(keys) - 1).bit_length())
        table = np.zeros(1 << (64 - int(shift)), np.intp)
        hashes = (keys * odd >> shift).astype(np.intp)
        numbers = np.arange(len(keys))
        table[hashes] = numbers
        at = table[(values * odd >> shift).astype(np.intp)]
        is_it = keys[at] == values
        found[asked[is_it]] = left[at[is_it]]
        hidden = table[hashes] != numbers
        asked, left = asked[~is_it], left[hidden]
        values, keys = values[~is_it], keys[hidden]
    order = np.argsort(keys)
    at, is_it = find_sorted(keys[order], values)
    found[asked[is_it]] = left[order[at[is_it]]]
    return found


def bound_to(sockets: Records) -> NDArray[np.uint64]:
    """Return network namespace and local port as one number per row.

    It is equal for a listener and the connections that came in through it.
    """
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(16) | sockets["lport"]
    return keys


def device_keys(sockets: Records) -> NDArray[np.uint64]:
    """Return network namespace (upper 32 bits) and interface index as one number per row; 0: bound to no device."""
    keys: NDArray[np.uint64] = sockets["netns"].astype("u8") << np.uint64(32) | sockets["ifindex"]
    keys[sockets["ifindex"] == 0] = 0
    return keys
