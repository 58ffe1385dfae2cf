"""The app, driven by keys and clicks, over a fake source."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from textual.widgets import OptionList

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.config.keymap import APP, TABLE
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.model.enums import Direction, OwnerKind, State
from tcptop_ops.model.records import COUNTERS, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.base.charts import BLOCKS
from tcptop_ops.widgets.panels.key_bar import KeyBar
from tcptop_ops.widgets.screens.help import HelpScreen
from tcptop_ops.widgets.screens.sort_menu import SortMenu
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import BOOT_NS, FakeSource, finals, flow, records, snapshot
from tests.support.running_app import NEVER_S, app_of, header, running, top_is, world, worlds
from tests.support.screens import first_words, next_tick, shown_tick, text_of

# The frame


async def test_the_screen_at_80x24() -> None:
    app = app_of(spec=Spec())
    async with running(app):
        lines = text_of(app)
        assert {len(line) for line in lines} == {80}
        assert lines[0].startswith("web-3 fake:all 3600s | 5 sockets 3 netns +1 -0/s | self ")
        assert lines[1].rstrip() == "ESTAB 4 LISTN 1 TIM-W 7 | retr 39/s 1.0% RTO 0/s 20s win"
        assert lines[2].rstrip() == "tx 4.0MB/s  rx 0B/s"
        assert lines[3:9] == [
            "  SCRv CAUSE          PROCESS   PEER (LISTN: local)  STATE  SRTT  RETR RETR% RTO",
            ">!  27 loss           nginx     10.2.0.1:443         ESTAB  10ms    25   2.5   0",
            "    10 loss           java      10.2.0.3:443         ESTAB 1.0ms    10   1.0   0",
            "     0 healthy        postgres  10.2.0.2:443         ESTAB 212ms     4   0.4   0",
            "     0 healthy        curl      10.2.0.4:443         ESTAB  90ms     0   0.0   0",
            "     0 healthy        sshd      *:22                 LISTN     -     -     -   -",
        ]
        assert lines[9].strip() == ""
        assert lines[19] == "-" * 60 + " 1 of 5, by SCR --"[:20].rjust(20, "-")
        assert lines[20].rstrip() == "nginx 1001  10.0.0.1:40001 -> 10.2.0.1:443  ESTAB  out  age 1.00s"
        assert lines[21].startswith("loss: 25 retransmits in 1 s, 2.5 % of 1000 segments")
        assert lines[22].startswith("srtt 10ms/0  retr 25 of 25  rto 0 x0  cwnd 10/0  lost 0")
        assert lines[23].startswith("q Quit  / Filter  s Sort  x Retrans  f Finding  Enter Detail  Spc Pause")
        assert lines[23].rstrip().endswith("? Help")


async def test_the_screen_at_160x50_has_more_columns() -> None:
    app = app_of()
    async with running(app, (160, 50)):
        lines = text_of(app)
        assert {len(line) for line in lines} == {160}
        for title in ("PID", "LPORT", "CWND", "TX/s", "RX/s", "MINRT", "AGE"):
            assert title in lines[3]
        assert lines[4].startswith(">! 27 loss           nginx ")
        assert lines[44].startswith("loss: 25 retransmits in 1 s, 2.5 % of 1000 segments; look at the path")
        assert lines[47].startswith("srtt ")
        assert lines[48].startswith("retr ")
        assert "1.0M" in lines[4]
        assert len(lines) == 50


async def test_the_screen_at_40x10() -> None:
    app = app_of()
    async with running(app, (40, 10)):
        lines = [line.rstrip() for line in text_of(app)]
        assert lines[0] == "5 sockets | retr 39/s 1.0% RTO 0/s"
        assert lines[1:6] == [
            "  SCR PROCESS   PEER               RETRv",
            ">! 27 nginx     10.2.0.1:443          25",
            "   10 java      10.2.0.3:443          10",
            "    0 postgres  10.2.0.2:443           4",
            "    0 curl      10.2.0.4:443           0",
        ]
        assert lines[6].endswith(" 1 of 5, by RETR --")
        assert lines[7] == "nginx 1001  -> 10.2.0.1:443  ESTAB"
        assert lines[8] == "loss: 25 retransmits in 1 s"
        assert lines[9].startswith("q Quit")
        assert lines[9].endswith("? Help")


@pytest.mark.parametrize("size", [(39, 24), (80, 9), (10, 3), (1, 1)])
async def test_a_terminal_too_small_says_so_and_recovers(size: tuple[int, int]) -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("j")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        said = " ".join(" ".join(text_of(app)).split())
        assert "PROCESS" not in said
        if size[0] * size[1] > 40:
            assert said == "terminal too small (needs 40x10)"
        await next_tick(pilot)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "PROCESS" in text_of(app)[3]
        assert any(line.startswith(">") and " java " in line for line in text_of(app))


async def test_too_small_with_a_menu_open() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("s")
        await pilot.resize_terminal(38, 8)
        await pilot.pause()
        assert "too small" in " ".join(text_of(app))
        assert "SRTT" not in " ".join(text_of(app))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "sort by" in text_of(app)[0]
        await pilot.press("escape")
        assert "PROCESS" in header(app)


async def test_every_size_down_to_the_least_is_filled_exactly() -> None:
    app = app_of()
    async with running(app) as pilot:
        for size in ((40, 10), (41, 11), (60, 15), (79, 16), (100, 19), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            lines = text_of(app)
            assert (len(lines[0]), len(lines)) == size
            assert lines[-1].startswith("q Quit")
            assert " of 5, by RETR --" in "".join(lines)
            assert all(ord(c) < 127 or c in BLOCKS.levels for line in lines for c in line)


async def test_the_first_frame_does_not_wait_for_the_source() -> None:
    ready = threading.Event()

    def opened() -> FakeSource:
        ready.wait(30)
        return worlds()

    app = TcptopApp(polled(opened, Tracker()), Spec(), delay_s=NEVER_S, host="web-3")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        lines = text_of(app)
        assert lines[0].rstrip() == "web-3 | starting ..."
        assert lines[4].rstrip() == "  starting ..."
        assert lines[23].startswith("q Quit")
        await pilot.press("x", "r", "j", "space", "c", "1", "greater_than_sign", "plus")
        ready.set()
        await shown_tick(pilot, 0)
        assert "PROCESS" in header(app)


# Moving


async def test_moving_changes_the_story() -> None:
    app = app_of()
    async with running(app) as pilot:
        for key, name in (("j", "java"), ("down", "postgres"), ("k", "java"), ("up", "nginx"), ("end", "sshd")):
            await pilot.press(key)
            assert text_of(app)[20].startswith(f"{name} 100" if name != "sshd" else "sshd 1000  *:22  LISTEN")
        assert text_of(app)[21].startswith("healthy: none of the rules matches")
        assert text_of(app)[22].startswith("queue 0 of 128  drops 0")
        await pilot.press("home")
        assert text_of(app)[20].startswith("nginx")
        await pilot.press("pagedown")
        assert text_of(app)[20].startswith("sshd")
        await pilot.press("pageup")
        assert text_of(app)[20].startswith("nginx")


async def test_the_cursor_stays_on_its_connection_from_tick_to_tick() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("j")
        assert app.query_one(ConnectionTable).cursor == 1
        await next_tick(pilot)
        await next_tick(pilot)
        assert first_words(app)[:2] == ["java", "nginx"]
        assert app.query_one(ConnectionTable).cursor == 0
        assert text_of(app)[20].startswith("java")


# Sorting


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


async def test_clicking_a_row_selects_it() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.click(ConnectionTable, offset=(10, 3))
        assert text_of(app)[20].startswith("postgres")


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


# Pause, delay, closed ones


async def test_pause_keeps_the_picture_and_resuming_catches_up() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("space")
        assert "PAUSED" in text_of(app)[0]
        before = text_of(app)[3:]
        for _ in range(3):
            await next_tick(pilot)
        assert "PAUSED 3s behind" in text_of(app)[0]
        assert text_of(app)[3:] == before
        await pilot.press("3")
        assert first_words(app) == ["curl", "java", "nginx", "postgres", "sshd"]
        await pilot.press("x", "space")
        assert "PAUSED" not in text_of(app)[0]
        assert first_words(app)[:2] == ["java", "nginx"]


class Reusing(FakeSource):
    """Has two buffers only, like a real source: what it said two polls ago is overwritten."""

    def __init__(self) -> None:
        super().__init__([world(tick) for tick in range(10)])
        self.buffers: list[Records] = [world(0).owners, world(0).owners]

    def poll(self) -> Snapshot:
        found = super().poll()
        buffer = self.buffers[self.polls % 2]
        buffer[:] = found.owners
        buffer["pid"] += self.polls * 100
        return Snapshot(**{**vars(found), "owners": buffer})


async def test_a_paused_picture_has_arrays_of_its_own() -> None:
    app = app_of(Reusing())
    async with running(app) as pilot:
        await pilot.press("space")
        before = text_of(app)[20]
        for _ in range(3):
            await next_tick(pilot)
        await pilot.press("j", "k")
        assert text_of(app)[20] == before


async def test_the_delay_has_steps_and_reaches_the_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(delay_s=1.0)
    delays: list[float] = []
    monkeypatch.setattr(app.poller, "set_delay", delays.append)
    async with running(app) as pilot:
        await pilot.press("plus")
        assert " 2s | " in text_of(app)[0]
        await pilot.press("minus", "minus")
        assert " 0.5s | " in text_of(app)[0]
        await pilot.press(*["minus"] * 9)
        assert " 0.1s | " in text_of(app)[0]
    assert delays[:4] == [2.0, 1.0, 0.5, 0.2]
    assert delays[-1] == 0.1


async def test_closed_connections_are_shown_dimmed_and_can_be_hidden() -> None:
    gone = flow(4, name=b"curl", state=State.CLOSE, states=1 << State.ESTABLISHED, peer=("10.2.0.4", 443))
    end = finals([gone], BOOT_NS + 500_000_000, error=104, from_state=State.ESTABLISHED)
    later = snapshot(1, [flow(1, name=b"nginx"), flow(9, name=b"sshd")], end)
    app = app_of(FakeSource([world(0), later]))
    async with running(app) as pilot:
        row = next(line for line in text_of(app)[4:19] if " curl " in line)
        assert row.startswith("x ")
        assert " reset " in row
        await pilot.press("end")
        while "curl" not in text_of(app)[20]:
            await pilot.press("k")
        assert "reset 500ms ago" in text_of(app)[20]
        await pilot.press("c")
        assert "curl" not in first_words(app)
        assert "closed hidden" in text_of(app)[19]
        await pilot.press("c")
        assert "curl" in first_words(app)


# Help, keys, the end


@pytest.mark.parametrize("key", ["question_mark", "f1"])
async def test_help_lists_every_binding(key: str) -> None:
    app = app_of()
    async with running(app, (100, 90)) as pilot:
        await pilot.press(key)
        assert top_is(app, HelpScreen)
        text = "\n".join(text_of(app))
        for bound in APP + TABLE:
            assert (bound.told or bound.words) in text
        for shown in (
            "q F10 ^C",
            "s F6",
            "< >",
            "1-9",
            "+ -",
            "Spc",
            "? F1",
            "Down j Up k",
            "closed less than 5 s ago",
        ):
            assert shown in text
        assert find("srtt_us").help in text
        await pilot.press("escape")
        assert "PROCESS" in header(app)


async def test_help_scrolls_where_it_does_not_fit() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("question_mark")
        assert find("rto_win").help not in "\n".join(text_of(app))
        await pilot.press(*["j"] * 60)
        assert find("rto_win").help in "\n".join(text_of(app))
        await pilot.press("k", "q")
        assert app.is_running
        assert "PROCESS" in header(app)


async def test_the_key_bar_can_be_clicked() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.click(KeyBar, offset=(text_of(app)[23].index("Retrans"), 0))
        assert "RETRv" in header(app)
        await pilot.click(KeyBar, offset=(text_of(app)[23].index("?"), 0))
        assert top_is(app, HelpScreen)


@pytest.mark.parametrize("key", ["q", "f10", "ctrl+c"])
async def test_quit(key: str) -> None:
    source = worlds()
    app = app_of(source)
    async with running(app) as pilot:
        await pilot.press(key)
        await pilot.pause()
    assert app.return_value is None
    assert app.return_code == 0
    assert source.closed


async def test_interrupting_a_menu_quits() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("s", "ctrl+c")
        await pilot.pause()
    assert app.return_code == 0


async def test_it_ends_after_so_many_ticks() -> None:
    app = app_of(iterations=2, delay_s=0.001)
    async with app.run_test(size=(80, 24)) as pilot:
        while app.is_running and app.return_code is None:
            await pilot.pause()
    assert app.newest is not None
    assert app.newest.flows.tick >= 2
    assert app.return_value is None


# What goes wrong


class Failing(FakeSource):
    """Plays the world, then fails."""

    def __init__(self, ticks: int, error: Exception) -> None:
        super().__init__([world(tick) for tick in range(10)])
        self.ticks, self.error = ticks, error

    def poll(self) -> Snapshot:
        if self.polls >= self.ticks:
            raise self.error
        return super().poll()


async def ended(app: TcptopApp) -> TcptopError | None:
    """Run until it ends by itself."""
    async with app.run_test(size=(80, 24)) as pilot:
        while app.return_code is None:
            await pilot.pause()
    return app.return_value


async def test_a_source_that_cannot_be_opened_ends_it_with_the_error() -> None:
    error = Unsupported("root is needed", "sudo tcptop-ops")

    def refused() -> FakeSource:
        raise error

    assert await ended(TcptopApp(polled(refused, Tracker()), Spec(), delay_s=NEVER_S)) is error


async def test_a_source_that_fails_at_once_ends_it_with_the_error() -> None:
    error = Failed("no such map")
    assert await ended(app_of(Failing(0, error))) is error


async def test_a_source_that_dies_leaves_the_last_picture_and_the_reason() -> None:
    error = Failed("the map is gone", "start again")
    app = app_of(Failing(2, error))
    async with running(app) as pilot:
        before = text_of(app)[3:]
        app.poller.poll_now()
        while "map is gone" not in text_of(app)[2]:
            await pilot.pause()
        assert text_of(app)[2].startswith("! the map is gone")
        assert text_of(app)[3:] == before
        await pilot.press("3")
        assert first_words(app)[0] == "curl"
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value is error


async def test_a_source_that_dies_ends_a_run_of_so_many_ticks() -> None:
    error = Failed("the map is gone")
    assert await ended(app_of(Failing(2, error), iterations=5, delay_s=0.001)) is error


async def test_what_nobody_foresaw_is_an_error_in_one_line() -> None:
    found = await ended(app_of(Failing(0, ZeroDivisionError("oh"))))
    assert isinstance(found, Failed)
    assert found.message == "ZeroDivisionError: oh"


async def test_births_without_a_row_are_never_silent() -> None:
    counters = np.zeros((), COUNTERS)
    counters["untracked"] = 12
    shot = snapshot(1, [flow(1)], counters=counters, notes=("first note", "second"))
    for size, line in (((80, 24), 2), ((40, 10), 0)):
        app = app_of(FakeSource([world(0), shot]))
        async with running(app, size):
            assert text_of(app)[line].startswith("! 12 ")
            assert "--map-size" in text_of(app)[line]


async def test_notes_are_shown_and_counted() -> None:
    notes = ("another sock_ops program is attached: events only, and much more that is too long", "second", "third")
    app = app_of(FakeSource([snapshot(0, [flow(1)], notes=notes)]))
    async with running(app, ticks=1):
        line = text_of(app)[2].rstrip()
        assert "another sock_ops program is attached" in line
        assert line.endswith("~ (+2)")


async def test_a_listener_tells_who_keeps_it_waiting() -> None:
    here: dict[str, Any] = {"local": ("10.0.0.1", 80), "netns": 7}
    listener = flow(1, state=State.LISTEN, peer=("0.0.0.0", 0), how=OwnerKind.HOLDER, **here)
    child = flow(2, how=OwnerKind.LISTENER, direction=Direction.IN, **here)
    half_open, _, _ = records([flow(9, peer=("10.9.9.9", 5), **here)] * 3)
    app = app_of(
        FakeSource([snapshot(1, [listener, child], half_open=half_open)]), spec=Spec(sort=find("cookie"), falling=False)
    )
    async with running(app, ticks=1) as pilot:
        lines = "\n".join(text_of(app))
        assert "SYN-RECV 3" in lines
        assert "from 10.9.9.9 x3" in lines
        await pilot.press("down")
        assert "not accepted yet" in "\n".join(text_of(app))
