"""A recording played: the very snapshots that were recorded, at their pace. Needs no root, no kernel, no Linux."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tcptop_ops import frames
from tcptop_ops.errors import Failed, TcptopError, Unsupported, Usage
from tcptop_ops.format import printable
from tcptop_ops.snapshot import Records, Snapshot
from tcptop_ops.source import Over
from tcptop_ops.tape import Tape

SCHEMA = 1
"""That of ``recording``: a newer one is refused."""

APPLICATION_ID = 0x74637074
SQLITE_MAGIC = b"SQLite format 3\0"
TROUBLE = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
"""What reading a damaged database raises: its own messages may be no UTF-8."""

LONGEST_PAUSE_S = 3600.0


def _figure(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e18 else float("nan")


def _uri(path: str, how: str) -> str:
    return f"{Path(path).absolute().as_uri()}?{how}"


def _require_readable(path: str) -> None:
    try:
        with open(path, "rb") as file:
            begin = file.read(16)
    except OSError as error:
        raise Usage(f"cannot replay {path}: {error.strerror}", "--replay takes a file that --record made") from error
    if begin != SQLITE_MAGIC:
        raise Usage(f"{path} is no recording", "--replay takes a file that --record made")


class Reader:
    """The ticks of a recording. Nothing is written to the file."""

    def __init__(self, path: str) -> None:
        """Raises Usage for what is no recording of ours, Failed for one that is damaged or newer."""
        _require_readable(path)
        self.path = path
        self._db = self._open()
        try:
            self.meta = self._checked_meta()
            self.tape = self._read_tape()
        except TROUBLE as error:
            self._db.close()
            raise self._damaged(str(error)) from error
        except TcptopError:
            self._db.close()
            raise

    def _open(self) -> sqlite3.Connection:
        """Read only; where a log can't be kept beside it, as what is in the file alone."""
        trouble: Exception | None = None
        for how in ("mode=ro", "mode=ro&immutable=1"):
            db = None
            try:
                db = sqlite3.connect(_uri(self.path, how), uri=True, isolation_level=None, check_same_thread=False)
                db.execute("PRAGMA trusted_schema = OFF")
                db.execute("PRAGMA cell_size_check = ON")
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return db
            except TROUBLE as error:
                trouble = error
                if db is not None:
                    db.close()
        raise self._damaged(str(trouble))

    def _damaged(self, why: str) -> Failed:
        return Failed(f"{self.path} is damaged: {printable(why)}", "sqlite3 FILE .recover may save what is in it")

    def _checked_meta(self) -> dict[str, Any]:
        kinds = dict(self._db.execute("SELECT name, type FROM sqlite_master WHERE name IN ('meta', 'tick')"))
        [identity] = self._db.execute("PRAGMA application_id").fetchone()
        if identity != APPLICATION_ID or kinds != {"meta": "table", "tick": "table"}:
            raise Usage(f"{self.path} is no recording", "--replay takes a file that --record made")
        meta = dict(self._db.execute("SELECT name, value FROM meta LIMIT 100"))
        schema = meta.get("schema")
        made_by = f"tcptop-ops {printable(str(meta.get('program', '?')))}"
        if not isinstance(schema, int):
            raise self._damaged("its schema is not known")
        if schema > SCHEMA:
            raise Failed(f"{self.path} is of a newer version: {made_by}", "replay it with that one")
        if schema < SCHEMA or meta.get("layout") != frames.layout():
            raise Failed(f"{self.path} was made by {made_by}, whose records differ", "replay it with that one")
        return meta

    def _read_tape(self) -> Tape:
        """As far as it can be read: what was read before a damaged place is played."""
        found: list[tuple[int, bool, float, float]] = []
        with suppress(*TROUBLE):
            for tick, is_key, *figures in self._db.execute("SELECT tick, is_key, time, score FROM tick ORDER BY tick"):
                if isinstance(tick, int):
                    time, score = map(_figure, figures)
                    found.append((tick, bool(is_key), time, score))
        if not found:
            raise Failed(f"{self.path} has no ticks", "a recording has some from its first second on")
        numbers, keys, times, scores = zip(*found, strict=True)
        trouble = np.maximum(np.nan_to_num(np.array(scores)), 0.0)
        return Tape(np.array(numbers), np.array(keys), np.array(times), trouble)

    @property
    def host(self) -> dict[str, Any]:
        """Where it was made."""
        return {name: str(self.meta.get(name, "")) for name in ("host", "kernel")}

    def frame(self, tick: int) -> bytes:
        """Raises Damaged."""
        try:
            found = self._db.execute("SELECT frame FROM tick WHERE tick = ?", (tick,)).fetchone()
        except TROUBLE as error:
            raise frames.Damaged(str(error)) from error
        if found is None or not isinstance(found[0], bytes):
            raise frames.Damaged("it has no frame")
        return found[0]

    def snapshots(self, first: int = 0) -> Iterator[Snapshot | None]:
        """From the ``first`` on, in their order; None for each that can't be read."""
        tape = self.tape
        keys = np.flatnonzero(tape.is_key[: first + 1])
        start = int(keys[-1]) if len(keys) else 0
        before: Snapshot | None = None
        last: int | None = None
        for at in range(start, len(tape)):
            tick, is_key = int(tape.number[at]), bool(tape.is_key[at])
            follows = before is not None and last is not None and tick == last + 1
            snapshot: Snapshot | None = None
            if is_key or follows:
                with suppress(frames.Damaged):
                    snapshot = frames.decode(self.frame(tick), None if is_key else before)
            before, last = snapshot, tick
            if at >= first:
                yield snapshot

    def close(self) -> None:
        """Let go of the file. Twice is fine."""
        self._db.close()


class ReplaySource:
    """A Source that plays a recording once, for outputs. ``speed``: how many times as fast; 0: without waiting."""

    name = "replay"

    def __init__(self, path: str, speed: float = 1.0) -> None:
        """Raises Usage or Failed, also where not one snapshot can be read."""
        self._reader = Reader(path)
        self._speed = speed
        self._coming = self._reader.snapshots()
        self._lost = 0
        self._now: Snapshot | None = None
        self._next = self._readable()
        if self._next is None:
            self._reader.close()
            raise unreadable(path, self._lost)

    @property
    def host(self) -> dict[str, Any]:
        """``host`` and ``kernel``, of where it was made."""
        return self._reader.host

    def _readable(self) -> Snapshot | None:
        for snapshot in self._coming:
            if snapshot is not None:
                return snapshot
            self._lost += 1
        return None

    def poll(self) -> Snapshot:
        """The next snapshot. Raises Over at the end."""
        if self._next is None:
            raise Over
        now = self._next
        self._now, self._next = now, self._readable()
        return replace(now, notes=(*now.notes, lost(self._lost))) if self._lost else now

    @property
    def pace_s(self) -> float:
        """Seconds from the last poll to the one after it."""
        if self._now is None or self._next is None or not self._speed:
            return 0.0
        return gap_s(self._now, self._next) / self._speed

    def drain(self) -> None:
        """Nothing waits."""

    def watch(self, cookie: int) -> None:
        """Can't be done."""

    def measure(self, on: bool) -> None:
        """Can't be done."""

    def close_connection(self, sock: Records) -> None:
        """Raises Unsupported."""
        raise cannot_close()

    def close(self) -> None:
        """See Source."""
        self._reader.close()


def gap_s(now: Snapshot, after: Snapshot) -> float:
    """From one tick to the next, as it was recorded: seconds."""
    return min(max(0.0, (after.now_ns - now.now_ns) / 1e9), LONGEST_PAUSE_S)


def lost(ticks: int) -> str:
    """The note about those that can't be read."""
    return f"{ticks} ticks of the recording can't be read"


def unreadable(path: str, ticks: int) -> Failed:
    """Not one tick can be read."""
    return Failed(f"{path} is damaged: not one of its {ticks} ticks can be read")


def cannot_close() -> Unsupported:
    """Of a key that only a kernel could answer."""
    return Unsupported("a connection of a recording can't be closed", "without --replay, on its own host")
