"""Show the sock_ops operators: number and rate of calls, the last call, and what each operator means."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.message import Message

from tcptop_ops import text
from tcptop_ops.explain import operator_facts
from tcptop_ops.explain.operators import OPERATORS, Operator, decoded, is_partial
from tcptop_ops.model.enums import SeenRow
from tcptop_ops.model.flows import Flows
from tcptop_ops.widgets.base.key_bindings import listed
from tcptop_ops.widgets.base.line_widget import LineWidget, Span, Spans
from tcptop_ops.widgets.base.modal import Dialog
from tcptop_ops.widgets.base.scroll_page import heading, labelled
from tcptop_ops.widgets.panels.key_bar import KeyBar

NAME, CALLS, RATE, HERE, FLAG = 22, 7, 6, 7, 8
FLAGS = {13: "PARSE", 14: "WRITE", 15: "WRITE"}
"""Short forms of callback flags whose names are too long for the column, by operator number."""

NEVER = "never"
Calls = NDArray[np.float64]
"""Calls per second: float64, indexed by operator number."""


class OperatorList(LineWidget):
    """The table of operators, and below it details of the selected one."""

    class Chosen(Message):
        """The user wants to read the page of an operator."""

        def __init__(self, operator: Operator) -> None:
            """Take the operator."""
            super().__init__()
            self.operator = operator

    def __init__(self) -> None:
        """Set up an empty list, which is filled by ``show``."""
        super().__init__(id="operators")
        self._flows: Flows | None = None
        self._per_s: Calls | None = None
        self._at = 0

    @property
    def selected(self) -> Operator:
        """The operator at the cursor."""
        return OPERATORS[self._at]

    def show(self, flows: Flows, per_s: Calls | None) -> None:
        """Update from a tick. ``per_s``: calls per second, None if not known yet."""
        self._flows, self._per_s = flows, per_s
        self.redraw()

    def move(self, rows: int) -> None:
        """Move the cursor down by this many rows; up if negative."""
        self._at = min(max(self._at + rows, 0), len(OPERATORS) - 1)
        self.redraw()

    def on_click(self, event: Click) -> None:
        """Select the row that was clicked."""
        if 2 <= event.y < 2 + len(OPERATORS):
            self._at = event.y - 2
            self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return the title, the header, a line per operator, and details of the selected one in what height remains."""
        flows = self._flows
        if flows is None:
            return []
        room = height - 2 - len(OPERATORS)
        start = max(0, min(self._at - (height - 3), len(OPERATORS))) if room < 0 else 0
        rows = [self._line(one, flows, width) for one in OPERATORS][start:]
        return [_title(flows, width), _header(width), *rows, *self._about(flows, width)][:height]

    def _line(self, operator: Operator, flows: Flows, width: int) -> Spans:
        number, snapshot = operator.number, flows.snapshot
        chosen = operator is self.selected
        partial = "~" if is_partial(operator, snapshot.callbacks_mode) else " "
        calls = int(snapshot.counters["calls"][number])
        told, per_s = text.si(calls) + partial, "-" if self._per_s is None else text.si(float(self._per_s[number]))
        if not snapshot.callbacks_mode:
            told = per_s = text.UNKNOWN
        here = text.si(int(snapshot.seen[SeenRow.WATCHED]["calls"][number])) if snapshot.watched else text.DASH
        figures = f" {told:>{CALLS}} {per_s:>{RATE}} {here:>{HERE}}  "
        flag = FLAGS.get(number, operator.flag) or "-"
        last = _last(operator, flows)
        room = width - 2 - NAME - len(figures) - FLAG - 1
        return (
            Span("> " if chosen else "  ", "title"),
            Span(operator.name.ljust(NAME), "title" if chosen else "plain"),
            Span(figures, "plain" if calls else "dim"),
            Span(flag.ljust(FLAG + 1), "dim"),
            Span(text.shorten(last, room), "dim" if last == NEVER else "plain"),
        )

    def _about(self, flows: Flows, width: int) -> list[Spans]:
        operator = self.selected
        lines = [heading(operator.name, width, operator.short)]
        here = [*_spoken(operator, flows), *operator_facts.about(operator.number, flows)]
        for words in here:
            lines += labelled("now", words, width, 11)
        for label, words in (
            ("tells", operator.tells),
            ("not seen", operator.unseen),
            ("when", operator.when),
            ("arguments", operator.arguments),
            ("kernel", operator.path),
        ):
            if words:
                lines += labelled(label, words, width, 11)
        return lines


def _title(flows: Flows, width: int) -> Spans:
    mode = flows.snapshot.callbacks_mode
    note = f"callbacks: {mode}" if mode else "no program counts: polled only"
    if mode and mode != "every":
        note += "; ~ not all packets"
    return heading("OPERATORS OF SOCK_OPS", width, note)


def _header(width: int) -> Spans:
    titles = f"{'CALLS':>{CALLS - 1}}  {'/S':>{RATE}} {'WATCHED':>{HERE}}  {'FLAG':<{FLAG + 1}}LAST CALL"
    line = f"  {'NAME':<{NAME}} {titles}"
    return (Span(line[:width], "dim"),)


def _last(operator: Operator, flows: Flows) -> str:
    """Format when an operator was last called and its arguments; "never" if it was not."""
    seen, number = flows.snapshot.seen[SeenRow.HOST], operator.number
    last_ns = int(seen["last_ns"][number])
    if not last_ns:
        return NEVER if not int(flows.snapshot.counters["calls"][number]) else ""
    ago = text.duration(max(flows.snapshot.now_ns - last_ns, 0) / 1e9)
    words = decoded(operator, seen["args"][number].tolist())
    return f"{ago + ' ago':<9}" + (f" {words}" if words else "")


def _spoken(operator: Operator, flows: Flows) -> list[str]:
    """Return the last call's arguments in full, of the whole host and of the watched connection."""
    found = []
    for who, seen in (
        ("host", flows.snapshot.seen[SeenRow.HOST]),
        ("this connection", flows.snapshot.seen[SeenRow.WATCHED]),
    ):
        words = decoded(operator, seen["args"][operator.number].tolist())
        if words and int(seen["last_ns"][operator.number]) and (who == "host" or flows.snapshot.watched):
            found.append(f"last on the {who}: {words}" if who == "host" else f"last on this connection: {words}")
    return found


class OperatorsScreen(Dialog[None]):
    """The screen of the operators and its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "dismiss(None)", "Back", id="operators.close"),
        Binding("j,down", "move(1)", "Down", id="operators.down"),
        Binding("k,up", "move(-1)", "Up", id="operators.up"),
        Binding("home", "move(-99)", "First", show=False, id="operators.first"),
        Binding("end", "move(99)", "Last", show=False, id="operators.last"),
        Binding("enter,e", "page", "Its page", id="operators.page"),
        Binding("space", "app.pause", "Pause", id="operators.pause"),
        Binding("question_mark,f1", "app.help", "Help", id="operators.help"),
    ]

    def __init__(self, flows: Flows, per_s: Calls | None) -> None:
        """Take the tick to show first, and calls per second (None if not known yet)."""
        super().__init__()
        self._flows, self._per_s = flows, per_s

    def compose(self) -> ComposeResult:
        """Yield the list and the key bar."""
        yield OperatorList()
        yield KeyBar()

    def on_mount(self) -> None:
        """Show the first tick and the keys."""
        self.show(self._flows, self._per_s)
        self.query_one(KeyBar).show(listed(self.active_bindings))

    def show(self, flows: Flows, per_s: Calls | None) -> None:
        """Update from a tick."""
        self.query_one(OperatorList).show(flows, per_s)

    def action_move(self, rows: int) -> None:
        """Move the cursor down by this many rows; up if negative."""
        self.query_one(OperatorList).move(rows)

    def action_page(self) -> None:
        """Ask for the page of the selected operator."""
        chosen = self.query_one(OperatorList)
        chosen.post_message(OperatorList.Chosen(chosen.selected))
