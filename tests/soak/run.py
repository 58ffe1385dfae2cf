"""The program at work for an hour, as a user runs it: ``python -m tests.soak [--minutes 60]``, as root.

Thousands of connections rest, thousands come and go each second, some through a network that loses packets, and
network namespaces appear and vanish. Meanwhile ``python -m tcptop_ops --json`` watches their cgroup: its lines are read
as they come, its memory and descriptors and those of its helper are sampled. A line a minute tells how it goes; in the
end come figures, and what was wrong. The exit status is 1 if anything was. docs/soak.md says what is held against it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from tcptop_ops.bpf import kernel_calls
from tests.soak.crowd import Crowd
from tests.soak.judge import (
    Made,
    Report,
    Sample,
    Tick,
    book_violations,
    left_out,
    memory_figures,
    memory_violations,
    row_violations,
)
from tests.soak.monitors import JsonMonitor, Monitor, ScreenMonitor, helper_of, sample
from tests.soak.plan import AT_REST, PATIENCE_S, Plan
from tests.support.lab import Lab
from tests.support.leftovers import wait_until


class Soak:
    """One run in a lab that is there."""

    def __init__(self, lab: Lab, plan: Plan, say: Callable[[str], None]) -> None:
        """Start the traffic at rest, and the monitor."""
        self._plan, self._say = plan, say
        self._cgroup = lab.cgroup("watched")
        self._crowd = Crowd(lab, self._cgroup, plan)
        self._json = None if plan.screen else JsonMonitor(lab, self._cgroup, plan)
        self._monitor: Monitor = self._json or ScreenMonitor(self._cgroup, plan)
        self._samples: dict[str, list[Sample]] = {"monitor": [], "helper": []}
        self._report = Report(plan)

    def close(self) -> None:
        """End the monitor, whatever happened."""
        self._monitor.close()

    def run(self) -> Report:
        """Run it. Raises LabError or TimeoutError where the traffic does not do what it should."""
        wait_until(lambda: self._monitor.ready() or self._monitor.ended.is_set(), 30, "the first tick")
        if not self._monitor.ended.is_set():
            pids = {"monitor": self._monitor.pid, "helper": helper_of(self._monitor.pid)}
            self._crowd.go()
            self._last(pids)
            made = self._crowd.stop()
            self._settle(made)
            self._judge_samples()
        if self._monitor.ended.is_set():
            self._report.violations.append("it ended by itself")
        self._report.violations += self._monitor.end()
        self._look_for_leftovers()
        return self._report

    def _last(self, pids: dict[str, int]) -> None:
        """Wait as long as it takes: visits and samples, and a line a minute."""
        plan, start = self._plan, time.monotonic()
        chores: list[tuple[float, Callable[[], None]]] = [
            (plan.visit_s, self._crowd.visits.next),
            (plan.sample_s, lambda: self._sample(pids, time.monotonic() - start)),
            (60.0, lambda: self._minute(time.monotonic() - start)),
        ]
        due = [start + every for every, _ in chores]
        while (now := time.monotonic()) < start + plan.minutes * 60 + 0.5 and not self._monitor.ended.is_set():
            for number, (every, chore) in enumerate(chores):
                if due[number] <= now:
                    chore()
                    due[number] += every
            self._monitor.ended.wait(max(0.0, min(due) - time.monotonic()))

    def _sample(self, pids: dict[str, int], at_s: float) -> None:
        for name, pid in pids.items():
            try:
                self._samples[name].append(sample(pid, at_s))
            except OSError as error:
                violation = f"{name}: not there to be sampled any more ({error.strerror})"
                if violation not in self._report.violations:
                    self._report.violations.append(violation)

    def _minute(self, at_s: float) -> None:
        said = [
            f"{name} {samples[-1].rss_kib / 1024:.1f} MiB {samples[-1].fds}+{samples[-1].namespaces} fds"
            for name, samples in self._samples.items()
            if samples
        ]
        self._crowd.half_open()
        late = f" left out {left_out(self._json.ticks, self._plan.delay_s)}" if self._json else ""
        self._say(f"{at_s / 60:.0f} min: {self._monitor.progress()} | {', '.join(said)}{late}")

    def _settle(self, made: Made) -> None:
        """Once all is quiet: the books, then the rows."""
        report, watched = self._report, self._json
        if self._crowd.failed:
            report.violations.append(f"{self._crowd.failed} short connections failed: not the monitor, perhaps")
        report.figures.append(f"short connections: {self._crowd.short}, visits: {self._crowd.visits.count}")
        if watched is None or watched.ended.is_set():
            return
        try:
            watched.wait_tick(lambda tick: tick.states <= AT_REST and not tick.opened + tick.closed, "rest")
        except TimeoutError as error:
            report.violations.append(str(error))
        self._judge_ticks(list(watched.ticks), made)
        self._crowd.rest.touch()
        try:
            wait_until(lambda: len(watched.rows) >= 2 * self._plan.open, PATIENCE_S, "all resting rows")
        except TimeoutError as error:
            report.violations.append(str(error))
        report.violations += row_violations(watched.rows, self._crowd.cookies(), self._plan.open)
        report.figures.append(f"rows listed in the end: {len(watched.rows)}")

    def _judge_ticks(self, ticks: list[Tick], made: Made) -> None:
        report, delay_s = self._report, self._plan.delay_s
        if ticks[0].connections != self._crowd.at_first:
            report.violations.append(f"{ticks[0].connections} listed at first, not {self._crowd.at_first}")
        report.violations += book_violations(ticks, made)
        report.left_out = left_out(ticks, delay_s)
        intervals, polls = [t.interval_s for t in ticks[1:]], sorted(t.poll_s for t in ticks[1:])
        uneven = sum(abs(interval - delay_s) > delay_s / 2 for interval in intervals)
        report.figures += [
            f"ticks: {len(ticks)}, left out: {report.left_out}, uneven by half: {uneven},"
            f" interval {min(intervals):.3f} to {max(intervals):.3f} s",
            f"poll: median {statistics.median(polls) * 1000:.0f} ms, at most {polls[-1] * 1000:.0f} ms",
            f"opened {sum(t.opened for t in ticks[1:])} of {made.opened}, closed {sum(t.closed for t in ticks[1:])}"
            f" of {made.closed}, listed {ticks[0].connections} at first, {ticks[-1].connections} in the end",
        ]

    def _judge_samples(self) -> None:
        for name, samples in self._samples.items():
            after = [each for each in samples if each.at_s >= self._plan.warm_up_s]
            self._report.violations += memory_violations(name, after)
            if after:
                self._report.figures.append(memory_figures(name, after))

    def _look_for_leftovers(self) -> None:
        fd = os.open(self._cgroup, os.O_RDONLY)
        try:
            wait_until(lambda: not kernel_calls.programs_at(fd)[0], what="nothing being attached")
        except TimeoutError as error:
            self._report.violations.append(str(error))
        finally:
            os.close(fd)


def soak(plan: Plan, say: Callable[[str], None]) -> Report:
    """Run it from beginning to end. Raises LabError or TimeoutError where it could not be done."""
    with Lab() as lab, contextlib.closing(Soak(lab, plan, say)) as running:
        return running.run()


def main() -> int:
    """Run it as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    usual = Plan()
    parser.add_argument("--minutes", type=float, default=usual.minutes)
    parser.add_argument("--open", type=int, default=usual.open, help="connections that rest")
    parser.add_argument("--rate", type=float, default=usual.rate, help="short connections a second")
    parser.add_argument("--sample", type=float, default=usual.sample_s, help="seconds between two looks at the memory")
    parser.add_argument("--screen", action="store_true", help="watch the screen instead of --json: memory alone")
    args = parser.parse_args()
    plan = replace(
        usual, minutes=args.minutes, open=args.open, rate=args.rate, sample_s=args.sample, screen=args.screen
    )
    report = soak(plan, lambda line: print(line, flush=True))
    print(*report.figures, sep="\n")
    bad = report.violations + ([f"{report.left_out} ticks left out"] if report.left_out else [])
    print(*(f"WRONG: {each}" for each in bad), "nothing was wrong" if not bad else f"{len(bad)} wrong", sep="\n")
    return 1 if bad else 0
