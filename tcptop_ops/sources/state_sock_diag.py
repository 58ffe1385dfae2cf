"""The present state of every socket, read by a dump of sock_diag."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources.inet_diag import DumpBuffer
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.socket_state import SocketState


class SockDiagReader:
    """By a dump of sock_diag in each namespace, for kernels without BTF or iterators.

    ``cgroup``: a directory; only sockets made below it.
    """

    def __init__(self, reach: NamespaceAccess, cgroup: str | None = None) -> None:
        """Take ``reach``: into the namespaces."""
        self._cgroup = cgroup
        self._diag = EveryNamespace(reach)
        self._newest, self._oldest = DumpBuffer(), DumpBuffer()
        self._last: Records = np.zeros(0, SOCKET)

    def read(self) -> SocketState:
        """See StateReader."""
        self._newest, self._oldest = self._oldest, self._newest
        dump = self._diag.dump(self._newest)
        sockets = dump.sockets if self._cgroup is None else gather(dump.sockets, self._within(dump.sockets))
        last, self._last = self._last, sockets
        half_open = self._diag.half_open() if dump.syn_recv else np.zeros(0, SOCKET)
        return SocketState(self._last, last, half_open, dump.time_wait, dump.syn_recv)

    def _within(self, sockets: Records) -> NDArray[np.bool_]:
        """Told by the inode numbers of the directories, as INET_DIAG_CGROUP_ID tells them."""
        ids = [os.stat(directory).st_ino for directory, _, _ in os.walk(self._cgroup or "/")]
        return np.isin(sockets["cgroup_id"], ids)

    def devices(self, sockets: Records) -> dict[int, str]:
        """See StateReader."""
        return self._diag.devices(sockets)

    def rest(self) -> SocketState | None:
        """See StateReader: at the next dump, which asks in every namespace anyhow."""
        self._diag.expire()
        return None

    def close(self) -> None:
        """See StateReader."""
        self._diag.close()
