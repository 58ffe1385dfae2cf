"""Connections of which both ends are on this host, in any of the network namespaces that are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.addresses import is_loopback
from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.enums import State
from tcptop_ops.model.pairs import Pairs, no_pairs
from tcptop_ops.model.records import Records

_SIDES = (("laddr", "lport", "raddr", "rport"), ("raddr", "rport", "laddr", "lport"))


class Partners:
    """Finds the other ends of one tick's rows after the other."""

    def update(self, sockets: Records) -> Pairs:
        """Return the pairs among these SOCKET rows, the live ones."""
        pairs = no_pairs(len(sockets))
        connected = np.flatnonzero(sockets["state"] != State.LISTEN)
        theirs = _keys(sockets[connected], 1)
        keys, first, count = np.unique(theirs, return_index=True, return_counts=True)
        at, there = find_sorted(keys, _keys(sockets[connected], 0))
        which = np.flatnonzero(there)
        which = which[count[at[which]] == 1]
        other = first[at[which]]
        which, other = which[other != which], other[other != which]
        pairs.partner[connected[which]] = connected[other]
        return pairs


def _keys(sockets: Records, side: int) -> NDArray[np.bytes_]:
    """Return the addresses and ports of each row as bytes: as they are (``side`` 0), or as the other end has them."""
    held = np.zeros((len(sockets), 41), np.uint8)
    held[:, 40] = 1  # numpy takes trailing zeros of bytes for padding
    laddr, lport, raddr, rport = _SIDES[side]
    held[:, :16], held[:, 16:32] = sockets[laddr], sockets[raddr]
    for name, to in ((lport, 32), (rport, 34)):
        held[:, to], held[:, to + 1] = sockets[name] >> 8, sockets[name] & 0xFF
    held[:, 36:40].view(">u4")[:, 0] = np.where(is_loopback(sockets), sockets["netns"], 0)
    return held.view("S41")[:, 0]
