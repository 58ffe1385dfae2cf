"""Keys of the screen beyond moving and sorting: marks, columns, themes, following, loopback, cost, palette."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from textual.command import CommandPalette
from textual.renderables.background_screen import BackgroundScreen

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.config.keymap import APP, KEYS, TABLE
from tcptop_ops.config.settings import Settings
from tcptop_ops.model.enums import State
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, parse_list
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.base.modal import Menu
from tcptop_ops.widgets.base.terminal_driver import TerminalDriver
from tcptop_ops.widgets.base.themes import THEMES
from tcptop_ops.widgets.screens.column_picker import ColumnPicker
from tcptop_ops.widgets.screens.connection_detail import DetailScreen
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.lossy_network import world
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


# The mark


def since(tick: int) -> Snapshot:
    """One that retransmits twice a second, one that is quiet and slower by 5 ms each second, one born at tick 3."""
    flows = [
        flow(1, name=b"lossy", retrans_segs=10 + 2 * tick, bytes_acked=1000 * tick, srtt_us=30_000),
        flow(2, name=b"quiet", retrans_segs=7, bytes_received=5000, srtt_us=10_000 + 5_000 * tick),
    ]
    if tick >= 3:
        flows.append(flow(3, name=b"young", retrans_segs=1, first_ns=1_000_000_000_000 + int(2.5e9)))
    return snapshot(tick, flows)


def marked_rows(app: TcptopApp) -> dict[str, list[str]]:
    """The figures since the mark, by process."""
    at = header(app).index("PROCESS")
    rows = [line[at:].split() for line in text_of(app)[4:9] if line.strip()]
    return {row[0]: row[3:] for row in rows if len(row) > 3}


async def test_a_mark_tells_what_has_changed_since() -> None:
    app = app_of(FakeSource([since(tick) for tick in range(10)]))
    async with running(app, (100, 30)) as pilot:
        await pilot.press("m")
        assert "SINCE MARK" in text_of(app)[0]
        assert header(app).split()[-5:] == ["+RETR", "+RTO", "+SENT", "+RECVD", "+SRTT"]
        assert marked_rows(app)["lossy"] == ["0", "0", "0", "0", "0"]
        await next_tick(pilot)
        await next_tick(pilot)
        rows = marked_rows(app)
        assert rows["lossy"] == ["4", "0", "2.0k", "0", "0"]
        assert rows["quiet"] == ["0", "0", "0", "0", "10ms"]
        assert rows["young"] == ["1", "0", "0", "0", "-"]
        assert "SINCE MARK 2.00s" in text_of(app)[0]
        assert [line[0] for line in text_of(app)[4:7] if "young" in line] == ["+"]
        await pilot.press("m")
        assert "MARK" not in text_of(app)[0]
        assert "+RETR" not in header(app)
        assert "RETR" in header(app)


async def test_with_columns_of_ones_own_a_mark_changes_none() -> None:
    app = app_of(FakeSource([since(tick) for tick in range(10)]), spec=Spec(columns=parse_list("process,mark_retrans")))
    async with running(app) as pilot:
        await pilot.press("m")
        await next_tick(pilot)
        assert text_of(app)[3].split() == ["PROCESS", "+RETR"]
        assert any(line.split()[-1:] == ["2"] for line in text_of(app) if "lossy" in line)


async def test_there_is_no_mark_in_a_picture_that_stands_still() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("space", "m")
        assert "no mark" in text_of(app)[2]
        assert "+RETR" not in header(app)


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


# The connection over which this is used


async def test_the_session_is_marked() -> None:
    shots = [snapshot(tick, [flow(1, name=b"sshd", pid=77), flow(2, name=b"other", pid=78)]) for tick in range(4)]
    app = app_of(FakeSource(shots))
    app.receiver.sshds = frozenset({77})
    async with running(app) as pilot:
        await next_tick(pilot)
        assert next(line for line in text_of(app) if "*you" in line).split()[-8:-6] == ["sshd", "*you"]
        assert sum("*you" in line for line in text_of(app)) == 1


async def test_of_two_connections_of_sshd_none_is_the_session() -> None:
    shots = [snapshot(tick, [flow(1, name=b"sshd", pid=77), flow(2, name=b"sshd", pid=77)]) for tick in range(4)]
    app = app_of(FakeSource(shots))
    app.receiver.sshds = frozenset({77})
    async with running(app) as pilot:
        await next_tick(pilot)
        assert not any("*you" in line for line in text_of(app))


# A slow line


async def test_while_the_line_is_full_nothing_is_drawn_and_then_the_newest() -> None:
    app = app_of()
    async with running(app) as pilot:
        app.post_message(TerminalDriver.Full())
        await pilot.pause()
        assert app.shown is not None
        before = app.shown.flows.tick
        for _ in range(3):
            await next_tick(pilot)
        assert app.shown.flows.tick == before
        app.post_message(TerminalDriver.Drained())
        await until(pilot, lambda: app.shown is not None and app.shown.flows.tick == before + 3)
        assert first_words(app)[:2] == ["java", "nginx"]


async def test_a_line_that_is_full_twice_is_drained_once() -> None:
    app = app_of()
    async with running(app) as pilot:
        for message in (
            TerminalDriver.Full(),
            TerminalDriver.Full(),
            TerminalDriver.Drained(),
            TerminalDriver.Drained(),
        ):
            app.post_message(message)
        await pilot.pause()
        await next_tick(pilot)
        assert app.shown is app.newest


# The first start


async def test_the_hint_of_the_first_start_comes_once(tmp_path: Path) -> None:
    settings = Settings(mark=tmp_path / "state" / "started")
    for wanted in (True, False):
        app = app_of(settings=settings)
        async with running(app) as pilot:
            if wanted:
                await until(pilot, lambda: "first time here?" in text_of(app)[2])  # noqa: B023
                await pilot.press("j")
            await pilot.pause()
            assert "first time" not in text_of(app)[2]
    assert (tmp_path / "state" / "started").stat().st_mode & 0o777 == 0o600


async def test_a_finding_is_worth_more_than_the_hint(tmp_path: Path) -> None:
    source = FakeSource([world(tick) for tick in range(3)])
    app = TcptopApp(polled(source, Tracker()), Spec(), delay_s=3600.0, settings=Settings(mark=tmp_path / "started"))
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "first time here?" in text_of(app)[2])
        await next_tick(pilot)
        assert text_of(app)[2].startswith("! 6 of 6 flows to 10.2.0.")


async def test_without_a_place_to_remember_there_is_no_hint(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    app = app_of(settings=Settings(mark=file / "started"))
    async with running(app):
        assert "first time" not in text_of(app)[2]


@pytest.mark.parametrize(("width", "titles"), [(80, 9), (60, 7), (40, 4), (120, 10)])
async def test_what_has_changed_fits_any_width(width: int, titles: int) -> None:
    app = app_of(FakeSource([since(tick) for tick in range(10)]))
    async with running(app, (width, 24)) as pilot:
        await pilot.press("m")
        shown = [column.id for column in app.query_one(ConnectionTable).columns]
        assert "mark_retrans" in shown
        assert len(shown) == titles, shown
        assert app.query_one(ConnectionTable).virtual_size.width <= width


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
