"""Draw the menu of ways to group rows."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tcptop_ops.views.group_keys import GROUP_KEYS
from tcptop_ops.widgets.base.modal import Menu, MenuDialog

CHOICES = {"none": "a row for each connection"} | {name: key.what for name, key in GROUP_KEYS.items()}


class GroupMenu(MenuDialog[str | None]):
    """A menu whose result is the name of a way to group (``GROUP_KEYS`` or ``none``); None if it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,g,f5", "dismiss(None)", "Close", id="group.close"),
        Binding("j", "move('down')", "Down", id="group.down"),
        Binding("k", "move('up')", "Up", id="group.up"),
    ]

    def __init__(self, current: str) -> None:
        """Take the name of the grouping in force."""
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        """Yield the list of ways to group."""
        menu = Menu(*(Option(_line(*choice), choice[0]) for choice in CHOICES.items()), id="group-menu", markup=False)
        menu.border_title = "group by"
        menu.border_subtitle = "Enter groups, Esc closes"
        yield menu

    def on_mount(self) -> None:
        """Select the grouping in force."""
        self.query_one(OptionList).highlighted = list(CHOICES).index(self._current)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the selected name."""
        self.dismiss(event.option.id)


def _line(name: str, what: str) -> Text:
    text = Text()
    text.append(name.ljust(12), "bold")
    text.append(what)
    return text
