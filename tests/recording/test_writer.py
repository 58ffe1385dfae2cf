"""Writing: what is played is what was recorded; a file that is killed, limited, full or slow."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.errors import Failed
from tcptop_ops.filters.compiler import compile as compiled
from tcptop_ops.model.records import SOCKET
from tcptop_ops.polling.schedule import Clock, PollSchedule
from tcptop_ops.recording.key_frames import KEY_EVERY
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.replay_source import ReplaySource
from tcptop_ops.recording.writer import Writer
from tcptop_ops.sources.base import EndOfSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec, make
from tests.support.fakes import FakeSource, scramble
from tests.support.recordings import HOST, as_told, record, recording_to, same, wait_for_room, world


def test_what_is_played_is_what_was_live(tmp_path: Path) -> None:
    """Tick for tick: the same snapshots, the same View, the same JSON."""
    shots = [world(second) for second in range(KEY_EVERY + 12)]
    live, recorder = record(tmp_path / "r", shots)
    assert recorder.notes == ()
    with closing(ReplaySource(str(tmp_path / "r"), 0.0)) as source:
        assert source.host == HOST
        schedule = PollSchedule(source, Tracker(20.0, 5.0), Clock())
        for flows, shot in zip(live, shots, strict=True):
            played = schedule.tick()
            same(played.snapshot, shot)
            assert (make(played, Spec()).order == make(flows, Spec()).order).all()
            assert as_told(played) == as_told(flows)
        with pytest.raises(EndOfSource):
            schedule.tick()
    assert RecordingReader(str(tmp_path / "r")).index.is_key.sum() == 2


def test_the_file_is_private_and_never_somebody_elses(tmp_path: Path) -> None:
    record(tmp_path / "r", [world(0)])
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["r"], "no log is left beside it"
    before = (tmp_path / "r").read_bytes()
    with pytest.raises(Failed, match="exists already"):
        record(tmp_path / "r", [world(0)])
    assert (tmp_path / "r").read_bytes() == before
    with pytest.raises(Failed, match="No such file"):
        record(tmp_path / "none" / "r", [world(0)])


WRITER = """
import sys
from tests.support.recordings import HOST, world
from tcptop_ops.recording.writer import Writer
from tcptop_ops.tracking.tracker import Tracker
writer, tracker = Writer(sys.argv[1], HOST), Tracker()
for second in range(1_000_000):
    writer.write(tracker.update(world(second)).copy())
    print(second, flush=True)
"""


def test_a_kill_loses_no_whole_tick(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WRITER, str(tmp_path / "r")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) == KEY_EVERY + 7:
                break
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().split("\n")[:-1]]
    last = max([KEY_EVERY + 7, *told])
    with closing(RecordingReader(str(tmp_path / "r"))) as reader:
        played = list(reader.snapshots())
    assert len(played) >= last + 1
    for second, shot in enumerate(played):
        assert shot is not None
        same(shot, world(second))


def test_a_ring_stays_below_its_limit(tmp_path: Path) -> None:
    """With its log; the oldest ticks go, and the rest is played as it was."""
    limit = 1_000_000
    rng = np.random.default_rng(7)
    path = tmp_path / "r"
    writer, tracker = Writer(str(path), HOST, limit), Tracker()
    shots, largest = [], 0
    for second in range(200):
        shot = world(second)
        noise = np.zeros(100, SOCKET)
        scramble(noise, rng)
        shots.append(replace(shot, half_open=noise))
        writer.write(tracker.update(shots[-1]))
        largest = max(
            largest, sum((tmp_path / name).stat().st_size for name in os.listdir(tmp_path) if name != "r-shm")
        )
    writer.close()
    assert limit / 4 < largest <= limit
    with closing(RecordingReader(str(path))) as reader:
        kept = list(reader.snapshots())
    assert 10 < len(kept) < 200
    for shot, played in zip(shots[-len(kept) :], kept, strict=True):
        assert played is not None
        same(played, shot)


def test_a_tick_that_is_too_large_for_the_ring_ends_the_recording(tmp_path: Path) -> None:
    noise = np.zeros(2000, SOCKET)
    scramble(noise, np.random.default_rng(1))
    shots = [world(0), replace(world(1), half_open=noise), world(2)]
    live, recorder = record(tmp_path / "r", shots, size=1_000_000)
    assert len(live) == 3
    [note] = recorder.notes
    assert "too much for --record-size" in note
    assert len(RecordingReader(str(tmp_path / "r")).index) == 1


def test_a_full_disk_ends_the_recording_and_not_the_monitor(tmp_path: Path) -> None:
    recorder = recording_to(tmp_path / "r")
    source = FakeSource([world(second) for second in range(200)])
    assert recorder._writer is not None
    recorder._writer._db.execute("PRAGMA max_page_count = 16")  # as SQLite tells a disk that is full: SQLITE_FULL
    schedule = PollSchedule(source, Tracker(20.0, 5.0), Clock(), (recorder,))
    with closing(recorder):
        for _ in range(200):
            flows = schedule.tick()
            wait_for_room(recorder)
    assert flows.tick == 199
    assert flows.snapshot.notes == recorder.notes
    assert len(recorder.notes) == 1
    assert "full" in recorder.notes[0]
    with closing(RecordingReader(str(tmp_path / "r"))) as reader:
        assert 1 <= len(reader.index) < 200
        assert all(shot is not None for shot in reader.snapshots())


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    write = Writer.write
    monkeypatch.setattr(Writer, "write", lambda self, flows: (goes_on.wait(30), write(self, flows)))
    recorder = recording_to(tmp_path / "r")
    shots = [world(second) for second in range(30)]
    schedule = PollSchedule(FakeSource(shots), Tracker(20.0, 5.0), Clock(), (recorder,))
    with closing(recorder):
        for _ in shots:
            flows = schedule.tick()
        assert re.search(r"too slow for \d+ ticks", flows.snapshot.notes[-1])
        goes_on.set()
    times = [shot.time for shot in shots]
    played = [shot for shot in RecordingReader(str(tmp_path / "r")).snapshots() if shot is not None]
    assert 2 <= len(played) < 30
    for shot in played:
        same(shot, shots[times.index(shot.time)])


def test_for_a_while_and_from_a_match_on(tmp_path: Path) -> None:
    shots = [world(second) for second in range(20)]
    _, recorder = record(tmp_path / "a", shots, seconds=5.0)
    assert len(RecordingReader(str(tmp_path / "a")).index) == 6
    assert "its time is over" in recorder.notes[0]
    record(tmp_path / "b", shots, trigger=compiled("retrans_segs >= 8"))
    with closing(ReplaySource(str(tmp_path / "b"))) as source:
        same(source.poll(), shots[4])
    record(tmp_path / "c", shots, trigger=compiled("port = 1"))
    with pytest.raises(Failed, match="no ticks"):
        RecordingReader(str(tmp_path / "c"))
