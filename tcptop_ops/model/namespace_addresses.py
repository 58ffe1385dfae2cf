"""The addresses of network namespaces: their dtype."""

from __future__ import annotations

import numpy as np

from tcptop_ops.model.records import Records

ADDRESS = np.dtype(
    [
        ("address", "u1", (16,)),  # IPv4 as ::ffff:a.b.c.d
        ("netns", "u4"),  # inode number of the network namespace
        ("ifindex", "u4"),  # of the device that has it there
    ],
    align=True,
)
"""A row an address of a network namespace."""


def no_addresses() -> Records:
    """Return ADDRESS rows, none of them."""
    return np.zeros(0, ADDRESS)
