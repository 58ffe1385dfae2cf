"""Recordings: what is played is what was recorded; a file that is killed, full, damaged or foreign."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.cli.arguments import parse
from tcptop_ops.errors import Failed, TcptopError, Usage
from tcptop_ops.filters.compiler import compile as compiled
from tcptop_ops.model.records import SOCKET
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.schedule import Clock, PollSchedule, ticks
from tcptop_ops.recording import codec
from tcptop_ops.recording.key_frames import KEY_EVERY
from tcptop_ops.recording.reader import Reader
from tcptop_ops.recording.replay_source import ReplaySource
from tcptop_ops.recording.writer import Writer
from tcptop_ops.sources.base import EndOfSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec, make
from tests.support.fakes import FakeSource, flow, scramble, snapshot
from tests.support.recordings import HOST, as_told, chaos, record, recording_to, same, wait_for_room, world

MUTATIONS = 2000
DOCS = Path(__file__).parents[2] / "docs" / "recordings.md"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6))
def test_a_frame_gives_back_every_bit(seeds: list[int]) -> None:
    before: Snapshot | None = None
    replayed: Snapshot | None = None
    for at, seed in enumerate(seeds):
        now = chaos(seed, float(at), before)
        replayed = codec.decode(codec.encode(now, before), replayed)
        same(replayed, now)
        before = now


def test_rows_that_did_not_change_take_no_room() -> None:
    """Time that passes is no change."""
    many = [flow(cookie, last_sent_us=cookie * 4000, timer_us=0) for cookie in range(1, 2001)]
    before = snapshot(0, many)
    later = [fields | {"last_sent_us": fields["last_sent_us"] + 1_000_000} for fields in many]
    assert len(codec.encode(snapshot(1, later), before)) < 300
    later[7]["bytes_acked"] = 77
    one = codec.encode(snapshot(1, later), before)
    same(codec.decode(one, before), snapshot(1, later))


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
    assert Reader(str(tmp_path / "r")).index.is_key.sum() == 2


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
    with closing(Reader(str(tmp_path / "r"))) as reader:
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
    with closing(Reader(str(path))) as reader:
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
    assert len(Reader(str(tmp_path / "r")).index) == 1


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
    with closing(Reader(str(tmp_path / "r"))) as reader:
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
    played = [shot for shot in Reader(str(tmp_path / "r")).snapshots() if shot is not None]
    assert 2 <= len(played) < 30
    for shot in played:
        same(shot, shots[times.index(shot.time)])


def test_for_a_while_and_from_a_match_on(tmp_path: Path) -> None:
    shots = [world(second) for second in range(20)]
    _, recorder = record(tmp_path / "a", shots, seconds=5.0)
    assert len(Reader(str(tmp_path / "a")).index) == 6
    assert "its time is over" in recorder.notes[0]
    record(tmp_path / "b", shots, trigger=compiled("retrans_segs >= 8"))
    with closing(ReplaySource(str(tmp_path / "b"))) as source:
        same(source.poll(), shots[4])
    record(tmp_path / "c", shots, trigger=compiled("port = 1"))
    with pytest.raises(Failed, match="no ticks"):
        Reader(str(tmp_path / "c"))


# --- playing


class Waits(Clock):
    """Does not wait, and remembers how long it should have."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, wake: Any, seconds: float) -> bool:
        self.time += seconds
        return bool(wake.is_set())


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    shots = [world(second) for second in (0, 1, 2, 4, 5)]
    record(tmp_path / "r", shots)
    return tmp_path / "r"


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 5.0), (2.0, 2.5), (0.5, 10.0), (0.0, 0.0)])
def test_its_pace(recorded: Path, speed: float, seconds: float) -> None:
    clock = Waits()
    with closing(ReplaySource(str(recorded), speed)) as source:
        flows = list(ticks(source, Tracker(), 99.0, threading.Event(), None, clock))
    assert [one.seconds for one in flows] == [1.0, 1.0, 2.0, 1.0]
    assert clock.time == pytest.approx(seconds)


def test_it_needs_no_kernel() -> None:
    """Nor what only Linux has."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "for name in ('fcntl', 'pwd', 'grp', 'ctypes', 'resource', 'termios', 'psutil'): sys.modules[name] = None\n"
        "import tcptop_ops.recording.replay_source\n"
        "assert not any(name.startswith('tcptop_ops.bpf') for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], check=False)
    assert done.returncode == 0


# --- damaged and foreign files


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="No such file"):
        Reader(str(tmp_path / "none"))
    with pytest.raises(Usage, match="Is a directory"):
        Reader(str(tmp_path))
    for content in (b"", b"text", b"SQLite format 3\0"):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises((Usage, Failed)):
            Reader(str(tmp_path / "f"))
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE tick (tick)")
    with pytest.raises(Usage, match="is no recording"):
        Reader(str(tmp_path / "other"))


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


# --- the command line


@pytest.mark.parametrize(
    "argv",
    [
        ["--record-for", "5m"],
        ["--record-size", "50M"],
        ["--record-if", "rto > 3", "--json"],
        ["--speed", "2"],
        ["--record", "f", "--replay", "g"],
        ["--replay", "g", "--cgroup", "/a"],
        ["--replay", "g", "--allow-close"],
        ["--record", "f", "--record-for", "0"],
        ["--record", "f", "--record-for", "5 weeks"],
        ["--record", "f", "--record-size", "10k"],
        ["--record", "f", "--record-size", "large"],
        ["--record", "f", "--record-if", "nope > 3"],
        ["--replay", "f", "--speed", "0"],
        ["--replay", "f", "--speed", "fast"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(argv: list[str]) -> None:
    with pytest.raises(Usage) as error:
        parse(argv)
    assert error.value.message
    assert error.value.hint


def test_a_right_command_line() -> None:
    found = parse(["--record", "f", "--record-for", "5m", "--record-size", "50MB", "--record-if", "rto > 3"])
    assert found is not None
    assert (found.record, found.record_for_s, found.record_size) == ("f", 300.0, 50_000_000)
    assert found.record_if is not None
    assert found.record_if.text == "rto > 3"
    found = parse(["--replay", "f", "--speed", "max"])
    assert found is not None
    assert (found.replay, found.speed) == ("f", 0.0)


def program(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tcptop_ops", *argv], text=True, capture_output=True, timeout=60, check=False
    )


def test_the_program_plays_it(recorded: Path) -> None:
    """Without root, bcc or a kernel; faster than it was."""
    done = program("--replay", str(recorded), "--speed", "max", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tick["tick"] for tick in told] == [1, 2, 3, 4]
    assert (told[0]["host"], told[0]["kernel"], told[0]["source"]) == ("web-3", "6.18.0", "fake")
    assert len(told[0]["connections"]) >= 20
    done = program("--replay", str(recorded.parent / "none"), "--json")
    assert done.returncode == 2
    assert done.stderr.startswith("tcptop-ops: cannot replay ")
    assert done.stderr.count("\n") == 2


# --- SQL


def examples() -> list[str]:
    """Those of the documentation."""
    return re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.fixture
def sql(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    record(tmp_path / "r", [world(second) for second in range(30)])
    with closing(sqlite3.connect(tmp_path / "r")) as db:
        yield db


def test_there_are_examples() -> None:
    assert len(examples()) >= 5


@pytest.mark.parametrize("example", examples())
def test_an_example_of_the_documentation(sql: sqlite3.Connection, example: str, tmp_path: Path) -> None:
    assert sql.execute(example).fetchall()
    if tool := shutil.which("sqlite3"):
        done = subprocess.run(
            [tool, "-readonly", str(tmp_path / "r"), example], text=True, capture_output=True, check=True
        )
        assert done.stdout


def test_the_views_tell_the_truth(sql: sqlite3.Connection) -> None:
    [[count, most]] = sql.execute("SELECT count(*), max(sockets) FROM ticks")
    assert (count, most) == (30, 20)
    found = dict(sql.execute("SELECT cookie, retrans_segs FROM flows WHERE is_open"))
    assert found == {cookie: 29 * (cookie % 3) for cookie in range(30, 50)}
    assert dict(
        sql.execute("SELECT cookie, end FROM flows WHERE NOT is_open AND cookie BETWEEN 1 AND 29")
    ) == dict.fromkeys(range(1, 30), "peer-closed")
    [[segments]] = sql.execute("SELECT sum(count) FROM events WHERE kind = 'retrans'")
    expected = sum(cookie % 3 for second in range(1, 30) for cookie in range(1 + second, 20 + second))
    assert segments == expected
    kinds = {kind for [kind] in sql.execute("SELECT DISTINCT kind FROM events")}
    assert {"retrans", "rto", "state", "closed"} <= kinds
    [[address, port, process]] = sql.execute("SELECT DISTINCT raddr, rport, process FROM flows WHERE is_open")
    assert (address, port, process) == ("10.0.0.2", 443, "nginx")
