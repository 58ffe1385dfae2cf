"""Settings in use: the command line beats them, the screen has them and saves them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tcptop_ops.cli.arguments import Arguments, read, resolve
from tcptop_ops.cli.front_ends import spec_of
from tcptop_ops.config import settings_file
from tcptop_ops.config.settings import Settings
from tcptop_ops.config.toml_text import parse
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.base import themes
from tcptop_ops.widgets.base.row_text import RowText
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.running_app import app_of, header, running
from tests.support.screens import text_of
from tests.support.settings_files import EVERYTHING, placed


def resolved(said: Settings, *argv: str) -> Arguments:
    return resolve(read(list(argv)), said)


def test_the_command_line_beats_the_file() -> None:
    said = parse(EVERYTHING)
    found = resolved(said)
    assert (found.delay_s, found.window_s, found.closed_s) == (2, 60, 0)
    assert (found.sort, found.falling, found.mouse) == (find("retr"), True, False)
    assert found.columns == parse_list("process,peer,srtt")
    assert found.settings == said
    line = "-d 3 -w 30 --closed 4 -s srtt:asc -c peer --mouse --theme dark"
    found = resolved(said, *line.split())
    assert (found.delay_s, found.window_s, found.closed_s) == (3, 30, 4)
    assert (found.sort, found.falling, found.mouse) == (find("srtt"), False, True)
    assert found.columns == parse_list("peer")
    assert found.settings == replace(said, theme="dark")


def test_columns_of_the_command_line_change_those_of_the_file() -> None:
    said = Settings(columns=("process", "peer"))
    assert resolved(said, "-c", "+cwnd,-peer").columns == parse_list("process,cwnd")
    assert resolved(Settings()).columns is None


def test_outputs_leave_out_nothing_unasked() -> None:
    said = Settings(show_closed=False, loopback=False, widths={"peer": 9}, thresholds={"srtt_us": (1, 2)})
    shown, put_out = spec_of(resolved(said)), spec_of(resolved(said, "--json"))
    assert (shown.show_closed, shown.show_loopback) == (False, False)
    assert (shown.widths, shown.thresholds) == (said.widths, said.thresholds)
    assert (put_out.show_closed, put_out.show_loopback) == (True, True)


def test_thresholds_of_columns() -> None:
    srtt, score = find("srtt"), find("score")
    assert [srtt.level(value, (10, 20)) for value in (float("nan"), 0.0, 9, 10, 20)] == [-1, -1, 0, 1, 2]
    assert [score.level(20, severity) for severity in (None, (1, 2), (30, 40))] == [1, 2, 0]
    assert find("process").level(b"x", (1, 2)) == 0


@pytest.mark.parametrize(
    ("thresholds", "bad"),
    [
        ({}, [True, False, False]),
        ({"score": (1, 5)}, [True, True, False]),
        ({"retrans_win": (90, 99), "retrans_pct": (90, 99)}, [False, False, False]),
        ({"srtt_us": (100_000, 200_000)}, [True, False, True]),
    ],
)
async def test_thresholds_reach_the_table_and_the_story(
    thresholds: dict[str, tuple[float, float]], bad: list[bool]
) -> None:
    app = app_of(spec=Spec(thresholds=thresholds))
    async with running(app):
        assert [line[1] == "!" for line in text_of(app)[4:7]] == bad
        assert app.shown is not None
        levels = [RowText.of(app.shown, position).level("srtt") for position in range(3)]
        assert levels == ([0, 0, 2] if "srtt_us" in thresholds else [0, 0, 0])


async def test_keys_of_the_file() -> None:
    said = Settings(keys={"pause": "P", "sort.retransmits": "r", "sort.reverse": "x", "table.down": "ctrl+n"})
    app = app_of(settings=said)
    async with running(app) as pilot:
        await pilot.press("x")
        assert "RETR^" in header(app)
        await pilot.press("s", "escape", "2", "r")
        assert "RETRv" in header(app)
        await pilot.press("j")
        assert app.query_one(ConnectionTable).cursor == 0
        await pilot.press("ctrl+n")
        assert app.query_one(ConnectionTable).cursor == 1
        assert text_of(app)[23].startswith("q Quit  / Filter  s Sort  r Retrans  f Finding  Enter Detail  P Pause")
        await pilot.press("question_mark")
        await pilot.press(*"j" * 16)
        assert any(" ^N Up k " in line and "Down and up" in line for line in text_of(app))


async def test_the_theme_of_the_file() -> None:
    for said, theme in ((Settings(theme="light"), "light"), (Settings(), themes.usual(os.environ))):
        async with running(app_of(settings=said)) as pilot:
            assert pilot.app.theme == theme


async def test_saving_keeps_what_was_changed_by_keys(home: Path) -> None:
    """And nothing else: what only the command line said is not for the next start."""
    path = placed(home, "# mine\nwindow = 30\nsort = 'score'\n")
    said = replace(settings_file.load(path), theme="light")
    app = app_of(settings=said, spec=Spec(sort=find("srtt_us")))
    async with running(app) as pilot:
        await pilot.press("w")
        assert path.read_text() == "# mine\nwindow = 30\nsort = 'score'\n"
        await pilot.press("x", "c", "L", "minus", "w")
        assert "saved in" in " ".join(text_of(app))
        made = path.read_text()
        assert parse(made) == Settings(
            delay=300.0, window=30.0, sort="retrans_win:desc", show_closed=False, loopback=False
        )
        assert made.startswith("# mine\nwindow = 30\n")
        path.unlink()
        await pilot.press("T", "C", "space", "plus", "enter", "w")
        found = parse(path.read_text())
        assert found.theme == pilot.app.theme
        assert found.widths == {"score": 4}
        assert found.columns is not None
        assert "score" not in found.columns


async def test_columns_of_a_mark_are_not_saved(home: Path) -> None:
    path = placed(home)
    app = app_of(settings=replace(Settings(), path=path), spec=Spec())
    async with running(app) as pilot:
        await pilot.press("m", "c", "w")
        assert parse(path.read_text()) == Settings(show_closed=False)


async def test_what_can_not_be_saved_is_told(home: Path) -> None:
    path = placed(home, "nope")
    for said, words in ((Settings(), "no home"), (replace(Settings(), path=path), "line 1: not TOML")):
        app = app_of(settings=said)
        async with running(app, (160, 50)) as pilot:
            await pilot.press("c", "w")
            assert words in " ".join(text_of(app))
    assert path.read_text() == "nope"
