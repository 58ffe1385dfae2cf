"""The present state of every socket, read by the TCP iterator."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from tcptop_ops.bpf.cpu_counters import CpuCounters
from tcptop_ops.bpf.record_buffer import RecordBuffer
from tcptop_ops.errors import TcptopError, Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.namespace_sweep import Sweep
from tcptop_ops.sources.socket_state import SocketState

WITHOUT_ROWS = ("time_wait", "syn_recv")


class TcpIteratorReader:
    """By the TCP iterator: a record a socket, straight from its tcp_sock."""

    def __init__(self, link: int, counters: int, reach: NamespaceAccess) -> None:
        """Take ``link`` and ``counters``: descriptors of the iterator and of the map."""
        self._link = link
        self._counters = CpuCounters(counters)
        self._sweep = Sweep(reach)
        self._reach = reach
        self._inhabited: set[int] = set()
        self._buffers = [RecordBuffer(SOCKET), RecordBuffer(SOCKET)]
        self._visited: set[int] = set()
        self._last: Records = np.zeros(0, SOCKET)
        self._before = self._last
        self._without_rows: dict[str, int] = {}
        self._diag: EveryNamespace | None = None

    def read(self) -> SocketState:
        """See StateReader."""
        self._buffers.reverse()
        self._before, self._last = self._last, self._buffers[0].records[:0]
        self._without_rows = dict.fromkeys(WITHOUT_ROWS, 0)
        if self._sweep.refresh():
            self._inhabited = set()
            self._visited = set()
            if self._diag is not None:
                self._diag.let_go()
            return self._visit(self._sweep.found)
        # One that was empty at the last look costs 2 ms for nothing; should it be so no longer, ``rest`` is called.
        self._visited = set()
        return self._visit(self._inhabited | {self._reach.own})

    def rest(self) -> SocketState | None:
        """See StateReader."""
        self._sweep.expire()
        self._sweep.refresh()
        left = self._sweep.found - self._visited
        return self._visit(left) if left else None

    def _visit(self, namespaces: set[int]) -> SocketState:
        filled, last = len(self._last), self._counters.read()
        for inode in namespaces:
            try:
                fd = self._reach.iterator(inode, self._link)
            except (OSError, Unsupported):
                if inode == self._reach.own:
                    raise
                continue  # gone meanwhile
            met, filled = filled, self._buffers[0].read(fd, filled)
            now = self._counters.read()
            grown = {name: int(now[name] - last[name]) for name in WITHOUT_ROWS}
            if filled > met or any(grown.values()):
                self._inhabited.add(inode)
            self._without_rows = {name: self._without_rows[name] + grown[name] for name in WITHOUT_ROWS}
            last = now
        self._visited |= namespaces
        self._last = self._buffers[0].records[:filled]
        half_open = self._half_open(self._without_rows["syn_recv"])
        return SocketState(self._last, self._before, half_open, **self._without_rows)

    def _half_open(self, syn_recv: int) -> Records:
        """Ask sock_diag who they are, when there are any: the iterator tells only how many."""
        if not syn_recv:
            return np.zeros(0, SOCKET)
        self._diag = self._diag or EveryNamespace(self._reach, self._sweep)
        return self._diag.half_open()

    def devices(self, sockets: Records) -> dict[int, str]:
        """See StateReader."""
        return self._sweep.devices(sockets)

    def close(self) -> None:
        """See StateReader."""
        if self._diag is not None:
            self._diag.close()


def run_pass(link: int, reach: NamespaceAccess) -> None:
    """One pass of an iterator in every namespace for its effect alone; what can't be reached is left."""
    sink = RecordBuffer(SOCKET)
    for inode in reach.namespaces():
        with suppress(OSError, TcptopError):
            sink.read(reach.iterator(inode, link), 0)
