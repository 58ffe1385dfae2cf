"""sock_diag in each network namespace that is reached."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.records import Records
from tcptop_ops.sources.inet_diag import Dump, DumpBuffer
from tcptop_ops.sources.namespace_sweep import Sweep
from tcptop_ops.sources.sock_diag import WITHOUT_TIME_WAIT, SockDiag, new_buffer

COUNT_REST = 10
"""Rest after a count of the TIME-WAIT sockets, in multiples of its duration: a proxy may have a million of them."""


class EveryNamespace:
    """Lists the sockets of every namespace that is reached, as a SockDiag does those of one."""

    def __init__(self, reach: NamespaceAccess, sweep: Sweep | None = None) -> None:
        """Take what gives access to the namespaces, and what knows which there are. Sockets are opened when needed."""
        self._reach = reach
        self._sweep = sweep or Sweep(reach)
        self._diags: dict[int, SockDiag] = {}
        self._buffer = new_buffer()
        self._time_wait = 0
        self._counted = self._counting_s = 0.0

    def dump(self, rows: DumpBuffer | None = None) -> Dump:
        """List the sockets of all namespaces. Raises Failed or Unsupported, as SockDiag does.

        The result's array is a part of ``rows``, if given, and is overwritten when that is used again. ``time_wait``
        may be older than the rest: see COUNT_REST.
        """
        self._open()
        rows = DumpBuffer() if rows is None else rows
        rows.cut(0)
        dumps = [diag.add_to(rows, WITHOUT_TIME_WAIT) for diag in self._diags.values()]
        merged = Dump(rows.all(), time_wait=self._count_time_wait())
        for dump in dumps:
            merged.time_wait += dump.time_wait
            merged.syn_recv += dump.syn_recv
            merged.info_bytes = min(merged.info_bytes, dump.info_bytes)
            merged.cgroups |= dump.cgroups
            merged.interrupted |= dump.interrupted
        return merged

    def _count_time_wait(self) -> int:
        now = time.monotonic()
        if now - self._counted >= COUNT_REST * self._counting_s:
            self._time_wait = sum(diag.count_time_wait() for diag in self._diags.values())
            self._counted, self._counting_s = now, time.monotonic() - now
        return self._time_wait

    def half_open(self) -> Records:
        """Return the request sockets of all namespaces as SOCKET rows, addresses and ports only."""
        self._open()
        return np.concatenate([diag.half_open() for diag in self._diags.values()])

    def _open(self) -> None:
        """Open a netlink socket in each new namespace, to which it belongs for good; close those no longer needed."""
        self._sweep.refresh()
        self.let_go()
        for inode in self._sweep.found - self._diags.keys():
            with suppress(OSError, Unsupported):  # the namespace is gone meanwhile
                self._diags[inode] = SockDiag(self._reach.diag(inode), inode, self._buffer)

    def let_go(self) -> None:
        """Close the sockets of namespaces that are no longer found: a netlink socket keeps its namespace alive."""
        for inode in self._diags.keys() - self._sweep.found:
            self._diags.pop(inode).close()

    def devices(self, sockets: Records) -> dict[int, str]:
        """Return device names by ``device_keys`` (see Sweep)."""
        return self._sweep.devices(sockets)

    def expire(self) -> None:
        """Have the next dump search for new namespaces."""
        self._sweep.expire()

    def close(self) -> None:
        """Close all netlink sockets; ``reach`` stays open, its owner closes it."""
        for diag in self._diags.values():
            diag.close()
        self._diags.clear()
