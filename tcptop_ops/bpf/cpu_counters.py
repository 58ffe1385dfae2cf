"""The program's per-CPU counters, read and added up; what it saw of the operators on the whole host is among them."""

from __future__ import annotations

import numpy as np

from tcptop_ops.bpf import syscall
from tcptop_ops.model.records import COUNTERS, CPU, Records


class CpuCounters:
    """The program's per-CPU counters."""

    def __init__(self, map_fd: int) -> None:
        """Take ``map_fd``: a descriptor of the map."""
        self._fd = map_fd
        self._values = np.zeros(possible_cpus(), CPU)

    def read(self) -> Records:
        """All CPUs together: one COUNTERS. Raises OSError."""
        values = self._read()["counters"]
        total = np.zeros((), COUNTERS)
        for name in COUNTERS.names or ():
            total[name] = values[name].sum(axis=0)
        return total

    def seen(self) -> Records:
        """Return what was seen of the operators: a SEEN a CPU, which holds until the next read. Raises OSError."""
        seen: Records = self._read()["seen"]
        return seen

    def _read(self) -> Records:
        syscall.lookup(self._fd, np.zeros(1, "u4"), self._values)
        return self._values


def possible_cpus() -> int:
    """How many values a per-CPU map has: the possible CPUs, not those that are on (libbpf_num_possible_cpus)."""
    with open("/sys/devices/system/cpu/possible") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
