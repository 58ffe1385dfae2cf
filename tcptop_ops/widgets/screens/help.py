"""Show the help, which is generated from the bindings in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tcptop_ops.config.keymap import KEYS, REPLAY_APP
from tcptop_ops.views.column import Column
from tcptop_ops.widgets.base.key_bindings import KeyHelp
from tcptop_ops.widgets.base.modal import Dialog
from tcptop_ops.widgets.screens.explain import WordList

TOLD = {key.words: key.told for key in (*KEYS, *REPLAY_APP) if key.told}
"""Longer descriptions of keys, by the label that the key bar shows."""

MARKS = (
    (">", "the selected connection"),
    ("!", "a value of this row is bad"),
    ("+", "new"),
    ("x", "closed less than {closed} ago; the state column says how it ended"),
    ("-", "does not apply"),
    ("?", "not known"),
    ("~", "here something was cut"),
    ("[+] [-]", "a group: Enter shows and hides its connections"),
    ("*you", "the connection over which you use this"),
)

FILTER = (
    ("srtt > 20ms", "a column or its alias, one of = != < <= > >= ~, a value"),
    ("nginx :443 10.2.", "a word alone: process, port, address or state"),
    ("and or not ( )", "join them"),
    ("Enter Esc", "keep the filter; go back to the one from before"),
    ("Up Down", "older and newer filters of this session"),
)


class HelpScreen(Dialog[None]):
    """The help: keys, filters, marks and columns."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f10,question_mark,f1", "dismiss(None)", "Close", id="help.close"),
        Binding("enter,e", "words", "Explain a word", id="help.words"),
        Binding("j", "scroll(1)", "Down", id="help.down"),
        Binding("k", "scroll(-1)", "Up", id="help.up"),
    ]

    def __init__(self, keys: Sequence[KeyHelp], columns: Sequence[Column], closed_s: float) -> None:
        """Take the bindings, the columns on the screen, and how long closed connections stay listed, in seconds."""
        super().__init__()
        self._closed_s = f"{closed_s:g} s"
        self._keys = keys
        self._columns = columns

    def compose(self) -> ComposeResult:
        """Yield the help as one scrollable text."""
        with VerticalScroll(id="help") as box:
            box.border_title = "tcptop-ops: help"
            box.border_subtitle = "j k scroll, Enter: a page about a cause, a column, an operator, Esc closes"
            yield Static(self._text(), id="help-text")

    def action_scroll(self, lines: int) -> None:
        """Scroll down by this many lines; up if negative."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_words(self) -> None:
        """Open the list of the pages of ``--explain``."""
        self.app.push_screen(WordList())

    def _text(self) -> Text:
        found = Text()
        _section(found, "KEYS", [(" ".join(k.keys), TOLD.get(k.description, k.description)) for k in self._keys], 12)
        _section(found, "FILTER", FILTER, 16)
        _section(found, "MARKS", [(mark, what.format(closed=self._closed_s)) for mark, what in MARKS], 12)
        _section(found, "COLUMNS ON THE SCREEN", [(c.title.split()[0], c.help) for c in self._columns], 12)
        found.right_crop(1)
        return found


def _section(text: Text, title: str, rows: Sequence[tuple[str, str]], width: int) -> None:
    text.append(f"{title}\n", "bold")
    for name, meaning in rows:
        text.append(f"  {name.ljust(width)} ", "bold")
        text.append(f"{meaning}\n")
    text.append("\n")
