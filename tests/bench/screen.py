"""What the screen writes to its terminal, and how soon it answers (``terminal.py``)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.figures import Line, Note, figure
from tests.bench.setting import Setting
from tests.bench.terminal import answer_ms, bytes_a_tick, slow_line

A_FIFTH = 8  # of the 40 rows in sight
CHANGING_B, STILL_B = 4096, 200


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    ticks, presses = setting.of(15, 3), setting.of(15, 3)
    head = "bytes a tick, 160x50"
    yield figure(f"{head}, a fifth of the rows in sight changing", "B", bytes_a_tick(A_FIFTH, ticks), CHANGING_B)
    yield figure(f"{head}, nothing changing", "B", bytes_a_tick(0, ticks), STILL_B)
    yield figure("from a key to the screen, ticks of 10,000 rows", "ms", answer_ms(10_000, presses))
    if setting.quick:
        yield Note("over a line of 1,000 B/s: left out by --quick")
        return
    answered, left = slow_line(60.0)
    head = "over a line of 1,000 B/s, 80x24, two ticks a second"
    yield figure(f"{head}: from a key to the screen", "ms", [1000 * seconds for seconds in answered])
    yield figure(f"{head}: bytes that wait in the end", "B", [left])
