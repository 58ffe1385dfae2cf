"""How much room there is: what a screen looks like at a size, as classes that app.tcss has rules for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.geometry import Size
from textual.screen import Screen, ScreenResultType

LEAST_WIDTH, LEAST_HEIGHT = 40, 10
SHORT, LOW, TALL = 16, 20, 34
"""Heights below which the summary has one line, and the story one less; and from which the story has sparklines."""


def finding_lines(height: int) -> int:
    """Return the most lines that findings take of a screen of this height; the table keeps most of it."""
    if height < SHORT:
        return 0
    return 1 if height < LOW else 3 if height < TALL else 5 if height < 50 else 8


def is_too_small(size: Size) -> bool:
    """Return whether there is no room for a picture."""
    return size.width < LEAST_WIDTH or size.height < LEAST_HEIGHT


def fit(screen: Screen[Any], size: Size) -> None:
    """Give a screen the classes of this size."""
    screen.set_class(size.height < SHORT, "-short")
    screen.set_class(size.height < LOW, "-low")
    screen.set_class(size.height >= TALL, "-tall")
    screen.set_class(is_too_small(size), "-small")


def open_over(
    app: App[Any],
    screen: Screen[ScreenResultType],
    chosen: Callable[[ScreenResultType | None], None] | None = None,
) -> None:
    """Show a screen over the present one, at its size from the start. ``chosen`` is called with what it ends with."""
    fit(screen, app.size)
    app.push_screen(screen, chosen)
