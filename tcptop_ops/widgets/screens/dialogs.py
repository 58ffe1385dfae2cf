"""Draw boxes over the table: commands that show a connection in other tools, and a question before an action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tcptop_ops.explain.commands import Command, OtherTools
from tcptop_ops.text import shorten
from tcptop_ops.widgets.base.modal import Dialog, Menu, MenuDialog

TITLE_WIDTH = 70
COPIED = "copied, if the terminal takes OSC 52; Esc closes"
"""What is said after a copy: no reply of the terminal tells whether it accepted the OSC 52 sequence."""


class CommandsDialog(MenuDialog[None]):
    """A numbered list of commands, each shown in full, so that it can be copied from the screen by hand."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,y", "dismiss(None)", "Close", id="elsewhere.close"),
        Binding("j", "move('down')", "Down", id="elsewhere.down"),
        Binding("k", "move('up')", "Up", id="elsewhere.up"),
        *(Binding(f"{n}", f"copy({n})", f"Copy the {n}.", show=False, id=f"elsewhere.{n}") for n in range(1, 5)),
    ]

    def __init__(self, title: str, shown: OtherTools) -> None:
        """Take the border's title, and the commands with their note."""
        super().__init__()
        self._title, self._shown = title, shown

    def compose(self) -> ComposeResult:
        """Yield the list of commands, with the note as its last entry, which can't be selected."""
        options = [Option(_listed(n, one), str(n)) for n, one in enumerate(self._shown.commands, 1)]
        if self._shown.note:
            options.append(Option(Text(self._shown.note), disabled=True))
        menu = Menu(*options, id="elsewhere", markup=False)
        menu.border_title = shorten(self._title, max(min(TITLE_WIDTH, self.app.size.width - 8), 1))
        menu.border_subtitle = f"1-{len(self._shown.commands)} or Enter copies, Esc closes"
        yield menu

    def on_mount(self) -> None:
        """Select the first command."""
        self.query_one(OptionList).highlighted = 0

    def action_copy(self, number: int) -> None:
        """Copy the command with this number, counted from 1, to the terminal's clipboard.

        Ignore a number that is too great.
        """
        if number <= len(self._shown.commands):
            menu = self.query_one(OptionList)
            menu.highlighted = number - 1
            self.app.copy_to_clipboard(self._shown.commands[number - 1].typed)
            menu.border_subtitle = f"{number} {COPIED}"

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Copy the command that was selected with Enter or a click."""
        if event.option.id:
            self.action_copy(int(event.option.id))


def _listed(number: int, one: Command) -> Text:
    return Text.assemble((f"{number} {one.tool}\n", "bold"), one.typed)


class ConfirmDialog(Dialog[bool]):
    """A question. Its result is True after the key ``y``, False after any other key."""

    def __init__(self, title: str, lines: Sequence[str], what_y_does: str) -> None:
        """Take the border's title, the lines of the question, and what ``y`` does, for the border."""
        super().__init__()
        self._title, self._lines, self._what_y_does = title, lines, what_y_does

    def compose(self) -> ComposeResult:
        """Yield the text, with the meaning of the keys in its border."""
        asked = Static(Text("\n".join(self._lines)), id="question", markup=False)
        asked.border_title = self._title
        asked.border_subtitle = f"y {self._what_y_does}, any other key does not"
        yield asked

    def on_key(self, event: events.Key) -> None:
        """Close with True for ``y``, otherwise with False."""
        event.stop()
        self.dismiss(event.key == "y")
