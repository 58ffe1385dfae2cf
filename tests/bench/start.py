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
ATTACHED_S, SCREEN_S = 0.45, 0.7


def start_s(path: Path) -> tuple[float, float]:
    """Seconds to the attachment, and to the screen."""
    with seen(path) as screen:
        to_attached = screen.until_attached()
        return to_attached, screen.until(screen.shows_rows, "a screen of connections")


def python_s() -> float:
    """Seconds from start to end of a Python that does nothing: what no program of Python can save."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - started


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    found: list[tuple[float, float]] = []
    bare: list[float] = []
    with place() as where:
        Held(where).grow(SOCKETS)
        for _ in range(setting.of(11, 3)):
            found.append(start_s(where.cgroup))
            bare.append(python_s())
    yield figure("from the command to the program attached", "s", [a for a, _ in found], ATTACHED_S)
    yield figure(f"to a screen full of {SOCKETS:,} connections", "s", [b for _, b in found], SCREEN_S)
    yield figure("a Python that does nothing", "s", bare)
