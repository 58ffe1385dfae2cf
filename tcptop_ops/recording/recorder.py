"""Records every tick that is polled, in a thread of its own: a slow disk must not hold up a poll."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Full, Queue

from tcptop_ops.errors import exhausted
from tcptop_ops.model.filter import Filter
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.recording.writer import Writer

QUEUED = 8
"""Ticks that may wait for the disk; those beyond are left out, and a note says so."""


@dataclass(frozen=True)
class RecordingOptions:
    """What to record, and where to. ``path``: a file that is made.

    ``seconds``: so long; None: to the end. ``size``: bytes that the file stays below, the oldest ticks go; None: it
    grows. ``trigger``: from the first match on; None: from the start.
    """

    path: str
    seconds: float | None = None
    size: int | None = None
    trigger: Filter | None = None


class Recorder:
    """A TickObserver that writes the ticks to a file. Whatever goes wrong ends the recording alone, with a note."""

    def __init__(self, options: RecordingOptions, host: HostDescription) -> None:
        """Take what to record, and the host that it is recorded on. Nothing is written before ``open``."""
        self._options = options
        self._host = host
        self._queue: Queue[Flows | None] = Queue(QUEUED)
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None
        self._began_s: float | None = None
        self._end_note = ""
        self._left_out = 0
        self._has_ended = False

    def open(self) -> None:
        """Make the file, and start the thread: to be called when root was given up. Raises Failed."""
        self._writer = Writer(self._options.path, self._host, self._options.size)
        thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._writer.close()
            raise exhausted(error) or error from error
        self._thread = thread

    @property
    def notes(self) -> tuple[str, ...]:
        """How the recording ended, if it did, and how much is not in it."""
        missed = f"recording: the disk was too slow for {self._left_out} ticks" if self._left_out else ""
        return tuple(note for note in (self._end_note, missed) if note)

    def observe(self, flows: Flows) -> None:
        """Hand the tick to the thread, if it is to be recorded."""
        try:
            if self._thread is not None and not self._has_ended and self._is_wanted(flows):
                self._queue.put_nowait(flows.copy())
        except Full:
            self._left_out += 1
        except Exception as error:  # it must not end the monitor, nor end in silence
            self._fail(error)

    def _is_wanted(self, flows: Flows) -> bool:
        now_s = flows.snapshot.now_ns / 1e9
        if self._began_s is None:
            trigger = self._options.trigger
            if trigger is not None and not any(trigger.mask(rows, flows).any() for rows in (flows.live, flows.closed)):
                return False
            self._began_s = now_s
        if self._options.seconds is None or now_s - self._began_s <= self._options.seconds:
            return True
        self._end(f"recorded to {self._options.path}: its time is over")
        with suppress(Full):
            self._queue.put_nowait(None)
        return False

    def _end(self, note: str) -> None:
        self._end_note, self._has_ended = note, True

    def _fail(self, error: Exception) -> None:
        if isinstance(error, sqlite3.Error | OSError | MemoryError):
            self._end(f"recording to {self._options.path} ended: {error}")
        else:
            self._end(f"recording ended, a bug in tcptop-ops: {type(error).__name__}: {error}")

    def _run(self) -> None:
        assert self._writer is not None
        with closing(self._writer):
            while (flows := self._queue.get()) is not None:
                try:
                    self._writer.write(flows)
                except Exception as error:  # it must not end the monitor, nor end in silence
                    self._fail(error)
                    break

    def close(self) -> None:
        """Write what waits, and close the file. May be called twice."""
        if self._thread is None:
            return
        while self._thread.is_alive():
            with suppress(Full):
                self._queue.put(None, timeout=0.1)
                break
        self._thread.join()
        self._thread = None
