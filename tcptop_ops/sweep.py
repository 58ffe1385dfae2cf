"""The network namespaces as they come and go, and sock_diag in each of them."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import numpy as np

from tcptop_ops.errors import TcptopError, Unsupported
from tcptop_ops.inetdiag import Dump, Rows
from tcptop_ops.netns import Namespaces
from tcptop_ops.snapshot import Records, device_keys
from tcptop_ops.sockdiag import SockDiag

SWEEP_S = 5.0
"""Between two looks for namespaces that came or went; a row of the map without a socket asks for one at once."""


class SweptNamespaces:
    """The namespaces, looked for again every SWEEP_S, or at once when ``expire`` was called."""

    def __init__(self) -> None:
        self.all = Namespaces()
        self._swept = 0.0
        self._devices: dict[int, str] = {}

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

    def devices(self, sockets: Records) -> dict[int, str]:
        """Names by ``device_keys``, for the devices that these sockets are bound to; each is looked up once."""
        bound = sockets["ifindex"] != 0
        if not bound.any():
            return self._devices
        keys = np.unique(device_keys(sockets)[bound]).tolist()
        wanted = {key >> 32 for key in keys if key not in self._devices} & self.all.fds.keys()
        if wanted:
            self._learn_devices(wanted)
        self._devices |= {key: "" for key in keys if key not in self._devices}
        return self._devices

    def _learn_devices(self, wanted: set[int]) -> None:
        with suppress(TcptopError), self.all.each() as visit:
            for inode in visit:
                if inode in wanted:
                    self._devices |= {inode << 32 | index: name for index, name in socket.if_nameindex()}


class EveryNamespace:
    """Asks sock_diag in every namespace that may be entered; answers like one SockDiag.

    ``denied``: there are others, but entering them takes CAP_SYS_ADMIN.
    """

    def __init__(self) -> None:
        self._namespaces = SweptNamespaces()
        self._diags: dict[int, tuple[SockDiag, tuple[Rows, Rows]]] = {}
        self.denied = False

    def dump(self, rows: Rows | None = None) -> Dump:
        """All sockets of all namespaces; the array is a new one where there are several. ``rows`` is not needed.

        Raises Failed or Unsupported, as SockDiag does.
        """
        self._open(self._namespaces.refresh())
        dumps = []
        for inode, (diag, (newest, oldest)) in self._diags.items():
            dumps.append(diag.dump(rows=oldest))
            self._diags[inode] = (diag, (oldest, newest))
        merged = Dump(dumps[0].sockets if len(dumps) == 1 else np.concatenate([dump.sockets for dump in dumps]))
        for dump in dumps:
            merged.time_wait += dump.time_wait
            merged.syn_recv += dump.syn_recv
            merged.info_bytes = min(merged.info_bytes, dump.info_bytes)
            merged.cgroups |= dump.cgroups
            merged.interrupted |= dump.interrupted
        return merged

    def half_open(self) -> Records:
        """Who waits in SYN-RECV, in all namespaces."""
        self._open(self._namespaces.refresh())
        return np.concatenate([diag.half_open() for diag, _ in self._diags.values()])

    def _open(self, namespaces: Namespaces) -> None:
        """A netlink socket in each namespace: it goes on speaking for it afterwards."""
        for inode in self._diags.keys() - namespaces.fds.keys():
            self._diags.pop(inode)[0].close()
        if namespaces.own not in self._diags:
            self._diags[namespaces.own] = (SockDiag(netns=namespaces.own), (Rows(), Rows()))
        if self.denied or namespaces.fds.keys() <= self._diags.keys():
            return
        try:
            with namespaces.each() as visit:
                for inode in visit:
                    if inode not in self._diags:
                        self._diags[inode] = (SockDiag(netns=inode), (Rows(), Rows()))
        except Unsupported:
            self.denied = True

    def devices(self, sockets: Records) -> dict[int, str]:
        """See SweptNamespaces."""
        return self._namespaces.devices(sockets)

    def expire(self) -> None:
        """Look for new namespaces at the next dump."""
        self._namespaces.expire()

    def close(self) -> None:
        """Close all netlink sockets, let go of the namespaces."""
        for diag, _ in self._diags.values():
            diag.close()
        self._diags.clear()
        self._namespaces.all.close()
