"""What a person would see: the screen of an app under test, as text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.widget import Widget

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.config.keymap import KeyAction
from tcptop_ops.views.view import View
from tcptop_ops.widgets.table.connection_table import ConnectionTable


def text_of(app: App[Any]) -> list[str]:
    """The lines of the screen, each as wide as the screen."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def first_words(app: App[Any]) -> list[str]:
    """The name of each row's process; where that is not on the screen, the first cell, without its marks."""
    table = app.screen_stack[0].query_one(ConnectionTable)
    rows = [table.render_line(y).text for y in range(table.size.height)]
    at = max(rows[0].find("PROCESS"), 2) if table.view else 2
    return [row[at:].split()[0] for row in rows[1:] if row[at:].strip()]


def has_action(owner: type[Widget], app: type[App[Any]], key: KeyAction) -> bool:
    """Whether what a key does is there: in the application where its action says so, else in its owner."""
    namespace, _, name = key.action.partition("(")[0].rpartition(".")
    return hasattr({"app": app, "": owner}[namespace], f"action_{name}")


async def until(pilot: Pilot[Any], condition: Callable[[], bool], patience_s: float = 30.0) -> None:
    """Let the app work until something holds. Raises TimeoutError."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("\n".join(text_of(pilot.app)))
        await pilot.pause()


async def shown_tick(pilot: Pilot[Any], tick: int) -> View:
    """Wait until this tick is on the screen."""
    app = pilot.app
    assert isinstance(app, TcptopApp)
    await until(pilot, lambda: app.newest is not None and app.newest.flows.tick >= tick)
    await pilot.pause()
    assert app.shown is not None
    return app.shown


async def next_tick(pilot: Pilot[Any]) -> View:
    """Have the poller poll, and wait until that is on the screen (or, when paused, known)."""
    app = pilot.app
    assert isinstance(app, TcptopApp)
    await shown_tick(pilot, 0)
    assert app.newest is not None
    tick = app.newest.flows.tick + 1
    app.poller.poll_now()
    return await shown_tick(pilot, tick)
