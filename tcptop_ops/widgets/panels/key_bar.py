"""Draw the key bar in the last line of the screen."""

from __future__ import annotations

from collections.abc import Sequence

from tcptop_ops.widgets.base.key_bindings import KeyHelp
from tcptop_ops.widgets.base.line_widget import LineWidget, Piece, Span, Spans, join


class KeyBar(LineWidget):
    """A line with as many keys as fit; each can be clicked."""

    DEFAULT_CSS = """
    KeyBar {
        height: 1;
        background: $panel;
        & > .lines--title { color: $text; text-style: bold; }
        & > .lines--dim { color: $text-muted; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        """Set up an empty bar."""
        super().__init__(id=id)
        self._keys: Sequence[KeyHelp] = ()

    def show(self, keys: Sequence[KeyHelp]) -> None:
        """Show those of these keys that belong in the bar."""
        self._keys = [key for key in keys if key.in_bar]
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return one line. Where there is no room, the first and the last key (quit and help) are dropped last."""
        return [join([_piece(key, i, len(self._keys) - 1) for i, key in enumerate(self._keys)], width, "  ")]


def _piece(key: KeyHelp, index: int, last: int) -> Piece:
    rank = 0 if index in (0, last) else index
    return Piece((Span(key.keys[0], "title", key.action), Span(f" {key.description}", "dim", key.action)), rank)
