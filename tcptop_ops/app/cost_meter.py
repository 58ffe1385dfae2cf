"""What this program itself costs, as the first line of the screen tells it, and a line of its own in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tcptop_ops.host.self_usage import Meter
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.widgets.panels.summary import HeaderStatus

SELDOM_S = 5.0
"""So often is the cost told, unless it has a line of its own: each time costs bytes to the terminal."""


class CostMeter:
    """Measures between two ticks. ``written``: how many bytes went to the terminal so far."""

    def __init__(self, written: Callable[[], int]) -> None:
        """Set up with nothing measured yet."""
        self._written = written
        self._meter = Meter()
        self._last_ns = self._last_written = 0
        self._last_program = (0, 0)

    def clock_ns(self, snapshot: Snapshot) -> int:
        """Return the time at a tick, of a clock that runs while this program costs something."""
        return snapshot.now_ns

    def told(self, status: HeaderStatus, snapshot: Snapshot) -> HeaderStatus:
        """Return the status with what was spent since the last time; as it is, where that was not long ago."""
        now_ns = self.clock_ns(snapshot)
        passed_s = (now_ns - self._last_ns) / 1e9
        is_first = not self._last_ns
        if not is_first and status.own is not None and not status.own_shown and passed_s < SELDOM_S:
            return status
        own, written = self._meter.look(), self._written()
        program = (snapshot.program_ns, snapshot.program_calls)
        grown, before = written - self._last_written, self._last_program
        self._last_ns, self._last_written, self._last_program = now_ns, written, program
        if is_first or passed_s <= 0:
            return status
        nan = float("nan")
        spent = [(now - then) / passed_s if then and now else nan for now, then in zip(program, before, strict=True)]
        return replace(
            status,
            own=own,
            terminal_per_s=grown / passed_s,
            program_ns_per_s=spent[0],
            program_calls_per_s=spent[1],
        )
