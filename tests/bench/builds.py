"""Two builds of the program, measured in turn: this tree, and a clone of the repository at an older commit."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from tests.bench.figures import Figure, Nonsense, figure, ratios
from tests.bench.seen import Seen
from tests.bench.setting import ROOT, cpu_ns
from tests.live.started import children

T = TypeVar("T")


@dataclass(frozen=True)
class Build:
    """A tree of the program. It is run by the Python that measures, from its own directory."""

    name: str  # old, new
    root: Path


@contextmanager
def both(commit: str) -> Iterator[tuple[Build, Build]]:
    """The old build, in a clone that is gone afterwards, and this tree. Raises SystemExit for an unknown commit."""
    with tempfile.TemporaryDirectory(prefix="tcptop-old-") as directory:
        root = Path(directory, "old")
        for words in (
            ["clone", "-q", "--no-checkout", str(ROOT), str(root)],
            ["-C", str(root), "checkout", "-q", commit],
        ):
            done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"no build of {commit}: {done.stderr.strip()}")
        Path(directory).chmod(0o755)  # the program gives up root, and imports some of itself later
        yield Build("old", root), Build("new", ROOT)


def in_turn(builds: Sequence[T], round_number: int) -> Sequence[T]:
    """The builds in the order of a round: every other one begins with the new one."""
    return builds if round_number % 2 == 0 else builds[::-1]


@dataclass
class Values(Generic[T]):
    """What was measured of each build, a value a round."""

    old: list[T] = field(default_factory=list)
    new: list[T] = field(default_factory=list)

    def of(self, build: Build) -> list[T]:
        """Those of a build, to be added to."""
        return self.old if build.name == "old" else self.new


def compared(what: str, unit: str, found: Values[float], most: float | None = None) -> Iterator[Figure]:
    """Both builds, and the new one as a share of the old one, round by round; ``most``: the budget of that."""
    yield figure(f"{what}: old", unit, found.old)
    yield figure(f"{what}: new", unit, found.new)
    yield figure(f"{what}: new / old", "fold", ratios(found.new, found.old), most)


def more(what: str, found: Values[float], without: Values[float], most: float | None = None) -> Iterator[Figure]:
    """How much more of a core each build takes, in percent, than ``without``: both in ms a second; ``most`` of new."""
    for name, with_it, base, budget in (
        ("old", found.old, without.old, None),
        ("new", found.new, without.new, most),
    ):
        points = [(a - b) / 10 for a, b in zip(with_it, base, strict=True)]
        yield figure(f"{what}: {name}", "points", points, budget)


def family(pid: int) -> list[int]:
    """The program and the processes that it started."""
    return [pid, *children(pid)]


def cpu_ms_a_second(screen: Seen, seconds: float) -> float:
    """Milliseconds of CPU that the program and all that it started take in a second. Raises Nonsense."""
    pids = family(screen.process.pid)
    before, begun = sum(map(cpu_ns, pids)), time.monotonic()
    screen.read_for(seconds)
    took_ms = (sum(map(cpu_ns, pids)) - before) / 1e6 / (time.monotonic() - begun)
    screen.require_attached()
    if took_ms <= 0:
        raise Nonsense("the program did nothing")
    return took_ms
