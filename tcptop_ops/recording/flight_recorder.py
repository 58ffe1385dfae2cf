"""The flight recorder: the last minutes in memory, to be saved as a recording when something went wrong.

What is kept are the frames of a recording (``codec``), so that it costs what changed. It is bounded in bytes, in time,
and in what it may take of a core.
"""

from __future__ import annotations

import os
import pwd
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tcptop_ops.errors import Failed
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording import codec
from tcptop_ops.recording.key_frames import KeyFramePolicy
from tcptop_ops.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tcptop_ops.model.filter import Filter

MOST_BYTES = 32 << 20
MOST_S = 600.0
"""How much is kept, and how long."""

MOST_ROWS = 30_000
"""Sockets beyond which nothing is kept: a copy of the rows alone would take 17 MB, and a frame half a tick."""

SHARE = 0.01
"""Of a core, at most: where a frame takes longer, fewer ticks are kept."""

BURST = 20
BURST_S = 10.0
TIMES_USUAL = 5.0
"""So many timeouts within so many seconds, and so many times as many as in the minutes before, are a burst."""

LEARN_S = 60.0
"""So long after the start it is not known yet what is usual."""

AFTERMATH_S = 10.0
"""So much of what comes after the reason to save is saved too."""

REST_S = 600.0
"""Between two recordings that are saved without being asked for."""

KEPT_FILES = 5
"""Of those that were saved without being asked for; the oldest are removed."""

PREFIX, SUFFIX = "flight-", ".tcptop"
PREFIX_UNASKED = "flight-auto-"
"""How the files are called: with the time in between."""


class Frame(NamedTuple):
    """A tick that is kept: when it was (``at_s``, of CLOCK_MONOTONIC), and its frame."""

    at_s: float
    is_key: bool
    data: bytes


class FrameRing:
    """The frames of the last minutes. ``add`` is called by one thread, ``frames`` by any."""

    def __init__(
        self,
        most_bytes: int = MOST_BYTES,
        most_s: float = MOST_S,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """Take the limits, and the clock of the CPU time that the calling thread has used."""
        self._most_bytes, self._most_s = most_bytes, most_s
        self._cpu_s = cpu_s
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._key_frames = KeyFramePolicy(most_bytes // 8)
        self._before: Snapshot | None = None
        self._next_s = 0.0
        self._lock = threading.Lock()

    def add(self, snapshot: Snapshot) -> None:
        """Keep a tick, unless it is too large, or too much was spent on the last one."""
        at_s = snapshot.now_ns / 1e9
        if len(snapshot.sockets) > MOST_ROWS:
            self._clear()
            return
        if at_s < self._next_s:
            return
        started = self._cpu_s()
        is_key = self._key_frames.is_due
        data = codec.encode(snapshot, None if is_key else self._before)
        self._before = snapshot.copy()
        self._key_frames.add(len(data), is_key)
        with self._lock:
            self._frames.append(Frame(at_s, is_key, data))
            self._bytes += len(data)
            self._drop_oldest(at_s)
        self._next_s = at_s + (self._cpu_s() - started) / SHARE

    def _drop_oldest(self, now_s: float) -> None:
        """Drop the oldest key frame and what follows from it, as often as must be; the newest one stays."""
        while len(self._frames) > 1 and self._is_too_much(now_s):
            keys = [at for at, frame in enumerate(self._frames) if frame.is_key and at]
            if not keys:
                return
            for _ in range(keys[0]):
                self._bytes -= len(self._frames.popleft().data)

    def _is_too_much(self, now_s: float) -> bool:
        return self._bytes > self._most_bytes or now_s - self._frames[0].at_s > self._most_s

    def _clear(self) -> None:
        with self._lock:
            self._frames.clear()
            self._bytes = 0
        self._key_frames.restart()
        self._before = None

    def frames(self) -> tuple[Frame, ...]:
        """Return those that are kept, the oldest first; a key frame before all others."""
        with self._lock:
            return tuple(self._frames)

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return self._bytes


class SaveTrigger:
    """Finds when to save without being asked: AFTERMATH_S after a burst of timeouts, or after a match of a filter."""

    def __init__(self, condition: Filter | None = None) -> None:
        """Take what else is a reason to save, beside a burst of timeouts."""
        self._condition = condition
        self._ticks: deque[tuple[float, int]] = deque()  # when, and how many timeouts
        self._due_s: float | None = None
        self._why = ""
        self._quiet_until_s = 0.0

    def reason_to_save(self, flows: Flows) -> str:
        """Return why it is time to save now that this tick was made; "" where it isn't. To be called for every tick."""
        now_s = flows.snapshot.now_ns / 1e9
        self._ticks.append((now_s, flows.totals.rto_events))
        while self._ticks[0][0] < now_s - MOST_S:
            self._ticks.popleft()
        if self._due_s is None and now_s >= self._quiet_until_s and (why := self._reason(flows, now_s)):
            self._due_s, self._why = now_s + AFTERMATH_S, why
        if self._due_s is None or now_s < self._due_s:
            return ""
        self._due_s, self._quiet_until_s = None, now_s + REST_S
        return self._why

    def _reason(self, flows: Flows, now_s: float) -> str:
        condition = self._condition
        if condition is not None and any(condition.mask(rows, flows).any() for rows in (flows.live, flows.closed)):
            return f"matched: {condition.text}"
        if now_s - self._ticks[0][0] < LEARN_S:
            return ""
        late = sum(count for at_s, count in self._ticks if at_s > now_s - BURST_S)
        early = sum(count for at_s, count in self._ticks if at_s <= now_s - BURST_S)
        usual = early * BURST_S / (now_s - BURST_S - self._ticks[0][0])
        return f"{late} timeouts within {BURST_S:.0f} s" if late >= max(BURST, TIMES_USUAL * usual) else ""


@dataclass(frozen=True)
class FlightConfig:
    """What is needed to save the last minutes.

    ``state``: the user's directory for such files, None for one without a home. ``host``: where they were seen.
    ``tracker``: makes a fresh one. ``trigger``: what is a reason to save unasked, beside a burst of timeouts.
    """

    state: Path | None
    host: HostDescription
    tracker: Callable[[], Tracker]
    trigger: Filter | None = None


class FlightRecorder:
    """A TickObserver that keeps the last minutes, and says when to save them unasked."""

    notes: tuple[str, ...] = ()

    def __init__(self, config: FlightConfig, alarm: Callable[[str], object]) -> None:
        """Take what is needed to save, and what is called with the reason, in words, when it is time for that.

        ``alarm`` is called in the thread that polls.
        """
        self._config = config
        self._alarm = alarm
        self._ring = FrameRing()
        self._trigger = SaveTrigger(config.trigger)

    def observe(self, flows: Flows) -> None:
        """Keep a tick, and raise the alarm where it is time to save."""
        self._ring.add(flows.snapshot)
        if why := self._trigger.reason_to_save(flows):
            self._alarm(why)

    def frames(self) -> tuple[Frame, ...]:
        """Return what is kept now, for ``save``; from any thread."""
        return self._ring.frames()

    def save(self, frames: Sequence[Frame], is_unasked: bool, time_s: float) -> Path:
        """Write these frames as a recording. Raises Failed. See the function of this name."""
        return save(frames, self._config, is_unasked, time_s)


def directory(state: Path | None) -> Path:
    """Return this one, made if need be; where it can't be written, that for temporary files."""
    if state is not None:
        with suppress(OSError):
            state.mkdir(0o700, parents=True, exist_ok=True)
        if os.access(state, os.W_OK | os.X_OK):
            return state
    return Path(tempfile.gettempdir())


def file_name(time_s: float, is_unasked: bool) -> str:
    """Return the name of a file that is saved at this time, seconds since the epoch."""
    return f"{PREFIX_UNASKED if is_unasked else PREFIX}{time.strftime('%Y%m%d-%H%M%S', time.localtime(time_s))}{SUFFIX}"


def with_tilde(path: Path) -> str:
    """Return a path as a shell of the user that this process has become takes it: short enough for a line."""
    with suppress(KeyError, ValueError):
        return f"~/{path.relative_to(pwd.getpwuid(os.geteuid()).pw_dir)}"
    return str(path)


def save(frames: Sequence[Frame], config: FlightConfig, is_unasked: bool, time_s: float) -> Path:
    """Write the frames as a recording, for its owner alone, and return where it is. Raises Failed.

    Of those that were saved unasked the oldest are removed. ``time_s``: of now, seconds since the epoch.
    """
    if not frames:
        raise Failed("nothing is kept: too many sockets for the flight recorder", "--record FILE records all ticks")
    place = directory(config.state)
    path = place / file_name(time_s, is_unasked)
    try:
        if is_unasked:
            _make_room(place)
        _write(frames, path, config)
    except OSError as error:
        raise Failed(f"cannot save to {path}: {error.strerror or error}", "--record FILE says where to") from error
    return path


def _make_room(place: Path) -> None:
    own = [file for file in sorted(place.glob(f"{PREFIX_UNASKED}*{SUFFIX}")) if file.lstat().st_uid == os.geteuid()]
    for file in own[: max(0, len(own) - KEPT_FILES + 1)]:
        file.unlink()


def _write(frames: Sequence[Frame], path: Path, config: FlightConfig) -> None:
    """Write all of them, or nothing. The columns for queries are made again from the snapshots. Raises OSError."""
    import sqlite3

    from tcptop_ops.recording.writer import Writer

    writer, tracker = Writer(str(path), config.host), config.tracker()
    before: Snapshot | None = None
    try:
        with closing(writer):
            for frame in frames:
                before = codec.decode(frame.data, None if frame.is_key else before)
                writer.write(tracker.update(before))
    except (sqlite3.Error, MemoryError) as error:
        with suppress(OSError):
            path.unlink()
        raise OSError(str(error)) from error
