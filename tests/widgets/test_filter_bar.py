"""The filter on the screen, driven by keys and clicks, over a fake source."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.panels.filter_bar import FilterInput, pointed
from tcptop_ops.widgets.panels.key_bar import KeyBar
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import BOOT_NS, FakeSource, finals, flow, snapshot
from tests.support.filter_bar import bar, enter, filtered, is_open, rule, selected, write
from tests.support.running_app import app_of, running, world
from tests.support.screens import first_words, next_tick, text_of

HINT = " for instance: srtt > 20ms and not port = 443"


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
    wanted = compiler.of_pids(tuple(range(1002, 1500)))
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
        table = app.query_one(ConnectionTable)
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
        "import sys, tcptop_ops.app.application\n"
        "print([m for m in ('lark', 'tcptop_ops.filters.compiler') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "[]"
