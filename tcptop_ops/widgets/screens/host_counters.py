"""Show the host as a whole: its few figures, each against its limit, with its rate and what it means."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.message import Message

from tcptop_ops import text
from tcptop_ops.diagnosis.host_figures import FIGURES, GROUPS, Figure
from tcptop_ops.diagnosis.host_readings import Reading, readings, retransmitted_percent
from tcptop_ops.model.flows import Flows
from tcptop_ops.widgets.base.charts import ChartCharacters
from tcptop_ops.widgets.base.key_bindings import listed
from tcptop_ops.widgets.base.line_widget import LEVEL_ROLES, LineWidget, Span, Spans
from tcptop_ops.widgets.base.modal import Dialog
from tcptop_ops.widgets.base.scroll_page import heading, labelled
from tcptop_ops.widgets.panels.key_bar import KeyBar

TITLE, VALUE, LIMIT, RATE = 21, 6, 6, 5
SHORT = 33
BAR = 12
"""Characters of the bar that shows how much of a limit is used."""

WIDE, WIDER = 100, 140
"""Widths from which on there is room for the bar, and for where the kernel counts."""

ABSENT = ("local_ports", "tracked_connections")
"""Figures of which there may be nothing to tell: far from all ports are used, connection tracking is not loaded."""

ABOUT = 7
"""Lines that are kept for what the selected figure means."""


class HostList(LineWidget):
    """The table of figures, and below it what the selected one means."""

    class Chosen(Message):
        """The user wants to read the page of a figure."""

        def __init__(self, figure: Figure) -> None:
            """Take the figure."""
            super().__init__()
            self.figure = figure

    def __init__(self, drawn: ChartCharacters) -> None:
        """Set up an empty list, which is filled by ``show``. ``drawn``: the characters of the bars."""
        super().__init__(id="host")
        self._drawn = drawn
        self._flows: Flows | None = None
        self._readings: tuple[Reading, ...] = ()
        self._at = -1
        self._clickable: dict[int, int] = {}  # by line: the figure there

    @property
    def selected(self) -> Figure:
        """The figure at the cursor."""
        return FIGURES[max(self._at, 0)]

    def show(self, flows: Flows) -> None:
        """Update from a tick. At the first one the cursor goes to the worst figure."""
        self._flows, self._readings = flows, readings(flows)
        if self._at < 0:
            levels = [one.level for one in self._readings]
            self._at = levels.index(max(levels))
        self.redraw()

    def move(self, rows: int) -> None:
        """Move the cursor down by this many rows; up if negative."""
        self._at = min(max(self._at + rows, 0), len(FIGURES) - 1)
        self.redraw()

    def on_click(self, event: Click) -> None:
        """Select the row that was clicked."""
        if event.y in self._clickable:
            self._at = self._clickable[event.y]
            self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return the title, the header, the figures as far as there is room, and what the selected one means."""
        flows = self._flows
        if flows is None:
            return []
        about = self._about(flows, width)
        has_room = height >= 2 + len(FIGURES) + 2 * len(GROUPS) + len(about)
        about = [(), *about] if has_room else about
        table = self._table(flows, width, has_room)
        room = max(height - 2 - min(len(about), ABOUT), 3)
        cursor = next(at for at, (_, number) in enumerate(table) if number == self._at)
        start = min(max(cursor - room + 1, 0), max(len(table) - room, 0))
        shown = table[start : start + room]
        self._clickable = {2 + line: number for line, (_, number) in enumerate(shown) if number is not None}
        place = f"{start + 1}-{start + len(shown)} of {len(table)}" if len(shown) < len(table) else ""
        return [self._title(flows, width), _header(width, place), *(line for line, _ in shown), *about][:height]

    def _table(self, flows: Flows, width: int, has_room: bool) -> list[tuple[Spans, int | None]]:
        """Return the lines of the figures, each with its number; if there is room, with titles of groups."""
        found: list[tuple[Spans, int | None]] = []
        group = ""
        for number, one in enumerate(self._readings):
            if has_room and one.figure.group != group:
                group = one.figure.group
                found += [((), None)] * bool(found) + [((Span(GROUPS[one.figure.group], "dim"),), None)]
            found.append((self._line(one, number == self._at, flows, width), number))
        return found

    def _title(self, flows: Flows, width: int) -> Spans:
        bad = sum(one.level > 1 for one in self._readings)
        note = f"rates of the last {text.duration(flows.window_s)}"
        if bad:
            note = f"{bad} bad; {note}"
        return heading("THE HOST", width, note)

    def _line(self, one: Reading, chosen: bool, flows: Flows, width: int) -> Spans:
        figure = one.figure
        unknown = text.DASH if figure.name in ABSENT and len(flows.host.namespaces) else text.UNKNOWN
        value = unknown if one.value is None else text.count(one.value)
        rate = "" if not figure.is_counter else text.UNKNOWN if one.per_s is None else _per_s(one.per_s)
        has_limit = bool(figure.limit) or figure.name == "local_ports"
        limit = "" if not has_limit else unknown if one.limit is None else text.count(one.limit)
        role = LEVEL_ROLES[one.level] if one.level or one.value else "dim"
        spans = [
            Span("> " if chosen else "  ", "title"),
            Span(figure.title.ljust(TITLE), "title" if chosen else "plain"),
            Span(f" {value:>{VALUE}}", role),
            Span(f" {limit:>{LIMIT}}", "dim"),
        ]
        if width >= WIDE:
            spans += self._bar(one)
        spans += [
            Span(f" {rate:>{RATE}}  ", role if one.grown else "dim"),
            Span(_words(one, self._readings, flows).ljust(SHORT), LEVEL_ROLES[one.level] if one.level else "plain"),
        ]
        if width >= WIDER:
            spans.append(Span(f"  {figure.source}", "dim"))
        return _cut(spans, width)

    def _bar(self, one: Reading) -> tuple[Span, ...]:
        if one.share is None:
            return (Span(" " * (BAR + 7)),)
        full = min(round(one.share * BAR), BAR)
        drawn = self._drawn.levels[-1] * full + self._drawn.floor * (BAR - full)
        role = LEVEL_ROLES[one.level] if one.level else "graph"
        return (Span(f" {drawn}", role), Span(f" {text.percent(100 * one.share):>4}%", "dim"))

    def _about(self, flows: Flows, width: int) -> list[Spans]:
        one = self._readings[max(self._at, 0)]
        figure = one.figure
        lines = [heading(figure.title, width, f"host_counters.{figure.name}"), *labelled("is", figure.means, width, 8)]
        if one.netns and len(flows.host.namespaces) > 1:
            lines += labelled("where", f"most in namespace {_name(flows, one.netns)}", width, 8)
        lines += labelled("tells", figure.tells, width, 8)
        return lines + labelled("kernel", figure.source, width, 8)


def _header(width: int, place: str) -> Spans:
    bar = f" {'USED':<{BAR}}      " if width >= WIDE else ""
    titles = f"  {'FIGURE':<{TITLE}} {'VALUE':>{VALUE}} {'LIMIT':>{LIMIT}}{bar} {'/S':>{RATE}}  {'OF WHAT':<{SHORT}}"
    if width >= WIDER:
        titles += "  WHERE THE KERNEL COUNTS"
    return (Span(titles[: width - len(place)].ljust(width - len(place)) + place, "dim"),)


def _per_s(rate: float) -> str:
    return f"{rate:.1f}" if 0 < rate < 9.95 else text.si(rate)


def _name(flows: Flows, netns: int) -> str:
    return text.printable(flows.snapshot.namespace_names.get(netns, "")) or str(netns)


def _words(one: Reading, all_: tuple[Reading, ...], flows: Flows) -> str:
    """Return what a figure counts; of retransmits also their share, of what is bad in a namespace also which."""
    words = one.figure.short
    if one.figure.name == "segs_retransmitted":
        sent = next(each.grown for each in all_ if each.figure.name == "segs_sent")
        percent = retransmitted_percent(one.grown, sent)
        words = words if percent is None else f"{text.percent(percent)} % of those sent"
    if one.level and one.netns and len(flows.host.namespaces) > 1:
        words = f"{_name(flows, one.netns)}: {words}"
    return text.shorten(words, SHORT)


def _cut(spans: list[Span], width: int) -> Spans:
    found: list[Span] = []
    for span in spans:
        room = width - sum(len(one.text) for one in found)
        found.append(Span(text.shorten(span.text.rstrip(), room) if len(span.text) > room else span.text, span.role))
    return tuple(found)


class HostScreen(Dialog[None]):
    """The screen of the host and its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,H", "dismiss(None)", "Back", id="host.close"),
        Binding("j,down", "move(1)", "Down", id="host.down"),
        Binding("k,up", "move(-1)", "Up", id="host.up"),
        Binding("home", "move(-99)", "First", show=False, id="host.first"),
        Binding("end", "move(99)", "Last", show=False, id="host.last"),
        Binding("enter,e", "page", "Its page", id="host.page"),
        Binding("space", "app.pause", "Pause", id="host.pause"),
        Binding("question_mark,f1", "app.help", "Help", id="host.help"),
    ]

    def __init__(self, flows: Flows, drawn: ChartCharacters) -> None:
        """Take the tick to show first, and the characters of the bars."""
        super().__init__()
        self._flows, self._drawn = flows, drawn

    def compose(self) -> ComposeResult:
        """Yield the list and the key bar."""
        yield HostList(self._drawn)
        yield KeyBar()

    def on_mount(self) -> None:
        """Show the first tick and the keys."""
        self.show(self._flows)
        self.query_one(KeyBar).show(listed(self.active_bindings))

    def show(self, flows: Flows) -> None:
        """Update from a tick."""
        self.query_one(HostList).show(flows)

    def action_move(self, rows: int) -> None:
        """Move the cursor down by this many rows; up if negative."""
        self.query_one(HostList).move(rows)

    def action_page(self) -> None:
        """Ask for the page of the selected figure."""
        chosen = self.query_one(HostList)
        chosen.post_message(HostList.Chosen(chosen.selected))
