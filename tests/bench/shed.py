"""One core kept busy, as many connections as can be: what they lose, what the program takes and gives up."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from tests.bench import load
from tests.bench.figures import Line, Note, figure, ratios
from tests.bench.load import SHORT, Load
from tests.bench.setting import Setting, cpu_ns, monitored, place
from tests.support.lab import Traffic

BUSY = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
while True:
    pass
"""


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    with load.built() as program:
        if program is None:
            yield Note(load.NO_COMPILER)
            return
        with place() as where:
            load.ready(where.ns)
            cores = sorted(os.sched_getaffinity(0))
            argv = [sys.executable, "-I", "-c", BUSY, str(cores[-1])]
            Traffic(where.lab.popen(None, argv)).expect("ready")
            here = load.loopback(where.ns)
            loads = [Load(where.lab, program, SHORT, here, where.cgroup, cpu=core) for core in cores]
            with_it, without, shares, intervals = [], [], [], []
            told: set[str] = set()
            for _ in range(setting.of(5, 2)):
                with monitored(where.cgroup) as monitor:
                    seen, before = len(monitor.ticks), cpu_ns(monitor.process.pid)
                    milliseconds = setting.of(4000, 1000)
                    with_it.append(together(loads, milliseconds))
                    shares.append((cpu_ns(monitor.process.pid) - before) / 1e4 / milliseconds)
                    monitor.wait_for_tick()
                    ticks = monitor.ticks[seen:]
                    intervals += [tick["interval_s"] for tick in ticks]
                    told |= {f"callbacks {tick['callbacks_mode']}" for tick in ticks}
                    told |= {note for tick in ticks for note in tick["notes"]}
                without.append(together(loads, milliseconds))
            name = f"{SHORT.name} on all cores, one of them busy"
            yield figure(f"{name}: a second", "/s", without)
            yield figure(f"{name}: with the program", "ratio", ratios(with_it, without))
            yield figure("meanwhile: share of a core that the program takes", "%", shares)
            yield figure("meanwhile: from one tick to the next, 1 s wanted", "s", intervals)
            yield Note(f"meanwhile the program told: {'; '.join(sorted(told))}")


def together(loads: list[Load], milliseconds: int) -> float:
    """The sum of the rates of loads that run side by side."""
    ends = [one.begin(milliseconds) for one in loads]
    return sum(count / nanoseconds * 1e9 for count, nanoseconds in (end() for end in ends))
