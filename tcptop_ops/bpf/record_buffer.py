"""A record array that descriptors are read into, and that grows where it is too small."""

from __future__ import annotations

import os

import numpy as np

from tcptop_ops.bpf import syscall
from tcptop_ops.model.records import Records


class RecordBuffer:
    """A record array that is used again, twice as large whenever it was too small."""

    def __init__(self, dtype: np.dtype[np.void], count: int = 4096) -> None:
        """Allocate ``count`` records."""
        self.records: Records = np.zeros(count, dtype)

    def _grow(self, keep: int) -> None:
        larger = np.zeros(len(self.records) * 2, self.records.dtype)
        larger[:keep] = self.records[:keep]
        self.records = larger

    def filled_from(self, fd: int) -> Records:
        """All that a descriptor has to say, which holds until the next call. Closes it."""
        count = self.read(fd, 0)
        return self.records[:count]

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
