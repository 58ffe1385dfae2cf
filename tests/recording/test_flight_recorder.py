"""The flight recorder: what it keeps, when it saves by itself, and where."""

from __future__ import annotations

import os
import pwd
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.cli.arguments import parse
from tcptop_ops.errors import Failed, Usage
from tcptop_ops.filters.compiler import compile as compiled
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.polling.schedule import Clock, PollSchedule
from tcptop_ops.recording import codec, flight_recorder
from tcptop_ops.recording.flight_recorder import FlightConfig, Frame, FrameRing, SaveTrigger, save, with_tilde
from tcptop_ops.recording.key_frames import KEY_EVERY
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.writer import Writer
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tests.support.fakes import FakeSource, finals, flow, snapshot
from tests.support.recordings import HOST, chaos, same, world
from tests.support.screens import next_tick, shown_tick, text_of, until

NOW_S = 1_700_000_000.0


def free() -> float:
    """A clock of CPU time that stands still: nothing is dear."""
    return 0.0


def decoded(kept: tuple[Frame, ...]) -> list[Snapshot]:
    found: list[Snapshot] = []
    for frame in kept:
        found.append(codec.decode(frame.data, None if frame.is_key else found[-1]))
    return found


# --- what is kept


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6))
def test_every_bit_is_kept(seeds: list[int]) -> None:
    kept = FrameRing(cpu_s=free)
    shots: list[Snapshot] = []
    for at, seed in enumerate(seeds):
        shots.append(chaos(seed, float(at), shots[-1] if shots else None))
        kept.add(shots[-1])
    for here, there in zip(decoded(kept.frames()), shots, strict=True):
        same(here, there)


def test_a_source_may_use_its_arrays_again() -> None:
    kept, shot = FrameRing(cpu_s=free), world(3)
    wanted = shot.copy()
    kept.add(shot)
    shot.sockets["bytes_acked"] = 7
    kept.add(world(4))
    same(decoded(kept.frames())[0], wanted)
    same(decoded(kept.frames())[1], world(4))


def test_it_is_bounded_in_time() -> None:
    kept = FrameRing(most_s=100.0, cpu_s=free)
    for second in range(400):
        kept.add(snapshot(second, [flow(1, bytes_acked=second)]))
        assert kept.frames()[0].is_key
        assert kept.frames()[-1].at_s - kept.frames()[0].at_s <= 100.0 + KEY_EVERY
    assert kept.frames()[-1].at_s - kept.frames()[0].at_s >= 100.0 - KEY_EVERY
    assert kept.size == sum(len(frame.data) for frame in kept.frames())


def test_it_is_bounded_in_bytes() -> None:
    kept = FrameRing(most_bytes=100_000, cpu_s=free)
    for second in range(100):
        kept.add(chaos(second, float(second)))
        assert kept.size <= 100_000
        assert kept.size == sum(len(frame.data) for frame in kept.frames())
        assert kept.frames()[0].is_key
    assert 1 < len(kept.frames()) < 100


def test_of_too_many_sockets_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flight_recorder, "MOST_ROWS", 30)
    kept = FrameRing(cpu_s=free)
    kept.add(world(1))
    kept.add(snapshot(2, [flow(cookie) for cookie in range(1, 40)]))
    assert kept.frames() == ()
    with pytest.raises(Failed, match="too many sockets"):
        save(kept.frames(), config(tmp_path), False, NOW_S)
    kept.add(world(3))
    assert [frame.is_key for frame in kept.frames()] == [True]


def test_where_a_tick_is_dear_fewer_are_kept() -> None:
    """Each frame takes 40 ms of CPU: with a hundredth of a core, one in four seconds."""
    spent = iter(np.arange(0, 1000, 0.04).tolist())
    kept = FrameRing(cpu_s=lambda: next(spent))
    for second in range(100):
        kept.add(snapshot(second, [flow(1, bytes_acked=second)]))
    assert len(kept.frames()) * 0.04 <= 100 * flight_recorder.SHARE + 0.04
    assert len(kept.frames()) >= 20
    assert [int(shot.sockets["bytes_acked"][0]) for shot in decoded(kept.frames())][:3] == [0, 4, 8]


# --- when it saves by itself


def alarms(timeouts: Callable[[int], int], seconds: int, trigger: SaveTrigger | None = None) -> list[int]:
    """The seconds in which it alarms, where so many timeouts happen in each."""
    trigger, tracker, found, total = trigger or SaveTrigger(), Tracker(), [], 0
    for second in range(seconds):
        total += timeouts(second)
        flows = tracker.update(snapshot(second, [flow(1, total_rto=total, rto_events=total)]))
        if trigger.reason_to_save(flows):
            found.append(second)
    return found


def test_a_burst_of_timeouts_alarms_when_it_is_over() -> None:
    assert alarms(lambda second: 10 if 100 <= second < 104 else 0, 300) == [101 + 10]


def test_not_again_for_ten_minutes() -> None:
    found = alarms(lambda second: 10 if second % 200 == 100 else 0 if second % 200 != 101 else 10, 1500)
    assert found[0] == 111
    assert all(later - one >= flight_recorder.REST_S for one, later in pairwise(found))
    assert len(found) > 1


def test_what_is_usual_is_no_burst() -> None:
    assert alarms(lambda second: 5, 900) == []
    assert alarms(lambda second: 5 if second < 300 else 40, 900)[:1] != []


def test_at_the_start_nothing_is_usual() -> None:
    assert alarms(lambda second: 10 if 20 <= second < 40 else 0, 300) == []


def test_few_timeouts_are_no_burst() -> None:
    assert alarms(lambda second: 1 if second % 10 == 0 else 0, 600) == []


def test_a_match_alarms_also_of_a_closed_row() -> None:
    tracker, trigger = Tracker(), SaveTrigger(compiled("port = 7777"))
    found = []
    for second in range(40):
        rows = [flow(1)] if second != 20 else [flow(1), flow(2, peer=("10.0.0.2", 7777))]
        if why := trigger.reason_to_save(tracker.update(snapshot(second, rows))):
            found.append((second, why))
    assert found == [(30, "matched: port = 7777")]
    tracker, trigger = Tracker(), SaveTrigger(compiled("port = 7777"))
    ended = finals([flow(2, peer=("10.0.0.2", 7777))], snapshot(3, []).now_ns)
    shots = [snapshot(second, [flow(1)], ended if second == 3 else None) for second in range(20)]
    assert [second for second, shot in enumerate(shots) if trigger.reason_to_save(tracker.update(shot))] == [13]


# --- where


def config(state: Path | None, trigger: str = "") -> FlightConfig:
    return FlightConfig(state, HOST, Tracker, compiled(trigger) if trigger else None)


def kept_of(seconds: int) -> tuple[Frame, ...]:
    kept = FrameRing(cpu_s=free)
    for second in range(seconds):
        kept.add(world(second))
    return kept.frames()


def test_what_is_saved_replays(tmp_path: Path) -> None:
    path = save(kept_of(70), config(tmp_path / "deep" / "state"), False, NOW_S)
    assert path.parent == tmp_path / "deep" / "state"
    assert path.name.startswith("flight-2023111")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [path.name]
    with closing(RecordingReader(str(path))) as reader:
        assert reader.host == HOST
        for at, shot in enumerate(reader.snapshots()):
            assert shot is not None
            same(shot, world(at))
        assert len(reader.index) == 70
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM flows").fetchone()[0] > 70


def test_where_nothing_can_be_written_it_goes_to_the_temporary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "file").write_text("")
    assert save(kept_of(2), config(tmp_path / "file" / "state"), False, NOW_S).parent == tmp_path
    assert save(kept_of(2), config(None), False, NOW_S + 1).parent == tmp_path


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = save(kept_of(2), config(tmp_path), False, NOW_S)
    before = path.read_bytes()
    with pytest.raises(Failed, match="exists already"):
        save(kept_of(3), config(tmp_path), False, NOW_S)
    assert path.read_bytes() == before


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / flight_recorder.file_name(NOW_S, True)).symlink_to(tmp_path / "theirs")
    with pytest.raises(Failed):
        save(kept_of(2), config(tmp_path), True, NOW_S)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_of_those_saved_by_itself_the_newest_stay(tmp_path: Path) -> None:
    asked = save(kept_of(2), config(tmp_path), False, NOW_S)
    made = [save(kept_of(2), config(tmp_path), True, NOW_S + at) for at in range(flight_recorder.KEPT_FILES + 3)]
    assert sorted(tmp_path.iterdir()) == sorted([asked, *made[-flight_recorder.KEPT_FILES :]])


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Writer, "write", full)
    with pytest.raises(Failed, match="disk is full"):
        save(kept_of(2), config(tmp_path), False, NOW_S)
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_home_is_said_as_short_as_a_shell_takes_it() -> None:
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    assert with_tilde(home / "a" / "b.tcptop") == "~/a/b.tcptop"
    assert with_tilde(home.parent / f"{home.name}2" / "b.tcptop") == f"{home}2/b.tcptop"
    assert with_tilde(Path("/tmp/b.tcptop")) == "/tmp/b.tcptop"


# --- the screen


def app_of(source: FakeSource, kept_in: FlightConfig | None) -> TcptopApp:
    return TcptopApp(polled(source, Tracker()), Spec(), delay_s=3600.0, host="web-3", flight_config=kept_in)


async def test_a_key_saves_and_tells_where(tmp_path: Path) -> None:
    app = app_of(FakeSource([world(second) for second in range(9)]), config(tmp_path))
    async with app.run_test(size=(160, 30)) as pilot:
        for _ in range(3):
            await next_tick(pilot)
        await pilot.press("R")
        await until(pilot, lambda: "saved" in "\n".join(text_of(app)[:3]) or "cannot" in text_of(app)[2])
        [path] = [tmp_path / name for name in os.listdir(tmp_path)]
        assert f"saved {path}: the last 3.00s"[:100] in "\n".join(text_of(app)[:3])
    with closing(RecordingReader(str(path))) as reader:
        assert len(reader.index) == 4


async def test_without_one_the_key_says_so() -> None:
    app = app_of(FakeSource([world(second) for second in range(3)]), None)
    async with app.run_test(size=(120, 30)) as pilot:
        await shown_tick(pilot, 0)
        await pilot.press("R")
        await until(pilot, lambda: "there is no flight recorder here" in "\n".join(text_of(app)[:3]))


async def test_an_alarm_saves_by_itself(tmp_path: Path) -> None:
    lossy = [flow(1, peer=("10.0.0.2", 7777))]
    app = app_of(FakeSource([snapshot(second, lossy) for second in (0, 1, 12, 13)]), config(tmp_path, "port = 7777"))
    async with app.run_test(size=(160, 30)) as pilot:
        await next_tick(pilot)
        await next_tick(pilot)
        await until(pilot, lambda: "saved" in "\n".join(text_of(app)[:3]))
        assert "the last 12s, matched: port = 7777" in "\n".join(text_of(app)[:3])
    [name] = os.listdir(tmp_path)
    assert name.startswith(flight_recorder.PREFIX_UNASKED)


# --- the command line


def test_record_if_needs_a_file_or_the_screen() -> None:
    found = parse(["--record-if", "rto > 3"])
    assert found is not None
    assert found.record is None
    assert found.record_if is not None
    for others in (["--json"], ["--batch"], ["--csv"], ["--replay", "f"], ["--demo"]):
        with pytest.raises(Usage):
            parse(["--record-if", "rto > 3", *others])


def test_a_live_beat_is_what_it_keeps() -> None:
    """The very flows of the poller, before the source uses its arrays again."""
    source, kept, shots = FakeSource([world(second) for second in range(5)]), FrameRing(cpu_s=free), []
    schedule = PollSchedule(source, Tracker(), Clock())
    for _ in range(5):
        flows: Flows = schedule.tick()
        kept.add(flows.snapshot)
        shots.append(flows.snapshot)
    for here, there in zip(decoded(kept.frames()), shots, strict=True):
        same(here, there)
