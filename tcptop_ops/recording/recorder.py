"""Records the ticks of the poller, in a thread of its own: a slow disk must not hold up a poll."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from queue import Full, Queue

from tcptop_ops.errors import TcptopError
from tcptop_ops.filters import Filter
from tcptop_ops.recording import codec
from tcptop_ops.recording.writer import Host, Writer
from tcptop_ops.snapshot import Snapshot
from tcptop_ops.source import Noted, Source
from tcptop_ops.tracker import Flows, Tracker

QUEUED = 8
"""Ticks that may wait for the disk; more are left out, and told."""


@dataclass(frozen=True)
class Wanted:
    """What to record. ``seconds``, ``size`` (bytes) and ``trigger``: None for no limit, and from the start."""

    path: str
    seconds: float | None = None
    size: int | None = None
    trigger: Filter | None = None


def held(flows: Flows) -> Flows:
    """The same flows in arrays of their own."""
    snapshot = codec.own(flows.snapshot)
    live = replace(
        flows.live,
        sockets=snapshot.sockets,
        events=snapshot.events,
        owners=snapshot.owners,
    )
    return replace(flows, snapshot=snapshot, live=live)


class Recorder:
    """Takes ticks from the poller's thread and writes them in its own. Whatever goes wrong ends it, with one note."""

    def __init__(self, wanted: Wanted, host: Host) -> None:
        self._wanted = wanted
        self._host = host
        self._queue: Queue[Flows | None] = Queue(QUEUED)
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._over = ""
        self._left_out = 0
        self._ended = False

    def open(self) -> None:
        """Make the file: called when root was given up. Raises Failed."""
        self._writer = Writer(self._wanted.path, self._host, self._wanted.size)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: how it ended, and what was left out."""
        missed = f"recording: the disk was too slow for {self._left_out} ticks" if self._left_out else ""
        return tuple(note for note in (self._over, missed) if note)

    def take(self, flows: Flows) -> Flows:
        """A tick, in the poller's thread: the same, with our notes."""
        if self._thread is not None and not self._ended and self._is_wanted(flows):
            try:
                self._queue.put_nowait(held(flows))
            except Full:
                self._left_out += 1
        if not self.notes:
            return flows
        return replace(flows, snapshot=replace(flows.snapshot, notes=(*flows.snapshot.notes, *self.notes)))

    def _is_wanted(self, flows: Flows) -> bool:
        now = flows.snapshot.now_ns / 1e9
        if self._since is None:
            trigger = self._wanted.trigger
            if trigger is not None and not any(trigger.mask(rows, flows).any() for rows in (flows.live, flows.closed)):
                return False
            self._since = now
        if self._wanted.seconds is None or now - self._since <= self._wanted.seconds:
            return True
        self._end(f"recorded to {self._wanted.path}: its time is over")
        with suppress(Full):
            self._queue.put_nowait(None)
        return False

    def _end(self, note: str) -> None:
        self._over, self._ended = note, True

    def _run(self) -> None:
        assert self._writer is not None
        with closing(self._writer):
            while (flows := self._queue.get()) is not None:
                try:
                    self._writer.write(flows)
                except (sqlite3.Error, OSError, MemoryError) as error:
                    self._end(f"recording to {self._wanted.path} ended: {error}")
                    break
                except Exception as error:  # it must not end the monitor, nor end in silence
                    self._end(f"recording ended, a bug in tcptop-ops: {type(error).__name__}: {error}")
                    break

    def close(self) -> None:
        """Write what waits, and let go of the file. Twice is fine."""
        if self._thread is None:
            return
        while self._thread.is_alive():
            with suppress(Full):
                self._queue.put(None, timeout=0.1)
                break
        self._thread.join()
        self._thread = None


class Recorded(Noted):
    """A source whose snapshots are recorded: it opens and closes the recorder with itself."""

    def __init__(self, source: Source, recorder: Recorder) -> None:
        super().__init__(source, "")
        self._recorder = recorder
        try:
            recorder.open()
        except TcptopError:
            source.close()
            raise

    def poll(self) -> Snapshot:
        """See Source."""
        return self._source.poll()

    def close(self) -> None:
        """See Source."""
        try:
            super().close()
        finally:
            self._recorder.close()


class RecordedTracker(Tracker):
    """A tracker whose flows go to a recorder."""

    def __init__(self, window_s: float, closed_s: float, recorder: Recorder) -> None:
        super().__init__(window_s, closed_s)
        self._recorder = recorder

    def update(self, snapshot: Snapshot) -> Flows:
        """See Tracker."""
        return self._recorder.take(super().update(snapshot))
