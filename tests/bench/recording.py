"""What a recording adds: CPU of the program with one and without, in turn; and how large a minute of it is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import Line, Nonsense, Note, figure
from tests.bench.setting import Held, Setting, cpu_ns, monitored, place

SOCKETS, TALKING = 10_000, 500
SHARE_POINTS = 5.0
MINUTE_MB = 20.0
WARM_S = 2.0
"""The first frame holds every socket."""


@contextmanager
def everybodys() -> Iterator[Path]:
    """A directory in which also a monitor that gave up root may write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def share(cgroup: Path, seconds: float, *options: str) -> float:
    """Percent of a core that the monitor takes."""
    with monitored(cgroup, *options) as monitor:
        time.sleep(WARM_S)
        before, begun = cpu_ns(monitor.process.pid), time.monotonic()
        time.sleep(seconds)
        return (cpu_ns(monitor.process.pid) - before) / 1e7 / (time.monotonic() - begun)


def recorded(cgroup: Path, seconds: float, directory: Path) -> tuple[float, float]:
    """The same with a recording, and the millions of bytes of its file. Raises Nonsense."""
    file = directory / "a.tcptop"
    found = share(cgroup, seconds, "--record", str(file))
    size = file.stat().st_size / 1e6
    file.unlink()
    if not size:
        raise Nonsense("nothing was recorded")
    return found, size


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    seconds, without, with_it = setting.of(5, 2), [], []
    head = f"{SOCKETS:,} sockets, {2 * TALKING:,} of them talk each second"
    with place() as where, everybodys() as directory:
        Held(where, talking=TALKING).grow(SOCKETS)
        for _ in range(setting.of(3, 1)):
            without.append(share(where.cgroup, seconds))
            with_it.append(recorded(where.cgroup, seconds, directory)[0])
        yield figure(f"{head}: share of a core", "%", without)
        yield figure("with --record", "%", with_it)
        yield figure("more with it", "points", [a - b for a, b in zip(with_it, without, strict=True)], SHARE_POINTS)
        if setting.quick:
            yield Note("a minute of the file: left out by --quick")
        else:
            yield figure("a minute of the file", "MB", [recorded(where.cgroup, 60 - WARM_S, directory)[1]], MINUTE_MB)
