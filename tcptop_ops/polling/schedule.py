"""When a source is polled: a tick every so often, drained in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from tcptop_ops.fate import findings
from tcptop_ops.source import Over, Paced, Source
from tcptop_ops.tracker import Flows, Tracker

DRAIN_S = 0.25
"""At most this long between two calls of ``Source.drain``: what the kernel's ring holds is sized for it."""


class Wake(Protocol):
    """What ends a rest: a ``threading.Event``, or ``signals.Stop``."""

    def is_set(self) -> bool:
        """Whether it was set."""
        ...

    def wait(self, seconds: float) -> bool:
        """Until it is set, at most this long. True if it is."""
        ...


class Clock:
    """Time as the loop sees it. Tests have one of their own."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def wait(self, wake: Wake, seconds: float) -> bool:
        """Wait until ``wake`` is set, at most this long. True if it is set."""
        return wake.wait(seconds)


class Beat:
    """A source and its rhythm: poll, then rest until the next poll is due, draining meanwhile."""

    def __init__(self, source: Source, tracker: Tracker, clock: Clock) -> None:
        self._source = source
        self._tracker = tracker
        self._clock = clock
        self._taken_in = clock.now()
        self._took_s: tuple[float, ...] = ()
        self._is_slowed = False

    def tick(self) -> Flows:
        """Poll. Raises what the source raises."""
        started = self._clock.now()
        snapshot = self._source.poll()
        self._taken_in = self._clock.now()
        if self._is_slowed:
            snapshot = replace(snapshot, notes=(*snapshot.notes, f"a tick takes {self._usual_s:.1f} s: fewer are made"))
        flows = self._tracker.update(snapshot)
        flows = replace(flows, findings=tuple(findings(flows)))
        self._took_s = (*self._took_s[-1:], self._clock.now() - started)
        return flows

    @property
    def _usual_s(self) -> float:
        """What a tick takes: the shorter of the last two, since one alone may have been held up."""
        return min(self._took_s) if len(self._took_s) > 1 else 0.0

    def delay_s(self, wanted: float) -> float:
        """From the last poll to the next one, where the user wants this: at least as long at rest as at work.

        A tick takes that long where there are very many sockets, or where others need the processor.
        """
        if isinstance(self._source, Paced):
            return self._source.pace_s
        least = 2 * self._usual_s
        self._is_slowed = least > wanted
        return max(wanted, least)

    def rest(self, wake: Wake, due: float) -> bool:
        """Wait until ``due``. True, at once, if ``wake`` is set; however often that is, the source is drained."""
        while (now := self._clock.now()) < due:
            drain = self._taken_in + DRAIN_S
            if now >= drain:
                self._source.drain()
                self._taken_in = now
                continue
            if self._clock.wait(wake, min(due, drain) - now):
                return True
        return wake.is_set()


def next_due(due: float, delay_s: float, now: float) -> float:
    """The next moment of the beat that ``due`` belongs to. Moments that have passed are left out, not made up for."""
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
) -> Iterator[Flows]:
    """A tick every ``delay_s``, the first one delay after the start: what comes before is only its baseline.

    Ends after ``iterations``, when ``stop`` is set, or when a recording is over. What else the source raises comes
    through.
    """
    clock = clock or Clock()
    started = clock.now()
    beat = Beat(source, tracker, clock)
    done = 0
    with suppress(Over):
        beat.tick()
        due = started + beat.delay_s(delay_s)
        while (iterations is None or done < iterations) and not beat.rest(stop, due):
            yield beat.tick()
            done += 1
            due = next_due(due, beat.delay_s(delay_s), clock.now())
