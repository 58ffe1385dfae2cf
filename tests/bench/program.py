"""The whole program under a terminal, at rest: CPU of a tick, kernel and paint included; memory, its helper's too."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.figures import Line, Nonsense, Note, figure
from tests.bench.seen import Seen, seen
from tests.bench.setting import Held, Setting, cpu_ns, peak_mb, place, resident_mb
from tests.live.started import helper_of

TICK_MS = {1_000: 12.0, 10_000: 30.0, 100_000: 200.0}
MONITOR_MB = {1_000: 100.0, 100_000: 220.0}
HELPER_MB = 15.0
IDLE_PERCENT = 1.0
WARM_S = 3


def cpu_of_each_second(screen: Seen, pids: list[int], seconds: int) -> list[float]:
    """Milliseconds of CPU that these processes took, for each second: of a tick."""
    found = []
    before, at = sum(map(cpu_ns, pids)), time.monotonic()
    for _ in range(seconds):
        screen.read_for(1.0)
        now, then = sum(map(cpu_ns, pids)), time.monotonic()
        found.append((now - before) / 1e6 / (then - at))
        before, at = now, then
    if not sum(found):
        raise Nonsense("the program did nothing")
    return found


def at_size(screen: Seen, pids: list[int], size: int, warm_s: float, seconds: int) -> Iterator[Line]:
    """What it takes while so many sockets rest."""
    screen.read_for(warm_s)
    each = cpu_of_each_second(screen, pids, seconds)
    head = f"{size:,} socket{'s' if size > 1 else ''}"
    yield figure(f"{head}: CPU of a tick with its paint", "ms", each, TICK_MS.get(size))
    if size == 1:
        yield figure(f"{head}: share of a core, 1 s delay", "%", [sum(each) / len(each) / 10], IDLE_PERCENT)
    monitor, helper = pids
    yield figure(f"{head}: memory of the monitor", "MB", [resident_mb(monitor)], MONITOR_MB.get(size))
    yield figure(f"{head}: memory of the monitor, at most so far", "MB", [peak_mb(monitor)])
    yield figure(f"{head}: memory of the helper", "MB", [resident_mb(helper)], HELPER_MB)


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    sizes = (1, 10_000) if setting.quick else (1, 1_000, 10_000, 100_000)
    with place() as where, seen(where.cgroup) as screen:
        screen.until_attached()
        pids = [screen.process.pid, helper_of(screen.process.pid)]
        held = Held(where)
        for size in sizes:
            held.grow(size)
            yield from at_size(screen, pids, size, setting.of(WARM_S, 1), setting.of(6, 2))
    if setting.quick:
        yield Note("1,000 and 100,000 sockets: left out by --quick")
