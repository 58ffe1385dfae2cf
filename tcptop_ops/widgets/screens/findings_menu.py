"""Draw the list of findings, from which one is chosen by its number."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tcptop_ops import text
from tcptop_ops.model.flows import Finding
from tcptop_ops.views.finding_places import MOST, Place
from tcptop_ops.widgets.base.modal import Menu, MenuDialog
from tcptop_ops.widgets.panels.findings import TAG_WIDTH, TAGS

WORDS_WIDTH = 66
"""Characters of a line of a finding's text."""

BLAMED = {
    "network": "the network path",
    "peer": "the peer",
    "app": "a local application",
    "host": "this host",
}
"""Who is to blame, in words."""

ALL = 0
"""What the list ends with where all rows are wanted again."""


class FindingsMenu(MenuDialog[int | None]):
    """A list whose result is the number of a finding, from 1; ALL: show all rows again; None: nothing was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Close", id="findings.close"),
        Binding("f,0", f"dismiss({ALL})", "All rows", id="findings.all"),
        Binding("j", "move('down')", "Down", id="findings.down"),
        Binding("k", "move('up')", "Up", id="findings.up"),
        *(Binding(f"{n}", f"choose({n})", "Show its rows", id=f"findings.{n}") for n in range(1, MOST + 1)),
    ]

    def __init__(self, places: Sequence[Place], shown: str, tags: Mapping[str, Style]) -> None:
        """Take the findings; ``shown``: the key of the one whose rows are in the table, "" if there is none.

        ``tags``: the style of the tag of each blame.
        """
        super().__init__()
        self._tags = tags
        self._places = places
        self._shown = shown

    def compose(self) -> ComposeResult:
        """Yield the list of findings, each with its number, blame, text and age."""
        options = (Option(_told(number, place, self._tags)) for number, place in enumerate(self._places, 1))
        menu = Menu(*options, id="findings-menu", markup=False)
        menu.border_title = "findings, the gravest first"
        menu.border_subtitle = f"1-{len(self._places)} or Enter: its rows, f: all rows, Esc closes"
        yield menu

    def on_mount(self) -> None:
        """Select the finding whose rows are shown, or the first."""
        keys = [place.finding.key for place in self._places]
        self.query_one(OptionList).highlighted = keys.index(self._shown) if self._shown in keys else 0

    def action_choose(self, number: int) -> None:
        """Close with this number, if there is such a finding."""
        if number <= len(self._places):
            self.dismiss(number)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the number of the selected one."""
        self.dismiss(event.option_index + 1)


def _told(number: int, place: Place, tags: Mapping[str, Style]) -> Text:
    finding = place.finding
    lines = textwrap.wrap(text.printable(finding.text), WORDS_WIDTH) or [""]
    told = Text()
    told.append(f"{number} ", "bold")
    told.append(TAGS.get(finding.blame, "?").ljust(TAG_WIDTH), tags.get(finding.blame, "reverse"))
    told.append(f" {lines[0]}\n")
    for line in lines[1:]:
        told.append(f"       {line}\n")
    told.append(f"       {_facts(finding, place.is_over)}", "dim")
    return told


def _facts(finding: Finding, is_over: bool) -> str:
    """Return, for instance, ``to blame: the network path; 6 rows; since 14:03:22``."""
    rows = "1 row" if finding.rows == 1 else f"{finding.rows} rows"
    since = f"since {datetime.fromtimestamp(finding.since):%H:%M:%S}" if finding.since else ""
    blamed = f"to blame: {BLAMED.get(finding.blame, 'not known')}"
    return "; ".join(part for part in (blamed, rows, since, "over" if is_over else "") if part)
