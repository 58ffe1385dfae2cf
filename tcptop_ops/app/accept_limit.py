"""What limits a listener's queue of connections that wait to be accepted: listen(2), or net.core.somaxconn."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tcptop_ops.explain.listener_facts import binds


@dataclass(frozen=True)
class AcceptLimit:
    """net.core.somaxconn of one network namespace, that of this process. ``netns`` is 0 where it is not known."""

    netns: int = 0
    somaxconn: int = 0

    def of(self, netns: int) -> int | None:
        """Return somaxconn of this namespace (its inode number); None: not known."""
        return self.somaxconn if self.netns and netns == self.netns else None

    def explained(self, netns: int | None, limit: int | None) -> str:
        """Return what makes the limit of a listener's queue; "" where there is no limit, or nothing is known."""
        known = self.of(netns or 0)
        return "" if limit is None or known is None else binds(limit, known)


def read_accept_limit() -> AcceptLimit:
    """Return that of this process, asked for while there is privilege; where it can't be read, one that knows none."""
    try:
        netns = os.stat("/proc/self/ns/net").st_ino
        with open("/proc/sys/net/core/somaxconn", "rb") as file:
            return AcceptLimit(netns, int(file.read()))
    except OSError:
        return AcceptLimit()
