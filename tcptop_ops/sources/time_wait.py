"""How many sockets are in TIME-WAIT: as the kernel counts them in each namespace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from tcptop_ops.errors import TcptopError
from tcptop_ops.host.socket_counts import Counts
from tcptop_ops.sources.cpu_share import Clock, CpuShare
from tcptop_ops.sources.sock_diag import SockDiag

DUMP_SHARE = 0.02
"""Most of a processor for dumps of them, where a sandbox hides the count."""


class TimeWait:
    """Remembers them by namespace, since not every namespace is read at each tick. Used by one thread."""

    def __init__(self, clock: Clock = time.monotonic, cpu: Clock = time.thread_time) -> None:
        """Begin with none."""
        self._by_namespace: dict[int, int] = {}
        self._dumps = CpuShare(DUMP_SHARE, clock, cpu)

    def learn(self, counts: Mapping[int, Counts | None], diag: Callable[[int], SockDiag]) -> int:
        """Return how many there are. ``counts``: those that were read; where that is None ``diag`` is asked, at times.

        ``diag`` may raise OSError or TcptopError.
        """
        for namespace, of in counts.items():
            if of is not None:
                self._by_namespace[namespace] = of.time_wait
            elif self._dumps.allows:
                with suppress(OSError, TcptopError), self._dumps.spent():
                    self._by_namespace[namespace] = diag(namespace).count_time_wait()
        return sum(self._by_namespace.values())

    def keep(self, namespaces: Iterable[int]) -> None:
        """Forget all other namespaces."""
        kept = set(namespaces)
        self._by_namespace = {one: count for one, count in self._by_namespace.items() if one in kept}
