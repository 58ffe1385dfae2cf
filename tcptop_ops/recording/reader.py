"""Reads recordings: the very snapshots that were recorded. Needs no root, no kernel, no Linux."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tcptop_ops.errors import Failed, TcptopError, Usage
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording import codec, layouts
from tcptop_ops.recording.index import TickIndex
from tcptop_ops.recording.schema import APPLICATION_ID, RECORDING_SCHEMA
from tcptop_ops.text import printable

SQLITE_MAGIC = b"SQLite format 3\0"
TROUBLE = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
"""What sqlite3 raises where a database is damaged: its own messages may be no UTF-8."""


def _figure(value: Any) -> float:
    """Return a number of the file; NaN for what is none."""
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


class RecordingReader:
    """An open recording: its index, its host, and its snapshots. Nothing is written to the file."""

    def __init__(self, path: str) -> None:
        """Open a file. Raises Usage for what is no recording of ours, Failed for one that is damaged or newer."""
        _require_readable(path)
        self.path = path
        self._db = self._open()
        try:
            self._meta = self._checked_meta()
            self.index = self._read_index()
        except TROUBLE as error:
            self._db.close()
            raise self._damaged(str(error)) from error
        except TcptopError:
            self._db.close()
            raise

    def _open(self) -> sqlite3.Connection:
        """Open it to read; where no log can be kept beside it, what is in the file alone."""
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
        if schema > RECORDING_SCHEMA:
            raise Failed(f"{self.path} is of a newer version: {made_by}", "replay it with that one")
        layout = layouts.of_checksum(meta.get("layout"))
        if schema < RECORDING_SCHEMA or layout is None:
            raise Failed(f"{self.path} was made by {made_by}, whose records differ", "replay it with that one")
        self._layout = layout
        return meta

    def _read_index(self) -> TickIndex:
        """Read it as far as that can be: what comes before a damaged place is played."""
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
        return TickIndex(np.array(numbers), np.array(keys), np.array(times), trouble)

    @property
    def host(self) -> HostDescription:
        """The host that was recorded, and by which program."""
        return HostDescription(*(str(self._meta.get(name, "")) for name in ("host", "kernel", "program")))

    def frame(self, tick: int) -> bytes:
        """Return the frame of the tick of this number. Raises Damaged where there is none that can be read."""
        try:
            found = self._db.execute("SELECT frame FROM tick WHERE tick = ?", (tick,)).fetchone()
        except TROUBLE as error:
            raise codec.Damaged(str(error)) from error
        if found is None or not isinstance(found[0], bytes):
            raise codec.Damaged("it has no frame")
        return found[0]

    def snapshots(self, first: int = 0) -> Iterator[Snapshot | None]:
        """Yield those from the place ``first`` in the index on, in their order; None for each that can't be read."""
        index = self.index
        keys = np.flatnonzero(index.is_key[: first + 1])
        start = int(keys[-1]) if len(keys) else 0
        before: Snapshot | None = None
        last: int | None = None
        for at in range(start, len(index)):
            tick, is_key = int(index.number[at]), bool(index.is_key[at])
            follows = before is not None and last is not None and tick == last + 1
            snapshot: Snapshot | None = None
            if is_key or follows:
                with suppress(codec.Damaged):
                    snapshot = codec.decode(self.frame(tick), None if is_key else before, self._layout)
            before, last = snapshot, tick
            if at >= first:
                yield snapshot

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._db.close()
