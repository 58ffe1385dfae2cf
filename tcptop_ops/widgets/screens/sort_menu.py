"""Draw the menu of columns to sort by."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tcptop_ops.text import shorten
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.widgets.base.modal import Menu, MenuDialog

HELP_WIDTH = 60


class SortMenu(MenuDialog[Column | None]):
    """A menu whose result is a column; None if it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,s,f6", "dismiss(None)", "Close", id="sort.close"),
        Binding("j", "move('down')", "Down", id="sort.down"),
        Binding("k", "move('up')", "Up", id="sort.up"),
    ]

    def __init__(self, current: Column) -> None:
        """Take the column that rows are sorted by now."""
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        """Yield the list of all columns."""
        menu = Menu(*(Option(_line(column), column.id) for column in COLUMNS), id="sort-menu", markup=False)
        menu.border_title = "sort by"
        menu.border_subtitle = "Enter sorts, Esc closes"
        yield menu

    def on_mount(self) -> None:
        """Select the column that rows are sorted by now."""
        self.query_one(OptionList).highlighted = COLUMNS.index(self._current)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the selected column."""
        self.dismiss(find(event.option.id) if event.option.id else None)


def _line(column: Column) -> Text:
    text = Text()
    text.append(column.title.split()[0].ljust(9), "bold")
    text.append(shorten(column.help, HELP_WIDTH))
    return text
