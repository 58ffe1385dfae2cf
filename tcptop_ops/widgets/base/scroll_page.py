"""A widget for a page of text that scrolls, and functions that lay out its lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from textual import events

from tcptop_ops.widgets.base.line_widget import LineWidget, Span, Spans, width_of

GAP = 2
"""Characters between two columns of a page."""

WHEEL_LINES = 3


class ScrollPage(LineWidget):
    """A scrolling page; a subclass overrides ``make_page``."""

    def __init__(self, *, id: str | None = None) -> None:
        """Set up at the top of an empty page."""
        super().__init__(id=id)
        self._top = 0
        self._count = 0

    def make_page(self, width: int, height: int) -> list[Spans]:
        """Return all lines of the page for this size."""
        return []

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return the lines in view."""
        page = self.make_page(width, height) if width else []
        self._count = len(page)
        self._top = min(self._top, self.last_top)
        return page[self._top : self._top + height]

    @property
    def last_top(self) -> int:
        """The number of the first visible line when the page is scrolled to its end."""
        return max(self._count - self.size.height, 0)

    @property
    def place(self) -> str:
        """Which lines are in view, as text; "" if all are."""
        if self._count <= self.size.height:
            return ""
        return f"lines {self._top + 1}-{min(self._top + self.size.height, self._count)} of {self._count}"

    def scroll_lines(self, lines: int) -> None:
        """Scroll down by this many lines; up if negative."""
        self._top = min(max(self._top + lines, 0), self.last_top)
        self.redraw()

    def scroll_to_top(self) -> None:
        """Scroll to the first line."""
        self._top = 0
        self.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down by WHEEL_LINES."""
        event.stop()
        self.scroll_lines(WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up by WHEEL_LINES."""
        event.stop()
        self.scroll_lines(-WHEEL_LINES)


def heading(title: str, width: int, note: str = "") -> Spans:
    """Return a title followed by a rule, with a note at its right end."""
    end = f" {note} --" if note else ""
    return (Span(f"{title} ", "title"), Span("-" * max(width - len(title) - 1 - len(end), 0) + end, "dim"))


def wrapped(words: str, width: int, role: str = "plain", indent: int = 0) -> list[Spans]:
    """Wrap text to the width."""
    pad = " " * indent
    return [(Span(pad + line, role),) for line in textwrap.wrap(words, max(width - indent, 10))]


def labelled(label: str, words: str, width: int, label_width: int, role: str = "plain") -> list[Spans]:
    """Wrap text to the right of a label."""
    lines = textwrap.wrap(words, max(width - label_width, 10)) or [""]
    return [
        (Span((label if not at else "").ljust(label_width), "dim"), Span(line, role)) for at, line in enumerate(lines)
    ]


def beside(left: Sequence[Spans], right: Sequence[Spans], left_width: int) -> list[Spans]:
    """Put two blocks of lines side by side. ``left_width``: width of the left one, to which GAP is added."""
    found: list[Spans] = []
    for one, other in zip_longest(left, right, fillvalue=()):
        fill = left_width - width_of(one) + GAP
        found.append((*one, Span(" " * max(fill, 1)), *other) if other else one)
    return found
