"""A session that stalls and comes back: the real screen in a terminal that nobody reads for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.terminal import Terminal
from tests.support.leftovers import wait_until


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """1,000 rows, of which all in sight change ten times a second."""
    made = Terminal("1000", "40", "0.1")
    try:
        made.until(b"PROCESS")
        yield made
    finally:
        made.close()


def waits_in_write(pid: int) -> bool:
    """Whether a thread of it is stuck in writing to its terminal: n_tty_write() sleeps in wait_woken()."""
    return any("wait_woken" in (task / "wchan").read_text() for task in Path(f"/proc/{pid}/task").iterdir())


def test_it_stands_still_with_the_line_and_goes_on_with_it(terminal: Terminal) -> None:
    [pid] = [terminal.process.pid]
    wait_until(lambda: waits_in_write(pid), timeout=30, what="a line that is full")
    written = b""
    while len(written) < 60_000:  # far more than what was in the line: it draws again
        got = terminal.read(30)
        assert got, "it stands still"
        written += got
    terminal.press("q")
    while terminal.process.poll() is None:
        terminal.read(0.05)
    assert terminal.process.returncode == 0


def test_it_ends_though_nobody_reads(terminal: Terminal) -> None:
    wait_until(lambda: waits_in_write(terminal.process.pid), timeout=30, what="a line that is full")
    os.kill(terminal.process.pid, 15)
    assert terminal.process.wait(30) == 0
