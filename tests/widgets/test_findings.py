"""Findings on the screen: a line each, with its blame, and the keys that show its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.model.flows import Finding
from tcptop_ops.views.finding_places import Place
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.panels.findings import FindingsPanel, fitted
from tcptop_ops.widgets.screens.findings_menu import FindingsMenu
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.lossy_network import BAD, GOOD, world
from tests.support.running_app import app_of
from tests.support.running_app import running as running_app
from tests.support.screens import next_tick, text_of

ALL = len(BAD) + len(GOOD) + 1
PATH = "1 NET  6 of 6 flows to 10.2.0.0/29 lose "
QUEUE = "2 APP  the accept queue of java, 10.0.0.1:8080, is full"


@asynccontextmanager
async def running(source: FakeSource | None = None, ticks: int = 3) -> AsyncIterator[tuple[TcptopApp, Pilot[Any]]]:
    """Run the app, by default over the lossy network, in which there are two findings."""
    app = app_of(source or FakeSource([world(tick) for tick in range(12)]), spec=Spec())
    async with running_app(app, ticks=ticks) as pilot:
        yield app, pilot


async def test_each_has_a_line_and_two_keys_show_its_rows() -> None:
    async with running() as (app, pilot):
        lines = text_of(app)
        assert lines[2].startswith(PATH)
        assert lines[3].startswith(QUEUE)
        assert lines[3].rstrip().endswith("[f]1-2")
        assert "CAUSE" in lines[4]
        await pilot.press("f", "2")
        await pilot.pause()
        assert app.shown is not None
        assert app.shown.cookies() == [99]
        lines = text_of(app)
        assert lines[2].startswith(PATH), "the other keeps its place"
        assert lines[3].startswith(QUEUE.replace("2 ", "2>", 1))
        assert lines[3].rstrip().endswith("[Esc] all")
        await pilot.press("f", "1")
        await pilot.pause()
        assert sorted(app.shown.cookies()) == list(BAD)
        await pilot.press("escape")
        await pilot.pause()
        assert len(app.shown) == ALL


async def test_the_list_tells_all_of_each_and_f_in_it_shows_all_rows_again() -> None:
    async with running() as (app, pilot):
        await pilot.press("f")
        await pilot.pause()
        assert isinstance(app.screen, FindingsMenu)
        words = "\n".join(text_of(app))
        assert "to blame: the network path; 6 rows; since " in words
        assert "to blame: a local application; 1 row; since " in words
        await pilot.press("j", "enter")
        await pilot.pause()
        assert app.shown is not None
        assert app.shown.cookies() == [99]
        for keys in (("f", "escape"), ("f", "9", "escape")):
            await pilot.press(*keys)
            await pilot.pause()
            assert app.shown.cookies() == [99], "nothing was chosen"
        await pilot.press("f", "f")
        await pilot.pause()
        assert len(app.shown) == ALL


async def test_they_go_back_to_the_filter_from_before_and_a_single_one_takes_one_key() -> None:
    async with running() as (app, pilot):
        await pilot.press("slash", *"port", "space", "equals_sign", "space", *"443", "enter")
        await pilot.pause()
        assert text_of(app)[2].startswith("!" + PATH[1:]), "the listener does not match the filter"
        assert text_of(app)[2].rstrip().endswith("[f] rows")
        await pilot.press("f")
        await next_tick(pilot)
        assert app.shown is not None
        assert len(app.shown) == len(BAD)
        await pilot.press("f")
        assert app.shown.spec.filter is not None
        assert app.shown.spec.filter.text == "port = 443"


async def test_f_says_when_nothing_was_found() -> None:
    async with running(FakeSource([snapshot(0, [flow(1)])]), ticks=1) as (app, pilot):
        await pilot.press("f")
        assert text_of(app)[2].startswith("nothing was found that several flows share")
        assert app.shown is not None
        assert app.shown.spec.filter is None


async def test_a_line_can_be_clicked() -> None:
    async with running() as (app, pilot):
        await pilot.click("#findings", offset=(20, 1))
        assert app.shown is not None
        assert app.shown.cookies() == [99]


@pytest.mark.parametrize(("height", "lines"), [(12, 0), (18, 1), (24, 3), (40, 5), (60, 8)])
async def test_the_table_keeps_most_of_the_screen(height: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; how many more there are is told, and a warning finds its place beside them."""
    many = tuple(Finding(f"finding {n}", "port = 443", 9 - n, "host", key=f"{n}") for n in range(9))
    complete = FindingsMemory.complete
    monkeypatch.setattr(FindingsMemory, "complete", lambda *args: replace(complete(*args), findings=many))
    app = app_of()
    async with running_app(app, (80, height)) as pilot:
        app.main.notice("told of a key")
        await pilot.pause()
        shown = text_of(app)
        assert sum("HOST finding" in line for line in shown) == lines
        assert shown[1 if lines else 0].startswith("told of a key")
        assert any((f"+{9 - lines}  [f]1-9" if lines else "9 findings [f]") in line for line in shown)
        await pilot.resize_terminal(80, 40)
        await pilot.pause()
        assert sum("HOST finding" in line for line in text_of(app)) == 5


async def test_lines_come_and_go_with_the_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes the place of the third line: the table does not move."""
    now: list[Finding] = []
    complete = FindingsMemory.complete
    monkeypatch.setattr(FindingsMemory, "complete", lambda *args: replace(complete(*args), findings=tuple(now)))
    async with running(FakeSource([snapshot(n, [flow(1)]) for n in range(9)]), 1) as (app, pilot):
        assert "CAUSE" in text_of(app)[3]
        for count in (1, 2):
            now.append(Finding(f"number {count}", "port = 443", 1, "peer", key=f"{count}"))
            await next_tick(pilot)
            assert "CAUSE" in text_of(app)[2 + count]


def test_what_does_not_fit_loses_the_middle_of_its_address_first() -> None:
    words = "curl -> [2001:db8:1234:5678:9abc:def0:1234:5678]:443 42 failed in 15 s: no answer"
    assert fitted(words, 200) == words
    assert fitted(words, 60) == "curl -> [2001~:1234:5678]:443 42 failed in 15 s: no answer"
    assert fitted(words, 20) == "curl -> [2001~:1234~"


def test_what_is_over_says_so_and_gives_way() -> None:
    panel = FindingsPanel()
    told = [Finding(f"number {n}", "", 1, "app", key=f"{n}") for n in range(4)]
    panel._places = [Place(told[0]), Place(told[1], over_since=5.0), Place(told[2])]
    panel._room = 3
    lines = ["".join(span.text for span in line) for line in panel.make_lines(40, 3)]
    assert lines[0].startswith("1 APP  number 0")
    assert lines[1].startswith("2 over number 1")
    panel._places = [*panel._places, Place(told[3])]
    lines = ["".join(span.text for span in line) for line in panel.make_lines(40, 3)]
    assert [line.split()[0] for line in lines] == ["1", "3", "4"]
    assert "+1" in lines[2]
