"""Files that are damaged or foreign: what can be read is played, or one line tells why not."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.errors import Failed, TcptopError, Usage
from tcptop_ops.polling.schedule import ticks
from tcptop_ops.recording import codec
from tcptop_ops.recording.key_frames import KEY_EVERY
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.replay_source import ReplaySource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec, make
from tests.support.recordings import record, same, world

MUTATIONS = 2000


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="No such file"):
        RecordingReader(str(tmp_path / "none"))
    with pytest.raises(Usage, match="Is a directory"):
        RecordingReader(str(tmp_path))
    for content in (b"", b"text", b"SQLite format 3\0"):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises((Usage, Failed)):
            RecordingReader(str(tmp_path / "f"))
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE tick (tick)")
    with pytest.raises(Usage, match="is no recording"):
        RecordingReader(str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE meta SET value = 99 WHERE name = 'schema'", r"newer version: tcptop-ops 0\.1\.0"),
        ("UPDATE meta SET value = 'x' WHERE name = 'schema'", "its schema is not known"),
        ("UPDATE meta SET value = 'x' WHERE name = 'layout'", "whose records differ"),
        ("DELETE FROM tick", "has no ticks"),
        ("UPDATE tick SET frame = x'00'", "not one of its 5 ticks"),
        ("UPDATE tick SET frame = NULL", "not one of its 5 ticks"),
    ],
)
def test_what_cannot_be_played(recorded: Path, change: str, message: str) -> None:
    with closing(sqlite3.connect(recorded)) as db:
        db.execute(change)
        db.commit()
    with pytest.raises(Failed, match=message) as error:
        ReplaySource(str(recorded))
    assert "\n" not in error.value.message


def test_the_rest_is_played(tmp_path: Path) -> None:
    """After a damaged tick from the next key frame on, with a note."""
    shots = [world(second) for second in range(KEY_EVERY + 5)]
    record(tmp_path / "r", shots)
    with closing(sqlite3.connect(tmp_path / "r")) as db:
        db.execute("UPDATE tick SET frame = substr(frame, 1, 20) WHERE tick = 3")
        db.commit()
    with closing(ReplaySource(str(tmp_path / "r"))) as source:
        for shot in shots[:2]:
            same(source.poll(), shot)
        noted = source.poll()
        assert "57 ticks" in noted.notes[0]
        same(replace(noted, notes=()), shots[2])
        assert source.poll().time == shots[KEY_EVERY].time


def refusal(path: Path) -> str | None:
    """Play it all: what a user is told where that can't be."""
    try:
        with closing(ReplaySource(str(path), 0.0)) as source:
            for flows in ticks(source, Tracker(), 1.0, threading.Event()):
                make(flows, Spec())
    except TcptopError as error:
        return error.message
    return None


def test_mutations(recorded: Path, tmp_path: Path) -> None:
    """Whatever is in the file: what can be read is played, or one line tells why not."""
    rng = np.random.default_rng(20)
    whole = np.frombuffer(recorded.read_bytes(), np.uint8)
    path = tmp_path / "mutated"
    refused = 0
    for number in range(MUTATIONS):
        mutated = whole.copy()
        at = rng.integers(0, len(whole), int(rng.integers(1, 40)))
        if number % 4 == 0:
            at %= 1000  # the header, and the first page
        mutated[at] = rng.integers(0, 256, len(at))
        cut = int(rng.integers(0, len(whole))) if number % 5 == 0 else len(whole)
        path.write_bytes(mutated[:cut].tobytes())
        told = refusal(path)
        refused += told is not None
        assert "\n" not in (told or "")
    assert 0 < refused < MUTATIONS


def test_mutations_of_what_is_in_a_frame() -> None:
    """Past the checksum of the stream."""
    rng = np.random.default_rng(21)
    before, now = world(3), world(4)
    whole = zlib.decompress(codec.encode(now, before))
    damaged = 0
    for _ in range(MUTATIONS):
        mutated = bytearray(whole)
        for at in rng.integers(0, len(whole), int(rng.integers(1, 9))).tolist():
            mutated[at] = int(rng.integers(0, 256))
        try:
            Tracker().update(codec.decode(zlib.compress(bytes(mutated), 1), before))
        except codec.Damaged:
            damaged += 1
    assert damaged
