"""A tick, step by step, at 1,000, 10,000 and 100,000 idle sockets; beside it ``ss -tinp`` and psutil, in turn."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Line, Nonsense, Note, figure
from tests.bench.setting import PATIENCE_S, ROOT, Held, Place, Setting, place, run_cpu_ms
from tests.support.lab import Traffic
from tests.support.leftovers import NETNS

BUDGETS_MS = {1_000: 12.0, 10_000: 30.0, 100_000: 200.0}
TIMES_SS = 10.0
WAYS = {"by descriptors": "descriptors", "by sock_diag": "sock_diag"}
STEPS = ("poll", "tracker", "findings", "view")
SETTLE_TICKS = 2  # those that adopt what is new, and learn whose it is
ASK_PSUTIL = """
import sys, time
import psutil
started = time.process_time()
found = len(psutil.net_connections("tcp"))
print(found, time.process_time() - started)
"""

Cost = dict[str, float]


class Way:
    """A ticker at work, and what its ticks cost."""

    def __init__(self, where: Place, reader: str) -> None:
        argv = [sys.executable, "-m", "tests.bench.ticker", str(where.cgroup), reader]
        self._ticker = Traffic(where.lab.popen(None, ["env", f"--chdir={ROOT}", *argv]))
        self._ticker.expect("ready", PATIENCE_S)

    def tick(self, least: int) -> Cost:
        """One tick. Raises Nonsense where it did not see so many sockets."""
        self._ticker.tell("tick")
        cost: Cost = json.loads(self._ticker.expect("ticked", PATIENCE_S))
        if cost["rows"] < least:
            raise Nonsense(f"a tick saw {cost['rows']:.0f} of {least} sockets")
        return cost


def whole(cost: Cost) -> float:
    """CPU of a tick, up to the screen: milliseconds, the helper's included."""
    return sum(cost[f"{step} cpu"] for step in STEPS) + cost["helper cpu"]


def ss_cpu_ms(where: Place, output: Path, least: int) -> float:
    """One ``ss -tinp`` in the namespace."""
    took = run_cpu_ms(["nsenter", f"--net={NETNS / where.ns}", "--", "ss", "-tinp"], output)
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    if lines < 2 * (least - least // 100):  # a line and its details for each, but for the listeners
        raise Nonsense(f"ss printed {lines} lines of {least} sockets")
    return took


def psutil_cpu_ms(where: Place, output: Path, least: int) -> float:
    """One ``psutil.net_connections("tcp")`` in the namespace, without the start of Python."""
    argv = ["nsenter", f"--net={NETNS / where.ns}", "--", sys.executable, "-c", ASK_PSUTIL]
    run_cpu_ms(argv, output)
    found, seconds = output.read_text().split()
    if int(found) < least:
        raise Nonsense(f"psutil found {found} of {least} sockets")
    return 1000 * float(seconds)


def lines_of(size: int, name: str, costs: list[Cost]) -> Iterator[Line]:
    """Of one way at one size."""
    head = f"{size:,} sockets {name}"
    yield figure(f"{head}: CPU to the screen", "ms", list(map(whole, costs)), BUDGETS_MS[size])
    for step in STEPS:
        yield figure(f"{head}: {step}, CPU", "ms", [cost[f"{step} cpu"] for cost in costs])
    yield figure(f"{head}: poll, clock", "ms", [cost["poll wall"] for cost in costs])
    yield figure(f"{head}: helper, CPU", "ms", [cost["helper cpu"] for cost in costs])


def rounds_of(setting: Setting, size: int) -> int:
    """How often each takes its turn."""
    return setting.of({1_000: 21, 10_000: 15, 100_000: 7}[size], {1_000: 5, 10_000: 3, 100_000: 3}[size])


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    sizes = (1_000, 10_000) if setting.quick else (1_000, 10_000, 100_000)
    with place() as where, tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "output")
        ways = {name: Way(where, reader) for name, reader in WAYS.items()}
        held = Held(where)
        before: dict[str, list[Cost]] = {}
        for size in sizes:
            held.grow(size)
            for way in ways.values():
                for _ in range(SETTLE_TICKS):
                    way.tick(size)
            costs: dict[str, list[Cost]] = {name: [] for name in ways}
            ss, other = [], []
            for _ in range(rounds_of(setting, size)):
                for name, way in ways.items():
                    costs[name].append(way.tick(size))
                ss.append(ss_cpu_ms(where, output, size))
                other.append(psutil_cpu_ms(where, output, size))
            for name, found in costs.items():
                yield from lines_of(size, name, found)
            yield figure(f"{size:,} sockets: ss -tinp, CPU", "ms", ss)
            yield figure(f"{size:,} sockets: psutil.net_connections, CPU", "ms", other)
            for name, found in costs.items():
                less = [peer / max(whole(cost), 1e-3) for peer, cost in zip(ss, found, strict=True)]
                budget = TIMES_SS if size == 100_000 else None
                yield figure(f"{size:,} sockets: ss takes so many times as much as {name}", "times", less, budget)
                if name in before:
                    grown = statistics.median(map(whole, found)) / statistics.median(map(whole, before[name]))
                    yield figure(f"{size // 10:,} to {size:,} sockets {name}: tenfold is linear", "fold", [grown], 10.0)
            before = costs
        if setting.quick:
            yield Note("100,000 sockets: left out by --quick")
