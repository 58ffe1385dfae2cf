"""What the program itself used of the host since the last look."""

from __future__ import annotations

from typing import NamedTuple


class OwnCost(NamedTuple):
    """CPU use since the last look, as a percentage of one CPU, and resident memory now."""

    cpu_pct: float  # of the whole process: more than 100 where several threads run
    thread_pct: float  # of the calling thread
    rss_bytes: int
