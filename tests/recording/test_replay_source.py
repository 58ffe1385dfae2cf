"""Playing at a pace, without a kernel."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.polling.schedule import Clock, ticks
from tcptop_ops.recording.replay_source import ReplaySource
from tcptop_ops.tracking.tracker import Tracker


class Waits(Clock):
    """Does not wait, and remembers how long it should have."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, wake: Any, seconds: float) -> bool:
        self.time += seconds
        return bool(wake.is_set())


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 5.0), (2.0, 2.5), (0.5, 10.0), (0.0, 0.0)])
def test_its_pace(recorded: Path, speed: float, seconds: float) -> None:
    clock = Waits()
    with closing(ReplaySource(str(recorded), speed)) as source:
        flows = list(ticks(source, Tracker(), 99.0, threading.Event(), None, clock))
    assert [one.seconds for one in flows] == [1.0, 1.0, 2.0, 1.0]
    assert clock.time == pytest.approx(seconds)


def test_it_needs_no_kernel() -> None:
    """Nor what only Linux has."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "for name in ('fcntl', 'pwd', 'grp', 'ctypes', 'resource', 'termios', 'psutil'): sys.modules[name] = None\n"
        "import tcptop_ops.recording.replay_source\n"
        "assert not any(name.startswith('tcptop_ops.bpf') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], check=False)
    assert done.returncode == 0
