"""A terminal that is slow to take what is drawn: nothing is drawn until it has, and then the newest tick."""

from __future__ import annotations

from tcptop_ops.widgets.base.terminal_driver import TerminalDriver
from tests.support.running_app import app_of, running
from tests.support.screens import first_words, next_tick, until


async def test_while_the_line_is_full_nothing_is_drawn_and_then_the_newest() -> None:
    app = app_of()
    async with running(app) as pilot:
        app.post_message(TerminalDriver.Full())
        await pilot.pause()
        assert app.shown is not None
        before = app.shown.flows.tick
        for _ in range(3):
            await next_tick(pilot)
        assert app.shown.flows.tick == before
        app.post_message(TerminalDriver.Drained())
        await until(pilot, lambda: app.shown is not None and app.shown.flows.tick == before + 3)
        assert first_words(app)[:2] == ["java", "nginx"]


async def test_a_line_that_is_full_twice_is_drained_once() -> None:
    app = app_of()
    async with running(app) as pilot:
        for message in (
            TerminalDriver.Full(),
            TerminalDriver.Full(),
            TerminalDriver.Drained(),
            TerminalDriver.Drained(),
        ):
            app.post_message(message)
        await pilot.pause()
        await next_tick(pilot)
        assert app.shown is app.newest
