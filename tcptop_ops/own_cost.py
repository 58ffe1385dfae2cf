"""What the monitor itself costs."""

from __future__ import annotations

import os
import time
from typing import NamedTuple


class OwnCost(NamedTuple):
    """Since the last look: share of one CPU, that of the thread that looks; and resident memory now."""

    cpu_pct: float
    thread_pct: float
    rss_bytes: int


class Meter:
    """Looks now and then. Used by one thread."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._thread = time.perf_counter(), time.process_time(), time.thread_time()

    def look(self) -> OwnCost:
        """What was used since the last look, or since the beginning."""
        wall, cpu, thread = time.perf_counter(), time.process_time(), time.thread_time()
        passed = max(wall - self._wall, 1e-9)
        found = OwnCost(100 * (cpu - self._cpu) / passed, 100 * (thread - self._thread) / passed, resident_bytes())
        self._wall, self._cpu, self._thread = wall, cpu, thread
        return found


def resident_bytes() -> int:
    """The second field of /proc/self/statm, in bytes; 0 where there is none."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
