"""The flight recorder: the last minutes in memory, to be saved as a recording when something went wrong.

What is kept are the frames of a recording (``frames``), so that it costs what changed. It is bounded in bytes, in time,
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

from tcptop_ops import frames
from tcptop_ops.errors import Failed
from tcptop_ops.snapshot import Snapshot
from tcptop_ops.tracker import Flows, Tracker

if TYPE_CHECKING:
    from tcptop_ops.filters import Filter

MOST_BYTES = 32 << 20
MOST_S = 600.0
KEY_EVERY = 60
"""Frames from one key frame to the next at most."""

MOST_ROWS = 30_000
"""Sockets beyond which nothing is kept: a copy of the rows alone would take 17 MB, and a frame half a tick."""

SHARE = 0.01
"""Of a core, at most: where a frame takes longer, fewer ticks are kept."""

BURST = 20
BURST_S = 10.0
TIMES_USUAL = 5.0
"""So many timeouts within so many seconds, and so many times as many as in the minutes before, are a burst."""

LEARN_S = 60.0
"""Before that nothing is usual."""

AFTERMATH_S = 10.0
"""What happens next belongs to it."""

REST_S = 600.0
"""Between two that are saved without being asked for."""

KEPT_FILES = 5
"""Of those that were saved without being asked for."""

PREFIX, SUFFIX = "flight-", ".tcptop"
BY_ITSELF = "flight-auto-"


class Frame(NamedTuple):
    """A tick: ``at_s`` of CLOCK_MONOTONIC."""

    at_s: float
    is_key: bool
    data: bytes


class Flight:
    """Keeps frames. ``add`` is called by one thread, ``frames`` by any."""

    def __init__(
        self,
        most_bytes: int = MOST_BYTES,
        most_s: float = MOST_S,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._most_bytes, self._most_s = most_bytes, most_s
        self._cpu_s = cpu_s
        self._frames: deque[Frame] = deque()
        self._bytes = self._since_key = self._key_bytes = 0
        self._before: Snapshot | None = None
        self._next_s = 0.0
        self._lock = threading.Lock()

    def add(self, snapshot: Snapshot) -> None:
        """Keep a tick, unless it is too large, or too much was spent on the last one."""
        at_s = snapshot.now_ns / 1e9
        if len(snapshot.sockets) > MOST_ROWS:
            self._forget_all()
            return
        if at_s < self._next_s:
            return
        started = self._cpu_s()
        is_key = self._before is None or self._since_key >= KEY_EVERY or self._key_bytes > self._most_bytes // 8
        data = frames.encode(snapshot, None if is_key else self._before)
        self._before = snapshot.copy()
        self._since_key = 1 if is_key else self._since_key + 1
        self._key_bytes = len(data) if is_key else self._key_bytes + len(data)
        with self._lock:
            self._frames.append(Frame(at_s, is_key, data))
            self._bytes += len(data)
            self._forget(at_s)
        self._next_s = at_s + (self._cpu_s() - started) / SHARE

    def _forget(self, now_s: float) -> None:
        """The oldest key frame and what follows from it, as often as must be; the newest one stays."""
        while len(self._frames) > 1 and self._is_too_much(now_s):
            keys = [at for at, frame in enumerate(self._frames) if frame.is_key and at]
            if not keys:
                return
            for _ in range(keys[0]):
                self._bytes -= len(self._frames.popleft().data)

    def _is_too_much(self, now_s: float) -> bool:
        return self._bytes > self._most_bytes or now_s - self._frames[0].at_s > self._most_s

    def _forget_all(self) -> None:
        with self._lock:
            self._frames.clear()
            self._bytes = 0
        self._before = None

    def frames(self) -> tuple[Frame, ...]:
        """Those that are kept, the oldest first; a key frame before all others."""
        with self._lock:
            return tuple(self._frames)

    @property
    def held(self) -> int:
        """Bytes."""
        return self._bytes


class Alarm:
    """Tells when to save without being asked: AFTERMATH_S after a burst of timeouts, or a match of ``trigger``."""

    def __init__(self, trigger: Filter | None = None) -> None:
        self._trigger = trigger
        self._ticks: deque[tuple[float, int]] = deque()  # when, and how many timeouts
        self._due_s: float | None = None
        self._why = ""
        self._quiet_until_s = 0.0

    def look(self, flows: Flows) -> str:
        """Why it is time to save now; nothing where it isn't."""
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
        if self._trigger is not None and any(
            self._trigger.mask(rows, flows).any() for rows in (flows.live, flows.closed)
        ):
            return f"matched: {self._trigger.text}"
        if now_s - self._ticks[0][0] < LEARN_S:
            return ""
        late = sum(count for at_s, count in self._ticks if at_s > now_s - BURST_S)
        early = sum(count for at_s, count in self._ticks if at_s <= now_s - BURST_S)
        usual = early * BURST_S / (now_s - BURST_S - self._ticks[0][0])
        return f"{late} timeouts within {BURST_S:.0f} s" if late >= max(BURST, TIMES_USUAL * usual) else ""


@dataclass(frozen=True)
class Box:
    """What is needed to save: the user's directory for such things, None for one without a home; where it was seen, as
    ``recording.Host`` has it; what makes a fresh tracker; and what saves by itself, beside a burst of timeouts.
    """

    state: Path | None
    host: str
    kernel: str
    program: str
    tracker: Callable[[], Tracker]
    trigger: Filter | None = None


def directory(state: Path | None) -> Path:
    """This one, made if need be; where it can't be written, that for temporary files."""
    if state is not None:
        with suppress(OSError):
            state.mkdir(0o700, parents=True, exist_ok=True)
        if os.access(state, os.W_OK | os.X_OK):
            return state
    return Path(tempfile.gettempdir())


def name(time_s: float, by_itself: bool) -> str:
    """Of a file that is saved at this time, seconds since the epoch."""
    return f"{BY_ITSELF if by_itself else PREFIX}{time.strftime('%Y%m%d-%H%M%S', time.localtime(time_s))}{SUFFIX}"


def with_tilde(path: Path) -> str:
    """As a shell of the user that this has become takes it: short enough for a line."""
    with suppress(KeyError, ValueError):
        return f"~/{path.relative_to(pwd.getpwuid(os.geteuid()).pw_dir)}"
    return str(path)


def save(kept: Sequence[Frame], box: Box, by_itself: bool, time_s: float) -> Path:
    """Write them as a recording, for its owner alone; of those saved by itself the oldest go. Raises Failed."""
    if not kept:
        raise Failed("nothing is kept: too many sockets for the flight recorder", "--record FILE records all ticks")
    place = directory(box.state)
    path = place / name(time_s, by_itself)
    try:
        if by_itself:
            _make_room(place)
        _write(kept, path, box)
    except OSError as error:
        raise Failed(f"cannot save to {path}: {error.strerror or error}", "--record FILE says where to") from error
    return path


def _make_room(place: Path) -> None:
    own = [file for file in sorted(place.glob(f"{BY_ITSELF}*{SUFFIX}")) if file.lstat().st_uid == os.geteuid()]
    for file in own[: max(0, len(own) - KEPT_FILES + 1)]:
        file.unlink()


def _write(kept: Sequence[Frame], path: Path, box: Box) -> None:
    """All of it, or nothing: what the columns for queries tell is made again from what was kept."""
    import sqlite3

    from tcptop_ops.recording import Host, Writer

    writer, tracker = Writer(str(path), Host(box.host, box.kernel, box.program)), box.tracker()
    before: Snapshot | None = None
    try:
        with closing(writer):
            for frame in kept:
                before = frames.decode(frame.data, None if frame.is_key else before)
                writer.write(tracker.update(before))
    except (sqlite3.Error, MemoryError) as error:
        with suppress(OSError):
            path.unlink()
        raise OSError(str(error)) from error
