"""The screens of diagnosis: the finding, the detail of a connection, the operators, the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.records import HAPPENING
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.screens.connection_detail import DetailScreen
from tcptop_ops.widgets.screens.explain import ExplainScreen, WordList
from tcptop_ops.widgets.screens.operators import OperatorsScreen
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import BOOT_NS, FakeSource, finals, flow, snapshot
from tests.support.lossy_network import Watched
from tests.support.screens import next_tick, shown_tick, text_of


@asynccontextmanager
async def running(
    source: FakeSource | None = None, size: tuple[int, int] = (80, 24), ticks: int = 3
) -> AsyncIterator[tuple[TcptopApp, Pilot[Any]]]:
    """The app with so many ticks on the screen."""
    app = TcptopApp(polled(source or Watched(), Tracker()), Spec(), delay_s=3600.0, host="web-3")
    async with app.run_test(size=size) as pilot:
        await shown_tick(pilot, 0)
        for _ in range(ticks - 1):
            await next_tick(pilot)
        yield app, pilot


def whole(app: TcptopApp) -> str:
    """The screen, its blanks squeezed."""
    return " ".join(" ".join(text_of(app)).split())


async def paged(app: TcptopApp, pilot: Pilot[Any]) -> str:
    """All that the page has, a screenful after the other."""
    found = ""
    for _ in range(30):
        found += whole(app) + " "
        await pilot.press("pagedown")
    return found


async def looked_at(app: TcptopApp, pilot: Pilot[Any], source: Watched) -> None:
    """Enter the detail, and wait until the source looks at it."""
    assert app.newest is not None
    tick = app.newest.flows.tick + 1
    await pilot.press("enter")
    assert isinstance(app.screen, DetailScreen)
    await shown_tick(pilot, tick)
    assert source.watched


# Why there is no story


class Untold(Watched):
    """Of what is looked at nothing is told; ``deaf``: nor can it look at anything, as a recording."""

    def __init__(self, origin: Origin, deaf: bool) -> None:
        rows = [[flow(c, origin=origin, data_segs_out=9 * tick) for c in (1, 2)] for tick in range(12)]
        super().__init__([snapshot(tick, made) for tick, made in enumerate(rows)])
        self.deaf = deaf

    def poll(self) -> Snapshot:
        shot = super().poll()
        return replace(shot, watched=0 if self.deaf else shot.watched, story=np.zeros(0, HAPPENING))


@pytest.mark.parametrize(
    ("origin", "deaf", "words"),
    [
        (Origin.NEW, False, "nothing bad happened since it is looked at"),
        (Origin.NEW, True, "told from the next tick on; in a recording, of what was looked at"),
        (Origin.LISTED, False, "not told: only its state is known (origin listed)"),
        (Origin.LISTED, True, "not told: only its state is known (origin listed)"),
    ],
)
async def test_where_there_is_no_story_it_says_why(origin: Origin, deaf: bool, words: str) -> None:
    source = Untold(origin, deaf)
    async with running(source, (160, 50)) as (app, pilot):
        await looked_at(app, pilot, source)
        assert words in whole(app)


# The story


async def test_the_first_row_is_the_worst_and_its_why_is_at_the_bottom() -> None:
    async with running() as (app, _):
        lines = text_of(app)
        assert {len(line) for line in lines} == {80}
        assert lines[5].startswith(">!  95 accept-queue   java      10.0.0.1:8080 ")
        assert lines[20].rstrip() == "java 2210  10.0.0.1:8080  LISTEN"
        assert lines[21].startswith("accept-queue: 20 handshakes dropped in 2 s, queue 5 of 4, full for 2 s")
        assert lines[22].startswith("queue 5 of 4  drops 20")


async def test_a_tall_screen_has_sparklines() -> None:
    async with running(size=(100, 40), ticks=5) as (app, pilot):
        await pilot.press("j")
        lines = text_of(app)
        assert lines[37].startswith("srtt ")
        assert "█" in lines[37]
        assert lines[38].startswith("retr ")
        assert {len(line) for line in lines} == {100}


# The detail


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (40, 10)])
async def test_the_detail_has_everything(size: tuple[int, int]) -> None:
    source = Watched()
    async with running(source, size) as (app, pilot):
        await pilot.press("j")
        await looked_at(app, pilot, source)
        assert {len(line) for line in text_of(app)} == {size[0]}
        first = whole(app)
        assert first.startswith("nginx 1000")
        assert "VERDICT" in first
        assert " retransmits in 3 s" in first
        found = await paged(app, pilot)
        for words in (
            "look at the path",
            "srtt now",
            "cwnd, segments",
            "retransmits a second",
            "sent, bytes a second",
            "-0.966 RTO #1 204ms",
            "-0.500 RETRANS x3 (recovery)",
            "STOOD STILL",
            "timeouts 900ms",
            "6 flows to 10.2.0.0/24: 6 loss",
            "window scale: no",
            "share of the window with data in flight",
        ):
            assert words in found, words
        assert text_of(app)[-1].startswith("Esc Back")


async def test_every_column_is_in_the_detail_with_what_it_means() -> None:
    from tcptop_ops.views.column_sets import OUTPUT

    async with running(size=(160, 240)) as (app, pilot):
        await pilot.press("enter")
        found = whole(app)
        for column in OUTPUT:
            assert f"{column.alias or column.id} " in found
            assert column.help.split(",")[0].split()[0] in found


async def test_the_detail_follows_its_connection_and_is_left_by_escape_q_and_enter() -> None:
    source = Watched()
    async with running(source) as (app, pilot):
        await pilot.press("j")
        for key in ("escape", "q", "enter"):
            await looked_at(app, pilot, source)
            before = whole(app)
            await next_tick(pilot)
            assert whole(app) != before
            assert app.newest is not None
            tick = app.newest.flows.tick
            await pilot.press(key)
            assert not isinstance(app.screen, DetailScreen)
            await shown_tick(pilot, tick + 1)
            assert source.watched == 0
        assert [bool(cookie) for cookie in source.asked] == [True, False] * 3
        assert app.is_running


async def test_the_detail_scrolls_and_stops_at_its_ends() -> None:
    source = Watched()
    async with running(source) as (app, pilot):
        await pilot.press("j")
        await looked_at(app, pilot, source)
        top = text_of(app)
        await pilot.press("j", "down")
        assert text_of(app)[:20] == top[2:22]
        await pilot.press("k", "up", "k")
        assert text_of(app) == top
        await pilot.press(*["pagedown"] * 20)
        assert "sndbuf_limited_pct" in " ".join(text_of(app)[-5:-1])
        await pilot.press("home")
        assert text_of(app) == top


async def test_what_has_closed_stays_and_what_is_gone_stays_as_it_was() -> None:
    closed = finals([flow(1, name=b"curl", states=2)], BOOT_NS + 1_500_000_000, from_state=State.ESTABLISHED, error=104)
    shots = [snapshot(0, [flow(1, name=b"curl")]), snapshot(1, [flow(1, name=b"curl")])]
    source = Watched([*shots, snapshot(2, [], closed), snapshot(9, [])])
    async with running(source, ticks=1) as (app, pilot):
        await looked_at(app, pilot, source)
        await next_tick(pilot)
        assert "reset 500ms ago" in text_of(app)[0]
        await next_tick(pilot)
        assert text_of(app)[0].startswith("curl 1000")
        assert "no longer listed since 7.00s: as it was last" in whole(app)
        assert "-0.966 RTO #1 204ms" in whole(app) or "STORY" in await paged(app, pilot)
        await pilot.press("escape")
        assert "no TCP sockets" in whole(app)


async def test_a_listener_shows_its_queue() -> None:
    source = Watched()
    async with running(source) as (app, pilot):
        await looked_at(app, pilot, source)
        found = whole(app)
        assert found.startswith("java 2210 10.0.0.1:8080 LISTEN")
        assert "queue 5 of 4, over its limit for 3.00s" in found
        assert "dropped 10/s within 3 s, 30 in all" in found
        assert "limit 4 = min(listen(), somaxconn)" in found
        assert "GRAPHS" not in found


async def test_pausing_in_the_detail_stops_it() -> None:
    source = Watched()
    async with running(source) as (app, pilot):
        await pilot.press("j")
        await looked_at(app, pilot, source)
        await pilot.press("space")
        before = text_of(app)
        await next_tick(pilot)
        assert text_of(app) == before
        await pilot.press("space")
        assert text_of(app) != before


async def test_enter_on_an_empty_table_does_nothing() -> None:
    async with running(FakeSource([snapshot(0, [])]), ticks=1) as (app, pilot):
        await pilot.press("enter")
        assert not isinstance(app.screen, DetailScreen)


async def test_a_terminal_too_small_says_so_over_the_detail_too() -> None:
    source = Watched()
    async with running(source) as (app, pilot):
        await looked_at(app, pilot, source)
        await pilot.resize_terminal(30, 8)
        await pilot.pause()
        assert "too small" in whole(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert text_of(app)[0].startswith("java")


async def test_names_from_outside_are_harmless_in_the_detail() -> None:
    hostile = flow(1, name=b"\x1b[2Jevil", cc=b"\xff\x1b")
    async with running(Watched([snapshot(0, [hostile])]), ticks=1) as (app, pilot):
        await pilot.press("enter")
        assert all(line.isprintable() for line in text_of(app))
        assert "\\x1b[2Jevil" in whole(app)


# The operators


async def test_the_operators_with_counts_rates_and_last_arguments() -> None:
    async with running() as (app, pilot):
        await pilot.press("o")
        assert isinstance(app.screen, OperatorsScreen)
        lines = text_of(app)
        assert {len(line) for line in lines} == {80}
        assert lines[0].endswith("callbacks: all; ~ not all packets --")
        by_name = {line[2:].split()[0]: line for line in lines[2:17]}
        assert len(by_name) == 15
        assert by_name["RETRANS_CB"].split()[1:5] == ["100", "50", "-", "RETRANS"]
        assert "2.00s ago ESTAB -> CL~" in by_name["STATE_CB"]
        assert by_name["RTT_CB"].split()[1] == "20~"
        assert by_name["BASE_RTT"].rstrip().endswith("never")
        await next_tick(pilot)
        assert "150 " in next(line for line in text_of(app) if "RETRANS_CB" in line)
        await pilot.press("escape")
        assert not isinstance(app.screen, OperatorsScreen)


async def test_the_page_of_the_selected_operator_is_below_and_enter_opens_it() -> None:
    async with running(size=(80, 40)) as (app, pilot):
        await pilot.press("o", *["j"] * 11)
        assert "host: p50 16ms to 33ms" in whole(app)
        assert "half of them are below p50" in whole(app)
        await pilot.press(*["down"] * 9)
        assert "Zero is right" in whole(app)
        await pilot.press("enter")
        assert isinstance(app.screen, ExplainScreen)
        assert "WRITE_HDR_OPT_CB: operator 15" in whole(app)
        await pilot.press("q", "home")
        assert isinstance(app.screen, OperatorsScreen)
        assert next(line for line in text_of(app) if line.startswith(">")).split()[1] == "TIMEOUT_INIT"


async def test_of_a_source_that_counts_nothing_nothing_is_known() -> None:
    async with running(FakeSource([snapshot(0, [flow(1)], callbacks_mode="")]), ticks=1) as (app, pilot):
        await pilot.press("o")
        assert "no program counts" in text_of(app)[0]
        assert "?" in text_of(app)[2]


# The pages


async def test_help_leads_to_the_pages() -> None:
    async with running() as (app, pilot):
        await pilot.press("question_mark", "enter")
        assert isinstance(app.screen, WordList)
        await pilot.press("j", "enter")
        assert isinstance(app.screen, ExplainScreen)
        assert "accept-queue, a cause" in whole(app)
        assert "raise both the backlog" in whole(app)
        await pilot.press("escape")
        assert isinstance(app.screen, WordList)
        await pilot.press("escape", "escape")
        assert app.focused is app.screen_stack[0].query_one(ConnectionTable)


async def test_e_in_the_detail_explains_its_cause() -> None:
    async with running() as (app, pilot):
        await pilot.press("j", "enter", "e")
        assert isinstance(app.screen, ExplainScreen)
        assert "loss, a cause" in whole(app) or "rto-stall, a cause" in whole(app)
        await pilot.press("escape")
        assert isinstance(app.screen, DetailScreen)
