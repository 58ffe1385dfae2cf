"""The one thread that asks the kernel, for the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from queue import Empty, SimpleQueue

from tcptop_ops.errors import TcptopError
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records
from tcptop_ops.polling.observers import TickObserver
from tcptop_ops.polling.schedule import Clock, PollSchedule, next_due
from tcptop_ops.polling.worker import Feed, ResultCallback, WorkerThread
from tcptop_ops.sources.base import Source
from tcptop_ops.tracking.tracker import Tracker


class Poller:
    """A Worker that polls a source, the first time at once."""

    def __init__(
        self,
        source: Source | Callable[[], Source],
        tracker: Tracker,
        publish: Callable[[Flows], None],
        *,
        delay_s: float,
        fail: Callable[[TcptopError], None],
        observers: Sequence[TickObserver] = (),
        clock: Clock | None = None,
    ) -> None:
        """Take a source, or what opens one: it is called in the thread, and the source is closed there in any case.

        ``publish`` gets the ticks after the ``observers``; ``fail`` hears of an error, as the last call of all.
        """
        self._source = source
        self._tracker = tracker
        self._publish = publish
        self._observers = observers
        self._clock = clock or Clock()
        self._worker = WorkerThread(self._work, fail)
        self._delay_s = delay_s
        self._is_asked = False
        self._watched = 0
        self._is_measured = False
        self._to_close: SimpleQueue[tuple[Records, ResultCallback]] = SimpleQueue()

    def start(self) -> None:
        """See Worker."""
        self._worker.start()

    def stop(self) -> None:
        """See Worker."""
        self._worker.stop()

    def set_delay(self, delay_s: float) -> None:
        """See Worker."""
        self._delay_s = delay_s
        self._worker.wake.set()

    def watch(self, cookie: int) -> None:
        """See Worker."""
        self._watched = cookie
        self.poll_now()

    def measure(self, on: bool) -> None:
        """See Worker."""
        self._is_measured = on

    def close_connection(self, sock: Records, tell: ResultCallback) -> None:
        """See Worker."""
        self._to_close.put((sock, tell))
        self.poll_now()

    def poll_now(self) -> None:
        """See Worker."""
        self._is_asked = True
        self._worker.wake.set()

    # --- in the thread

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
        schedule = PollSchedule(source, self._tracker, self._clock, self._observers)
        watched, is_measured = 0, False
        while not self._worker.is_stopping():
            if watched != self._watched:
                watched = self._watched
                source.watch(watched)
            if is_measured != self._is_measured:
                is_measured = self._is_measured
                source.measure(is_measured)
            self._close_connections(source)
            self._publish(schedule.tick())
            last, due = due, next_due(due, schedule.delay_s(self._delay_s), self._clock.now())
            while schedule.rest(self._worker.wake, due):
                # Cleared before the requests are read: one that comes later sets it again.
                self._worker.wake.clear()
                if self._worker.is_stopping():
                    return
                if self._is_asked:
                    self._is_asked = False
                    due = self._clock.now()
                    break
                due = last + schedule.delay_s(self._delay_s)


def polled(source: Source | Callable[[], Source], tracker: Tracker, observers: Sequence[TickObserver] = ()) -> Feed:
    """Return the feed of a screen that a Poller of this source makes."""

    def feed(publish: Callable[[Flows], None], fail: Callable[[TcptopError], None], delay_s: float) -> Poller:
        return Poller(source, tracker, publish, delay_s=delay_s, fail=fail, observers=observers)

    return feed
