"""Lines of styled text, and a widget that repaints only the cells of them that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Span(NamedTuple):
    """A piece of a line in one style.

    ``role``: ``plain``, ``title``, ``dim``, ``warn``, ``bad``, ``badge`` or ``graph``. ``action``: run when it is
    clicked.
    """

    text: str
    role: str = "plain"
    action: str = ""


Spans = tuple[Span, ...]

ROLES = ("title", "dim", "warn", "bad", "badge", "graph")
LEVEL_ROLES = {-1: "dim", 0: "plain", 1: "warn", 2: "bad"}
"""The role of each level (``Column.level``)."""


def width_of(spans: Spans) -> int:
    """Return the number of characters."""
    return sum(len(span.text) for span in spans)


BRIDGED = 8
"""Gap between two changed ranges, in cells, up to which they are written as one: moving the cursor costs as much."""


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges (start, stop), given in ascending order, whose gap is at most BRIDGED."""
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and start - found[-1][1] <= BRIDGED:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def differing(before: Spans, after: Spans) -> list[tuple[int, int]]:
    """Return the ranges of cells in which two lines look different."""
    old, new = _cells(before), _cells(after)
    blank = (" ", "plain", "")
    length = max(len(old), len(new))
    old += [blank] * (length - len(old))
    new += [blank] * (length - len(new))
    return merged([(x, x + 1) for x in range(length) if old[x] != new[x]])


def _cells(line: Spans) -> list[tuple[str, str, str]]:
    return [(character, span.role, span.action) for span in line for character in span.text]


class Piece(NamedTuple):
    """Spans that are shown together or not at all.

    Where room is short, pieces with the greatest ``rank`` are dropped first.
    """

    spans: Spans
    rank: int = 0


def piece(text: str, role: str = "plain", rank: int = 0) -> Piece:
    """Return a piece of one span."""
    return Piece((Span(text, role),), rank)


def join(pieces: Sequence[Piece], width: int, gap: str = " ") -> Spans:
    """Join pieces in their order, dropping the least important until they fit; one piece always remains."""
    kept = list(pieces)
    while len(kept) > 1 and sum(width_of(p.spans) for p in kept) + len(gap) * (len(kept) - 1) > width:
        worst = max(range(len(kept)), key=lambda i: (kept[i].rank, i))
        del kept[worst]
    spans: list[Span] = []
    for one in kept:
        spans.extend([Span(gap)] * bool(spans) + list(one.spans))
    return tuple(spans)


def flow(pieces: Sequence[Piece], width: int, lines: int, gap: str = "  ") -> list[Spans]:
    """Distribute pieces over exactly ``lines`` lines, as words are, dropping the least important until they fit."""
    kept = list(pieces)
    while kept:
        rows = _wrapped(kept, width, len(gap))
        if len(rows) <= lines:
            break
        worst = max(range(len(kept)), key=lambda i: (kept[i].rank, i))
        del kept[worst]
    else:
        rows = []
    return [join(row, width, gap) for row in rows] + [()] * (lines - len(rows))


def _wrapped(pieces: Sequence[Piece], width: int, gap: int) -> list[list[Piece]]:
    rows: list[list[Piece]] = []
    left = -1
    for one in pieces:
        size = width_of(one.spans)
        if not rows or size + gap > left:
            rows.append([one])
            left = width - size
        else:
            rows[-1].append(one)
            left -= size + gap
    return rows


class LineWidget(Widget):
    """Lines made by ``make_lines``, truncated to the width. Only cells that changed are repainted."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines--{role}" for role in ROLES}
    DEFAULT_CSS = """
    LineWidget {
        width: 1fr;
        & > .lines--title { text-style: bold; }
        & > .lines--dim { color: $text-muted; }
        & > .lines--warn { color: $text-warning; }
        & > .lines--bad { color: $text-error; text-style: bold; }
        & > .lines--badge { text-style: reverse; }
        & > .lines--graph { color: $text-primary; }
    }
    LineWidget:ansi > .lines--dim { text-style: dim; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        """Set up without lines: they are made at the first resize."""
        super().__init__(id=id)
        self._lines: list[Spans] = []

    @property
    def lines(self) -> list[Spans]:
        """The lines that are shown."""
        return self._lines

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return the lines for this size; a subclass overrides it."""
        return []

    def redraw(self) -> None:
        """Make the lines again and refresh the cells that changed."""
        old = self._lines
        new = self._lines = self.make_lines(*self.size)
        count = max(len(old), len(new))
        before, after = old + [()] * (count - len(old)), new + [()] * (count - len(new))
        changed = [
            Region(start, y, stop - start, 1)
            for y in range(count)
            if before[y] != after[y]
            for start, stop in differing(before[y], after[y])
        ]
        if changed:
            self.refresh(*changed)

    def on_resize(self) -> None:
        """Make the lines again for the new size."""
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """Return line ``y`` as a strip; blank below the last line."""
        base = self.rich_style
        segments = [
            Segment(span.text, self._style(span, base)) for span in (self._lines[y] if y < len(self._lines) else ())
        ]
        return Strip(segments).adjust_cell_length(self.size.width, base).simplify()

    def _style(self, span: Span, base: Style) -> Style:
        style = base if span.role == "plain" else self.get_component_rich_style(f"lines--{span.role}")
        return style + Style.from_meta({"@click": span.action}) if span.action else style
