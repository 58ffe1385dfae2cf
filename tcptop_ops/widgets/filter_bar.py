"""The filter bar: a line to write a filter in, and below it what is wrong with it, at its place."""

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

from tcptop_ops import format as text
from tcptop_ops.widgets.lines import Lines, Span, Spans

if TYPE_CHECKING:
    from tcptop_ops.filter_grammar import FilterError, Node
    from tcptop_ops.filters import Filter

PROMPT = "/"
EXAMPLE = "for instance: srtt > 20ms and not port = 443"
REMEMBERED = 100
"""Filters in the history."""


class FilterInput(Input, inherit_bindings=False):
    """One line of text, with the keys that leave it and that walk the history.

    Its cursor does not blink: that would cost bytes to the terminal twice a second.
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
        """A key that is not about the text. ``steps``: through the history; else the bar is left, kept or not."""

        def __init__(self, *, steps: int = 0, keep: bool = False) -> None:
            super().__init__()
            self.steps = steps
            self.keep = keep

    def validate_value(self, value: str) -> str:
        """A pasted control character would steer the terminal: a blank takes its place."""
        return "".join(c if c.isprintable() else " " for c in value)

    def on_resize(self) -> None:
        """The cursor stays in sight."""
        behind = cell_len(self.value[: self.cursor_position])
        self.scroll_to_region(Region(behind, 0, 1, 1), force=True, animate=False)

    def action_keep(self) -> None:
        """Enter."""
        self.post_message(self.Key(keep=True))

    def action_undo(self) -> None:
        """Escape."""
        self.post_message(self.Key())

    def action_walk(self, steps: int) -> None:
        """Up and down."""
        self.post_message(self.Key(steps=steps))

    def action_stay(self) -> None:
        """There is no other place to go to."""


class Remark(Lines):
    """The line under the text."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._messages: Sequence[str] = ()
        self._at: int | None = None

    def show(self, messages: Sequence[str], at: int | None = None) -> None:
        """Show the first message that fits; with a place, beside a caret there, as a warning."""
        self._messages, self._at = messages, at
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """One line."""
        if not self._messages:
            return [()]
        if self._at is None:
            return [(Span(text.shorten(" " * len(PROMPT) + self._messages[0], width), "dim"),)]
        return [(Span(pointed(self._messages, self._at, width), "warn"),)]


class FilterBar(Container):
    """Hidden until it is opened. While one writes it tells each filter that can be read; nobody has to press Enter."""

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
        """What is written is this filter; None: nothing is written."""

        def __init__(self, filter: Filter | None) -> None:
            super().__init__()
            self.filter = filter

    class Left(Message):
        """The bar is closed. ``keep``: the last filter that was told is wanted; else the one from before."""

        def __init__(self, *, keep: bool) -> None:
            super().__init__()
            self.keep = keep

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._present: Filter | None = None
        self._history: list[str] = []
        self._walk: list[str] = [""]
        self._step = 0

    def compose(self) -> ComposeResult:
        """The text, and the remark on it."""
        with Horizontal():
            yield Static(PROMPT, markup=False)
            yield FilterInput(select_on_focus=False, compact=True)
        yield Remark()

    def on_mount(self) -> None:
        """The caret moves with the text."""
        self._input.cursor_blink = False
        self.watch(self._input, "scroll_x", self._scrolled, init=False)

    @property
    def _input(self) -> FilterInput:
        return self.query_one(FilterInput)

    @property
    def is_open(self) -> bool:
        """Whether it is on the screen."""
        return bool(self.display)

    def remember(self, written: str) -> None:
        """Put a filter at the end of the history, and only there."""
        self._history = [*(old for old in self._history if old != written), written][-REMEMBERED:]

    def open(self, present: Filter | None) -> None:
        """Begin with the filter in force."""
        self._present = present
        now = present.text if present is not None else ""
        self._walk = [*(old for old in self._history if old != now), now]
        self._step = len(self._walk) - 1
        self.display = True
        self._write(now)
        self.focus_text()
        self.run_worker(_warm_up, thread=True)

    def focus_text(self) -> None:
        """Whatever is typed goes there."""
        self.screen.set_focus(self._input, scroll_visible=False)

    def _write(self, value: str) -> None:
        self._input.value = value
        self._input.cursor_position = len(value)
        self._remark()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A letter more or less."""
        event.stop()
        if self.is_open and self._remark():
            self.post_message(self.Changed(self._read()))

    def on_filter_input_key(self, event: FilterInput.Key) -> None:
        """Leave, or another filter of the history."""
        event.stop()
        if not self.is_open:
            return
        if event.steps:
            self._go(event.steps)
        elif not event.keep:
            self._leave(keep=False)
        elif self._remark():  # what can't be read stays to be mended
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
        """The filter that is written. Raises FilterError."""
        written = self._input.value
        if not written.strip():
            return None
        if self._present is not None and written == self._input.validate_value(self._present.text):
            return self._present
        from tcptop_ops import filters

        return filters.compile(written)

    def _scrolled(self) -> None:
        self._remark()

    def _remark(self) -> bool:
        """Say what is wrong with the text; whether nothing is."""
        from tcptop_ops.filter_grammar import FilterError

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
    """With the hint and without. The caret shows what was found, and where."""
    expected = text.printable(f"expected {error.expected}")
    hint = "" if error.hint.startswith("for instance") else text.printable(error.hint)
    return [f"{expected}; {hint}", expected] if hint else [expected]


def pointed(messages: Sequence[str], at: int, width: int) -> str:
    """A caret in this cell, and the first of the messages that fits, right of it or left; the last one is cut."""
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
    """The parser takes 75 ms to import and to make: better while the first letter is on its way than after it."""
    from tcptop_ops import filters

    filters.compile("x")


def joined(present: Filter | None, condition: str) -> Filter:
    """The rows of the present filter for which the condition holds too. One that it already has is not added again."""
    from tcptop_ops import filters
    from tcptop_ops.filter_grammar import Join, parse

    added = filters.compile(condition)
    if present is None:
        return added
    try:
        tree = parse(present.text)
        if _conditions(parse(condition)) <= _conditions(tree):
            return present
        either = isinstance(tree, Join) and not tree.every
        return filters.compile(f"({present.text}) and {condition}" if either else f"{present.text} and {condition}")
    except filters.FilterError:  # the text would be too long, or too deep
        return filters.both(present, added)


def _conditions(node: Node) -> frozenset[tuple[str, str, str]]:
    """The comparisons that all its rows pass."""
    from tcptop_ops.filter_grammar import Comparison, Join

    if isinstance(node, Comparison):
        return frozenset({(node.field.value.lower(), node.operator.value, node.value.value)})
    if isinstance(node, Join) and node.every:
        return frozenset[tuple[str, str, str]]().union(*(_conditions(part) for part in node.parts))
    return frozenset()
