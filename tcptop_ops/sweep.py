"""The list of network namespaces, kept up to date as they come and go, and sock_diag in each of them."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.inetdiag import Dump, Rows
from tcptop_ops.model.arrays import device_keys
from tcptop_ops.model.records import Records
from tcptop_ops.reach import Reach
from tcptop_ops.sockdiag import WITHOUT_TIME_WAIT, SockDiag, new_buffer

COUNT_REST = 10
"""Rest after a count of the TIME-WAIT sockets, in multiples of its duration: a proxy may have a million of them."""

SWEEP_S = 5.0
"""Seconds between two searches for namespaces; ``expire`` asks for one at the next poll."""


class Sweep:
    """The namespaces that exist (``found``), searched for every SWEEP_S or when ``expire`` was called."""

    def __init__(self, reach: Reach) -> None:
        """Begin with this process's namespace alone; the first ``refresh`` searches."""
        self.reach = reach
        self.found = {reach.own}
        self._swept = 0.0
        self._devices: dict[int, str] = {}

    def refresh(self) -> bool:
        """Search for namespaces if it is time; return whether it was."""
        now = time.monotonic()
        if self._swept and now - self._swept < SWEEP_S:
            return False
        self.found, self._swept = self.reach.namespaces(), now
        self._devices = {key: name for key, name in self._devices.items() if key >> 32 in self.found}
        return True

    def expire(self) -> None:
        """Have the next ``refresh`` search in any case."""
        self._swept = 0.0

    def devices(self, sockets: Records) -> dict[int, str]:
        """Return the names of the devices that these sockets are bound to, by ``device_keys``; "" where unknown.

        Each is looked up once, so the result may have further ones. A dict that was returned is not changed later, as
        the snapshot that has it may be read by another thread.
        """
        bound = sockets["ifindex"] != 0
        if not bound.any():
            return self._devices
        keys = np.unique(device_keys(sockets)[bound]).tolist()
        if all(key in self._devices for key in keys):
            return self._devices
        found: dict[int, str] = {}
        for inode in {key >> 32 for key in keys if key not in self._devices} & self.found:
            with suppress(OSError, Unsupported):
                found |= {inode << 32 | index: name for index, name in self.reach.devices(inode).items()}
        self._devices = dict.fromkeys(keys, "") | self._devices | found
        return self._devices


class EveryNamespace:
    """Lists the sockets of every namespace that is reached, as a SockDiag does those of one."""

    def __init__(self, reach: Reach, sweep: Sweep | None = None) -> None:
        """Take what gives access to the namespaces, and what knows which there are. Sockets are opened when needed."""
        self._reach = reach
        self._sweep = sweep or Sweep(reach)
        self._diags: dict[int, SockDiag] = {}
        self._buffer = new_buffer()
        self._time_wait = 0
        self._counted = self._counting_s = 0.0

    def dump(self, rows: Rows | None = None) -> Dump:
        """List the sockets of all namespaces. Raises Failed or Unsupported, as SockDiag does.

        The result's array is a part of ``rows``, if given, and is overwritten when that is used again. ``time_wait``
        may be older than the rest: see COUNT_REST.
        """
        self._open()
        rows = Rows() if rows is None else rows
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
