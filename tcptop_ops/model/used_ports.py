"""How many local ports connections to one destination have taken: its dtype."""

from __future__ import annotations

import numpy as np

USED_PORTS = np.dtype(
    [
        ("laddr", "u1", (16,)),  # IPv4 as ::ffff:a.b.c.d
        ("raddr", "u1", (16,)),
        ("netns", "u4"),
        ("rport", "u2"),
        ("port_low", "u2"),  # net.ipv4.ip_local_port_range, the first port
        ("port_high", "u2"),  # its last port, which is included
        ("time_wait", "u4"),  # ports in TIME-WAIT that can't be used again yet
        ("open", "u4"),  # ports of connections that are open
    ],
    align=True,
)
"""A row a destination, by source address and network namespace; only where few ports are left."""
