"""The last line: the keys."""

from __future__ import annotations

from collections.abc import Sequence

from tcptop_ops.widgets.keys import KeyHelp
from tcptop_ops.widgets.lines import Lines, Piece, Span, Spans, join


class KeyBar(Lines):
    """As many keys as the width has room for; each can be clicked."""

    DEFAULT_CSS = """
    KeyBar {
        height: 1;
        background: $panel;
        & > .lines--title { color: $text; text-style: bold; }
        & > .lines--dim { color: $text-muted; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys: Sequence[KeyHelp] = ()

    def show(self, keys: Sequence[KeyHelp]) -> None:
        """Show these keys."""
        self._keys = [key for key in keys if key.in_bar]
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """The first and the last of them (quit and help) stay longest."""
        return [join([_piece(key, i, len(self._keys) - 1) for i, key in enumerate(self._keys)], width, "  ")]


def _piece(key: KeyHelp, index: int, last: int) -> Piece:
    rank = 0 if index in (0, last) else index
    return Piece((Span(key.keys[0], "title", key.action), Span(f" {key.description}", "dim", key.action)), rank)
