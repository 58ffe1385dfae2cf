"""What kind of address a socket has, for whole arrays of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.records import Records

_MAPPED = b"\0" * 10 + b"\xff\xff"


def is_mapped(address: bytes) -> bool:
    """Return whether a 16-byte address is an IPv4 one, which is kept as IPv4-mapped IPv6: ``::ffff:0:0/96``."""
    return address.startswith(_MAPPED)


def is_link_local(address: bytes) -> bool:
    """Return whether a 16-byte address is an IPv6 link-local one (``fe80::/10``), unique only on its device's link."""
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_unspecified(address: bytes) -> bool:
    """Return whether a 16-byte address is ``::`` or ``0.0.0.0``."""
    return not any(address[12:] if is_mapped(address) else address)


def halves(addresses: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the upper and the lower 64 bits of addresses (shape (n, 16)) as numbers, which ``are_*`` take."""
    words = np.ascontiguousarray(addresses).view(">u8").astype("u8")
    return words[:, 0], words[:, 1]


def are_mapped(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return ``is_mapped`` of each address, given its halves."""
    found: NDArray[np.bool_] = (high == 0) & (low >> np.uint64(32) == np.uint64(0xFFFF))
    return found


def are_link_local(high: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return ``is_link_local`` of each address, given its upper half."""
    found: NDArray[np.bool_] = high >> np.uint64(54) == np.uint64(0xFE80 >> 6)
    return found


def are_unspecified(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return ``is_unspecified`` of each address, given its halves."""
    found: NDArray[np.bool_] = (high == 0) & ((low == 0) | (low == np.uint64(0xFFFF << 32)))
    return found


def is_loopback_address(addresses: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of these addresses, shape (n, 16), are in 127.0.0.0/8, or ::1: each namespace has its own."""
    high, low = halves(addresses)
    found: NDArray[np.bool_] = (high == 0) & (low == 1) | are_mapped(high, low) & (addresses[:, 12] == 127)
    return found


def is_loopback(sockets: Records) -> NDArray[np.bool_]:
    """Return which connections have both ends on this host: equal addresses, or both in 127.0.0.0/8.

    NDArray[np.bool_]; False for listeners.
    """
    laddr, raddr = sockets["laddr"], sockets["raddr"]
    in_127 = are_mapped(*halves(laddr)) & (laddr[:, 12] == 127) & (raddr[:, 12] == 127)
    both = np.ascontiguousarray(laddr).view("V16") == np.ascontiguousarray(raddr).view("V16")
    found: NDArray[np.bool_] = (sockets["rport"] != 0) & (in_127 | both[:, 0])
    return found


def stays_here(sockets: Records) -> NDArray[np.bool_]:
    """Return which rows are loopback connections, or listeners on a loopback address."""
    found: NDArray[np.bool_] = is_loopback(sockets) | (sockets["rport"] == 0) & is_loopback_address(sockets["laddr"])
    return found
