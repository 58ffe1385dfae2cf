"""The network namespaces as they come and go."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.arrays import device_keys
from tcptop_ops.model.records import Records

SWEEP_S = 5.0
"""Seconds between two searches for namespaces; ``expire`` asks for one at the next poll."""

THOROUGH_REST = 20
"""Rest after a thorough search, in multiples of its duration: it looks at each thread of the host."""


class Sweep:
    """The namespaces that exist (``found``), searched for every SWEEP_S or when ``expire`` was called."""

    def __init__(self, reach: NamespaceAccess) -> None:
        """Begin with this process's namespace alone; the first ``refresh`` searches."""
        self.reach = reach
        self.found = {reach.own}
        self._swept = 0.0
        self._searched = self._searching_s = 0.0
        self._devices: dict[int, str] = {}

    def refresh(self) -> bool:
        """Search for namespaces if it is time; return whether it was."""
        now = time.monotonic()
        if self._swept and now - self._swept < SWEEP_S:
            return False
        thoroughly = now - self._searched >= max(SWEEP_S, THOROUGH_REST * self._searching_s)
        self.found, self._swept = self.reach.namespaces(thoroughly), now
        if thoroughly:
            self._searched, self._searching_s = now, time.monotonic() - now
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
