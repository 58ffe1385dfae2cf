"""The app, driven by keys and clicks, over a fake source: moving, pause, help, the end."""

from __future__ import annotations

from typing import Any

import pytest

from tcptop_ops.config.keymap import APP, TABLE
from tcptop_ops.model.enums import Direction, OwnerKind, State
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.panels.key_bar import KeyBar
from tcptop_ops.widgets.screens.help import HelpScreen
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import BOOT_NS, FakeSource, finals, flow, records, snapshot
from tests.support.running_app import app_of, header, running, top_is, world, worlds
from tests.support.screens import first_words, next_tick, text_of

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


async def test_clicking_a_row_selects_it() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.click(ConnectionTable, offset=(10, 3))
        assert text_of(app)[20].startswith("postgres")


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
