"""sock_diag in each network namespace that is reached."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.host.socket_counts import SocketCounts
from tcptop_ops.model.records import Records
from tcptop_ops.sources.inet_diag import Dump, DumpBuffer
from tcptop_ops.sources.namespace_sweep import Sweep
from tcptop_ops.sources.sock_diag import WITHOUT_TIME_WAIT, SockDiag, new_buffer
from tcptop_ops.sources.time_wait import TimeWait


class EveryNamespace:
    """Lists the sockets of every namespace that is reached, as a SockDiag does those of one."""

    def __init__(self, reach: NamespaceAccess, sweep: Sweep | None = None) -> None:
        """Take what gives access to the namespaces, and what knows which there are. Sockets are opened when needed."""
        self._reach = reach
        self._sweep = sweep or Sweep(reach)
        self._diags: dict[int, SockDiag] = {}
        self._buffer = new_buffer()
        self._counts, self._time_wait = SocketCounts(reach), TimeWait()

    def dump(self, rows: DumpBuffer | None = None) -> Dump:
        """List the sockets of all namespaces. Raises Failed or Unsupported, as SockDiag does.

        The result's array is a part of ``rows``, if given, and is overwritten when that is used again. A namespace is
        not asked if the kernel counts no socket there. Without one that listens there is none in SYN-RECV either.
        """
        self._open()
        rows = DumpBuffer() if rows is None else rows
        rows.cut(0)
        counts = self._counts.read(self._diags)
        empty = {one for one, of in counts.items() if of is not None and not (of.inet or of.inet6)}
        dumps = [diag.add_to(rows, WITHOUT_TIME_WAIT) for one, diag in self._diags.items() if one not in empty]
        merged = Dump(rows.all(), time_wait=self._time_wait.learn(counts, self._diags.__getitem__))
        for dump in dumps:
            merged.syn_recv += dump.syn_recv
            merged.info_bytes = min(merged.info_bytes, dump.info_bytes)
            merged.cgroups |= dump.cgroups
            merged.interrupted |= dump.interrupted
        return merged

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
        self._counts.let_go(self._sweep.found)
        self._time_wait.keep(self._sweep.found)

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
        self._counts.close()
