"""A recording on the screen: played, paused, stepped through, and entered at any place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.errors import TcptopError
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.observers import complete
from tcptop_ops.polling.schedule import Clock
from tcptop_ops.polling.worker import ResultCallback, WorkerThread
from tcptop_ops.recording.index import PlaybackState, TickIndex, seconds_into
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.replay_source import cannot_close, gap_s, lost, unreadable
from tcptop_ops.tracking.lingering import BAD_CLOSED_S
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.tracking.window import sampled

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 0.0)
"""Speeds that the keys choose from, as a multiple of the recorded one; 0: without waiting."""

SLACK_S = 5.0
MOST_LEAD = 300
"""Ticks that are read before the goal of a jump, at most."""

MOST_LATE_S = 0.5
"""A tick that is later than this moves those after it: they are not made up for."""

BETWEEN_ROUNDS_S = 2.0
"""Between the last tick and the first, where a recording is played again and again."""

CANT_LOOK = "a recording can't look closer: this connection has no story in it"
CANT_MEASURE = "a recording can't measure what the program costs"


def lead_s(window_s: float, closed_s: float) -> float:
    """Return how many seconds before a tick have to be read to show it as linear play does.

    It depends on the closed connections that are still listed, and they on the window before their end.
    """
    return max(closed_s, BAD_CLOSED_S) + window_s + SLACK_S


class Player:
    """A Worker that plays a recording: at its pace, by steps, and from any place."""

    def __init__(
        self,
        reader: Callable[[], RecordingReader],
        index: TickIndex,
        tracker: Callable[[], Tracker],
        lead_s: float,
        window_s: float,
        publish: Callable[[Flows], None],
        *,
        lead: Callable[[Flows | None], None],
        changed: Callable[[], object],
        fail: Callable[[TcptopError], None],
        speed: float = 1.0,
        again: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """Take what opens the recording, its index, and what makes a fresh tracker. All callbacks run in the thread.

        ``lead_s`` seconds before the goal of a jump are read first, from a tick on at which the tracker's window
        (``window_s``) took a sample when all was played. ``lead`` gets each of those ticks (for the graphs of the time
        before), and None where they begin. ``changed``: playing stopped at the end. ``again``: it restarts there.
        """
        self._open = reader
        self._new_tracker = tracker
        self._publish = publish
        self._lead = lead
        self._lead_s = lead_s
        self._changed = changed
        self._again = again
        self._clock = clock or Clock()
        self._worker = WorkerThread(self._work, fail)
        self.index = index
        self._seconds = seconds_into(index)
        self._starts = sampled(self._seconds, window_s)
        self._lock = threading.Lock()
        self._state = PlaybackState(speed=speed)
        self._goal: int | None = None
        self._must_repeat = False
        self._watched = 0
        self._is_measured = False
        self._to_refuse: list[ResultCallback] = []
        # Of the thread alone:
        self._tracker = tracker()
        self._findings = FindingsMemory()
        self._coming: Iterator[tuple[int, Snapshot | None]] = iter(())
        self._ahead: tuple[int, Snapshot] | None = None
        self._snapshot: Snapshot | None = None
        self._lost: set[int] = set()
        self._shown = -1
        self._flows: Flows | None = None
        self._shown_at = 0.0  # of the clock

    # --- from any thread

    def start(self) -> None:
        """See Worker."""
        self._worker.start()

    def stop(self) -> None:
        """See Worker."""
        self._worker.stop()

    @property
    def state(self) -> PlaybackState:
        """Where playing stands, or will stand as soon as what was asked for is done."""
        with self._lock:
            return self._state if self._goal is None else replace(self._state, at=self._goal)

    @property
    def seconds(self) -> float:
        """How long the recording is."""
        return float(self._seconds[-1])

    def toggle(self) -> None:
        """Play, or pause; at the end: play from the start."""
        with self._lock:
            playing = not self._state.is_playing
            if playing and self._goal is None and self._state.at >= len(self.index) - 1:
                self._goal = 0
            self._state = replace(self._state, is_playing=playing)
        self._worker.wake.set()

    def set_speed(self, speed: float) -> None:
        """Play so many times as fast as it was recorded; 0: without waiting."""
        with self._lock:
            self._state = replace(self._state, speed=speed)
        self._worker.wake.set()

    def step(self, ticks: int) -> None:
        """Pause, and go so many ticks on, or back where that is negative."""
        with self._lock:
            self._state = replace(self._state, is_playing=False)
        self.go(self.state.at + ticks)

    def skip(self, seconds: float) -> None:
        """Go so many seconds on, or back where that is negative: a tick at least."""
        at = self.state.at
        wanted = self._seconds[at] + seconds
        if seconds > 0:
            self.go(max(int(np.searchsorted(self._seconds, wanted)), at + 1))
        else:
            self.go(min(int(np.searchsorted(self._seconds, wanted, side="right")) - 1, at - 1))

    def go(self, at: int) -> None:
        """Go to the tick at this place of the index, or to the first or last one."""
        with self._lock:
            self._goal = min(max(at, 0), len(self.index) - 1)
        self._worker.wake.set()

    def set_delay(self, delay_s: float) -> None:
        """Do nothing: a recording has the delays that it was recorded with."""

    def watch(self, cookie: int) -> None:
        """Add a note to the tick, unless ``cookie`` is 0: a recording holds the details of what was watched then."""
        self._watched = cookie
        self._ask_again()

    def measure(self, on: bool) -> None:
        """Add a note to the tick while ``on``: there is no program that could be measured."""
        self._is_measured = on
        self._ask_again()

    def close_connection(self, sock: Records, tell: ResultCallback) -> None:
        """Refuse: there is no connection."""
        with self._lock:
            self._to_refuse.append(tell)
        self._worker.wake.set()

    def poll_now(self) -> None:
        """Show the next tick, and pause there."""
        self.step(1)

    def _ask_again(self) -> None:
        with self._lock:
            self._must_repeat = True
        self._worker.wake.set()

    # --- in the thread

    def _work(self) -> None:
        with closing(self._open()) as reader:
            self._enter(reader, 0)
            while not self._worker.is_stopping():
                self._worker.wake.clear()
                self._refuse()
                goal, repeat = self._requests()
                if goal is not None:
                    self._enter(reader, goal)
                elif repeat:
                    self._show_again()
                elif (rest := self._rest_s()) is None or rest > 0:
                    self._clock.wait(self._worker.wake, 3600.0 if rest is None else rest)
                else:
                    self._next(reader)

    def _requests(self) -> tuple[int | None, bool]:
        with self._lock:
            goal, repeat = self._goal, self._must_repeat
            self._must_repeat = False
            return goal, repeat

    def _refuse(self) -> None:
        with self._lock:
            waiting, self._to_refuse = self._to_refuse, []
        for tell in waiting:
            tell(cannot_close())

    def _rest_s(self) -> float | None:
        """Return the seconds until the next tick; None where playing is paused."""
        with self._lock:
            state = self._state
        if not state.is_playing:
            return None
        if not state.speed:
            return 0.0
        return self._shown_at + self._gap_s(state.speed) - self._clock.now()

    def _gap_s(self, speed: float) -> float:
        """Return the seconds of the clock from the tick on the screen to the next one."""
        if self._ahead is None or self._snapshot is None:
            return BETWEEN_ROUNDS_S
        return gap_s(self._snapshot, self._ahead[1]) / speed if speed else 0.0

    def _next(self, reader: RecordingReader) -> None:
        """Show the tick after the one that is shown. At the end pause, or restart."""
        if self._ahead is None and not self._again:
            with self._lock:
                self._state = replace(self._state, is_playing=False)
            self._changed()
        elif self._ahead is None:
            self._enter(reader, 0)
        else:
            at, snapshot = self._ahead
            self._place(at, self._shown_at + self._gap_s(self.state.speed))
            self._publish_flows(self._tracker.update(self._noted(snapshot)))
            self._snapshot = snapshot
            self._ahead = self._readable()

    def _enter(self, reader: RecordingReader, goal: int) -> None:
        """Show the first tick from ``goal`` on that can be read, or the last before; unless another is asked for."""
        if self._ahead is not None and self._ahead[0] == goal:  # a step on needs no lead
            self._arrived(goal)
            self._next(reader)
            return
        found = self._led_to(reader, goal) or (None if self._is_outdated(goal) else self._led_to(reader, 0))
        if self._is_outdated(goal):
            return
        if found is None:
            raise unreadable(reader.path, len(self._lost))
        self._arrived(goal)
        at, self._snapshot, flows = found
        self._place(at, self._clock.now())
        self._publish_flows(flows)
        self._ahead = self._readable()

    def _led_to(self, reader: RecordingReader, goal: int) -> tuple[int, Snapshot, Flows] | None:
        """Feed a fresh tracker with the ticks before the goal and the goal; return that.

        None where nothing from there on can be read.
        """
        start = int(np.searchsorted(self._seconds, self._seconds[goal] - self._lead_s))
        start = max(min(start, goal), goal - MOST_LEAD, 0)
        start = int(self._starts[np.searchsorted(self._starts, start, side="right") - 1])
        self._tracker, self._ahead, self._snapshot = self._new_tracker(), None, None
        self._findings = FindingsMemory()
        self._coming = zip(range(start, len(self.index)), reader.snapshots(start), strict=False)
        self._lead(None)
        found = None
        while not self._is_outdated(goal) and (read := self._readable()) is not None:
            at, snapshot = read
            found = at, snapshot, self._tracker.update(self._noted(snapshot))
            if at >= goal:
                break
            self._findings.look(found[2])
            self._lead(found[2])
        return found

    def _is_outdated(self, goal: int) -> bool:
        """Return whether another goal was asked for meanwhile, or the thread is to end."""
        with self._lock:
            return self._worker.is_stopping() or self._goal not in (None, goal)

    def _arrived(self, goal: int) -> None:
        with self._lock:
            self._goal = None if self._goal == goal else self._goal

    def _readable(self) -> tuple[int, Snapshot] | None:
        for at, snapshot in self._coming:
            if snapshot is not None:
                return at, snapshot
            self._lost.add(at)
        return None

    def _noted(self, snapshot: Snapshot) -> Snapshot:
        """Add what a recording can't do, where that was asked for."""
        notes = [lost(len(self._lost))] if self._lost else []
        if self._watched and self._watched != snapshot.watched:
            notes.append(CANT_LOOK)
        if self._is_measured:
            notes.append(CANT_MEASURE)
        return replace(snapshot, notes=(*notes, *snapshot.notes)) if notes else snapshot

    def _place(self, at: int, due: float) -> None:
        """Set what is shown now. A tick that is a little late does not delay those after it."""
        with self._lock:
            self._state = replace(self._state, at=at)
        now = self._clock.now()
        self._shown_at = due if now - due < MOST_LATE_S else now

    def _publish_flows(self, flows: Flows) -> None:
        self._shown += 1
        self._flows = replace(complete(flows, self._findings), tick=self._shown)
        self._publish(self._flows)

    def _show_again(self) -> None:
        """Publish the same tick with other notes."""
        if self._snapshot is not None and self._flows is not None:
            self._flows = replace(self._flows, snapshot=self._noted(self._snapshot))
            self._publish(self._flows)
