"""This build against an older one: ``python -m tests.bench against COMMIT [--quick] [--json FILE] [--markdown]``.

Both are measured in turn, in one run, under the same load, with their default settings. Each value is that of a round;
a ratio is of the two builds in the same round.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tcptop_ops.bpf import kernel_calls
from tests.bench import load
from tests.bench.builds import Build, Values, compared, cpu_ms_a_second, family, in_turn, more
from tests.bench.figures import Figure, Line, Nonsense, Note, figure, ratios
from tests.bench.load import BULK, EXCHANGE, SHORT, Kind, Load
from tests.bench.seen import Seen, seen
from tests.bench.setting import Held, Monitor, Place, monitored, place, resident_mb, shared_out_mb
from tests.bench.tick import ss_cpu_ms
from tests.bench.time_wait import time_waits

KEPT = {EXCHANGE: 0.98, SHORT: 0.93, BULK: 0.99}
RUN_TIME = slice(192, 208)  # run_time_ns and run_cnt of struct bpf_prog_info
STATISTICS = 32  # BPF_ENABLE_STATS


@dataclass(frozen=True)
class Plan:
    """How much is measured. ``budgets``: whether its figures are held against them."""

    sizes: tuple[int, ...] = (1_000, 10_000)
    large: int = 100_000
    talking: tuple[int, ...] = (1_000, 10_000, 100_000)
    waiting: int = 60_000
    rounds: int = 4
    warm_s: float = 4.0
    settle_s: float = 2.5
    seconds: float = 4.0
    starts: int = 9
    traffic_rounds: int = 5
    traffic_ms: int = 600
    budgets: bool = True

    def budget(self, value: float) -> float | None:
        """A budget, where it is for what is measured."""
        return value if self.budgets else None


QUICK = Plan(
    sizes=(500,),
    large=2_000,
    talking=(200, 2_000),
    waiting=3_000,
    rounds=1,
    warm_s=1.0,
    settle_s=1.0,
    seconds=1.0,
    starts=2,
    traffic_rounds=3,
    traffic_ms=200,
    budgets=False,
)


@dataclass(frozen=True)
class Comparison:
    """Where two builds are measured, and how much."""

    builds: tuple[Build, Build]
    plan: Plan

    def each(self, rounds: int) -> Iterator[Build]:
        """Both builds, round by round."""
        for number in range(rounds):
            yield from in_turn(self.builds, number)

    def parts(self) -> dict[str, Callable[[], Iterator[Line]]]:
        """What is measured, by name, in the order of running."""
        return {"load": self.under_load, "kernel": self.in_kernel, "start": self.start, "traffic": self.traffic}

    # --- the whole program

    def _warm(self, screen: Seen) -> None:
        screen.until_attached()
        screen.until(screen.shows_rows, "a screen of connections")
        screen.read_for(self.plan.warm_s)

    def under_load(self) -> Iterator[Line]:
        """CPU and memory, by how many sockets there are, how many of them move, and how many only wait."""
        with place() as where, load.built() as program:
            held = Held(where)
            small = Values[float]()
            for size in self.plan.sizes:
                held.grow(size)
                found = self._cpu(where)
                small = found if size == self.plan.sizes[0] else small
                yield from compared(f"{size:,} sockets at rest, CPU a second", "ms", found)
                if size == self.plan.sizes[0] and program is not None:
                    yield from self._time_wait(where, program, small)
            held.grow(self.plan.large)
            yield from self._large(where, held)

    def _cpu(self, where: Place) -> Values[float]:
        found = Values[float]()
        for build in self.each(self.plan.rounds):
            with seen(where.cgroup, root=build.root) as screen:
                self._warm(screen)
                found.of(build).append(cpu_ms_a_second(screen, self.plan.seconds))
        return found

    def _time_wait(self, where: Place, program: Path, without: Values[float]) -> Iterator[Line]:
        found = Values[float]()
        for number in range(self.plan.rounds):
            with time_waits(where, program, self.plan.waiting, f"waiting{number}"):
                for build in in_turn(self.builds, number):
                    with seen(where.cgroup, root=build.root) as screen:
                        self._warm(screen)
                        found.of(build).append(cpu_ms_a_second(screen, self.plan.seconds))
        head = f"{self.plan.waiting:,} more in TIME-WAIT, more of a core"
        yield from more(head, found, without, self.plan.budget(0.3))

    def _large(self, where: Place, held: Held) -> Iterator[Line]:
        """One program a round goes through all loads, from rest on."""
        levels = (0, *self.plan.talking)
        cpu = {level: Values[float]() for level in levels}
        resident, shared = Values[float](), Values[float]()
        ss: list[float] = []
        with tempfile.TemporaryDirectory() as directory:
            for build in self.each(self.plan.rounds):
                with seen(where.cgroup, root=build.root) as screen:
                    self._warm(screen)
                    for level in levels:
                        held.talk(level)
                        screen.read_for(self.plan.settle_s if level else 0.0)
                        cpu[level].of(build).append(cpu_ms_a_second(screen, self.plan.seconds))
                        if not level:
                            pids = family(screen.process.pid)
                            resident.of(build).append(sum(map(resident_mb, pids)))
                            shared.of(build).append(sum(map(shared_out_mb, pids)))
                held.talk(0)
                if build.name == "new":
                    ss.append(ss_cpu_ms(where, Path(directory, "output"), self.plan.large))
        yield from self._told(cpu, resident, shared, ss)

    def _told(
        self, cpu: dict[int, Values[float]], resident: Values[float], shared: Values[float], ss: list[float]
    ) -> Iterator[Line]:
        """The lines of ``_large``. The budget of those that talk is in units of the old build at rest."""
        large, rest = f"{self.plan.large:,} sockets", cpu[0]
        for level, found in cpu.items():
            head = f"{large}, {f'{level:,} of them talking' if level else 'at rest'}, CPU a second"
            yield from compared(head, "ms", found, None if level else self.plan.budget(0.40))
            if level == 10_000:
                shares = ratios(found.new, rest.old)
                yield figure(f"{head}: new / old at rest", "fold", shares, self.plan.budget(0.55))
        yield from compared(f"{large}, program and helper, resident memory", "MB", resident, self.plan.budget(0.65))
        yield from compared(f"{large}, program and helper, memory (PSS)", "MB", shared)
        yield figure(f"{large}: ss -tinp, CPU", "ms", ss)
        for name, values, least in (("old", rest.old, None), ("new", rest.new, self.plan.budget(40.0))):
            times = [one / other for one, other in zip(ss, values, strict=True)]
            yield figure(f"{large}: ss -tinp takes so many times as much as a second of {name}", "times", times, least)

    # --- the sock_ops program

    def in_kernel(self) -> Iterator[Line]:
        """Nanoseconds of a short connection, both ends, as the kernel's statistics tell."""
        with load.built() as program:
            if program is None:
                yield Note(load.NO_COMPILER)
                return
            with place() as where:
                load.ready(where.ns)
                short = Load(where.lab, program, SHORT, load.loopback(where.ns), where.cgroup)
                spent, calls = Values[float](), Values[float]()
                statistics = kernel_calls.bpf(STATISTICS, kernel_calls.words(0))
                try:
                    for build in self.each(self.plan.traffic_rounds):
                        with monitored(where.cgroup, "--callbacks", "all", root=build.root) as monitor:
                            ns, count = spent_each(monitor, short, self.plan.traffic_ms)
                            spent.of(build).append(ns)
                            calls.of(build).append(count)
                finally:
                    os.close(statistics)
        head = "a short connection, both ends, --callbacks all, with BPF statistics"
        yield from compared(f"{head}: in the program", "ns", spent, self.plan.budget(0.60))
        yield from compared(f"{head}: calls", "calls", calls)

    # --- the start

    def start(self) -> Iterator[Line]:
        """From the command to the attachment, and to a screen full of rows."""
        to_attached, to_screen = Values[float](), Values[float]()
        with place() as where:
            Held(where).grow(self.plan.sizes[0])
            for build in self.each(self.plan.starts):
                with seen(where.cgroup, root=build.root) as screen:
                    to_attached.of(build).append(screen.until_attached())
                    to_screen.of(build).append(screen.until(screen.shows_rows, "a screen of connections"))
        for what, found, most in (("attached", to_attached, 0.45), ("a full screen", to_screen, 0.7)):
            yield figure(f"from the command to {what}: old", "s", found.old)
            yield figure(f"from the command to {what}: new", "s", found.new, self.plan.budget(most))

    # --- what traffic keeps

    def traffic(self) -> Iterator[Line]:
        """Rates with each build as a share of those without, on the loopback and over veth."""
        with load.built() as program:
            if program is None:
                yield Note(load.NO_COMPILER)
                return
            with place() as where:
                link = where.lab.link("near", "far")
                load.ready(where.ns, link.a.ns, link.b.ns)
                paths = load.loopback(where.ns), load.over(link)
                loads = [Load(where.lab, program, kind, path, where.cgroup) for path in paths for kind in KEPT]
                found = [Values[tuple[float, float]]() for _ in loads]
                for number, build in enumerate(self.each(self.plan.traffic_rounds)):
                    rates: dict[bool, list[float]] = {}
                    for with_it in in_turn((True, False), number // 2):
                        with monitored(where.cgroup, root=build.root) if with_it else nullcontext():
                            rates[with_it] = [one.rate(self.plan.traffic_ms) for one in loads]
                    for into, pair in zip(found, zip(rates[True], rates[False], strict=True), strict=True):
                        into.of(build).append(pair)
        for one, values in zip(loads, found, strict=True):
            yield from kept(one.name, values, self.plan.budget(KEPT[one.kind]))
            if one.kind == SHORT:
                yield from added(one.kind, one.path.name, values)


def spent_each(monitor: Monitor, short: Load, milliseconds: int) -> tuple[float, float]:
    """Nanoseconds and calls of the program for each connection. Raises Nonsense."""
    [number] = monitor.programs()
    with closing(Program(number)) as program:
        before = program.spent()
        done, _ = short.done(milliseconds)
        program.settle()
        after = program.spent()
    ns, calls = after[0] - before[0], after[1] - before[1]
    if ns <= 0 or calls <= 0:
        raise Nonsense("the program was not called")
    return ns / done, calls / done


class Program:
    """A loaded program, by its number, of whichever build."""

    def __init__(self, number: int) -> None:
        self._fd = kernel_calls.bpf(kernel_calls.BPF_PROG_GET_FD_BY_ID, kernel_calls.words(number))

    def spent(self) -> tuple[int, int]:
        """Nanoseconds and calls so far, while the statistics are on."""
        told = kernel_calls.program_info(self._fd)[RUN_TIME]
        return int.from_bytes(told[:8], "little"), int.from_bytes(told[8:], "little")

    def settle(self) -> None:
        """Wait until the last connections are closed at both ends: it is called no more."""
        before = None
        while (now := self.spent()) != before:
            before = now
            time.sleep(0.01)

    def close(self) -> None:
        os.close(self._fd)


def kept(name: str, found: Values[tuple[float, float]], least: float | None) -> Iterator[Figure]:
    """What is left of a rate beside each build. Pairs of rates: with it, without."""
    for build, pairs, budget in (("old", found.old, None), ("new", found.new, least)):
        yield figure(f"{name}, with {build} / without", "ratio", ratios(*map(list, zip(*pairs, strict=True))), budget)


def added(kind: Kind, path: str, found: Values[tuple[float, float]]) -> Iterator[Figure]:
    """Nanoseconds that a connection takes more beside each build: the program, without the kernel's statistics."""
    for build, pairs in (("old", found.old), ("new", found.new)):
        times = [max(1e9 / with_it - 1e9 / without, 0.0) for with_it, without in pairs]
        yield figure(f"{kind.name}, {path}, by the rates: more for a connection with {build}", "ns", times)
