"""Draw the dialog that chooses columns, their order and their widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tcptop_ops.config.settings import LEAST_WIDTH, MOST_WIDTH
from tcptop_ops.text import shorten
from tcptop_ops.views.column import Column
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.widgets.base.modal import MenuDialog

HELP_WIDTH = 48


class Choice(NamedTuple):
    """The chosen columns in order, and the widths, by column id, that differ from the defaults."""

    columns: tuple[Column, ...]
    widths: dict[str, int]


class Choices(OptionList, inherit_bindings=False):
    """A list without the Enter key, which the dialog binds itself.

    A priority binding would not do: it would be handled before keys that were pressed earlier.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        found for found in OptionList.BINDINGS if isinstance(found, Binding) and "enter" not in found.key
    ]


class ColumnPicker(MenuDialog[Choice | None]):
    """A dialog whose result is a Choice, or None if it is left. Shown columns come first, in their order."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,C,f2", "dismiss(None)", "Close", id="columns.close"),
        Binding("space", "show_or_hide", "Show or hide", id="columns.toggle"),
        Binding("enter", "take", "Take them", id="columns.take"),
        Binding("j", "move('down')", "Down", id="columns.down"),
        Binding("k", "move('up')", "Up", id="columns.up"),
        Binding("J,shift+down,greater_than_sign", "carry(1)", "Later", id="columns.later"),
        Binding("K,shift+up,less_than_sign", "carry(-1)", "Earlier", id="columns.earlier"),
        Binding("plus", "widen(1)", "Wider", id="columns.wider"),
        Binding("minus", "widen(-1)", "Narrower", id="columns.narrower"),
        Binding("r", "reset", "As at first", id="columns.reset"),
    ]

    def __init__(self, shown: Sequence[Column], widths: Mapping[str, int], default: Sequence[Column]) -> None:
        """Take the columns shown now, the widths that the user has set, and the columns to which ``r`` resets."""
        super().__init__()
        self._default = tuple(default)
        self._set(shown, widths)

    def _set(self, shown: Sequence[Column], widths: Mapping[str, int]) -> None:
        self._shown = set(shown)
        self._order = [*shown, *(column for column in COLUMNS if column not in self._shown)]
        self._widths = dict(widths)

    def compose(self) -> ComposeResult:
        """Yield the empty list."""
        menu = Choices(id="column-picker", markup=False)
        menu.border_title = "columns"
        menu.border_subtitle = "Spc shows, < > move, + - width, r as at first, Enter takes, Esc leaves"
        yield menu

    def on_mount(self) -> None:
        """Fill the list and select its first column."""
        self._fill(0)

    @property
    def _menu(self) -> OptionList:
        return self.query_one(OptionList)

    def _fill(self, at: int) -> None:
        menu = self._menu
        menu.clear_options()
        menu.add_options([Option(self._line(column), column.id) for column in self._order])
        menu.highlighted = at

    def _line(self, column: Column) -> Text:
        text = Text()
        text.append("[x] " if column in self._shown else "[ ] ")
        text.append(column.title.split()[0].ljust(9), "bold")
        text.append(f"{self._widths.get(column.id, column.width):>3}{'*' if column.id in self._widths else ' '} ")
        text.append(shorten(column.help, HELP_WIDTH))
        return text

    @property
    def _at(self) -> int:
        return self._menu.highlighted or 0

    def action_show_or_hide(self) -> None:
        """Show the selected column, or hide it."""
        self._shown ^= {self._order[self._at]}
        self._redraw()

    def action_carry(self, steps: int) -> None:
        """Move the selected column by this many places; a negative number moves it up (left in the table)."""
        at, to = self._at, self._at + steps
        if 0 <= to < len(self._order):
            self._order[at], self._order[to] = self._order[to], self._order[at]
            self._fill(to)

    def action_widen(self, characters: int) -> None:
        """Change the selected column's width by this many characters, within LEAST_WIDTH and MOST_WIDTH."""
        column = self._order[self._at]
        width = min(max(self._widths.get(column.id, column.width) + characters, LEAST_WIDTH), MOST_WIDTH)
        self._widths[column.id] = width
        if width == column.width:
            del self._widths[column.id]
        self._redraw()

    def action_reset(self) -> None:
        """Restore the default columns and widths."""
        self._set(self._default, {})
        self._fill(0)

    def _redraw(self) -> None:
        column = self._order[self._at]
        self._menu.replace_option_prompt(column.id, self._line(column))

    def action_take(self) -> None:
        """Close with the choice; with None if no column is shown."""
        columns = tuple(column for column in self._order if column in self._shown)
        self.dismiss(Choice(columns, self._widths) if columns else None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Show or hide the column that was clicked."""
        event.stop()
        self.action_show_or_hide()
