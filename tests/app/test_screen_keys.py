"""Keys of the screen beyond moving and sorting: columns, themes, following, loopback, cost, palette."""

from __future__ import annotations

from itertools import pairwise

import pytest
from textual.command import CommandPalette
from textual.renderables.background_screen import BackgroundScreen

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.config.keymap import APP, KEYS, TABLE
from tcptop_ops.config.settings import Settings
from tcptop_ops.model.enums import State
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, parse_list
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.base.modal import Menu
from tcptop_ops.widgets.base.themes import THEMES
from tcptop_ops.widgets.screens.column_picker import ColumnPicker
from tcptop_ops.widgets.screens.connection_detail import DetailScreen
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import app_of, header, running, top_is
from tests.support.screens import first_words, has_action, next_tick, text_of, until


def cursor_line(app: TcptopApp) -> str:
    return next(line for line in text_of(app) if line.startswith(">"))


# The table of keys


def test_every_key_has_an_action_and_its_own_id() -> None:
    assert len({key.id for key in KEYS}) == len(KEYS)
    for owner, keys in ((MainScreen, APP), (ConnectionTable, TABLE)):
        for key in keys:
            assert has_action(owner, TcptopApp, key), key.id


def test_no_key_does_two_things() -> None:
    names = [name for key in KEYS for name in key.keys.split(",")]
    assert len(set(names)) == len(names)


# Columns


@pytest.mark.parametrize("key", ["C", "f2"])
async def test_columns_are_hidden_moved_and_widened(key: str) -> None:
    app = app_of()
    async with running(app, (120, 30)) as pilot:
        await pilot.press(key)
        assert top_is(app, ColumnPicker)
        await pilot.press("j", "space", "j", "greater_than_sign", "k", "k", "k", "plus", "plus", "enter")
        assert not top_is(app, ColumnPicker)
        titles = header(app).split()
        assert titles[0] == "SCR"
        assert "CAUSE" not in titles
        assert titles.index("PROCESS") > titles.index("PEER")
        assert header(app).index("SCR") == 4  # two wider


async def test_columns_left_as_they_are_go_on_adapting_to_the_width() -> None:
    app = app_of()
    async with running(app, (80, 24)) as pilot:
        await pilot.press("C", "enter")
        await pilot.resize_terminal(160, 24)
        await pilot.pause()
        assert "CWND" in header(app)


async def test_columns_can_be_left_and_set_back() -> None:
    app = app_of(spec=Spec(columns=parse_list("process,srtt")))
    async with running(app) as pilot:
        await pilot.press("C", "space", "escape")
        assert text_of(app)[3].split() == ["PROCESS", "SRTT"]
        await pilot.press("C", "r", "enter")
        assert [c.id for c in app.query_one(ConnectionTable).columns][:4] == list(DEFAULT[:4])


async def test_no_columns_at_all_are_none_chosen() -> None:
    app = app_of(spec=Spec(columns=parse_list("process,srtt")))
    async with running(app) as pilot:
        await pilot.press("C", "space", "j", "space", "enter")
        assert text_of(app)[3].split() == ["PROCESS", "SRTT"]


# Following, loopback


async def test_following_the_worst_until_moved() -> None:
    shots = [
        snapshot(
            tick,
            [
                flow(cookie, name=name, data_segs_out=1000 * tick, retrans_segs=again)
                for cookie, name, again in ((1, b"early", 30 * (tick > 0)), (2, b"late", 90 * (tick > 2)))
            ],
        )
        for tick in range(6)
    ]
    app = app_of(FakeSource(shots), spec=Spec(sort=find("process"), falling=False))
    async with running(app) as pilot:
        await pilot.press("F")
        assert "FOLLOWING" in text_of(app)[0]
        assert "early" in cursor_line(app)
        await next_tick(pilot)
        await next_tick(pilot)
        assert "late" in cursor_line(app)
        await pilot.press("k")
        assert "FOLLOWING" not in text_of(app)[0]
        await next_tick(pilot)
        assert "early" in cursor_line(app)


async def test_loopback_can_be_hidden() -> None:
    shots = [
        snapshot(
            tick,
            [
                flow(1, name=b"outside"),
                flow(2, name=b"local4", local=("127.0.0.1", 40000), peer=("127.0.0.1", 80)),
                flow(3, name=b"local6", local=("::1", 40000), peer=("::1", 80), family=10),
                flow(4, name=b"itself", local=("10.0.0.9", 40000), peer=("10.0.0.9", 80)),
                flow(5, name=b"door", state=State.LISTEN, local=("127.0.0.1", 80), peer=("0.0.0.0", 0)),
                flow(6, name=b"open", state=State.LISTEN, local=("0.0.0.0", 80), peer=("0.0.0.0", 0)),
            ],
        )
        for tick in range(3)
    ]
    app = app_of(FakeSource(shots))
    async with running(app) as pilot:
        assert len(first_words(app)) == 6
        await pilot.press("L")
        assert sorted(first_words(app)) == ["open", "outside"]
        assert "loopback hidden" in text_of(app)[19]
        await pilot.press("L")
        assert len(first_words(app)) == 6


# Looks and cost


async def test_themes_take_turns() -> None:
    app = app_of()
    async with running(app) as pilot:
        first = app.theme
        seen = [first]
        for _ in THEMES:
            await pilot.press("T")
            seen.append(app.theme)
        assert seen[-1] == first
        assert set(seen) == {theme.name for theme in THEMES}
        assert f"theme: {first}" in text_of(app)[2]


async def test_the_own_cost_is_shown_and_measured_only_then() -> None:
    source = FakeSource(
        [snapshot(tick, [flow(1)], program_ns=2_000_000 * tick, program_calls=1000 * tick) for tick in range(10)]
    )
    app = app_of(source)
    async with running(app) as pilot:
        assert not getattr(source, "measured", False)
        await pilot.press("i")
        await next_tick(pilot)
        await next_tick(pilot)
        assert getattr(source, "measured", False)
        line = text_of(app)[3]
        assert line.startswith("self: ")
        assert "in the kernel" in " ".join(text_of(app)[3:4]) or len(line.rstrip()) > 70
        await pilot.press("i")
        await next_tick(pilot)
        assert not getattr(source, "measured", True)
        assert "PROCESS" in text_of(app)[3]


async def test_the_cost_in_the_kernel_is_of_a_tick() -> None:
    source = FakeSource(
        [snapshot(tick, [flow(1)], program_ns=2_000_000 * tick, program_calls=1000 * tick) for tick in range(10)]
    )
    app = app_of(source)
    async with running(app, (160, 30)) as pilot:
        await pilot.press("i")
        await next_tick(pilot)
        await next_tick(pilot)
        assert "in the kernel 2.0ms/s: 1.0k calls/s, 2us each" in text_of(app)[3]


# The palette, the mouse


async def test_the_palette_finds_what_a_key_does() -> None:
    app = app_of(spec=Spec(sort=find("process"), falling=False))
    async with running(app) as pilot:
        await pilot.press("ctrl+p")
        await pilot.pause()
        assert top_is(app, CommandPalette)
        for letter in "retransmits":
            await pilot.press(letter)
        await until(pilot, lambda: any("Sort by retransmits" in line for line in text_of(app)))
        assert any("retransmits" in line and "Sort" not in line for line in text_of(app))  # what was typed
        await pilot.press("enter")
        await until(pilot, lambda: any("RETRv" in line for line in text_of(app)))


async def test_a_double_click_opens_the_detail() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.click(ConnectionTable, offset=(10, 2), times=2)
        await pilot.pause()
        assert top_is(app, DetailScreen)


@pytest.mark.parametrize("key", ["ctrl+p", "ctrl+q"])
async def test_a_key_of_the_settings_comes_before_what_textual_does_at_it(key: str) -> None:
    app = app_of(settings=Settings(keys={"pause": key, "interrupt": "ctrl+x"}))
    async with running(app) as pilot:
        await pilot.press(key)
        assert "PAUSED" in text_of(app)[0]
        await pilot.press("enter", key)  # a key of the main screen is none of the pages over it
        assert top_is(app, DetailScreen)
        await pilot.press("ctrl+x")
        await pilot.pause()
    assert app.return_code == 0


async def test_the_key_of_the_end_can_be_given_to_something_else() -> None:
    app = app_of(settings=Settings(keys={"pause": "ctrl+c", "interrupt": "ctrl+x"}))
    async with running(app) as pilot:
        await pilot.press("ctrl+c")
        assert "PAUSED" in text_of(app)[0]
        await pilot.press("s", "ctrl+x")
        await pilot.pause()
    assert app.return_code == 0


async def test_pages_over_the_main_screen_have_their_own_keys_and_the_end() -> None:
    """Letters of the main screen do nothing there."""
    app = app_of()
    async with running(app) as pilot:
        for page in ("enter", "o", "question_mark"):
            before = text_of(app)[3]
            await pilot.press(page)
            count, theme = len(app.screen_stack), app.theme
            for key in ("x", "r", "s", "g", "C", "T", "slash", "m", "f", "1"):
                await pilot.press(key)
            assert (len(app.screen_stack), app.theme) == (count, theme)
            await pilot.press("escape")
            assert text_of(app)[3] == before
        await pilot.press("enter", "ctrl+c")
        await pilot.pause()
    assert app.return_code == 0


async def test_the_palette_over_a_page_does_what_the_keys_of_the_main_screen_do() -> None:
    app = app_of(spec=Spec(sort=find("process"), falling=False))
    async with running(app) as pilot:
        await pilot.press("enter", "ctrl+p", *"retransmits")
        await until(pilot, lambda: any("Sort by retransmits" in line for line in text_of(app)))
        await pilot.press("enter")
        await pilot.pause()
        assert top_is(app, DetailScreen)
        await pilot.press("escape")
        await until(pilot, lambda: "RETRv" in header(app))


# What a monkey found


async def test_each_screen_shows_the_one_right_below_it() -> None:
    """Never each other: that has no end."""
    app = app_of()
    async with running(app) as pilot:
        for key in ("enter", "o", "question_mark"):
            await pilot.press(key)
        for size in ((80, 24), (38, 7)):
            await pilot.resize_terminal(*size)
            for below, screen in pairwise(app.screen_stack):
                shown = screen.render()
                assert not isinstance(shown, BackgroundScreen) or shown.screen is below
        assert isinstance(app.screen.render(), BackgroundScreen)


async def test_a_list_whose_place_is_not_known_turns_no_page() -> None:
    menu = Menu("a", "b")
    menu.highlighted = 1
    menu.action_page_down()
    menu.action_page_up()
    assert menu.highlighted == 1


async def test_a_click_on_a_key_of_what_has_no_focus_any_more() -> None:
    app = app_of()
    async with running(app):
        app.screen.set_focus(None)
        assert not await app.run_action("focused.move(1)")


async def test_in_a_terminal_that_is_too_small_only_the_ways_out_work() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.resize_terminal(39, 9)
        for key in ("question_mark", "enter", "g", "slash", "ctrl+p"):
            await pilot.press(key)
        assert len(app.screen_stack) == 1
        await pilot.resize_terminal(80, 24)
        await pilot.press("question_mark")
        assert len(app.screen_stack) == 2
        await pilot.resize_terminal(39, 9)
        await pilot.press("escape")
        assert len(app.screen_stack) == 1
        await pilot.press("q")
    assert app.return_code == 0
