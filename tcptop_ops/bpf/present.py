"""The present state of every socket, in every network namespace: from the TCP iterator, or from sock_diag."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tcptop_ops.bpf import syscall
from tcptop_ops.errors import TcptopError
from tcptop_ops.netns import Namespaces
from tcptop_ops.snapshot import COUNTERS, SOCKET, Records
from tcptop_ops.sockdiag import SockDiag

SWEEP_S = 2.0
"""Between two looks for namespaces that came or went."""


@dataclass(frozen=True)
class Present:
    """All sockets of one pass, and those that have no row. ``before``: the rows of the last pass."""

    sockets: Records
    before: Records
    time_wait: int
    syn_recv: int


class PresentState(Protocol):
    """Where the present state comes from. The rows hold until the second next pass."""

    def read(self) -> Present:
        """One pass over every namespace. Raises OSError or TcptopError."""
        ...

    def expire(self) -> None:
        """Look for new namespaces at the next pass: a socket was missing."""
        ...

    def close(self) -> None:
        """Let go of the namespaces."""
        ...


class Buffer:
    """A record array that is used again, twice as large whenever it was too small."""

    def __init__(self, dtype: np.dtype[np.void], count: int = 4096) -> None:
        self.records: Records = np.zeros(count, dtype)

    def _grow(self, keep: int) -> None:
        larger = np.zeros(len(self.records) * 2, self.records.dtype)
        larger[:keep] = self.records[:keep]
        self.records = larger

    def append(self, rows: Records, filled: int) -> int:
        """Put rows behind the first ``filled``: how many there are then."""
        while filled + len(rows) > len(self.records):
            self._grow(filled)
        self.records[filled : filled + len(rows)] = rows
        return filled + len(rows)

    def read(self, fd: int, filled: int) -> int:
        """Append all that a descriptor has to say to ``filled`` rows: how many there are then. Closes it."""
        size = self.records.dtype.itemsize
        try:
            at = filled * size
            while True:
                raw = memoryview(self.records.view(np.uint8).data)
                at = syscall.read_records(fd, raw, at)
                if at < len(raw):
                    return at // size
                del raw
                self._grow(at // size)
        finally:
            os.close(fd)


class SweptNamespaces:
    """The namespaces, looked for again every SWEEP_S, or at once when ``expire`` was called."""

    def __init__(self) -> None:
        self.all = Namespaces()
        self._swept = 0.0

    def refresh(self) -> Namespaces:
        """Those that exist, as far as the last look told."""
        now = time.monotonic()
        if now - self._swept >= SWEEP_S:
            self.all.refresh()
            self._swept = now
        return self.all

    def expire(self) -> None:
        """Look again next time."""
        self._swept = 0.0


class Iterated:
    """By the TCP iterator: a record a socket, straight from its tcp_sock."""

    def __init__(self, link: int, counters: int) -> None:
        self._link = link
        self._counters = CpuCounters(counters)
        self._namespaces = SweptNamespaces()
        self._buffers = [Buffer(SOCKET), Buffer(SOCKET)]
        self._last: Records = np.zeros(0, SOCKET)

    def read(self) -> Present:
        """See PresentState."""
        before = self._counters.read()
        self._buffers.reverse()
        filled = 0
        with self._namespaces.refresh().each() as visit:
            for _ in visit:
                filled = self._buffers[0].read(syscall.create_iterator(self._link), filled)
        after = self._counters.read()
        grown = [int(after[name] - before[name]) for name in ("time_wait", "syn_recv")]
        last, self._last = self._last, self._buffers[0].records[:filled]
        return Present(self._last, last, *grown)

    def expire(self) -> None:
        """See PresentState."""
        self._namespaces.expire()

    def close(self) -> None:
        """See PresentState."""
        self._namespaces.all.close()


class Polled:
    """By a dump of sock_diag in each namespace, for kernels without BTF or iterators."""

    def __init__(self) -> None:
        self._namespaces = SweptNamespaces()
        self._diags: dict[int, SockDiag] = {}
        self._buffers = [Buffer(SOCKET), Buffer(SOCKET)]
        self._last: Records = np.zeros(0, SOCKET)

    def read(self) -> Present:
        """See PresentState."""
        namespaces = self._namespaces.refresh()
        self._open(namespaces)
        self._buffers.reverse()
        filled = time_wait = syn_recv = 0
        for diag in self._diags.values():
            dump = diag.dump()
            filled = self._buffers[0].append(dump.sockets, filled)
            time_wait, syn_recv = time_wait + dump.time_wait, syn_recv + dump.syn_recv
        last, self._last = self._last, self._buffers[0].records[:filled]
        return Present(self._last, last, time_wait, syn_recv)

    def _open(self, namespaces: Namespaces) -> None:
        """A netlink socket in each namespace: it goes on speaking for it afterwards."""
        for inode in self._diags.keys() - namespaces.fds.keys():
            self._diags.pop(inode).close()
        if namespaces.fds.keys() <= self._diags.keys():
            return
        with namespaces.each() as visit:
            for inode in visit:
                if inode not in self._diags:
                    self._diags[inode] = SockDiag(netns=inode)

    def expire(self) -> None:
        """See PresentState."""
        self._namespaces.expire()

    def close(self) -> None:
        """See PresentState."""
        for diag in self._diags.values():
            diag.close()
        self._namespaces.all.close()


class CpuCounters:
    """The program's per-CPU counters."""

    def __init__(self, map_fd: int) -> None:
        self._fd = map_fd
        self._values = np.zeros(possible_cpus(), COUNTERS)

    def read(self) -> Records:
        """All CPUs together: one COUNTERS. Raises OSError."""
        syscall.lookup(self._fd, np.zeros(1, "u4"), self._values)
        total = np.zeros((), COUNTERS)
        for name in COUNTERS.names or ():
            total[name] = self._values[name].sum(axis=0)
        return total


def possible_cpus() -> int:
    """How many values a per-CPU map has: the possible CPUs, not those that are on (libbpf_num_possible_cpus)."""
    with open("/sys/devices/system/cpu/possible") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1


def run_pass(link: int) -> None:
    """One pass of an iterator in every namespace for its effect alone; what can't be reached is left."""
    namespaces = Namespaces()
    sink = Buffer(SOCKET)
    with suppress(OSError, TcptopError):
        namespaces.refresh()
        with namespaces.each() as visit:
            for _ in visit:
                sink.read(syscall.create_iterator(link), 0)
    namespaces.close()
