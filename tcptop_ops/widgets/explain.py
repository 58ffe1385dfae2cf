"""The pages of ``--explain`` on the screen: one page, and the list of all of them."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tcptop_ops import explain
from tcptop_ops.format import shorten
from tcptop_ops.widgets.modal import Menu, Over

PAGE_WIDTH = 74
SHORT = 48


class ExplainScreen(Over[None]):
    """One page. ``word``: one that has a page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,e", "dismiss(None)", "Close", id="explain.close"),
        Binding("j,down", "scroll(1)", "Down", id="explain.down"),
        Binding("k,up", "scroll(-1)", "Up", id="explain.up"),
    ]

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        width = max(min(PAGE_WIDTH, self.app.size.width - 4), 20)
        title, _, rest = explain.page(self._word, width).partition("\n")
        with VerticalScroll(id="explain") as box:
            box.border_title = title
            box.border_subtitle = "j k scroll, Esc closes"
            yield Static(_styled(rest.partition("\n")[2].strip("\n")), id="explain-text", markup=False)

    def action_scroll(self, lines: int) -> None:
        """As in the table."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def _styled(page: str) -> Text:
    """Labels in bold: a line that is no continuation and has blanks behind its first words."""
    found = Text()
    for line in page.split("\n"):
        label = line[: explain.LABEL]
        is_label = len(label) == explain.LABEL and label.endswith(" ") and label.strip() in explain.LABELS
        found.append(label, "bold" if is_label else "")
        found.append(line[explain.LABEL :] + "\n")
    found.right_crop(1)
    return found


class WordList(Over[str | None]):
    """Everything that has a page. Ends with the word chosen, or with none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Close", id="words.close"),
        Binding("j", "move('down')", "Down", id="words.down"),
        Binding("k", "move('up')", "Up", id="words.up"),
    ]

    def compose(self) -> ComposeResult:
        """The list."""
        words = explain.words()
        listed = Menu(*(Option(_line(word), word.name) for word in words), id="words", markup=False)
        listed.border_title = "causes, columns, operators"
        listed.border_subtitle = "Enter explains, Esc closes"
        yield listed

    def on_mount(self) -> None:
        """Start at the top."""
        self.query_one(OptionList).highlighted = 0

    def action_move(self, way: str) -> None:
        """As in the table."""
        listed = self.query_one(OptionList)
        if way == "down":
            listed.action_cursor_down()
        else:
            listed.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Chosen: its page opens above the list."""
        if event.option.id:
            self.app.push_screen(ExplainScreen(event.option.id))


def _line(word: explain.Word) -> Text:
    found = Text()
    found.append(word.name.ljust(23), "bold")
    found.append(shorten(word.short, SHORT))
    return found
