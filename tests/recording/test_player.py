"""The player: at its pace, by steps, from any place; what a jump shows is what linear play shows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import SOCKET
from tcptop_ops.polling.schedule import Clock, PollSchedule
from tcptop_ops.recording.index import TickIndex, seconds_into, worst_moments
from tcptop_ops.recording.key_frames import KEY_EVERY
from tcptop_ops.recording.player import CANT_LOOK, CANT_MEASURE, Player, lead_s
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.recording.replay_source import ReplaySource
from tcptop_ops.tracking.tracker import Tracker
from tests.support.recordings import as_told, record, world

TICKS = 3 * KEY_EVERY
LEAD_S = lead_s(20.0, 5.0)


class Played:
    """What a player told, in its thread."""

    def __init__(self) -> None:
        self.flows: list[Flows] = []
        self.led: list[Flows | None] = []
        self.failed: list[TcptopError] = []
        self.stood = 0
        self._told = threading.Condition()

    def publish(self, flows: Flows) -> None:
        self._note(partial(self.flows.append, flows))

    def lead(self, flows: Flows | None) -> None:
        self._note(partial(self.led.append, flows))

    def fail(self, error: TcptopError) -> None:
        self._note(partial(self.failed.append, error))

    def changed(self) -> None:
        def stood() -> None:
            self.stood += 1

        self._note(stood)

    def _note(self, act: Callable[[], None]) -> None:
        with self._told:
            act()
            self._told.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        with self._told:
            assert self._told.wait_for(condition, 60), f"{len(self.flows)} ticks, {self.failed}"

    def more_than(self, shown: int) -> bool:
        return len(self.flows) > shown

    @property
    def times(self) -> list[int]:
        """Of what was shown, in whole seconds from the start."""
        return [round(flows.snapshot.time - 1_700_000_000) for flows in self.flows]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "r"
    record(path, [world(second) for second in range(TICKS)])
    return path


@contextmanager
def playing(path: Path, **options: Any) -> Iterator[tuple[Player, Played]]:
    """A player that stands at the first tick, unless it has a speed."""
    reader, told = RecordingReader(str(path)), Played()
    speed = options.pop("speed", None)
    player = Player(
        lambda: reader,
        reader.index,
        partial(Tracker, 20.0, 5.0),
        LEAD_S,
        20.0,
        told.publish,
        lead=told.lead,
        changed=told.changed,
        fail=told.fail,
        speed=1.0 if speed is None else speed,
        **options,
    )
    if speed is None:
        player.toggle()
    player.start()
    try:
        told.until(lambda: bool(told.flows or told.failed))
        yield player, told
    finally:
        player.stop()
        reader.close()


@pytest.fixture(scope="module")
def linear(recorded: Path) -> list[Flows]:
    """What linear play shows, tick by tick."""
    with closing(ReplaySource(str(recorded), 0.0)) as source:
        schedule = PollSchedule(source, Tracker(20.0, 5.0), Clock())
        return [schedule.tick() for _ in range(TICKS)]


# --- the index


def index_of(trouble: list[float], times: list[float] | None = None) -> TickIndex:
    count = len(trouble)
    when = np.arange(count, dtype=float) if times is None else np.array(times)
    return TickIndex(np.arange(count), np.arange(count) == 0, when, np.array(trouble, dtype=float))


def test_the_worst_moments_lie_apart() -> None:
    trouble = [0.0] * 100
    trouble[50], trouble[52], trouble[10], trouble[90] = 9, 8, 5, 7
    assert worst_moments(index_of(trouble)) == [50, 90, 10]
    assert worst_moments(index_of([0.0] * 9)) == []


def test_the_time_of_an_index_never_goes_back() -> None:
    nan = float("nan")
    assert seconds_into(index_of([0] * 5, [100, 101, 90, nan, 103])).tolist() == [0, 1, 1, 1, 3]
    assert seconds_into(index_of([0] * 3, [nan, nan, nan])).tolist() == [0, 1, 2]


def test_trouble_is_the_scores_of_what_was_bad(recorded: Path, linear: list[Flows]) -> None:
    with closing(RecordingReader(str(recorded))) as reader:
        scores = [np.concatenate([one.live.rates["score"], one.closed.rates["score"]]) for one in linear]
        wanted = [float(score[score >= 10].sum()) for score in scores]
        assert reader.index.trouble.tolist() == pytest.approx(wanted)
        assert max(wanted) > 0


def test_figures_that_are_none_are_no_trouble(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(recorded.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE tick SET time = 'x', score = x'00' WHERE tick = 5")
        db.execute("UPDATE tick SET score = 9e99 WHERE tick = 6")
        db.execute("UPDATE tick SET score = -1 WHERE tick = 7")
        db.commit()
    with closing(RecordingReader(str(path))) as reader:
        assert np.isnan(reader.index.time[5])
        assert reader.index.trouble[[5, 6, 7]].tolist() == [0, 0, 0]


# --- playing


def test_all_ticks_in_their_order_then_it_stands(recorded: Path) -> None:
    with playing(recorded, speed=0.0) as (player, told):
        told.until(lambda: told.stood > 0)
        assert told.times == list(range(TICKS))
        assert [flows.tick for flows in told.flows] == list(range(TICKS))
        assert not player.state.is_playing
        player.toggle()
        told.until(lambda: told.stood > 1)
        assert told.times == 2 * list(range(TICKS))


def test_again_and_again(recorded: Path) -> None:
    with playing(recorded, speed=0.0, again=True) as (player, told):
        told.until(lambda: len(told.flows) > 2 * TICKS)
        assert told.times[: 2 * TICKS] == 2 * list(range(TICKS))
        assert told.stood == 0
        assert player.state.is_playing


class Waits(Clock):
    """Adds up what was waited for; stands still once it waits for nothing in particular."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, wake: Any, seconds: float) -> bool:
        if seconds > 1000:
            return bool(wake.wait(60))
        self.time += seconds
        return bool(wake.is_set())


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, TICKS - 1.0), (2.0, (TICKS - 1) / 2), (0.5, 2.0 * (TICKS - 1))])
def test_its_pace(recorded: Path, speed: float, seconds: float) -> None:
    clock = Waits()
    at_last: list[float] = []
    with playing(recorded, speed=speed, clock=clock) as (_, told):
        told.until(lambda: len(told.flows) == TICKS or bool(told.failed))
        at_last.append(clock.time)
        told.until(lambda: told.stood > 0)
    assert seconds <= at_last[0] <= clock.time
    assert clock.time == pytest.approx(seconds + 2.0)


def test_steps(recorded: Path) -> None:
    with playing(recorded) as (player, told):
        for step, place in ((1, 1), (1, 2), (1, 3), (-1, 2), (40, 42), (-1000, 0), (1000, TICKS - 1), (1, TICKS - 1)):
            shown = len(told.flows)
            player.step(step)
            told.until(partial(told.more_than, shown))
            assert told.times[-1] == player.state.at == place
        assert not player.state.is_playing


def test_skips_by_seconds_and_at_least_a_tick(recorded: Path) -> None:
    with playing(recorded) as (player, told):
        for seconds, place in ((10, 10), (0.1, 11), (-0.1, 10), (-4, 6), (9999, TICKS - 1), (-9999, 0)):
            shown = len(told.flows)
            player.skip(seconds)
            told.until(partial(told.more_than, shown))
            assert told.times[-1] == place


def test_of_many_wishes_the_last_one_counts(recorded: Path) -> None:
    with playing(recorded) as (player, told):
        for place in (*range(TICKS - 1, 20, -1), 77):
            player.go(place)
        assert player.state.at == 77
        told.until(lambda: told.times[-1] == 77)


@pytest.mark.parametrize("place", [0, 1, 30, KEY_EVERY, KEY_EVERY + 1, 150, TICKS - 1])
def test_a_jump_shows_what_linear_play_shows(recorded: Path, linear: list[Flows], place: int) -> None:
    """But for how long a state or a fault has lasted, which is known from the lead on."""

    def without_state(flows: Flows) -> Any:
        told = as_told(flows)
        for row in told["connections"]:
            row.pop("state_s", None)
        for found in told["findings"]:
            del found["since"]
        del told["tick"]
        return told

    wanted = linear[place]
    with playing(recorded) as (player, told):
        player.go(TICKS // 2)
        told.until(lambda: told.times[-1] == TICKS // 2)
        player.go(place)
        told.until(lambda: told.times[-1] == place)
        shown = told.flows[-1]
        assert without_state(shown) == without_state(wanted)
        assert [one.text for one in shown.findings] == [one.text for one in wanted.findings]
        last = max(at for at, flows in enumerate(told.led) if flows is None)
        led = [flows.snapshot.time for flows in told.led[last + 1 :] if flows is not None]
        first = max(0, place - int(LEAD_S)) // 2 * 2  # the window is sampled every two seconds
        assert led == [1_700_000_000.0 + second for second in range(first, place)]


def test_a_damaged_place_is_left_out(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(recorded.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE tick SET frame = NULL WHERE tick = {KEY_EVERY + 3}")
        db.commit()
    with playing(path) as (player, told):
        player.go(KEY_EVERY + 10)
        told.until(lambda: len(told.flows) > 1)
        assert told.times[-1] == player.state.at == 2 * KEY_EVERY
        assert f"{KEY_EVERY - 3} ticks" in told.flows[-1].snapshot.notes[0]
        player.go(KEY_EVERY + 1)
        told.until(lambda: len(told.flows) > 2)
        assert told.times[-1] == KEY_EVERY + 1


def test_the_last_ticks_are_damaged(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(recorded.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE tick SET frame = NULL WHERE tick >= {TICKS - 5}")
        db.commit()
    with playing(path) as (player, told):
        player.go(TICKS - 1)
        told.until(lambda: len(told.flows) > 1)
        assert told.times[-1] == player.state.at == TICKS - 6
        assert told.failed == []


def test_not_one_tick_can_be_read(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(recorded.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE tick SET frame = x'00'")
        db.commit()
    with playing(path) as (_, told):
        told.until(lambda: bool(told.failed))
        assert isinstance(told.failed[0], Failed)
        assert f"not one of its {TICKS} ticks" in told.failed[0].message


def test_what_a_recording_cannot_do(recorded: Path) -> None:
    """It says so, also while it stands; and no longer, once nobody asks."""
    with playing(recorded) as (player, told):
        asked: tuple[tuple[Callable[[], None], tuple[str, ...]], ...] = (
            (partial(player.watch, 7), (CANT_LOOK,)),
            (partial(player.measure, True), (CANT_LOOK, CANT_MEASURE)),
            (partial(player.watch, 0), (CANT_MEASURE,)),
            (partial(player.measure, False), ()),
        )
        for ask, notes in asked:
            shown = len(told.flows)
            ask()
            told.until(partial(told.more_than, shown))
            assert told.flows[-1].snapshot.notes == notes
        assert set(told.times) == {0}
        answers: list[TcptopError | None] = []
        answered = threading.Event()

        def answer(error: TcptopError | None) -> None:
            answers.append(error)
            answered.set()

        player.close_connection(np.zeros((), SOCKET), answer)
        assert answered.wait(60)
        assert isinstance(answers[0], Unsupported)
