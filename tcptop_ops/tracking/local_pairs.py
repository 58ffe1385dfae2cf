"""Connections of which both ends are on this host, in sums that are to have their bytes once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.addresses import is_loopback
from tcptop_ops.model.records import Records


def counts_once(sockets: Records, paired: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return True for every row but one side of each connection that has both ends on this host.

    ``paired``: not 0 where the other end was found; that of a loopback connection is there in any case. Left out is the
    side with the lower port, most often the server's; of equal ports that with the lower address.
    """
    local, remote = (np.ascontiguousarray(sockets[name]).view("S16")[:, 0] for name in ("laddr", "raddr"))
    same_port = sockets["lport"] == sockets["rport"]
    alone = ~is_loopback(sockets) & (paired == 0)
    found: NDArray[np.bool_] = alone | (sockets["lport"] > sockets["rport"]) | (same_port & (local >= remote))
    return found
