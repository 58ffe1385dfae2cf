"""The one thread that asks the kernel, and the same loop without a thread for the outputs that have no screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Protocol

from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.fate import findings
from tcptop_ops.snapshot import Records
from tcptop_ops.source import Over, Paced, Source
from tcptop_ops.tracker import Flows, Tracker

DRAIN_S = 0.25
"""At most this long between two calls of ``Source.drain``: what the kernel's ring holds is sized for it."""


Told = Callable[[TcptopError | None], object]
"""Hears how something ended: what went wrong, or None."""


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


def as_failure(error: Exception) -> TcptopError:
    """The error as something to be told in one line; what nobody foresaw keeps its cause."""
    if isinstance(error, TcptopError):
        return error
    failure = Failed(f"{type(error).__name__}: {error}", "this is a bug in tcptop-ops: please report it")
    failure.__cause__ = error
    return failure


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


class Worker:
    """A thread of its own, from ``start`` until ``stop`` or an error: what feeds the screen.

    ``publish`` and ``fail`` are called in that thread; ``fail`` at most once, as the last call.
    """

    def __init__(
        self,
        publish: Callable[[Flows], None],
        fail: Callable[[TcptopError], None],
        clock: Clock | None,
    ) -> None:
        self._publish = publish
        self._fail = fail
        self._clock = clock or Clock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it: it wakes at once, and finishes at most the poll that it is in."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # the thread's last words: without them the screen would stand still, silently
            self._fail(as_failure(error))

    def _work(self) -> None:
        """What the thread does, until ``_stop`` is set."""
        raise NotImplementedError

    def set_delay(self, delay_s: float) -> None:
        """Change the time between ticks, counted from the last one."""
        raise NotImplementedError

    def watch(self, cookie: int) -> None:
        """Look closer at this connection (0: at none), at once."""
        raise NotImplementedError

    def measure(self, on: bool) -> None:
        """Have the source measure what it costs in the kernel, from the next poll on."""
        raise NotImplementedError

    def close_connection(self, sock: Records, tell: Told) -> None:
        """Have the connection of this SOCKET row closed; then poll at once.

        ``tell`` is called in the poller's thread, with what went wrong or None; never, once the source has failed.
        """
        raise NotImplementedError

    def poll_now(self) -> None:
        """Poll at once; the next tick comes one delay later."""
        raise NotImplementedError


class Poller(Worker):
    """Polls a source, the first time at once. A source given as a callable is opened in the thread.

    It is closed there too, whatever happens.
    """

    def __init__(
        self,
        source: Source | Callable[[], Source],
        tracker: Tracker,
        publish: Callable[[Flows], None],
        *,
        delay_s: float,
        fail: Callable[[TcptopError], None],
        clock: Clock | None = None,
    ) -> None:
        super().__init__(publish, fail, clock)
        self._source = source
        self._tracker = tracker
        self._delay_s = delay_s
        self._asked = False
        self._watched = 0
        self._measured = False
        self._to_close: SimpleQueue[tuple[Records, Told]] = SimpleQueue()

    def set_delay(self, delay_s: float) -> None:
        """Change the time between ticks, counted from the last one."""
        self._delay_s = delay_s
        self._wake.set()

    def watch(self, cookie: int) -> None:
        """Look closer at this connection (0: at none), at once."""
        self._watched = cookie
        self.poll_now()

    def measure(self, on: bool) -> None:
        """Have the source measure what it costs in the kernel, from the next poll on."""
        self._measured = on

    def close_connection(self, sock: Records, tell: Told) -> None:
        """Have the source close the connection of this SOCKET row; then poll at once.

        ``tell`` is called in the poller's thread, with what went wrong or None; never, once the source has failed.
        """
        self._to_close.put((sock, tell))
        self.poll_now()

    def poll_now(self) -> None:
        """Poll at once; the next tick comes one delay later."""
        self._asked = True
        self._wake.set()

    def _work(self) -> None:
        source = self._source() if callable(self._source) else self._source
        with closing(source):
            self._poll(source)

    def _close_connections(self, source: Source) -> None:
        with suppress(Empty):
            while True:
                sock, tell = self._to_close.get_nowait()
                try:
                    source.close_connection(sock)
                except TcptopError as error:
                    tell(error)
                else:
                    tell(None)

    def _poll(self, source: Source) -> None:
        due = self._clock.now()
        beat = Beat(source, self._tracker, self._clock)
        watched, measured = 0, False
        while not self._stop.is_set():
            if watched != self._watched:
                watched = self._watched
                source.watch(watched)
            if measured != self._measured:
                measured = self._measured
                source.measure(measured)
            self._close_connections(source)
            self._publish(beat.tick())
            last, due = due, next_due(due, beat.delay_s(self._delay_s), self._clock.now())
            while beat.rest(self._wake, due):
                # Cleared before the wishes are read: one that comes later sets it again.
                self._wake.clear()
                if self._stop.is_set():
                    return
                if self._asked:
                    self._asked = False
                    due = self._clock.now()
                    break
                due = last + beat.delay_s(self._delay_s)


Feed = Callable[[Callable[[Flows], None], Callable[[TcptopError], None], float], Worker]
"""What feeds a screen: made of what takes its ticks, what hears that it failed, and the delay, seconds."""


def polled(source: Source | Callable[[], Source], tracker: Tracker) -> Feed:
    """From a source, by a Poller."""

    def feed(publish: Callable[[Flows], None], fail: Callable[[TcptopError], None], delay_s: float) -> Poller:
        return Poller(source, tracker, publish, delay_s=delay_s, fail=fail)

    return feed
