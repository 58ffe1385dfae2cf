"""Show the pages of ``--explain``: a screen with one page, and a list of all of them."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tcptop_ops.explain import pages
from tcptop_ops.text import shorten
from tcptop_ops.widgets.base.modal import Dialog, Menu, MenuDialog

PAGE_WIDTH = 74
SHORT = 48


class ExplainScreen(Dialog[None]):
    """The screen of one page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,e", "dismiss(None)", "Close", id="explain.close"),
        Binding("j,down", "scroll(1)", "Down", id="explain.down"),
        Binding("k,up", "scroll(-1)", "Up", id="explain.up"),
    ]

    def __init__(self, word: str) -> None:
        """Take the name of a column, a cause or an operator; ``compose`` raises Usage for any other."""
        super().__init__()
        self._word = word

    def compose(self) -> ComposeResult:
        """Yield the page as one scrollable text, with its title in the border."""
        width = max(min(PAGE_WIDTH, self.app.size.width - 4), 20)
        title, _, rest = pages.page(self._word, width).partition("\n")
        with VerticalScroll(id="explain") as box:
            box.border_title = title
            box.border_subtitle = "j k scroll, Esc closes"
            yield Static(_styled(rest.partition("\n")[2].strip("\n")), id="explain-text", markup=False)

    def action_scroll(self, lines: int) -> None:
        """Scroll down by this many lines; up if negative."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def _styled(page: str) -> Text:
    """Set the labels of a page in bold. A line has a label if its left column holds one of ``explain.LABELS``."""
    found = Text()
    for line in page.split("\n"):
        label = line[: pages.LABEL]
        is_label = len(label) == pages.LABEL and label.endswith(" ") and label.strip() in pages.LABELS
        found.append(label, "bold" if is_label else "")
        found.append(line[pages.LABEL :] + "\n")
    found.right_crop(1)
    return found


class WordList(MenuDialog[str | None]):
    """The list of all pages. Enter opens the selected page above the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Close", id="words.close"),
        Binding("j", "move('down')", "Down", id="words.down"),
        Binding("k", "move('up')", "Up", id="words.up"),
    ]

    def compose(self) -> ComposeResult:
        """Yield the list: causes, columns, operators."""
        words = pages.words()
        listed = Menu(*(Option(_line(word), word.name) for word in words), id="words", markup=False)
        listed.border_title = "causes, columns, operators"
        listed.border_subtitle = "Enter explains, Esc closes"
        yield listed

    def on_mount(self) -> None:
        """Select the first entry."""
        self.query_one(OptionList).highlighted = 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the page of the selected entry, above the list."""
        if event.option.id:
            self.app.push_screen(ExplainScreen(event.option.id))


def _line(word: pages.ExplainedWord) -> Text:
    found = Text()
    found.append(word.name.ljust(23), "bold")
    found.append(shorten(word.short, SHORT))
    return found
