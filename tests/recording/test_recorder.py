"""The recorder as an observer: whatever happens to it, the monitor goes on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.polling.schedule import Clock, PollSchedule
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.recorder import Recorder, RecordingOptions
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import FakeSource, flow, snapshot

HOST = HostDescription("web-3", "6.18.0", "0.1.0")


def schedule_of(recorder: Recorder) -> PollSchedule:
    source = FakeSource([snapshot(second, [flow(1, bytes_acked=second)]) for second in range(9)])
    return PollSchedule(source, Tracker(), Clock(), (recorder,))


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (RuntimeError("oops"), "recording ended, a bug in tcptop-ops: RuntimeError: oops"),
        (MemoryError("too much"), "recording to {path} ended: too much"),
    ],
)
def test_an_error_in_the_pollers_thread_ends_the_recording_alone(
    error: Exception, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(flows: Flows) -> Flows:
        raise error

    path = tmp_path / "r"
    recorder = Recorder(RecordingOptions(str(path)), HOST)
    recorder.open()
    with closing(recorder):
        schedule = schedule_of(recorder)
        assert schedule.tick().snapshot.notes == ()
        monkeypatch.setattr(Flows, "copy", fail)
        told = note.format(path=path)
        assert [schedule.tick().snapshot.notes for _ in range(3)] == [(told,)] * 3
    with closing(RecordingReader(str(path))) as reader:
        assert len(reader.index) == 1
        assert reader.host == HOST


def test_its_own_notes_are_not_recorded(tmp_path: Path) -> None:
    recorder = Recorder(RecordingOptions(str(tmp_path / "r"), seconds=0.5), HOST)
    recorder.open()
    with closing(recorder):
        schedule = schedule_of(recorder)
        notes = [schedule.tick().snapshot.notes for _ in range(3)]
    assert notes == [(), *[(f"recorded to {tmp_path / 'r'}: its time is over",)] * 2]
    with closing(RecordingReader(str(tmp_path / "r"))) as reader:
        assert [shot.notes for shot in reader.snapshots() if shot is not None] == [()]


def test_what_was_not_opened_takes_nothing(tmp_path: Path) -> None:
    recorder = Recorder(RecordingOptions(str(tmp_path / "r")), HOST)
    assert schedule_of(recorder).tick().snapshot.notes == ()
    recorder.close()
    assert not (tmp_path / "r").exists()
