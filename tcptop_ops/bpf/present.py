"""The present state of every socket, in every network namespace: from the TCP iterator, or from sock_diag."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf.cpu_counters import CpuCounters
from tcptop_ops.bpf.record_buffer import RecordBuffer
from tcptop_ops.errors import TcptopError, Unsupported
from tcptop_ops.inetdiag import Rows
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.reach import Reach
from tcptop_ops.sweep import EveryNamespace, Sweep

WITHOUT_ROWS = ("time_wait", "syn_recv")


@dataclass(frozen=True)
class Present:
    """All sockets of one pass, and those that have no row. ``before``: the rows of the last pass."""

    sockets: Records
    before: Records
    half_open: Records  # SOCKET rows of those in SYN-RECV, addresses and ports alone
    time_wait: int
    syn_recv: int


class PresentState(Protocol):
    """Where the present state comes from. The rows hold until the second next pass."""

    def read(self) -> Present:
        """One pass over every namespace. Raises OSError or TcptopError."""
        ...

    def devices(self, sockets: Records) -> dict[int, str]:
        """Names of the devices that these sockets are bound to, by ``device_keys``."""
        ...

    def rest(self) -> Present | None:
        """Add the namespaces that the pass left out, new ones too, as a socket was missing. None if there are none."""
        ...

    def close(self) -> None:
        """Let go of the namespaces."""
        ...


class Iterated:
    """By the TCP iterator: a record a socket, straight from its tcp_sock."""

    def __init__(self, link: int, counters: int, reach: Reach) -> None:
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

    def read(self) -> Present:
        """See PresentState."""
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

    def rest(self) -> Present | None:
        """See PresentState."""
        self._sweep.expire()
        self._sweep.refresh()
        left = self._sweep.found - self._visited
        return self._visit(left) if left else None

    def _visit(self, namespaces: set[int]) -> Present:
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
        return Present(self._last, self._before, half_open, **self._without_rows)

    def _half_open(self, syn_recv: int) -> Records:
        """Ask sock_diag who they are, when there are any: the iterator tells only how many."""
        if not syn_recv:
            return np.zeros(0, SOCKET)
        self._diag = self._diag or EveryNamespace(self._reach, self._sweep)
        return self._diag.half_open()

    def devices(self, sockets: Records) -> dict[int, str]:
        """See PresentState."""
        return self._sweep.devices(sockets)

    def close(self) -> None:
        """See PresentState."""
        if self._diag is not None:
            self._diag.close()


class Polled:
    """By a dump of sock_diag in each namespace, for kernels without BTF or iterators.

    ``cgroup``: a directory; only sockets made below it.
    """

    def __init__(self, reach: Reach, cgroup: str | None = None) -> None:
        """Take ``reach``: into the namespaces."""
        self._cgroup = cgroup
        self._diag = EveryNamespace(reach)
        self._newest, self._oldest = Rows(), Rows()
        self._last: Records = np.zeros(0, SOCKET)

    def read(self) -> Present:
        """See PresentState."""
        self._newest, self._oldest = self._oldest, self._newest
        dump = self._diag.dump(self._newest)
        sockets = dump.sockets if self._cgroup is None else gather(dump.sockets, self._within(dump.sockets))
        last, self._last = self._last, sockets
        half_open = self._diag.half_open() if dump.syn_recv else np.zeros(0, SOCKET)
        return Present(self._last, last, half_open, dump.time_wait, dump.syn_recv)

    def _within(self, sockets: Records) -> NDArray[np.bool_]:
        """Told by the inode numbers of the directories, as INET_DIAG_CGROUP_ID tells them."""
        ids = [os.stat(directory).st_ino for directory, _, _ in os.walk(self._cgroup or "/")]
        return np.isin(sockets["cgroup_id"], ids)

    def devices(self, sockets: Records) -> dict[int, str]:
        """See PresentState."""
        return self._diag.devices(sockets)

    def rest(self) -> Present | None:
        """See PresentState: at the next dump, which asks in every namespace anyhow."""
        self._diag.expire()
        return None

    def close(self) -> None:
        """See PresentState."""
        self._diag.close()


def run_pass(link: int, reach: Reach) -> None:
    """One pass of an iterator in every namespace for its effect alone; what can't be reached is left."""
    sink = RecordBuffer(SOCKET)
    for inode in reach.namespaces():
        with suppress(OSError, TcptopError):
            sink.read(reach.iterator(inode, link), 0)
