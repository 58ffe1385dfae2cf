"""Draw the filter bar: an input line and, below it, a message that points at the error in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input, Static

from tcptop_ops import text
from tcptop_ops.widgets.base.line_widget import LineWidget, Span, Spans

if TYPE_CHECKING:
    from tcptop_ops.filters.grammar import FilterError, Node
    from tcptop_ops.model.filter import Filter

PROMPT = "/"
EXAMPLE = "for instance: srtt > 20ms and not port = 443"
REMEMBERED = 100
"""Maximum number of filters in the history."""


class FilterInput(Input, inherit_bindings=False):
    """An input line with keys that leave the bar and that walk through the history.

    Its cursor does not blink, which would send bytes to the terminal twice a second.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", id="filter.keep"),
        Binding("escape", "undo", "Undo", id="filter.undo"),
        Binding("up", "walk(-1)", "Older", id="filter.older"),
        Binding("down", "walk(1)", "Newer", id="filter.newer"),
        Binding("tab,shift+tab", "stay", "Stay in the filter", show=False),
        *(found for found in Input.BINDINGS if isinstance(found, Binding) and found.key != "enter"),
    ]

    class Key(Message):
        """A key that does not edit the text.

        ``steps``: so many steps through the history; if 0, the bar is left, and ``keep`` says whether the filter stays.
        """

        def __init__(self, *, steps: int = 0, keep: bool = False) -> None:
            """Take the steps through the history, or 0 and whether the filter is kept."""
            super().__init__()
            self.steps = steps
            self.keep = keep

    def validate_value(self, value: str) -> str:
        """Replace control characters by blanks: pasted ones would otherwise reach the terminal."""
        return "".join(c if c.isprintable() else " " for c in value)

    def on_resize(self) -> None:
        """Scroll the cursor into view."""
        behind = cell_len(self.value[: self.cursor_position])
        self.scroll_to_region(Region(behind, 0, 1, 1), force=True, animate=False)

    def action_keep(self) -> None:
        """Ask to close the bar and keep the filter (Enter)."""
        self.post_message(self.Key(keep=True))

    def action_undo(self) -> None:
        """Ask to close the bar and restore the previous filter (Escape)."""
        self.post_message(self.Key())

    def action_walk(self, steps: int) -> None:
        """Ask for an older (-1) or a newer (1) filter of the history (Up, Down)."""
        self.post_message(self.Key(steps=steps))

    def action_stay(self) -> None:
        """Ignore Tab, which would otherwise move the focus to another widget."""


class Remark(LineWidget):
    """The line below the input: a hint, or an error message with a caret at its place."""

    def __init__(self, *, id: str | None = None) -> None:
        """Set up an empty line."""
        super().__init__(id=id)
        self._messages: Sequence[str] = ()
        self._at: int | None = None

    def show(self, messages: Sequence[str], at: int | None = None) -> None:
        """Show the first message that fits. With a place (a cell, from 0) it is an error, with a caret at that cell."""
        self._messages, self._at = messages, at
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return one line: nothing, a hint, or a caret and a message."""
        if not self._messages:
            return [()]
        if self._at is None:
            return [(Span(text.shorten(" " * len(PROMPT) + self._messages[0], width), "dim"),)]
        return [(Span(pointed(self._messages, self._at, width), "warn"),)]


class FilterBar(Container):
    """The bar, hidden until it is opened. Each valid text takes effect while it is typed, without Enter."""

    DEFAULT_CSS = """
    FilterBar {
        display: none;
        height: 2;
        & > Horizontal { height: 1; }
        & Static { width: 1; text-style: bold; }
        & FilterInput { width: 1fr; background: $background; &:focus { background-tint: $foreground 0%; } }
        & Remark { height: 1; }
    }
    """

    class Changed(Message):
        """The text is valid and means ``filter``; None if it is empty."""

        def __init__(self, filter: Filter | None) -> None:
            """Take the filter, None for an empty text."""
            super().__init__()
            self.filter = filter

    class Left(Message):
        """The bar was closed.

        ``keep``: whether the last filter of ``Changed`` stays; if not, the previous one is restored.
        """

        def __init__(self, *, keep: bool) -> None:
            """Take whether the filter is kept."""
            super().__init__()
            self.keep = keep

    def __init__(self, *, id: str | None = None) -> None:
        """Set up a closed bar with an empty history."""
        super().__init__(id=id)
        self._present: Filter | None = None
        self._history: list[str] = []
        self._walk: list[str] = [""]
        self._step = 0

    def compose(self) -> ComposeResult:
        """Yield the prompt and the input, and the remark below them."""
        with Horizontal():
            yield Static(PROMPT, markup=False)
            yield FilterInput(select_on_focus=False, compact=True)
        yield Remark()

    def on_mount(self) -> None:
        """Let the caret of the remark follow the input when that scrolls."""
        self._input.cursor_blink = False
        self.watch(self._input, "scroll_x", self._scrolled, init=False)

    @property
    def _input(self) -> FilterInput:
        return self.query_one(FilterInput)

    @property
    def is_open(self) -> bool:
        """Whether the bar is shown."""
        return bool(self.display)

    def remember(self, written: str) -> None:
        """Append a filter to the history, removing an earlier copy of it."""
        self._history = [*(old for old in self._history if old != written), written][-REMEMBERED:]

    def open(self, present: Filter | None) -> None:
        """Show the bar with the text of the filter in force, and import the parser in a thread meanwhile."""
        self._present = present
        now = present.text if present is not None else ""
        self._walk = [*(old for old in self._history if old != now), now]
        self._step = len(self._walk) - 1
        self.display = True
        self._write(now)
        self.focus_text()
        self.run_worker(_warm_up, thread=True)

    def focus_text(self) -> None:
        """Give the focus to the input."""
        self.screen.set_focus(self._input, scroll_visible=False)

    def _write(self, value: str) -> None:
        self._input.value = value
        self._input.cursor_position = len(value)
        self._remark()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Post Changed if the text is valid."""
        event.stop()
        if self.is_open and self._remark():
            self.post_message(self.Changed(self._read()))

    def on_filter_input_key(self, event: FilterInput.Key) -> None:
        """Close the bar, or show another filter of the history. An invalid text can't be kept: the bar stays open."""
        event.stop()
        if not self.is_open:
            return
        if event.steps:
            self._go(event.steps)
        elif not event.keep:
            self._leave(keep=False)
        elif self._remark():  # an invalid text stays in the bar to be corrected
            self.post_message(self.Changed(self._read()))
            self._leave(keep=True)

    def _leave(self, *, keep: bool) -> None:
        self.display = False
        self.post_message(self.Left(keep=keep))

    def _go(self, steps: int) -> None:
        if self._step == len(self._walk) - 1:
            self._walk[-1] = self._input.value
        self._step = min(max(self._step + steps, 0), len(self._walk) - 1)
        self._write(self._walk[self._step])

    def _read(self) -> Filter | None:
        """Compile the text; return None if it is empty. Raises FilterError."""
        written = self._input.value
        if not written.strip():
            return None
        if self._present is not None and written == self._input.validate_value(self._present.text):
            return self._present
        from tcptop_ops.filters import compiler

        return compiler.compile(written)

    def _scrolled(self) -> None:
        self._remark()

    def _remark(self) -> bool:
        """Show the error in the text, if there is one. Return whether it is valid."""
        from tcptop_ops.filters.grammar import FilterError

        remark = self.query_one(Remark)
        try:
            self._read()
        except FilterError as error:
            behind = cell_len(self._input.value[: error.column - 1])
            remark.show(_messages(error), len(PROMPT) + behind - self._input.scroll_offset.x)
            return False
        remark.show([] if self._input.value.strip() else [EXAMPLE])
        return True


def _messages(error: FilterError) -> list[str]:
    """Return the message with the hint, and without. The caret shows what was found, and where."""
    expected = text.printable(f"expected {error.expected}")
    hint = "" if error.hint.startswith("for instance") else text.printable(error.hint)
    return [f"{expected}; {hint}", expected] if hint else [expected]


def pointed(messages: Sequence[str], at: int, width: int) -> str:
    """Return a line with a caret in cell ``at`` and the first message that fits to the right or left of it.

    If none fits, the last one is truncated.
    """
    at = min(max(at, 0), max(width - 1, 0))
    right, left = width - at - 2, at - 1
    for message in messages:
        if len(message) <= right:
            return f"{'^':>{at + 1}} {message}"
        if len(message) <= left:
            return f"{message:>{left}} ^"
    if right >= left:
        return f"{'^':>{at + 1}} {text.shorten(messages[-1], right)}"
    return f"{text.shorten(messages[-1], left)} ^"


def _warm_up() -> None:
    """Import and build the parser, which takes 75 ms, before the first character is typed."""
    from tcptop_ops.filters import compiler

    compiler.compile("x")


def joined(present: Filter | None, condition: str) -> Filter:
    """Return the filter of the rows that match the present filter and a condition, which is not added twice."""
    from tcptop_ops.filters import compiler, grammar
    from tcptop_ops.filters.grammar import Join, parse

    added = compiler.compile(condition)
    if present is None:
        return added
    try:
        tree = parse(present.text)
        if _conditions(parse(condition)) <= _conditions(tree):
            return present
        either = isinstance(tree, Join) and not tree.every
        return compiler.compile(f"({present.text}) and {condition}" if either else f"{present.text} and {condition}")
    except grammar.FilterError:  # the joined text is too long, or its parentheses too deep
        return compiler.both(present, added)


def _conditions(node: Node) -> frozenset[tuple[str, str, str]]:
    """Return the comparisons (field, operator, value) that are required of every row."""
    from tcptop_ops.filters.grammar import Comparison, Join

    if isinstance(node, Comparison):
        return frozenset({(node.field.value.lower(), node.operator.value, node.value.value)})
    if isinstance(node, Join) and node.every:
        return frozenset[tuple[str, str, str]]().union(*(_conditions(part) for part in node.parts))
    return frozenset()
