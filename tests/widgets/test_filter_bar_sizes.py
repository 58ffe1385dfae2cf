"""The filter bar on screens of all sizes, with other screens over it, and when the source died."""

from __future__ import annotations

import pytest

from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.widgets.base.charts import BLOCKS
from tcptop_ops.widgets.screens.help import HelpScreen
from tcptop_ops.widgets.screens.sort_menu import SortMenu
from tests.support.fakes import FakeSource
from tests.support.filter_bar import bar, enter, is_open, selected, write
from tests.support.running_app import app_of, running, top_is, world
from tests.support.screens import first_words, text_of


async def test_at_40x10_the_bar_takes_the_storys_place() -> None:
    app = app_of()
    async with running(app, (40, 10)) as pilot:
        await pilot.press("slash")
        await write(pilot, "port = 443 an")
        assert [line.rstrip() for line in text_of(app)[1:]] == [
            "  SCR PROCESS   PEER               RETRv",
            ">! 27 nginx     10.2.0.1:443          25",
            "   10 java      10.2.0.3:443          10",
            "    0 postgres  10.2.0.2:443           4",
            "    0 curl      10.2.0.4:443           0",
            "filter: port = 443   4 of 5 -- 1 of 4 --",
            "/port = 443 an",
            "            ^ expected 'and', 'or' or t~",
            "Enter Keep  Esc Undo  Up Older  F1 Help",
        ]
        await pilot.press("escape")
        await pilot.pause()
        assert text_of(app)[7].startswith("nginx 1001  -> 10.2.0.1:443")


async def test_a_long_text_scrolls_and_the_caret_with_it() -> None:
    app = app_of()
    async with running(app, (40, 10)) as pilot:
        await pilot.press("slash")
        await write(pilot, "port = 443 and rport = 443 and lport > 1 and")
        text, remark = bar(app)
        assert text.endswith("lport > 1 and")
        assert remark == "expected a field, a word, 'not' or '(' ^"[-40:]
        assert remark.index("^") == len(text)
        await pilot.press("home")
        await pilot.pause()
        assert bar(app)[0].startswith("/port = 443 and")
        assert bar(app)[1].index("^") == 39


async def test_resizing_while_it_is_open() -> None:
    app = app_of()
    async with running(app, (120, 40)) as pilot:
        await pilot.press("slash")
        await write(pilot, "port = 443 and rport = 443 and lport > 1 and")
        for size in ((40, 10), (80, 24), (41, 17), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            lines = text_of(app)
            assert (len(lines[0]), len(lines)) == size
            text, remark = bar(app)
            assert text.endswith("lport > 1 and")
            assert remark.index("^") == len(text)
            assert all(ord(c) < 127 or c in BLOCKS.levels for line in lines for c in line)
        await write(pilot, " curl")
        assert first_words(app) == ["curl"]


@pytest.mark.parametrize("size", [(39, 24), (80, 9)])
async def test_too_small_and_back_while_it_is_open(size: tuple[int, int]) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash")
        await write(pilot, "cu")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "too small" in " ".join(text_of(app))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await pilot.pause()
        await write(pilot, "rl")
        assert bar(app)[0] == "/curl"
        assert first_words(app) == ["curl"]
        await pilot.press("enter")
        await pilot.pause()
        assert not is_open(app)


async def test_too_small_and_back_the_table_has_the_keys() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.resize_terminal(30, 5)
        await pilot.pause()
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await pilot.pause()
        await pilot.press("j")
        assert selected(app) == "java"


async def test_help_and_the_sort_menu_over_the_bar() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash", "c")
        await pilot.press("f1")
        assert top_is(app, HelpScreen)
        await pilot.press("escape", "u")
        await pilot.pause()
        assert bar(app)[0] == "/cu"
        await pilot.press("f6")
        assert top_is(app, SortMenu)
        await pilot.press("escape", "r")
        await pilot.pause()
        assert bar(app)[0] == "/cur"


@pytest.mark.parametrize("key", ["f10", "ctrl+c"])
async def test_quitting_from_the_bar(key: str) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash", "c", key)
        await pilot.pause()
    assert app.return_code == 0


async def test_a_source_that_died_can_still_be_filtered() -> None:
    class Dying(FakeSource):
        def poll(self) -> Snapshot:
            if self.polls:
                raise ValueError("gone")
            return super().poll()

    app = app_of(Dying([world(0)]))
    async with running(app, ticks=1) as pilot:
        app.poller.poll_now()
        while "gone" not in text_of(app)[2]:
            await pilot.pause()
        await enter(pilot, "curl")
        assert first_words(app) == ["curl"]
