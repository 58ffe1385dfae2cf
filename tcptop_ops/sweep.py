"""The network namespaces as they come and go, and sock_diag in each of them."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.inetdiag import Dump, Rows
from tcptop_ops.reach import Reach
from tcptop_ops.snapshot import Records, device_keys
from tcptop_ops.sockdiag import WITHOUT_TIME_WAIT, SockDiag, new_buffer

COUNT_REST = 10
"""So many times as long as it took is the least between two counts of TIME-WAIT: a proxy may have a million of them."""

SWEEP_S = 5.0
"""Between two looks for namespaces that came or went; a row of the map without a socket asks for one at once."""


class Sweep:
    """Which namespaces there are: looked for every SWEEP_S, or at once when ``expire`` was called."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.found = {reach.own}
        self._swept = 0.0
        self._devices: dict[int, str] = {}

    def refresh(self) -> bool:
        """Look, if it is time. True if it was."""
        now = time.monotonic()
        if self._swept and now - self._swept < SWEEP_S:
            return False
        self.found, self._swept = self.reach.namespaces(), now
        self._devices = {key: name for key, name in self._devices.items() if key >> 32 in self.found}
        return True

    def expire(self) -> None:
        """Look again next time."""
        self._swept = 0.0

    def devices(self, sockets: Records) -> dict[int, str]:
        """Names by ``device_keys``, for the devices that these sockets are bound to; each is looked up once."""
        bound = sockets["ifindex"] != 0
        if not bound.any():
            return self._devices
        keys = np.unique(device_keys(sockets)[bound]).tolist()
        for inode in {key >> 32 for key in keys if key not in self._devices} & self.found:
            with suppress(OSError, Unsupported):
                self._devices |= {inode << 32 | index: name for index, name in self.reach.devices(inode).items()}
        self._devices |= {key: "" for key in keys if key not in self._devices}
        return self._devices


class EveryNamespace:
    """Asks sock_diag in every namespace that is reached; answers like one SockDiag."""

    def __init__(self, reach: Reach, sweep: Sweep | None = None) -> None:
        self._reach = reach
        self._sweep = sweep or Sweep(reach)
        self._diags: dict[int, SockDiag] = {}
        self._buffer = new_buffer()
        self._time_wait = 0
        self._counted = self._counting_s = 0.0

    def dump(self, rows: Rows | None = None) -> Dump:
        """All sockets of all namespaces. Raises Failed or Unsupported, as SockDiag does.

        The array belongs to ``rows`` where given: it holds until that is used again.
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
        """Who waits in SYN-RECV, in all namespaces."""
        self._open()
        return np.concatenate([diag.half_open() for diag in self._diags.values()])

    def _open(self) -> None:
        """A netlink socket in each namespace: it goes on speaking for it afterwards."""
        self._sweep.refresh()
        self.let_go()
        for inode in self._sweep.found - self._diags.keys():
            with suppress(OSError, Unsupported):  # gone meanwhile
                self._diags[inode] = SockDiag(self._reach.diag(inode), inode, self._buffer)

    def let_go(self) -> None:
        """Of namespaces that are no longer found: a netlink socket would keep one alive."""
        for inode in self._diags.keys() - self._sweep.found:
            self._diags.pop(inode).close()

    def devices(self, sockets: Records) -> dict[int, str]:
        """See Sweep."""
        return self._sweep.devices(sockets)

    def expire(self) -> None:
        """Look for new namespaces at the next dump."""
        self._sweep.expire()

    def close(self) -> None:
        """Close all netlink sockets; ``reach`` is its owner's."""
        for diag in self._diags.values():
            diag.close()
        self._diags.clear()
