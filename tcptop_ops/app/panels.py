"""The panels of the main screen, one above the other, and what each of them is given to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from tcptop_ops.app.accept_limit import AcceptLimit
from tcptop_ops.app.selection import value_at
from tcptop_ops.app.sizes import finding_lines
from tcptop_ops.app.view_state import ViewState
from tcptop_ops.dns.name_book import NameBook, NameKey
from tcptop_ops.tracking.history import Series
from tcptop_ops.widgets.base.charts import ChartCharacters
from tcptop_ops.widgets.base.key_bindings import in_force
from tcptop_ops.widgets.panels.filter_bar import FilterBar
from tcptop_ops.widgets.panels.findings import FindingsPanel
from tcptop_ops.widgets.panels.key_bar import KeyBar
from tcptop_ops.widgets.panels.selection import SelectionPanel
from tcptop_ops.widgets.panels.summary import HeaderStatus, Summary
from tcptop_ops.widgets.screens.connection_detail import ReadSeries
from tcptop_ops.widgets.table.connection_table import ConnectionTable

SPARK_TICKS = 120


@dataclass(frozen=True)
class Drawing:
    """What connections are drawn with, beside the flows: how they went, what limits a listener, signs for graphs."""

    series: ReadSeries
    limit: AcceptLimit
    pencil: ChartCharacters


class Panels(Container):
    """Summary, findings, table, story, filter bar, keys. ``bars``: more lines above that of the keys."""

    def __init__(self, state: ViewState, status: HeaderStatus, drawing: Drawing, bars: Iterable[Widget] = ()) -> None:
        """Set up with an empty table."""
        super().__init__(id="main")
        self._summary = Summary(status, id="summary")
        self.findings = FindingsPanel(id="findings")
        self.table = ConnectionTable(state.spec, id="table")
        self._story = SelectionPanel(drawing.pencil, id="story")
        self.filter_bar = FilterBar(id="filter")
        self._bars = tuple(bars)
        self._key_bar = KeyBar(id="keys")
        self._drawing = drawing

    def compose(self) -> ComposeResult:
        """Yield them, from the top to the bottom."""
        yield self._summary
        yield self.findings
        yield self.table
        yield self._story
        yield self.filter_bar
        yield from self._bars
        yield self._key_bar

    def show_story(self, state: ViewState) -> None:
        """Draw the story of the row under the cursor."""
        view, row = state.shown, self.table.cursor
        if view is None:
            return
        limit = value_at(view, row, "backlog_max")
        binding = self._drawing.limit.explained(value_at(view, row, "netns"), None if limit is None else int(limit))
        self._story.show(view, row, self._sparks(state) if row is not None else None, binding)

    def _sparks(self, state: ViewState) -> Series | None:
        """Return how the selected connection went, where there is room for that. A group has no history."""
        if not state.selected or state.shown is None or not self.screen.has_class("-tall"):
            return None
        return self._drawing.series(state.selected, SPARK_TICKS, state.shown.flows.snapshot.now_ns / 1e9)

    def show_status(self, state: ViewState, status: HeaderStatus) -> None:
        """Draw the lines above the table."""
        places = state.places.told
        status = replace(status, behind_s=state.behind_s, following=state.is_following, findings=len(places))
        self.screen.set_class(bool(places), "-findings")
        self._summary.show(None if state.shown is None else state.shown.flows, status)
        self.findings.show(places, state.finding_key, finding_lines(self.app.size.height))

    def show_keys(self) -> None:
        """Draw the last line: the keys that are in force."""
        self._key_bar.show(in_force(self.app.screen))

    def set_typing(self, on: bool) -> None:
        """Show whether keys go into the filter."""
        self.screen.set_class(on, "-filtering")
        self.table.set_typing(on)
        self.show_keys()

    def follow(self, state: ViewState) -> None:
        """Put the cursor on the worst row, where it follows that."""
        if (row := state.worst_row) is not None:
            self.table.follow(row)

    def name_by(self, names: NameBook, ask: Callable[[list[NameKey]], None] | None) -> None:
        """Show these names from now on. ``ask``: see ``ConnectionTable.name_by``."""
        self.table.name_by(names, ask)
        self._story.name_by(names)

    def focus_keys(self) -> None:
        """Give the keys to the filter that is written, or else to the table."""
        if self.filter_bar.is_open:
            self.filter_bar.focus_text()
        else:
            self.screen.set_focus(self.table, scroll_visible=False)
