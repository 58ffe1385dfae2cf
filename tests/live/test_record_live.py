"""Recordings of a real kernel: played as they were, whole after a kill, and no harm to the monitor on a full disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf.attach import Options
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.outputs.json_lines import json_object
from tcptop_ops.polling.schedule import Clock, PollSchedule
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.recorder import Recorder, RecordingOptions
from tcptop_ops.recording.replay_source import ReplaySource
from tcptop_ops.sources.sockops import SockOpsSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec, make
from tests.live.started import ROOT
from tests.support.lab import Lab, Traffic
from tests.support.leftovers import wait_until
from tests.support.netns import run

HOST = HostDescription("here", "a kernel", "0")
COUNT = 400_009  # bytes
LOSS_PERCENT = 5
TICKS = 40


@pytest.fixture
def load(lab: Lab, cgroup: Path) -> list[Traffic]:
    """Connections over a lossy link, some of which end while they are watched."""
    link = lab.link("near", "far", loss_percent=LOSS_PERCENT, offload=False)
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    options: dict[str, Any] = {"address": link.b.ipv4, "port": server.port, "cgroup": cgroup}
    return [lab.client(link.a.ns, "send", COUNT, **options) for _ in range(4)]


@contextmanager
def recorded(path: Path, cgroup: Path) -> Iterator[tuple[Recorder, PollSchedule]]:
    recorder = Recorder(RecordingOptions(str(path)), HOST)
    with closing(SockOpsSource(Options(cgroup=str(cgroup), reader="descriptors"))) as source, closing(recorder):
        recorder.open()
        yield recorder, PollSchedule(source, Tracker(20.0, 60.0), Clock(), (recorder,))


def told(flows: Flows) -> dict[str, Any]:
    """What --json tells, but for the monitor's own cost."""
    found = json_object(make(flows, Spec()), HostDescription("h", "k"), {})
    del found["self"]
    return found


def test_lossy_traffic_is_played_as_it_was(load: list[Traffic], cgroup: Path, tmp_path: Path) -> None:
    live: list[dict[str, Any]] = []
    orders: list[list[int]] = []
    with recorded(tmp_path / "r", cgroup) as (recorder, schedule):

        def lost() -> bool:
            flows = schedule.tick().copy()
            live.append(told(flows))
            orders.append(make(flows, Spec()).order.tolist())
            wait_until(lambda: recorder._queue.qsize() < 2, what="the writer")
            return len(live) >= TICKS and any(row["retrans_segs"] for row in live[-1]["connections"])

        wait_until(lost, what="retransmits")
    assert recorder.notes == ()
    with closing(ReplaySource(str(tmp_path / "r"), 0.0)) as played:
        schedule = PollSchedule(played, Tracker(20.0, 60.0), Clock())
        for was, order in zip(live, orders, strict=True):
            flows = schedule.tick()
            assert make(flows, Spec()).order.tolist() == order
            assert told(flows) == was


def test_a_kill_under_load_loses_no_whole_tick(load: list[Traffic], cgroup: Path, anybodys: Path) -> None:
    """What is on standard output twice over was handed to the writer, at the most its queue is behind."""
    path = anybodys / "r"
    argv = [sys.executable, "-m", "tcptop_ops", "--cgroup", str(cgroup), "--json", "-d", "0.1"]
    with subprocess.Popen([*argv, "--record", str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        try:
            lines = [json.loads(process.stdout.readline()) for _ in range(20)]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    with closing(RecordingReader(str(path))) as reader:
        shots = list(reader.snapshots())
    assert len(shots) >= 10
    assert all(shot is not None for shot in shots)
    with closing(ReplaySource(str(path), 0.0)) as played:
        schedule = PollSchedule(played, Tracker(), Clock())
        again = [told(schedule.tick())["connections"] for _ in shots]
    for line, connections in zip(lines, again[1:], strict=False):
        assert line["connections"] == json.loads(json.dumps(connections))


def test_a_full_disk_ends_the_recording_alone(load: list[Traffic], cgroup: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=256k", "tct-full", str(disk)])
    try:
        with recorded(disk / "r", cgroup) as (recorder, schedule):
            wait_until(lambda: schedule.tick() and recorder.notes, what="the end of the recording")
            after = [schedule.tick() for _ in range(3)]
        assert [flows.snapshot.notes[-1] for flows in after] == [recorder.notes[0]] * 3
        assert "full" in recorder.notes[0] or "disk" in recorder.notes[0]
        with closing(RecordingReader(str(disk / "r"))) as reader:
            assert all(shot is not None for shot in reader.snapshots())
    finally:
        run(["umount", str(disk)])
