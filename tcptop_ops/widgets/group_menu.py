"""The menu of groups: what rows can be put together by."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tcptop_ops.groups import KEYS
from tcptop_ops.widgets.modal import Menu, Over

CHOICES = {"none": "a row for each connection"} | {name: key.what for name, key in KEYS.items()}


class GroupMenu(Over[str | None]):
    """Ends with the key chosen, or with none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,g,f5", "dismiss(None)", "Close", id="group.close"),
        Binding("j", "move('down')", "Down", id="group.down"),
        Binding("k", "move('up')", "Up", id="group.up"),
    ]

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        """The list."""
        menu = Menu(*(Option(_line(*choice), choice[0]) for choice in CHOICES.items()), id="group-menu", markup=False)
        menu.border_title = "group by"
        menu.border_subtitle = "Enter groups, Esc closes"
        yield menu

    def on_mount(self) -> None:
        """Start at the key in force."""
        self.query_one(OptionList).highlighted = list(CHOICES).index(self._current)

    def action_move(self, way: str) -> None:
        """As in the table."""
        menu = self.query_one(OptionList)
        if way == "down":
            menu.action_cursor_down()
        else:
            menu.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Chosen."""
        self.dismiss(event.option.id)


def _line(name: str, what: str) -> Text:
    text = Text()
    text.append(name.ljust(12), "bold")
    text.append(what)
    return text
