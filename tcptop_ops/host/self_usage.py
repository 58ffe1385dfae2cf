"""What this process uses of the host: CPU time and resident memory."""

from __future__ import annotations

import os
import time

from tcptop_ops.model.usage import OwnCost


class Meter:
    """Measures the cost between two looks. Used by one thread, whose share it measures, too."""

    def __init__(self) -> None:
        """Begin the first interval."""
        self._wall, self._cpu, self._thread = time.perf_counter(), time.process_time(), time.thread_time()

    def look(self) -> OwnCost:
        """Return the cost since the last look, or since the beginning."""
        wall, cpu, thread = time.perf_counter(), time.process_time(), time.thread_time()
        passed = max(wall - self._wall, 1e-9)
        found = OwnCost(100 * (cpu - self._cpu) / passed, 100 * (thread - self._thread) / passed, resident_bytes())
        self._wall, self._cpu, self._thread = wall, cpu, thread
        return found


def resident_bytes() -> int:
    """Return the resident memory of this process (second field of /proc/self/statm); 0 where /proc is missing."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
