"""When a source is polled, and when it is drained in between; and the loop of the outputs that have no screen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.model.flows import Flows
from tcptop_ops.polling.observers import TickObserver, complete
from tcptop_ops.sources.base import EndOfSource, Paced, Source
from tcptop_ops.tracking.tracker import Tracker

DRAIN_S = 0.25
"""Seconds between two calls of ``Source.drain`` at most: the size of the kernel's ring buffer is chosen for it."""


class Wake(Protocol):
    """What ends a wait early: a ``threading.Event``, or ``signals.Stop``."""

    def is_set(self) -> bool:
        """Return whether it was set."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most this long. Return whether it is."""
        ...


class Clock:
    """Time as the polling loop sees it. Tests replace it by one that does not wait."""

    def now(self) -> float:
        """Return seconds of a monotonic clock."""
        return time.monotonic()

    def wait(self, wake: Wake, seconds: float) -> bool:
        """Wait until ``wake`` is set, at most this long. Return whether it is set."""
        return wake.wait(seconds)


class PollSchedule:
    """Polls a source and waits for the next poll, draining the source meanwhile. Used by one thread."""

    def __init__(self, source: Source, tracker: Tracker, clock: Clock, observers: Sequence[TickObserver] = ()) -> None:
        """Take the source, what makes rates of its snapshots, and who is told of each tick."""
        self._source = source
        self._tracker = tracker
        self._clock = clock
        self._observers = observers
        self._findings = FindingsMemory()
        self._drained_at = clock.now()
        self._last_ticks_s: tuple[float, ...] = ()
        self._is_slowed = False

    def tick(self) -> Flows:
        """Poll, and return the completed tick. Raises what the source raises."""
        started = self._clock.now()
        snapshot = self._source.poll()
        self._drained_at = self._clock.now()
        if self._is_slowed:
            note = f"a tick takes {self._tick_s:.1f} s: fewer are made"
            snapshot = replace(snapshot, notes=(*snapshot.notes, note))
        flows = complete(self._tracker.update(snapshot), self._findings, self._observers)
        self._last_ticks_s = (*self._last_ticks_s[-1:], self._clock.now() - started)
        return flows

    @property
    def _tick_s(self) -> float:
        """Seconds that a tick takes: the shorter of the last two, since one alone may have been held up."""
        return min(self._last_ticks_s) if len(self._last_ticks_s) > 1 else 0.0

    def delay_s(self, wanted: float) -> float:
        """Return the seconds from one poll to the next, where the user wants this: at most half of them are work.

        A tick takes long where there are very many sockets, or where other processes need the processor. A source
        that has its own pace is polled at that.
        """
        if isinstance(self._source, Paced):
            return self._source.pace_s
        least = 2 * self._tick_s
        self._is_slowed = least > wanted
        return max(wanted, least)

    def rest(self, wake: Wake, due: float) -> bool:
        """Wait until ``due``, or until ``wake`` is set, and return whether it is.

        The source is drained in time, however often ``wake`` ends the wait.
        """
        while (now := self._clock.now()) < due:
            drain_due = self._drained_at + DRAIN_S
            if now >= drain_due:
                self._source.drain()
                self._drained_at = now
                continue
            if self._clock.wait(wake, min(due, drain_due) - now):
                return True
        return wake.is_set()


def next_due(due: float, delay_s: float, now: float) -> float:
    """Return when the poll after the one at ``due`` is due. Polls that were missed are left out, not made up for."""
    if delay_s <= 0:
        return now
    missed = max(0, int((now - due) // delay_s))
    return due + (missed + 1) * delay_s


def ticks(
    source: Source,
    tracker: Tracker,
    delay_s: float,
    stop: Wake,
    iterations: int | None = None,
    clock: Clock | None = None,
    observers: Sequence[TickObserver] = (),
) -> Iterator[Flows]:
    """Yield a tick every ``delay_s``, the first one a delay after the start: the poll at the start is its baseline.

    Ends after ``iterations``, when ``stop`` is set, or at the end of a recording. Other errors of the source are
    raised. The observers are told of the baseline too.
    """
    clock = clock or Clock()
    started = clock.now()
    schedule = PollSchedule(source, tracker, clock, observers)
    done = 0
    with suppress(EndOfSource):
        schedule.tick()
        due = started + schedule.delay_s(delay_s)
        while (iterations is None or done < iterations) and not schedule.rest(stop, due):
            yield schedule.tick()
            done += 1
            due = next_due(due, schedule.delay_s(delay_s), clock.now())
