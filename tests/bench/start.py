"""From the command to the program attached, and to a first screen full of connections."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Line, figure
from tests.bench.seen import seen
from tests.bench.setting import Held, Setting, place

SOCKETS = 1_000
ATTACHED_S, SCREEN_S = 0.4, 1.0
WAYS = {"iterated": "always", "polled": "never"}


def start_s(path: Path, iterate: str) -> tuple[float, float]:
    """Seconds to the attachment, and to the screen."""
    with seen(path, "--iterate", iterate) as screen:
        to_attached = screen.until_attached()
        return to_attached, screen.until(screen.shows_rows, "a screen of connections")


def python_s() -> float:
    """Seconds from start to end of a Python that does nothing: what no program of Python can save."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - started


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    ways = ("polled",) if setting.quick else tuple(WAYS)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    bare: list[float] = []
    with place() as where:
        Held(where).grow(SOCKETS)
        for _ in range(setting.of(11, 3)):
            for name in ways:
                found[name].append(start_s(where.cgroup, WAYS[name]))
            bare.append(python_s())
    for name, both in found.items():
        yield figure(f"{name}: from the command to the program attached", "s", [a for a, _ in both], ATTACHED_S)
        yield figure(f"{name}: to a screen full of {SOCKETS:,} connections", "s", [b for _, b in both], SCREEN_S)
    yield figure("a Python that does nothing", "s", bare)
