"""The filter bar, written into by keys and read from the screen."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.filters import compiler
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.panels.filter_bar import FilterBar
from tests.support.screens import text_of


async def write(pilot: Pilot[Any], text: str) -> None:
    """Type a text."""
    names = {" ": "space", "/": "slash", "\\": "backslash"}
    await pilot.press(*(names.get(letter, letter) for letter in text))
    await pilot.pause()


async def enter(pilot: Pilot[Any], text: str) -> None:
    """Enter a whole filter, and keep it."""
    await pilot.press("slash", "ctrl+u")
    await write(pilot, text)
    await pilot.press("enter")
    await pilot.pause()


def rule(app: TcptopApp) -> str:
    """Return the line between the table and the panel of the selection."""
    return next(line for line in text_of(app) if line.startswith(("filter: ", "-----")))


def bar(app: TcptopApp) -> list[str]:
    """Return the two lines of the filter bar, at the place where it is."""
    assert app.screen_stack[0].query_one(FilterBar).is_open
    return [line.rstrip() for line in text_of(app)[-3:-1]]


def is_open(app: TcptopApp) -> bool:
    """Return whether the filter bar is open."""
    return app.screen_stack[0].query_one(FilterBar).is_open


def selected(app: TcptopApp) -> str:
    """Return the process in the row of the cursor."""
    lines = text_of(app)
    at = max(next((found for line in lines if (found := line.find("PROCESS")) > 0), 2), 2)
    return next(line[at:].split()[0] for line in lines if line.startswith(">"))


def filtered(text: str) -> Spec:
    """Return a view's description with this filter."""
    return Spec(filter=compiler.compile(text))
