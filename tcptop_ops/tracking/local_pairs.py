"""Connections of which both ends are on this host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.addresses import is_loopback
from tcptop_ops.model.records import Records


def counts_once(sockets: Records) -> NDArray[np.bool_]:
    """Return True for every row but one side of each loopback connection.

    Left out is the side with the lower port, most often the server's; of equal ports that with the lower address.
    """
    local, remote = (np.ascontiguousarray(sockets[name]).view("S16")[:, 0] for name in ("laddr", "raddr"))
    same_port = sockets["lport"] == sockets["rport"]
    found: NDArray[np.bool_] = (
        ~is_loopback(sockets) | (sockets["lport"] > sockets["rport"]) | (same_port & (local >= remote))
    )
    return found
