"""Recordings that lack the newest fields are played."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from tcptop_ops.model.host_counters import HOST
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import EVENTS, FINAL, SOCKET, TOO_LONG, UNKNOWN_U32, UNKNOWN_U64
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording import codec, layouts
from tcptop_ops.recording.reader import RecordingReader
from tests.support.recordings import chaos, record, same, world


def emptied(snapshot: Snapshot) -> Snapshot:
    """What is left of it when an older program has recorded it."""
    older = layouts.in_layout(layouts.in_layout(snapshot, layouts.before_additions()), layouts.NOW)
    return replace(older, namespace_counters=np.zeros(0, NETNS), host_counters=np.zeros(0, HOST))


def test_the_checksums_tell_the_layouts_apart() -> None:
    for layout in (layouts.NOW, layouts.before_additions()):
        assert layouts.of_checksum(layout.checksum) == layout
    assert layouts.of_checksum("x") is None
    assert layouts.of_checksum(None) is None
    assert layouts.before_additions().checksum == "ae6bcb71", "that of 0.1.0, on little-endian machines"


def test_frames_of_an_older_layout_are_read_with_zeros() -> None:
    shots = [chaos(seed, float(seed)) for seed in range(4)]
    before: Snapshot | None = None
    replayed: Snapshot | None = None
    for shot in shots:
        with patch.object(codec, "NOW", layouts.before_additions()):
            older = layouts.in_layout(shot, layouts.before_additions())
            frame = codec.encode(older, before)
        replayed = codec.decode(frame, replayed, layouts.before_additions())
        same(replayed, emptied(shot))
        assert replayed.events.dtype == EVENTS
        assert replayed.closed.dtype == FINAL
        assert not replayed.events["error"].any()
        before = older


def test_times_of_32_bits_are_read_as_what_they_mean() -> None:
    """More than 71 minutes was told as such: it is no time, but comes back as what it was."""
    older = layouts.before_additions().aligned[0][1]
    was = np.zeros(4, older)
    was["last_sent_us"] = 0, 5_000_000, UNKNOWN_U32 - 1, UNKNOWN_U32
    now = layouts.converted(was, SOCKET)
    assert now["last_sent_us"].tolist() == [0, 5_000_000, TOO_LONG, UNKNOWN_U64]
    assert now["netns"].tolist() == [0] * 4
    assert layouts.converted(now, older)["last_sent_us"].tolist() == was["last_sent_us"].tolist()


def test_an_older_recording_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "older"
    record(path, [world(0)])
    with patch.object(codec, "NOW", layouts.before_additions()):
        frame = codec.encode(layouts.in_layout(world(0), layouts.before_additions()))
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value = ? WHERE name = 'layout'", (layouts.before_additions().checksum,))
        db.execute("UPDATE tick SET frame = ?", (frame,))
        db.commit()
    reader = RecordingReader(str(path))
    try:
        [shot] = reader.snapshots()
        assert shot is not None
        same(shot, emptied(world(0)))
    finally:
        reader.close()
