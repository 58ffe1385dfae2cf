"""Sorting by keys, by clicks on the header and by the menu."""

from __future__ import annotations

import pytest
from textual.widgets import OptionList

from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.screens.sort_menu import SortMenu
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.running_app import app_of, header, running, top_is
from tests.support.screens import first_words, next_tick, text_of


@pytest.mark.parametrize(
    ("keys", "title", "order"),
    [
        (["x"], "RETRv", ["nginx", "java", "postgres", "curl", "sshd"]),
        (["r"], "RETR^", ["curl", "postgres", "java", "nginx", "sshd"]),
        (["r", "r"], "RETRv", ["nginx", "java", "postgres", "curl", "sshd"]),
        (["less_than_sign"], "SRTTv", ["postgres", "curl", "nginx", "java", "sshd"]),
        (["greater_than_sign"], "RETR%v", ["nginx", "java", "postgres", "curl", "sshd"]),
        (["3"], "PROCESS^", ["curl", "java", "nginx", "postgres", "sshd"]),
        (["3", "r"], "PROCESSv", ["sshd", "postgres", "nginx", "java", "curl"]),
        (["3", "x"], "RETRv", ["nginx", "java", "postgres", "curl", "sshd"]),
        (["6", "r"], "SRTT^", ["java", "nginx", "curl", "postgres", "sshd"]),
        (["7"], "RETRv", ["nginx", "java", "postgres", "curl", "sshd"]),
        (["1", "less_than_sign"], "SCRv", ["nginx", "java", "postgres", "curl", "sshd"]),
    ],
)
async def test_sorting_by_keys_is_seen_at_once(keys: list[str], title: str, order: list[str]) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press(*keys)
        assert title in header(app)
        assert first_words(app) == order
        await next_tick(pilot)
        assert title in header(app)


async def test_sorting_by_a_click_on_the_header_and_again() -> None:
    app = app_of()
    async with running(app) as pilot:
        for title, order in (("SRTTv", "postgres"), ("SRTT^", "java"), ("SRTTv", "postgres")):
            await pilot.click(ConnectionTable, offset=(header(app).index("SRTT") + 1, 0))
            assert title in header(app)
            assert first_words(app)[0] == order


@pytest.mark.parametrize("key", ["s", "f6"])
async def test_the_sort_menu(key: str) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press(key)
        assert top_is(app, SortMenu)
        menu = app.screen.query_one(OptionList)
        assert menu.option_count == len(COLUMNS)
        assert menu.highlighted == COLUMNS.index(find("retrans_win"))
        await pilot.press("j", "k", "k")
        assert menu.highlighted == COLUMNS.index(find("retrans_win")) - 1
        menu.highlighted = COLUMNS.index(find("cwnd"))
        await pilot.press("enter")
        assert not top_is(app, SortMenu)
        assert "CWNDv" in header(app)


@pytest.mark.parametrize("key", ["escape", "q", "s"])
async def test_the_sort_menu_can_be_left(key: str) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("s", key)
        assert not top_is(app, SortMenu)
        assert "RETRv" in header(app)
        assert app.is_running


async def test_a_sort_column_that_was_not_asked_for_is_named() -> None:
    app = app_of(spec=Spec(columns=parse_list("process,srtt")))
    async with running(app) as pilot:
        assert text_of(app)[3].rstrip() == "  PROCESS           SRTT"
        assert ", by SCR --" in text_of(app)[19]
        await pilot.press("greater_than_sign")
        assert "PROCESS^" in text_of(app)[3]
