"""A recording on the screen: its keys, its time bar, and what it can't do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.app.replay_application import ReplayApp, ReplayScreen
from tcptop_ops.config import keymap
from tcptop_ops.config.settings import Settings
from tcptop_ops.errors import Failed
from tcptop_ops.recording.index import PlaybackState, TickIndex
from tcptop_ops.widgets.base.charts import ASCII, BLOCKS
from tcptop_ops.widgets.panels.replay_bar import ReplayBar, track
from tests.support.fakes import flow, snapshot
from tests.support.recordings import record, world
from tests.support.running_replay import app_of, running
from tests.support.screens import has_action, text_of, until

TICKS = 90


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "r"
    record(path, [world(second) for second in range(TICKS)])
    return path


def place(app: ReplayApp) -> int:
    """Which tick is on the screen."""
    assert app.shown is not None
    return round(app.shown.flows.snapshot.time - 1_700_000_000)


def is_at(app: ReplayApp, wanted: int) -> bool:
    return place(app) == wanted


def bar(app: ReplayApp) -> str:
    return text_of(app)[-2]


async def test_each_key_goes_where_it_says(recorded: Path) -> None:
    app = app_of(recorded)
    async with running(app) as pilot:
        for key, wanted in (
            ("full_stop", 1),
            ("full_stop", 2),
            ("comma", 1),
            ("right_square_bracket", 11),
            ("left_square_bracket", 1),
            ("right_curly_bracket", 10),
            ("dollar_sign", TICKS - 1),
            ("left_curly_bracket", TICKS - 10),
            ("0", 0),
            ("comma", 0),
        ):
            await pilot.press(key)
            await until(pilot, partial(is_at, app, wanted))
        pressed = {"full_stop", "comma", "right_square_bracket", "left_square_bracket", "0", "dollar_sign"}
        pressed |= {"right_curly_bracket", "left_curly_bracket", "W"}
        assert {name for key in keymap.REPLAY for name in key.keys.split(",")} == pressed


async def test_the_worst_moments_one_after_the_other(recorded: Path) -> None:
    app = app_of(recorded)
    trouble = app.player.index.trouble
    async with running(app) as pilot:
        await pilot.press("W")
        await until(pilot, lambda: place(app) == int(trouble.argmax()))
        worst = place(app)
        await pilot.press("W")
        await until(pilot, lambda: place(app) != worst)
        assert abs(place(app) - worst) >= 5


async def test_where_all_went_well_there_is_no_worst_moment(tmp_path: Path) -> None:
    record(tmp_path / "r", [snapshot(second, [flow(1)]) for second in range(3)])
    app = app_of(tmp_path / "r")
    async with running(app, (120, 30)) as pilot:
        await pilot.press("W")
        await until(pilot, lambda: "nothing was sent again in this recording" in text_of(app)[2])


async def test_it_plays_stands_and_plays_again(recorded: Path) -> None:
    app = app_of(recorded)
    async with running(app) as pilot:
        assert " >  0.001x" in bar(app)
        await pilot.press("space")
        assert " || 0.001x" in bar(app)
        assert not app.player.state.is_playing
        await pilot.press("dollar_sign")
        await until(pilot, lambda: place(app) == TICKS - 1)
        for _ in range(12):
            await pilot.press("plus")
        assert " || max" in bar(app)
        await pilot.press("minus")
        assert " || 100x" in bar(app)
        await pilot.press("plus", "space")
        await until(pilot, lambda: not app.player.state.is_playing and place(app) == TICKS - 1)
        await until(pilot, lambda: " || max" in bar(app))


async def test_a_click_on_the_bar_goes_there(recorded: Path) -> None:
    app = app_of(recorded)
    async with running(app, (100, 30)) as pilot:
        line = bar(app)
        start, end = len(" >  0.001x 00:00:00 "), line.rindex(" of ") - 6
        await pilot.click(ReplayBar, offset=((start + end) // 2, 0))
        await until(pilot, lambda: abs(place(app) - TICKS // 2) <= 3)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (160, 50)])
async def test_the_bar_at_every_size(recorded: Path, size: tuple[int, int]) -> None:
    app = app_of(recorded, speed=1.0)
    async with running(app, size) as pilot:
        await pilot.press("space", "0", "dollar_sign")
        await until(pilot, lambda: place(app) == TICKS - 1)
        await pilot.pause()
        line = bar(app)
        assert line.startswith(" || 1x")
        assert len(line) == size[0]
        if size[0] >= 80:
            assert line.rstrip().endswith("89s of 89s")
        assert "q" in text_of(app)[-1]


async def test_the_mark_is_taken_away_where_it_lies_ahead(recorded: Path) -> None:
    app = app_of(recorded)
    async with running(app, (120, 30)) as pilot:
        await pilot.press("right_curly_bracket")
        await until(pilot, lambda: place(app) == 9)
        await pilot.press("m")
        assert "SINCE MARK" in text_of(app)[0]
        await pilot.press("right_curly_bracket")
        await until(pilot, lambda: place(app) == 18)
        assert "SINCE MARK 9" in text_of(app)[0]
        await pilot.press("0")
        await until(pilot, lambda: place(app) == 0)
        await pilot.pause()
        assert "SINCE MARK" not in text_of(app)[0]
        assert "the mark lies ahead" in text_of(app)[2]


async def test_what_a_recording_cannot_do_says_so(recorded: Path) -> None:
    app = app_of(recorded)
    async with running(app, (160, 30)) as pilot:
        await pilot.press("R")
        assert "this is a recording already" in text_of(app)[2]
        await pilot.press("K")
        assert "--allow-close" in text_of(app)[2]
        await pilot.press("enter")
        await until(pilot, lambda: app.newest is not None and len(app.newest.flows.snapshot.notes) > 0)
        assert app.newest is not None
        assert "can't look closer" in app.newest.flows.snapshot.notes[0]


async def test_help_and_palette_know_its_keys(recorded: Path) -> None:
    app = app_of(recorded)
    async with running(app, (120, 90)) as pilot:
        await pilot.press("question_mark")
        told = "\n".join(text_of(app))
        for key in keymap.REPLAY:
            assert (key.told or key.words) in told
        assert "Play, or stop" in told
        assert "Keep the picture" not in told
        assert "Faster or slower" in told


async def test_keys_can_be_changed(recorded: Path) -> None:
    app = app_of(recorded, settings=Settings(keys={"replay.on": "V", "pause": "B"}))
    async with running(app) as pilot:
        await pilot.press("V")
        await until(pilot, lambda: place(app) == 1)
        assert not app.player.state.is_playing
        await pilot.press("B")
        assert app.player.state.is_playing


def test_a_live_screen_has_none_of_them() -> None:
    live = {name for key in (*keymap.APP, *keymap.TABLE) for name in key.keys.split(",")}
    assert not live & {name for key in keymap.REPLAY for name in key.keys.split(",")}
    for key in keymap.REPLAY_APP + keymap.REPLAY:
        assert has_action(ReplayScreen, ReplayApp, key), key.id
    assert [key.id for key in keymap.REPLAY_APP] == [key.id for key in MainScreen.KEYS]


async def test_it_ends_after_so_many_ticks(recorded: Path) -> None:
    app = app_of(recorded, speed=0.0, again=True, iterations=2 * TICKS)
    assert await app.run_async(headless=True, size=(80, 24)) is None
    assert app.newest is not None
    assert app.newest.flows.tick >= 2 * TICKS


@pytest.fixture
def damaged(recorded: Path, tmp_path: Path) -> Path:
    path = tmp_path / "r"
    path.write_bytes(recorded.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE tick SET frame = x'00'")
        db.commit()
    return path


async def test_a_damaged_one_ends_with_its_error(damaged: Path) -> None:
    app = app_of(damaged)
    error = await app.run_async(headless=True, size=(80, 24))
    assert isinstance(error, Failed)
    assert "not one of its" in error.message


# --- the bar alone


def index_of(trouble: list[float]) -> TickIndex:
    count = len(trouble)
    return TickIndex(
        np.arange(count), np.arange(count) == 0, np.arange(count, dtype=float), np.array(trouble, dtype=float)
    )


def test_each_cell_is_as_much_time_and_shows_its_worst_tick() -> None:
    found = track(index_of([0, 0, 25, 0, 0, 0, 100, 0, 0, 0]), 5)
    assert found.first.tolist() == [0, 2, 4, 6, 8]
    assert found.trouble.round(2).tolist() == [0.0, 0.5, 0.0, 1.0, 0.0]
    assert track(index_of([5]), 8).trouble.max() == 1.0
    assert len(track(index_of([0.0] * 3), 50).first) == 50


@pytest.mark.parametrize("drawn", [ASCII, BLOCKS])
def test_its_signs_are_those_of_the_terminal(drawn: Any) -> None:
    made = ReplayBar(index_of([0, 0, 9, 99] * 25), drawn)
    made._playing = PlaybackState(50, is_playing=False, speed=2.0)
    [line] = made.make_lines(80, 1)
    text = "".join(span.text for span in line)
    assert len(text) == 80
    assert text.startswith(" || 2x ")
    assert text.isascii() == (drawn is ASCII)
    assert sum(span.role == "badge" for span in line) == 1
