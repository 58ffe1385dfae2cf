"""How many TCP sockets the kernel counts in a network namespace: two small files of /proc, and no look at any socket.

/proc/net/sockstat and sockstat6 have ``inuse``, by family (sock_prot_inuse_get()): the sockets in the kernel's hashes,
listeners and those that nobody holds among them. It leaves out what has no struct tcp_sock, which are TIME-WAIT and
handshakes in SYN-RECV, and what is in no hash: sockets in CLOSE. ``tw`` counts every struct inet_timewait_sock.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import NamedTuple

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess

SHARE_OF_DESCRIPTORS = 4
"""One of so many descriptors that this process may have is used for counts."""

UNKEPT_A_TICK = 32
"""Namespaces whose files are opened at a tick for this one time, as there is no room to keep them open."""

_BYTES = 4096


class Counts(NamedTuple):
    """Sockets of a namespace. Those of IPv4 that have IPv6 sockets (mapped addresses) are in ``inet6``."""

    inet: int
    inet6: int
    time_wait: int


def parse(sockstat: bytes, sockstat6: bytes) -> Counts:
    """Return what the two files say; ``sockstat6`` is empty without IPv6. Raises ValueError for anything else."""
    words = sockstat.partition(b"TCP: inuse ")[2].split(None, 5)  # 9 orphan 0 tw 0 ...: sockstat_seq_show()
    if len(words) < 5 or words[3] != b"tw":
        raise ValueError("sockstat has no line of TCP")
    inet6 = sockstat6.partition(b"TCP6: inuse ")[2].partition(b"\n")[0]
    return Counts(int(words[0]), int(inet6 or 0), int(words[4]))


def most_kept() -> int:
    """Return in how many namespaces files can be kept open: two in each."""
    return max(8, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16) // SHARE_OF_DESCRIPTORS // 2)


class SocketCounts:
    """Reads Counts, in the namespaces that are reached. Used by one thread."""

    def __init__(self, reach: NamespaceAccess, most: int | None = None) -> None:
        """Take what gives access to the namespaces: it stays its owner's. ``most``: keep open so many; None: by limit.

        A descriptor keeps its namespace alive: it is kept only where there are sockets, and closed by ``let_go``.
        """
        self._reach = reach
        self._most = most_kept() if most is None else most
        self._kept: dict[int, list[int]] = {}
        self._tried: dict[int, int] = {}  # of those that are not kept: the tick at which each was last tried
        self._tick = 0

    def read(self, namespaces: Iterable[int]) -> dict[int, Counts | None]:
        """Return the counts of these, None for one that can't be read.

        Where there are more than can be kept open, UNKEPT_A_TICK of the others are read at a call, in turn. The rest is
        missing.
        """
        self._tick += 1
        wanted = set(namespaces)
        others = sorted(wanted - self._kept.keys(), key=lambda one: (self._tried.get(one, 0), one))
        room = max(self._most - len(self._kept), UNKEPT_A_TICK)
        self._tried = {one: self._tried[one] for one in others if one in self._tried}
        self._tried |= dict.fromkeys(others[:room], self._tick)
        return {one: self._counts(one) for one in [*(wanted & self._kept.keys()), *others[:room]]}

    def _counts(self, namespace: int) -> Counts | None:
        fds = self._kept.pop(namespace, [])
        try:
            fds = fds or self._reach.socket_counts(namespace)
            read = [os.pread(fd, _BYTES, 0) for fd in fds]
            counts = parse(read[0], read[1] if len(read) > 1 else b"")
        except (OSError, Unsupported, ValueError, IndexError):
            _close(fds)
            return None
        if (counts.inet or counts.inet6) and len(self._kept) < self._most:
            self._kept[namespace] = fds
        else:
            _close(fds)
        return counts

    def let_go(self, of_others_than: Iterable[int]) -> None:
        """Close what is open of other namespaces than these."""
        for namespace in self._kept.keys() - set(of_others_than):
            _close(self._kept.pop(namespace))

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        self.let_go(())


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
