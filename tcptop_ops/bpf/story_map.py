"""What is read only of the connection that is looked at: its story; and what was seen of the operators."""

from __future__ import annotations

import numpy as np

from tcptop_ops.bpf import syscall
from tcptop_ops.bpf.cpu_counters import CpuCounters, possible_cpus
from tcptop_ops.model.fields import HAPPENINGS
from tcptop_ops.model.records import HAPPENING, SEEN, STORY, Records


class StoryMap:
    """Reads the map ``stories``: the last 64 happenings of each connection that had a bad one."""

    def __init__(self, map_fd: int) -> None:
        """Take ``map_fd``: a descriptor of the map."""
        self._fd = map_fd
        self._story = np.zeros(1, STORY)

    def read(self, cookie: int) -> Records:
        """HAPPENING rows, the oldest first; none for a connection with nothing to tell. Raises OSError."""
        try:
            syscall.lookup(self._fd, np.array([cookie], "u8"), self._story)
        except FileNotFoundError:
            return np.zeros(0, HAPPENING)
        return unrolled(self._story[0])


def unrolled(story: Records) -> Records:
    """Return the happenings of a STORY in their order."""
    told = int(story["told"])
    kept = np.arange(max(0, told - HAPPENINGS), told) % HAPPENINGS
    happenings: Records = story["happenings"][kept].copy()
    return happenings


class SamplesMap:
    """What was seen of the operators: of the host with the counters, of the watched connection in ``seen``."""

    def __init__(self, map_fd: int, counters: CpuCounters) -> None:
        """Take ``map_fd``: a descriptor of the map ``seen``, one entry with a value a CPU."""
        self._fd, self._counters = map_fd, counters
        self._values = np.zeros(possible_cpus(), SEEN)

    def read(self) -> Records:
        """Two SEEN rows: of the whole host, of the connection that is looked at. Raises OSError."""
        syscall.lookup(self._fd, np.zeros(1, "u4"), self._values)
        return np.stack([merged(self._counters.seen()), merged(self._values)])

    def forget(self) -> None:
        """Begin anew with another connection. Raises OSError."""
        self._values[:] = np.zeros((), SEEN)
        syscall.update(self._fd, np.zeros(1, "u4"), self._values)


def merged(values: Records) -> Records:
    """One SEEN of those of all CPUs: sums, and the last call of any."""
    total = np.zeros((), SEEN)
    for name in ("calls", "rtt"):
        total[name] = values[name].sum(axis=0)
    newest = values["last_ns"].argmax(axis=0)
    at = np.arange(len(newest))
    total["last_ns"] = values["last_ns"][newest, at]
    total["args"] = values["args"][newest, at]
    return total
