"""The load generator (``load.c``): built, and at work at both ends of a path. Rates, and pairs of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Nonsense
from tests.support.lab import Lab, Link, Traffic
from tests.support.netns import run

SOURCE = Path(__file__).with_name("load.c")
COMPILERS = ("cc", "gcc", "clang")
NO_COMPILER = f"no C compiler ({', '.join(COMPILERS)}): no traffic"
PATIENCE_S = 30.0
TIME_WAIT_BUCKETS = 1024
"""Of the namespaces: else a minute's connections would wait there, and each new one would look longer for a port."""


@dataclass(frozen=True)
class Kind:
    """A sort of traffic: ``mode`` and ``connections`` of load.c."""

    name: str
    mode: str
    connections: int = 1

    @property
    def server(self) -> str:
        return "sink" if self.mode == "bulk" else "echo"


EXCHANGE = Kind("request/response of 1 B", "rr")
MIXED = Kind("64 connections of mixed sizes", "mixed", 64)
SHORT = Kind("connect-request-close", "crr")
BULK = Kind("bulk", "bulk")
BULK_64 = Kind("bulk, 64 connections", "bulk", 64)


def compiler() -> str | None:
    """The machine's, if it has one."""
    return next((name for name in COMPILERS if shutil.which(name)), None)


@contextmanager
def built() -> Iterator[Path | None]:
    """The program, for as long as this is open; None without a compiler. Raises Nonsense where it can't be built."""
    name = compiler()
    if name is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, "load")
        done = subprocess.run([name, "-O2", "-o", made, SOURCE], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Nonsense(f"{SOURCE.name} does not compile: {done.stderr.strip()}")
        yield made


def last_core() -> int:
    """Where both ends of a load run: the monitor has the others, and no exchange waits for a core to wake up."""
    return max(os.sched_getaffinity(0))


def ready(*namespaces: str) -> None:
    """Make namespaces fit for tens of thousands of connections a second."""
    for ns in namespaces:
        run(["sh", "-ec", f"echo {TIME_WAIT_BUCKETS} > /proc/sys/net/ipv4/tcp_max_tw_buckets"], ns=ns)


@dataclass(frozen=True)
class Path4:
    """From a namespace to an address in another one, or in the same."""

    name: str
    client: str
    server: str
    address: str


def loopback(ns: str) -> Path4:
    """Within a namespace."""
    return Path4("loopback", ns, ns, "127.0.0.1")


def over(link: Link) -> Path4:
    """From one end to the other."""
    return Path4("veth", link.a.ns, link.b.ns, link.b.ipv4)


class Load:
    """A client and its server, ready; they run on one core, in a cgroup."""

    def __init__(
        self, lab: Lab, program: Path, kind: Kind, path: Path4, cgroup: Path, *, cpu: int | None = None
    ) -> None:
        self.kind, self.path = kind, path
        core = str(last_core() if cpu is None else cpu)
        server = Traffic(
            lab.popen(path.server, [str(program), "serve", kind.server, path.address, core], cgroup=cgroup)
        )
        port = server.expect("ready")
        words = [str(program), "drive", kind.mode, path.address, port, str(kind.connections), core]
        self._client = Traffic(lab.popen(path.client, words, cgroup=cgroup))
        self._client.expect("ready")

    @property
    def name(self) -> str:
        return f"{self.kind.name}, {self.path.name}"

    def rate(self, milliseconds: int) -> float:
        """Exchanges, connections or bytes a second, of new connections. Raises Nonsense where nothing was done."""
        count, nanoseconds = self.done(milliseconds)
        return count / nanoseconds * 1e9

    def done(self, milliseconds: int) -> tuple[int, int]:
        """How many of them, in how many nanoseconds. Raises Nonsense where nothing was done."""
        return self.begin(milliseconds)()

    def begin(self, milliseconds: int) -> Callable[[], tuple[int, int]]:
        """As ``done``, beside something else: what is returned waits for the end."""
        self._client.tell(str(milliseconds))

        def end() -> tuple[int, int]:
            count, nanoseconds = map(int, self._client.expect("done", PATIENCE_S + milliseconds / 1000).split())
            if count <= 0 or nanoseconds <= 0:
                raise Nonsense(f"{self.name}: no requests")
            return count, nanoseconds

        return end


@dataclass
class Pairs:
    """Rates of one load, with and without what is measured."""

    with_it: list[float]
    without: list[float]


def pairs(
    loads: Sequence[Load], measured: Callable[[], AbstractContextManager[object]], rounds: int, milliseconds: int
) -> list[Pairs]:
    """Of each load so many pairs: all of them with it, all of them without, and again."""
    found = [Pairs([], []) for _ in loads]
    for _ in range(rounds):
        with measured():
            for load, into in zip(loads, found, strict=True):
                into.with_it.append(load.rate(milliseconds))
        for load, into in zip(loads, found, strict=True):
            into.without.append(load.rate(milliseconds))
    return found
