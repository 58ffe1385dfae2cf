"""The filter on the screen, driven by keys and clicks, over a fake source."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from tcptop_ops import filters
from tcptop_ops.app.application import TcptopApp
from tcptop_ops.snapshot import Snapshot, State
from tcptop_ops.view import Spec
from tcptop_ops.widgets.filter_bar import FilterBar, FilterInput, joined, pointed
from tcptop_ops.widgets.flow_table import FlowTable
from tcptop_ops.widgets.graphs import BLOCKS
from tcptop_ops.widgets.help import HelpScreen
from tcptop_ops.widgets.key_bar import KeyBar
from tcptop_ops.widgets.sort_menu import SortMenu
from tests.fakes import BOOT_NS, FakeSource, finals, flow, snapshot
from tests.screens import first_words, next_tick, text_of
from tests.test_app import app_of, running, top_is, world

HINT = " for instance: srtt > 20ms and not port = 443"


async def write(pilot: Pilot[Any], text: str) -> None:
    """Type it."""
    names = {" ": "space", "/": "slash", "\\": "backslash"}
    await pilot.press(*(names.get(letter, letter) for letter in text))
    await pilot.pause()


async def enter(pilot: Pilot[Any], text: str) -> None:
    """A whole filter, kept."""
    await pilot.press("slash", "ctrl+u")
    await write(pilot, text)
    await pilot.press("enter")
    await pilot.pause()


def rule(app: TcptopApp) -> str:
    """The line between the table and the story."""
    return next(line for line in text_of(app) if line.startswith(("filter: ", "-----")))


def bar(app: TcptopApp) -> list[str]:
    """The two lines of the filter bar, at the place where it is."""
    assert app.screen_stack[0].query_one(FilterBar).is_open
    return [line.rstrip() for line in text_of(app)[-3:-1]]


def is_open(app: TcptopApp) -> bool:
    return app.screen_stack[0].query_one(FilterBar).is_open


def selected(app: TcptopApp) -> str:
    """The process in the row of the cursor."""
    lines = text_of(app)
    at = max(next((found for line in lines if (found := line.find("PROCESS")) > 0), 2), 2)
    return next(line[at:].split()[0] for line in lines if line.startswith(">"))


def filtered(text: str) -> Spec:
    return Spec(filter=filters.compile(text))


# Writing


async def test_the_bar_is_above_the_keys_and_says_how() -> None:
    app = app_of()
    async with running(app) as pilot:
        assert not is_open(app)
        await pilot.press("slash")
        await pilot.pause()
        lines = text_of(app)
        assert [line.rstrip() for line in lines[21:23]] == ["/", HINT]
        assert lines[23].startswith("Enter Keep  Esc Undo  Up Older  Down Newer  F10 Quit")
        assert "/ Filter" not in lines[23]
        assert lines[23].rstrip().endswith("F1 Help")
        assert first_words(app) == ["nginx", "java", "postgres", "curl", "sshd"]
        assert lines[17].endswith(" 1 of 5, by RETR --")


async def test_it_filters_while_one_types() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash")
        for letter, rows in (("g", ["nginx", "postgres"]), ("r", ["postgres"]), ("x", ["no"])):
            await write(pilot, letter)
            assert first_words(app) == rows
        assert rule(app).startswith("filter: grx   0 of 5 ---")
        await pilot.press("backspace")
        await pilot.pause()
        assert first_words(app) == ["postgres"]
        assert rule(app).startswith("filter: gr   1 of 5 ---")
        assert bar(app) == ["/gr", ""]


async def test_letters_that_are_keys_elsewhere_are_letters() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash")
        await write(pilot, "q x1/\\?")
        assert bar(app)[0] == "/q x1/\\?"
        assert app.is_running
        assert "RETRv" in text_of(app)[3]


async def test_what_does_not_parse_keeps_the_last_good_one_and_points_at_it() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash")
        await write(pilot, "srtt > 20ms")
        assert first_words(app) == ["postgres", "curl"]
        await write(pilot, " and")
        assert first_words(app) == ["postgres", "curl"]
        assert rule(app).startswith("filter: srtt > 20ms   2 of 5 ---")
        assert bar(app) == ["/srtt > 20ms and", " " * 16 + "^ expected a field, a word, 'not' or '('"]
        await next_tick(pilot)
        assert first_words(app) == ["postgres", "curl"]
        await write(pilot, " strt > 1")
        assert bar(app)[1] == " " * 17 + "^ expected a field; did you mean srtt?"
        await pilot.press("ctrl+u")
        await write(pilot, "curl")
        assert bar(app) == ["/curl", ""]
        assert first_words(app) == ["curl"]


async def test_the_error_has_the_warning_colour() -> None:
    app = app_of()
    async with running(app) as pilot:
        await enter_wrong(pilot)
        strip = app.screen._compositor.render_strips()[22]
        caret = next(segment for segment in strip if "^" in segment.text)
        warning = app.screen.query_one(KeyBar).app.theme_variables["text-warning"]
        assert caret.style is not None
        assert caret.style.color is not None
        assert warning.startswith("auto") or caret.style.color.name.lower() == warning[:7].lower()


async def enter_wrong(pilot: Pilot[Any]) -> None:
    await pilot.press("slash")
    await write(pilot, "srtt >")
    await pilot.press("enter")
    await pilot.pause()


async def test_enter_does_not_leave_what_does_not_parse() -> None:
    app = app_of()
    async with running(app) as pilot:
        await enter_wrong(pilot)
        assert bar(app) == ["/srtt >", "       ^ expected a value"]
        await write(pilot, " 20ms")
        await pilot.press("enter")
        await pilot.pause()
        assert not is_open(app)
        assert first_words(app) == ["postgres", "curl"]


async def test_enter_keeps_it_and_the_keys_are_the_tables_again() -> None:
    app = app_of()
    async with running(app) as pilot:
        await enter(pilot, "srtt > 20ms")
        lines = text_of(app)
        assert not is_open(app)
        assert lines[19] == "filter: srtt > 20ms   2 of 5 " + " 1 of 2, by RETR --".rjust(51, "-")
        assert lines[23].startswith("q Quit  / Filter")
        await pilot.press("j")
        assert selected(app) == "curl"
        assert " 2 of 2, by RETR --" in rule(app)
        await pilot.press("r", "c")
        assert first_words(app) == ["curl", "postgres"]
        assert "closed hidden" in rule(app)
        await next_tick(pilot)
        assert first_words(app) == ["curl", "postgres"]


async def test_escape_restores_the_one_from_before() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash")
        await write(pilot, "curl")
        await pilot.press("escape")
        await pilot.pause()
        assert not is_open(app)
        assert len(first_words(app)) == 5
        assert rule(app).startswith("-----")
        await enter(pilot, "java")
        await pilot.press("slash")
        await write(pilot, " or curl")
        assert first_words(app) == ["java", "curl"]
        await pilot.press("escape")
        await pilot.pause()
        assert first_words(app) == ["java"]
        assert rule(app).startswith("filter: java   1 of 5 ")


async def test_keys_in_a_burst_do_not_overtake_each_other() -> None:
    app = app_of()
    async with running(app) as pilot:
        for key in ("slash", "c", "u", "escape"):
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        await pilot.pause()
        assert not is_open(app)
        assert len(first_words(app)) == 5


async def test_an_empty_text_is_no_filter() -> None:
    app = app_of(spec=filtered("java"))
    async with running(app) as pilot:
        await pilot.press("slash", "ctrl+u", "space")
        await pilot.pause()
        assert bar(app)[1] == HINT
        assert len(first_words(app)) == 5
        await pilot.press("enter")
        await pilot.pause()
        assert rule(app).startswith("-----")


async def test_while_paused_and_before_the_first_tick() -> None:
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", "j", "enter", "p", "a")
        await next_tick(pilot)
        assert first_words(app) == ["java"]
        await pilot.press("space", "backslash")
        assert len(first_words(app)) == 5
        assert "PAUSED" in text_of(app)[0]


# History


async def test_up_and_down_walk_the_history() -> None:
    app = app_of()
    async with running(app) as pilot:
        for text in ("java", "curl", "java", "sshd"):
            await enter(pilot, text)
        await pilot.press("backslash", "slash", "n")
        walked = []
        for key in ("up", "up", "up", "up", "down", "down", "down", "down"):
            await pilot.press(key)
            await pilot.pause()
            walked.append(bar(app)[0])
            assert first_words(app)[0] == ("nginx" if walked[-1] == "/n" else walked[-1][1:])
        assert walked == ["/sshd", "/java", "/curl", "/curl", "/java", "/sshd", "/n", "/n"]
        await pilot.press("up", "enter")
        await pilot.pause()
        assert rule(app).startswith("filter: sshd ")


async def test_the_history_begins_before_the_filter_in_force() -> None:
    app = app_of(spec=filtered("java"))
    async with running(app) as pilot:
        await enter(pilot, "curl")
        await pilot.press("slash", "up")
        await pilot.pause()
        assert bar(app)[0] == "/java"
        await pilot.press("down")
        assert bar(app)[0] == "/curl"


# What is shown of it


async def test_a_filter_from_the_command_line_is_shown_and_can_be_edited() -> None:
    app = app_of(spec=filtered("srtt > 20ms"))
    async with running(app) as pilot:
        assert first_words(app) == ["postgres", "curl"]
        assert rule(app).startswith("filter: srtt > 20ms   2 of 5 ")
        await pilot.press("slash")
        await pilot.pause()
        assert bar(app) == ["/srtt > 20ms", ""]
        await write(pilot, " and curl")
        assert first_words(app) == ["curl"]
        await pilot.press("escape", "backslash")
        await pilot.pause()
        assert len(first_words(app)) == 5


async def test_a_filter_of_pids_too_long_to_be_written_is_kept_as_it_is() -> None:
    wanted = filters.of_pids(tuple(range(1002, 1500)))
    app = app_of(spec=Spec(filter=wanted))
    async with running(app) as pilot:
        assert first_words(app) == ["java", "postgres", "curl"]
        await pilot.press("slash", "end", "enter")
        await pilot.pause()
        assert not is_open(app)
        assert app.shown is not None
        assert app.shown.spec.filter is wanted
        await pilot.press("a")
        assert first_words(app) == ["java"]


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((80, 24), ["no connection matches (5 exist); \\ clears the filter"]),
        ((40, 10), ["no connection matches (5 exist)", "\\ clears the filter"]),
    ],
)
async def test_when_nothing_matches_it_says_what_to_do(size: tuple[int, int], told: list[str]) -> None:
    app = app_of()
    async with running(app, size) as pilot:
        await enter(pilot, "nobody")
        table = app.query_one(FlowTable)
        shown = [table.render_line(y).text.strip() for y in range(1, table.size.height)]
        assert [line for line in shown if line] == told
        assert rule(app).startswith("filter: nobody   0 of 5 ---")
        await pilot.press("slash")
        await pilot.pause()
        assert "Esc restores the filter" in " ".join(text_of(app))
        await pilot.press("escape", "p", "a", "j", "end", "backslash")
        assert len(first_words(app)) >= 4
        assert "no connection" not in " ".join(text_of(app))


async def test_closed_ones_that_are_hidden_do_not_count() -> None:
    gone = flow(4, name=b"curl", state=State.CLOSE, states=1 << State.ESTABLISHED)
    end = finals([gone], BOOT_NS + 500_000_000, from_state=State.ESTABLISHED)
    app = app_of(FakeSource([world(0), snapshot(1, [flow(1)], end)]), spec=filtered("state = listen"))
    async with running(app) as pilot:
        one, other = "no connection matches (2 exist); ", "no connection matches (1 exists); "
        assert one in text_of(app)[4]
        await pilot.press("c")
        assert other in text_of(app)[4]
        await pilot.press("backslash")
        assert first_words(app) == ["nginx"]


async def test_no_rows_at_all_is_another_thing() -> None:
    app = app_of(FakeSource([snapshot(0, [])]), spec=filtered("curl"))
    async with running(app, ticks=1) as pilot:
        assert text_of(app)[4].rstrip() == "  no TCP sockets"
        await pilot.press("p", "a", "slash", "escape")


@pytest.mark.parametrize("width", [40, 48, 60, 80, 120])
async def test_the_rule_is_never_too_long(width: int) -> None:
    app = app_of(spec=filtered("(srtt > 1ms or port = 443) and not process ~ 'a very long pattern indeed'"))
    async with running(app, (width, 24)):
        line = rule(app)
        assert line.startswith("filter: (srtt > 1ms ")
        assert " of 5 -" in line
        assert line.endswith("--")


async def test_what_a_terminal_cannot_show_is_a_question_mark() -> None:
    app = app_of(spec=filtered("process = '\x1b[2Jé'\n or java"))
    async with running(app) as pilot:
        assert rule(app).startswith("filter: process = '\\x1b[2J\\u00e9' or java   1 of 5 ")
        await pilot.press("slash")
        await pilot.pause()
        assert "\x1b" not in "".join(text_of(app))
        await pilot.press("enter")
        await pilot.pause()
        assert first_words(app) == ["java"]


async def test_a_paste_is_one_line_without_control_characters() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("slash")
        app.query_one(FilterInput).post_message(events.Paste("java\x1b[2J\tor\ncurl"))
        await pilot.pause()
        assert bar(app)[0] == "/java [2J or"


# The cursor


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
        await pilot.click(FlowTable, offset=(10, 3))
        assert selected(app) == "postgres"
        await pilot.click(FlowTable, offset=(text_of(app)[3].index("SRTT") + 1, 0))
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


# Only this process, only this address


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
    first = filters.compile("curl" + " " * 4085)
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
    assert joined(filters.compile(present), "pid = 5").text == wanted


# Sizes


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


# With other screens


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


# The line of the error


@pytest.mark.parametrize(
    ("messages", "at", "line"),
    [
        (["expected this; or that", "expected this"], 2, "  ^ expected this"),
        (["expected", "x"], 3, "   ^ expected"),
        (["expected this", "x"], 19, "     expected this ^"),
        (["expected this"], 9, "         ^ expected~"),
        (["expected this"], 10, "expected~ ^"),
        (["expected"], 50, "          expected ^"),
        (["expected"], -5, "^ expected"),
    ],
)
def test_the_caret_and_the_words_beside_it(messages: list[str], at: int, line: str) -> None:
    assert pointed(messages, at, 20) == line


@pytest.mark.parametrize("width", [2, 3, 4])
def test_no_room_at_all(width: int) -> None:
    assert len(pointed(["expected"], 1, width)) <= width


def test_the_parser_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, tcptop_ops.app.application\nprint([m for m in ('lark', 'tcptop_ops.filters') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "[]"
