"""Sizes: what is seen at each, and that no screen loses anything when the terminal is resized under it."""

from __future__ import annotations

import pytest

from tcptop_ops.config.keymap import KEYS
from tcptop_ops.widgets.base.charts import BLOCKS
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.running_app import app_of, header, running
from tests.support.screens import next_tick, text_of

SCREENS = {
    "table": (),
    "filter": ("slash", "n"),
    "sort": ("s",),
    "columns": ("C",),
    "group menu": ("g",),
    "groups": ("g", "j", "enter"),
    "help": ("question_mark",),
    "words": ("question_mark", "enter"),
    "detail": ("enter",),
    "operators": ("o",),
    "operator": ("o", "enter"),
    "host": ("H",),
    "figure of the host": ("H", "enter"),
    "elsewhere": ("y",),
    "palette": ("ctrl+p",),
    "mark": ("m",),
    "own cost": ("i",),
    "paused": ("space",),
}
CHANGING = ("own cost", "palette", "sort", "columns", "words")
"""Figures of their own, or long lists that may stand elsewhere."""

SIZES = ((40, 10), (80, 24), (300, 100), (41, 16), (12, 4), (160, 50), (80, 24))


async def test_120x40_has_columns_more_and_sparklines() -> None:
    app = app_of()
    async with running(app, (120, 40)):
        lines = [line.rstrip() for line in text_of(app)]
        assert {len(line) for line in text_of(app)} == {120}
        assert lines[3].split()[:9] == [
            "SCR",
            "CAUSE",
            "PROCESS",
            "PEER",
            "(LISTN:",
            "local)",
            "STATE",
            "SRTT",
            "RETRv",
        ]
        assert lines[3].split()[9:] == ["RETR%", "RTO", "PID", "LPORT", "CWND"]
        assert lines[4].split() == [
            *(">!", "27", "loss", "nginx", "10.2.0.1:443", "ESTAB", "10ms", "25", "2.5", "0", "1001", "40001", "10")
        ]
        assert lines[37].startswith("srtt ")
        assert lines[38].startswith("retr ")
        assert lines[39].startswith("q Quit")


async def test_200x60_has_all_that_is_worth_a_column() -> None:
    app = app_of()
    async with running(app, (200, 60)):
        lines = [line.rstrip() for line in text_of(app)]
        assert {len(line) for line in text_of(app)} == {200}
        for title in ("PID", "LPORT", "CWND", "LIMIT", "TX/s", "RX/s", "MINRT", "AGE", "RETRT", "LOST", "RTOT"):
            assert title in lines[3].split()
        assert "10.2.0.1:443" in lines[4]
        assert lines[59].startswith("q Quit")


@pytest.mark.parametrize("name", SCREENS)
async def test_a_resize_under_any_screen_loses_nothing(name: str) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("j", *SCREENS[name])
        await pilot.pause()
        selected, screen, before = app.query_one(ConnectionTable).cursor, app.screen, text_of(app)
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            lines = text_of(app)
            assert (len(lines), {len(line) for line in lines}) == (height, {width})
        assert app.screen is screen
        assert app.query_one(ConnectionTable).cursor == selected
        if name not in CHANGING:
            assert text_of(app)[3:] == before[3:]


@pytest.mark.parametrize("key", [name for key in KEYS for name in key.keys.split(",")])
async def test_every_key_may_be_pressed_at_any_time(key: str) -> None:
    """Nothing breaks, and the screen goes on: whatever is there, and before there is anything."""
    app = app_of()
    async with running(app, (80, 24)) as pilot:
        for before in ("x", "space", "m"):
            await pilot.press(before, key)
            await pilot.pause()
            if app.return_code is not None:
                assert key in ("q", "f10", "ctrl+c")
                return
            while len(app.screen_stack) > 1:
                await pilot.press("escape")
                await pilot.pause()
            if app.query("FilterBar").first().display:
                await pilot.press("escape")
        await next_tick(pilot)
        assert "PROCESS" in header(app) or "GROUP" in header(app)
        assert all(ord(c) < 127 or c in BLOCKS.levels for line in text_of(app) for c in line)
