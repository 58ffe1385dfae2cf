"""Bad inputs tried one after the other: each has to be taken or refused soon, and all together not use up memory."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

PATIENCE_S = 20.0
"""For one input; they take milliseconds. An alarm ends the wait."""

MOST_GROWTH = 32 << 20
"""Bytes that the process may have more at the end than after WARM_UP inputs: caches are full by then."""

WARM_UP = 0.2

Try = Callable[[random.Random], str]
"""Makes an input from the numbers and tries it: what came of it. Raises what is a bug."""


class TooSlow(BaseException):
    """Raised by the alarm: no ``except Exception`` may take it."""


@dataclass
class Report:
    """What came of it. ``outcomes``: how often each; ``growth``: bytes after the warm-up."""

    count: int
    seed: int
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return what is told of the run."""
        kinds = ", ".join(f"{number} {name}" for name, number in self.outcomes.most_common())
        return (
            f"{self.count} inputs, seed {self.seed}, {self.seconds:.0f} s: {kinds}; slowest {self.slowest_s * 1e3:.0f}"
            f" ms; memory grew {self.growth / 2**20:+.1f} MiB; {len(self.broken)} broken"
        )


def resident() -> int:
    """Return the bytes of this process in memory: the second field of /proc/self/statm."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def alarm() -> Iterator[None]:
    """Raise TooSlow where one input takes too long. For the main thread."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"took more than {PATIENCE_S:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(attempt: Try, count: int, seed: int) -> Report:
    """Try so many inputs. Each has a seed of its own, which is told where it breaks something."""
    report = Report(count, seed)
    started = time.perf_counter()
    base = 0
    with alarm():
        for n in range(count):
            if n == int(count * WARM_UP):
                base = resident()
            one = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
            try:
                report.outcomes[attempt(random.Random(f"{seed}:{n}"))] += 1
            except (Exception, TooSlow) as error:
                report.broken.append(f"{seed}:{n}: {type(error).__name__}: {error}")
            signal.setitimer(signal.ITIMER_REAL, 0)
            report.slowest_s = max(report.slowest_s, time.perf_counter() - one)
    report.seconds = time.perf_counter() - started
    report.growth = resident() - base
    if report.growth > MOST_GROWTH:
        report.broken.append(f"memory grew by {report.growth} bytes")
    return report
