"""The program's per-CPU counters, read and added up."""

from __future__ import annotations

import numpy as np

from tcptop_ops.bpf import syscall
from tcptop_ops.model.records import COUNTERS, Records


class CpuCounters:
    """The program's per-CPU counters."""

    def __init__(self, map_fd: int) -> None:
        """Take ``map_fd``: a descriptor of the map."""
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
