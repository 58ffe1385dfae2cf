"""Very many sockets in TIME-WAIT, made in a few seconds in a namespace of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import Nonsense
from tests.bench.load import SHORT, Load, Path4
from tests.bench.setting import Place
from tests.support.netns import run

SERVERS = 4
"""Addresses that are connected to: each has local ports of its own, 64,512 at most."""

STEP_MS = 250
MOST_STEPS = 400
READY = """
cd /proc/sys/net/ipv4
echo 1048576 > tcp_max_tw_buckets
echo 0 > tcp_tw_reuse
echo 1024 65535 > ip_local_port_range
"""


def waiting(ns: str) -> int:
    """Sockets of a namespace in TIME-WAIT (/proc/net/sockstat)."""
    words = run(["cat", "/proc/net/sockstat"], ns=ns).split()
    return int(words[words.index("tw") + 1])


@contextmanager
def time_waits(where: Place, program: Path, count: int, label: str) -> Iterator[int]:
    """At least so many, which are gone afterwards, with their namespace. They last a minute. Raises Nonsense."""
    ns, outside = where.lab.namespace(label), where.lab.cgroup(label)
    run(["sh", "-ec", READY], ns=ns)
    started = where.lab.started
    try:
        loads = [
            Load(where.lab, program, SHORT, Path4("loopback", ns, ns, f"127.0.0.{n + 1}"), outside)
            for n in range(SERVERS)
        ]
        for step in range(MOST_STEPS):
            if waiting(ns) >= count:
                break
            loads[step % SERVERS].done(STEP_MS)
        else:
            raise Nonsense(f"{waiting(ns)} of {count} sockets are in TIME-WAIT")
        yield waiting(ns)
    finally:
        where.lab.end_since(started)
        run(["ip", "netns", "delete", ns])
