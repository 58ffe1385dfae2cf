"""The one thread that asks the kernel, and the same loop without a thread for the outputs that have no screen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue

from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.polling.schedule import Beat, Clock, next_due
from tcptop_ops.snapshot import Records
from tcptop_ops.source import Source
from tcptop_ops.tracker import Flows, Tracker

Told = Callable[[TcptopError | None], object]
"""Hears how something ended: what went wrong, or None."""


def as_failure(error: Exception) -> TcptopError:
    """The error as something to be told in one line; what nobody foresaw keeps its cause."""
    if isinstance(error, TcptopError):
        return error
    failure = Failed(f"{type(error).__name__}: {error}", "this is a bug in tcptop-ops: please report it")
    failure.__cause__ = error
    return failure


def keep(flows: Flows) -> Flows:
    """The same flows in arrays of their own: a Source uses its arrays again at its second next poll."""
    live = flows.live
    own = replace(live, sockets=live.sockets.copy(), events=live.events.copy(), owners=live.owners.copy())
    return replace(flows, live=own)


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
