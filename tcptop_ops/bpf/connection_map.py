"""The map ``conns``: what only events tell, a row a connection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf import syscall
from tcptop_ops.model.enums import WritingOperator
from tcptop_ops.model.records import EVENTS, Records


class ConnectionMap:
    """The map ``conns``, read in one batch; not at all while nothing that writes a row is called.

    A call is counted before it writes: only what two reads in a row left alone is known to rest.
    """

    def __init__(self, map_fd: int) -> None:
        """Take ``map_fd``: a descriptor of the map."""
        self._fd = map_fd
        self._keys, self._values = np.zeros(4096, "u8"), np.zeros(4096, EVENTS)
        self._count = 0
        self._written: list[bytes] = []
        self.is_same = False
        """Whether the last ``read`` returned what the one before did: nothing was called that writes a row."""

    def read(self, counters: Records) -> tuple[NDArray[np.uint64], Records]:
        """Keys and values, which hold until the next read. ``counters``: read before. Raises OSError."""
        written = counters["calls"][list(WritingOperator)].tobytes() + counters["adopted"].tobytes()
        self.is_same = self._written == [written, written]
        if not self.is_same:
            self._count = self._read()
            self._written = [*self._written[-1:], written]
        return self._keys[: self._count], self._values[: self._count]

    def _read(self) -> int:
        while True:
            count = syscall.lookup_batch(self._fd, self._keys, self._values)
            if count is not None:
                return count
            larger = 2 * len(self._keys)
            self._keys, self._values = np.zeros(larger, "u8"), np.zeros(larger, EVENTS)

    def delete(self, keys: NDArray[np.uint64]) -> None:
        """Delete these rows. Raises OSError."""
        if len(keys):
            syscall.delete_batch(self._fd, keys)
            self._written = []
