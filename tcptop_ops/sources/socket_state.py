"""The present state of every socket, and the protocol of what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.records import Records


@dataclass(frozen=True)
class SocketState:
    """All sockets of one pass, and those that have no row. ``before``: the rows of the last pass."""

    sockets: Records
    before: Records
    half_open: Records  # SOCKET rows of those in SYN-RECV, addresses and ports alone
    time_wait: int
    syn_recv: int
    changed: NDArray[np.intp] | None = None  # as in Snapshot, of ``sockets`` alone
    descriptors: Records | None = None  # OWNER rows that the pass met; None: it does not look at descriptors


class UnheldSockets(Protocol):
    """What finds the sockets that no descriptor shows, beside a pass over all descriptors."""

    def read(self, held: Records) -> SocketState:
        """Return the sockets that ``held`` lacks. Raises OSError or TcptopError.

        ``held``: the SOCKET rows of this pass, each socket once. ``half_open``, ``time_wait`` and ``syn_recv`` of the
        result are those of the whole host. The rows hold until the second next call.
        """
        ...

    def expire(self) -> None:
        """Have the next ``read`` search for new namespaces."""
        ...

    def devices(self, sockets: Records) -> dict[int, str]:
        """Return names of devices, as StateReader does."""
        ...

    def close(self) -> None:
        """Let go of the namespaces."""
        ...


class StateReader(Protocol):
    """Where the present state comes from. The rows hold until the second next pass."""

    def read(self) -> SocketState:
        """One pass over every namespace. Raises OSError or TcptopError."""
        ...

    def devices(self, sockets: Records) -> dict[int, str]:
        """Names of the devices that these sockets are bound to, by ``device_keys``."""
        ...

    def rest(self) -> SocketState | None:
        """Add the namespaces that the pass left out, new ones too, as a socket was missing. None if there are none."""
        ...

    def close(self) -> None:
        """Let go of the namespaces."""
        ...
