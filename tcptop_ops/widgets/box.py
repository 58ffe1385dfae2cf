"""Boxes over the table: what shows a connection in other tools, to be copied; a question before something is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tcptop_ops.elsewhere import Command, Elsewhere
from tcptop_ops.format import shorten
from tcptop_ops.widgets.modal import Menu, Over

TITLE_WIDTH = 70
COPIED = "copied, if the terminal takes OSC 52; Esc closes"
"""The terminal does not say whether it did."""


class ElsewhereBox(Over[None]):
    """The commands, numbered; each in full, so that it can be copied by hand too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,y", "dismiss(None)", "Close", id="elsewhere.close"),
        Binding("j", "move('down')", "Down", id="elsewhere.down"),
        Binding("k", "move('up')", "Up", id="elsewhere.up"),
        *(Binding(f"{n}", f"copy({n})", f"Copy the {n}.", show=False, id=f"elsewhere.{n}") for n in range(1, 5)),
    ]

    def __init__(self, title: str, shown: Elsewhere) -> None:
        super().__init__()
        self._title, self._shown = title, shown

    def compose(self) -> ComposeResult:
        """The list, and below it what has to be known."""
        options = [Option(_listed(n, one), str(n)) for n, one in enumerate(self._shown.commands, 1)]
        if self._shown.note:
            options.append(Option(Text(self._shown.note), disabled=True))
        menu = Menu(*options, id="elsewhere", markup=False)
        menu.border_title = shorten(self._title, max(min(TITLE_WIDTH, self.app.size.width - 8), 1))
        menu.border_subtitle = f"1-{len(self._shown.commands)} or Enter copies, Esc closes"
        yield menu

    def on_mount(self) -> None:
        """Start at the top."""
        self.query_one(OptionList).highlighted = 0

    def action_move(self, way: str) -> None:
        """As in the table."""
        menu = self.query_one(OptionList)
        if way == "down":
            menu.action_cursor_down()
        else:
            menu.action_cursor_up()

    def action_copy(self, number: int) -> None:
        """The command of this number, from 1."""
        if number <= len(self._shown.commands):
            menu = self.query_one(OptionList)
            menu.highlighted = number - 1
            self.app.copy_to_clipboard(self._shown.commands[number - 1].typed)
            menu.border_subtitle = f"{number} {COPIED}"

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click."""
        if event.option.id:
            self.action_copy(int(event.option.id))


def _listed(number: int, one: Command) -> Text:
    return Text.assemble((f"{number} {one.tool}\n", "bold"), one.typed)


class Question(Over[bool]):
    """Asks. Ends with True at ``y``, with False at any other key."""

    def __init__(self, title: str, lines: Sequence[str], what_y_does: str) -> None:
        super().__init__()
        self._title, self._lines, self._what_y_does = title, lines, what_y_does

    def compose(self) -> ComposeResult:
        """What is asked, and what the keys do."""
        asked = Static(Text("\n".join(self._lines)), id="question", markup=False)
        asked.border_title = self._title
        asked.border_subtitle = f"y {self._what_y_does}, any other key does not"
        yield asked

    def on_key(self, event: events.Key) -> None:
        """The answer."""
        event.stop()
        self.dismiss(event.key == "y")
