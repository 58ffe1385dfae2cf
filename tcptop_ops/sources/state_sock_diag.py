"""The present state of every socket, read by a dump of sock_diag."""

from __future__ import annotations

import numpy as np

from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources.cgroup_follow import CgroupMembers
from tcptop_ops.sources.inet_diag import DumpBuffer
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.socket_state import SocketState


class SockDiagReader:
    """By a dump of sock_diag in each namespace, for kernels without BTF or iterators, and where it costs less.

    ``members``: only these sockets; None: all.
    """

    def __init__(self, reach: NamespaceAccess, members: CgroupMembers | None = None) -> None:
        """Take ``reach``: into the namespaces."""
        self._members = members
        self._diag = EveryNamespace(reach)
        self._newest, self._oldest = DumpBuffer(), DumpBuffer()
        self._last: Records = np.zeros(0, SOCKET)

    def read(self) -> SocketState:
        """See StateReader."""
        self._newest, self._oldest = self._oldest, self._newest
        dump = self._diag.dump(self._newest)
        sockets = dump.sockets
        if self._members is not None:
            sockets = gather(sockets, self._members.among(sockets["cgroup_id"]))
        last, self._last = self._last, sockets
        half_open = self._diag.half_open() if dump.syn_recv else np.zeros(0, SOCKET)
        return SocketState(self._last, last, half_open, dump.time_wait, dump.syn_recv)

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
