"""What is on the screen at each size, from before the first tick on."""

from __future__ import annotations

import threading

import pytest

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.base.charts import BLOCKS
from tests.support.fakes import FakeSource
from tests.support.running_app import NEVER_S, app_of, header, running, worlds
from tests.support.screens import next_tick, shown_tick, text_of


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
