"""Draw the findings below the summary, a line each: the number, who is to blame, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style

from tcptop_ops import text
from tcptop_ops.views.finding_places import Place, numbered
from tcptop_ops.widgets.base.line_widget import LineWidget, Span, Spans, width_of

TAGS = {"network": "NET", "peer": "PEER", "app": "APP", "host": "HOST"}
"""The tag of each value of ``Finding.blame``."""

TAG_WIDTH = 4

_ENDPOINT = re.compile(r"\[([0-9a-f:.]{16,})\]")


def tag(blame: str) -> Span:
    """Return who is to blame as a tag of TAG_WIDTH characters; ``?`` where it is not known."""
    return Span(TAGS.get(blame, "?").ljust(TAG_WIDTH), blame if blame in TAGS else "badge")


def fitted(words: str, room: int) -> str:
    """Return a finding's text in at most ``room`` characters: long IPv6 addresses lose their middle, then the end goes.

    What tells the most stands at the beginning.
    """
    if len(words) > room:
        words = _ENDPOINT.sub(lambda found: f"[{text.shorten_middle(found[1], 15)}]", words)
    return text.shorten(words, max(room, 0))


class FindingsPanel(LineWidget):
    """A line for each finding, as many as there is room for; no line where there is none. Each can be clicked."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"lines--{blame}" for blame in TAGS}
    DEFAULT_CSS = """
    FindingsPanel {
        display: none;
        & > .lines--network { color: $text-primary; text-style: bold reverse; }
        & > .lines--peer { color: $text-warning; text-style: bold reverse; }
        & > .lines--app { color: $text-error; text-style: bold reverse; }
        & > .lines--host { color: $foreground; text-style: bold reverse; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        """Set up hidden: ``show`` gives it findings, and a line for each."""
        super().__init__(id=id)
        self._places: Sequence[Place] = ()
        self._shown = ""
        self._room = 1

    def show(self, places: Sequence[Place], shown: str, room: int) -> None:
        """Show these findings. ``shown``: the key of the one whose rows are in the table, "" if there is none.

        ``room``: the most lines. The height changes with the number of findings alone.
        """
        self._places, self._shown, self._room = places, shown, room
        count = min(len(places), room)
        if count:
            self.styles.height = count
        self.display = count > 0
        self.redraw()

    def tag_styles(self) -> dict[str, Style]:
        """Return the style of the tag of each blame."""
        return {blame: self.get_component_rich_style(f"lines--{blame}") for blame in TAGS}

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return a line for each finding; the last one tells the keys, and how many there is no room for.

        Before it was laid out there is no width, and no line.
        """
        if not width:
            return []
        shown = numbered(self._places, self._room)
        return [
            self._line(number, place, width, self._keys(len(shown)) if at == len(shown) - 1 else "")
            for at, (number, place) in enumerate(shown)
        ]

    def _keys(self, lines: int) -> str:
        """Return the keys that show the rows of a finding, or all rows again."""
        count = len(self._places)
        more = f"  +{count - lines}" if count > lines else ""
        if self._shown:
            return f"{more}  [Esc] all"
        return f"{more}  [f] rows" if count == 1 else f"{more}  [f]1-{count}"

    def _line(self, number: int, place: Place, width: int, keys: str) -> Spans:
        """Return the line of a finding, whose number is told if there are several to choose from."""
        finding, action = place.finding, f"screen.finding_nth({number})"
        is_shown = finding.key == self._shown != ""
        sign = "!" if len(self._places) == 1 else str(number)
        role = "dim" if place.is_over else "title" if is_shown or not self._shown else "plain"
        lead = (Span(sign, "dim" if place.is_over else "bad", action), Span(">" if is_shown else " ", "title", action))
        blame = Span("over", "dim", action) if place.is_over else tag(finding.blame)._replace(action=action)
        room = width - len(sign) - 1 - TAG_WIDTH - 1 - len(keys)
        words = fitted(text.printable(finding.text), room)
        line = (*lead, blame, Span(" "), Span(words, role, action))
        gap = " " * (width - len(keys) - width_of(line))
        return (*line, Span(gap), Span(keys, "dim", "screen.finding")) if keys else line
