"""A filter and the cursor: the selected connection, only its process, only its address."""

from __future__ import annotations

import pytest

from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.widgets.panels.filter_bar import joined
from tcptop_ops.widgets.panels.key_bar import KeyBar
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.filter_bar import bar, enter, filtered, is_open, rule, selected, write
from tests.support.running_app import app_of, running
from tests.support.screens import next_tick, text_of


async def test_the_cursor_stays_on_its_connection() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("end", "k")
        assert selected(app) == "curl"
        await enter(pilot, "srtt > 20ms")
        assert selected(app) == "curl"
        await pilot.press("backslash")
        assert selected(app) == "curl"
        await enter(pilot, "not curl")
        assert selected(app) != "curl"


async def test_what_one_types_on_the_way_does_not_lose_the_selection() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("end", "k", "slash")
        await write(pilot, "nginx")
        assert selected(app) == "nginx"
        await next_tick(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert selected(app) == "curl"
        await pilot.press("slash")
        await write(pilot, "nginx")
        await pilot.press("enter", "backslash")
        assert selected(app) == "nginx"


async def test_a_click_selects_and_the_keys_stay_in_the_bar() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("j", "slash", "c")
        await pilot.press("backspace")
        await pilot.click(ConnectionTable, offset=(10, 3))
        assert selected(app) == "postgres"
        await pilot.click(ConnectionTable, offset=(text_of(app)[3].index("SRTT") + 1, 0))
        await pilot.press("tab")
        await write(pilot, "curl")
        assert bar(app)[0] == "/curl"
        await pilot.press("escape")
        await pilot.pause()
        assert selected(app) == "postgres"


async def test_the_key_bar_can_be_clicked_there_too() -> None:
    app = app_of()
    async with running(app) as pilot:
        for label, opened in (("/ Filter", True), ("Esc Undo", False), ("/ Filter", True), ("Enter Keep", False)):
            await pilot.click(KeyBar, offset=(text_of(app)[23].index(label), 0))
            await pilot.pause()
            assert is_open(app) is opened


async def test_p_and_a_narrow_it_and_once_is_enough() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("j", "p")
        assert rule(app).startswith("filter: pid = 1003   1 of 5 ")
        await pilot.press("p")
        assert rule(app).startswith("filter: pid = 1003   1 of 5 ")
        await pilot.press("a", "a", "p")
        assert rule(app).startswith("filter: pid = 1003 and raddr = 10.2.0.3   1 of 5 ")
        assert selected(app) == "java"
        await pilot.press("backslash")
        assert rule(app).startswith("-----")
        assert selected(app) == "java"
        await pilot.press("slash", "up")
        await pilot.pause()
        assert bar(app)[0] == "/pid = 1003 and raddr = 10.2.0.3"


async def test_p_joins_an_either_or_in_parentheses() -> None:
    app = app_of(spec=filtered("java or srtt > 20ms"))
    async with running(app) as pilot:
        await pilot.press("p")
        assert rule(app).startswith("filter: (java or srtt > 20ms) and pid = 1003   1 of 5 ")


async def test_a_takes_an_address_of_any_kind() -> None:
    peers = ["2001:db8::9", "fe80::1", "10.2.0.1"]
    rows = [flow(i, name=f"p{i}".encode(), peer=(peer, 443), iface=0) for i, peer in enumerate(peers, 1)]
    app = app_of(FakeSource([snapshot(0, rows)]))
    async with running(app, ticks=1) as pilot:
        for i, peer in enumerate(peers):
            await pilot.press("home", *["j"] * i, "a")
            assert rule(app).startswith(f"filter: raddr = {peer}   1 of 3 ")
            await pilot.press("backslash")


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_where_there_is_no_process_or_address_it_says_so(size: tuple[int, int]) -> None:
    listener = flow(1, pid=0, name=b"", state=State.LISTEN, local=("0.0.0.0", 22), peer=("0.0.0.0", 0))
    app = app_of(FakeSource([snapshot(0, [listener])]))
    async with running(app, size, ticks=1) as pilot:
        for key, words in (("p", "no process is known for this row"), ("a", "this row has no remote address")):
            await pilot.press(key)
            assert words in " ".join(text_of(app))
            assert rule(app).startswith("-----")
        await pilot.press("r")
        assert "this row has no remote address" not in " ".join(text_of(app))


async def test_what_was_said_of_a_row_goes_when_another_is_selected() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("end", "a")
        assert text_of(app)[2].startswith("this row has no remote address | tx ")
        await next_tick(pilot)
        await pilot.press("j")
        await pilot.pause()
        assert text_of(app)[2].startswith("this row has no remote address | tx ")
        await pilot.press("k")
        await pilot.pause()
        assert text_of(app)[2].startswith("tx ")


def test_joining_what_is_too_long_to_be_written() -> None:
    first = compiler.compile("curl" + " " * 4085)
    found = joined(first, "raddr = 10.0.0.1")
    assert found.text == f"({first.text}) and (raddr = 10.0.0.1)"


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        ("pid = 5", "pid = 5"),
        ("(curl and PID=5)", "(curl and PID=5)"),
        ("(curl and ('x' and pid = 5)) and rx > 1kB/s", "(curl and ('x' and pid = 5)) and rx > 1kB/s"),
        ("not pid = 5", "not pid = 5 and pid = 5"),
        ("curl or pid = 5", "(curl or pid = 5) and pid = 5"),
        ("curl and (java or nginx)", "curl and (java or nginx) and pid = 5"),
        ("pid = 55", "pid = 55 and pid = 5"),
    ],
)
def test_a_condition_is_joined_once(present: str, wanted: str) -> None:
    assert joined(compiler.compile(present), "pid = 5").text == wanted
