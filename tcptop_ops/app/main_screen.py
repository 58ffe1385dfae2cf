"""The main screen: what its keys and its widgets do to the view of the flows.

A key makes another ``ViewState``; the panels draw it. What concerns more than the view, and what opens pages over this
screen, are actions of the application (``app.`` in the table of keys).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tcptop_ops.app.cost_meter import CostMeter
from tcptop_ops.app.panels import Drawing, Panels
from tcptop_ops.app.selection import Narrowing, to_process, to_remote
from tcptop_ops.app.sizes import LEAST_HEIGHT, LEAST_WIDTH, open_over
from tcptop_ops.app.view_state import ViewState
from tcptop_ops.config import keymap
from tcptop_ops.model.flows import Finding
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT
from tcptop_ops.views.view import View
from tcptop_ops.widgets.base.key_bindings import bindings
from tcptop_ops.widgets.panels.filter_bar import FilterBar, joined
from tcptop_ops.widgets.panels.summary import HeaderStatus
from tcptop_ops.widgets.screens.column_picker import Choice, ColumnPicker
from tcptop_ops.widgets.screens.findings_menu import ALL, FindingsMenu
from tcptop_ops.widgets.screens.group_menu import GroupMenu
from tcptop_ops.widgets.screens.sort_menu import SortMenu
from tcptop_ops.widgets.table.connection_table import ConnectionTable


class MainScreen(Screen[None]):
    """The table of connections, with the panels around it.

    ``state``: how the flows are looked at. ``status``: what else the summary tells; once a tick ``costs`` adds what the
    program costs. ``drawing`` and ``bars``: see ``Panels``. ``drawn`` is called with the view after each drawing: who
    shows the same flows over this screen sets it.
    """

    KEYS: ClassVar[tuple[keymap.KeyAction, ...]] = keymap.APP
    BINDINGS: ClassVar[list[BindingType]] = bindings(key for key in KEYS if not key.priority)

    class Ready(Message):
        """Posted once the panels of the screen are mounted."""

    def __init__(
        self,
        state: ViewState,
        status: HeaderStatus,
        costs: CostMeter,
        drawing: Drawing,
        bars: Iterable[Widget] = (),
    ) -> None:
        """Set up with nothing to show yet."""
        super().__init__()
        self.state = state
        self.status = status
        self.costs = costs
        self.panels = Panels(state, status, drawing, bars)
        self.drawn: Callable[[View], object] = lambda view: None
        self._noticed_row: int | None = None

    def compose(self) -> ComposeResult:
        """Yield the panels, and what is seen in their place where there is no room for them."""
        yield self.panels
        yield Static(f"terminal too small (needs {LEAST_WIDTH}x{LEAST_HEIGHT})", id="small")

    def on_mount(self) -> None:
        """Give the keys to the table."""
        self.panels.table.focus()
        if self.state.spec.filter is not None:
            self.panels.filter_bar.remember(self.state.spec.filter.text)
        self.post_message(self.Ready())

    def focus_again(self) -> None:
        """Give the keys back to what was hidden in a terminal too small, and so has lost them."""
        if self.is_mounted and self.focused is None and not self.has_class("-small"):
            self.panels.focus_keys()

    # What is on the screen

    def receive(self, view: View) -> None:
        """Take in a tick, which is not shown yet."""
        self.status = self.costs.told(self.status, view.flows.snapshot)
        self.state = self.state.received(view)

    def show_newest(self) -> None:
        """Show the last tick; while paused, only how far behind the picture is."""
        if self.state.is_paused:
            self.show_status()
        else:
            self.state = self.state.caught_up()
            self.draw()

    def change(self, state: ViewState) -> None:
        """Look at the flows in another way, at once: not at the next tick."""
        if state is not self.state:
            self.state = state
            self.status = replace(self.status, notice="")
            self.draw()

    def draw(self) -> None:
        """Draw what is to be shown."""
        self.state = self.state.placed()
        view = self.state.shown
        if view is not None:
            self.panels.table.show(view)
            self.panels.follow(self.state)
            self._draw_story()
            self.show_status()
            self.drawn(view)

    def _draw_story(self) -> None:
        self.state = self.state.selecting(self.panels.table.cursor)
        self.panels.show_story(self.state)

    def show_status(self) -> None:
        """Draw the lines above the table."""
        self.panels.show_status(self.state, self.status)

    def tell(self, **changes: Any) -> None:
        """Change these fields of the status, and show it."""
        self.status = replace(self.status, **changes)
        self.show_status()

    def notice(self, words: str) -> None:
        """Say why a key did nothing, until the next one that does something."""
        self._noticed_row = self.panels.table.cursor
        if words != self.status.notice:
            self.tell(notice=words)

    # The cursor

    def on_connection_table_moved(self) -> None:
        """Tell another connection's story."""
        if self.state.is_following:
            self.state = self.state.following(False)
            self.show_status()
        self._draw_story()
        if self.panels.table.cursor != self._noticed_row:
            self.notice("")

    def action_follow(self) -> None:
        """Keep the cursor on the worst connection, whatever the order; until it is moved by hand."""
        self.state = self.state.following(not self.state.is_following)
        self.panels.follow(self.state)
        self.show_status()

    # Time

    def action_pause(self) -> None:
        """Stop the picture, not the world; again: catch up."""
        state = self.state
        if state.shown is not None and state.newest is not None:
            self.state = state.resumed() if state.is_paused else state.paused(state.shown.flows.copy())
            self.draw()

    def action_mark(self) -> None:
        """Tell from now on what has changed since now; again: no longer."""
        if self.state.can_mark:
            self.change(self.state.unmarked() if self.state.mark is not None else self.state.marked())
        else:
            self.notice("there is no mark while the picture stands still")

    # The order

    def action_sort_menu(self) -> None:
        """Sort by any column there is."""

        def chosen(column: Column | None) -> None:
            if column is not None:
                self.change(self.state.sorted_by(column))

        open_over(self.app, SortMenu(self.state.spec.sort), chosen)

    def action_sort_retransmits(self) -> None:
        """Sort by the retransmits of the window."""
        self.change(self.state.sorted_by(find("retrans_win")))

    def action_sort_nth(self, n: int) -> None:
        """Sort by the nth column on the screen."""
        self.change(self.state.sorted_by_nth(n, self.panels.table.columns))

    def action_move_sort(self, steps: int) -> None:
        """Sort by the neighbour, on the screen, of the present column."""
        self.change(self.state.sorted_beside(steps, self.panels.table.columns))

    def on_connection_table_header_clicked(self, event: ConnectionTable.HeaderClicked) -> None:
        """Sort by the column; again: the other way round."""
        self.change(self.state.sorted_by_title(event.column))

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self.change(self.state.reversed())

    # Columns and rows

    def action_columns(self) -> None:
        """Open the column picker; its choice replaces the columns shown."""
        on_screen = self.panels.table.columns

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self.change(self.state.with_columns(choice.columns, choice.widths, self.panels.table.columns))

        open_over(self.app, ColumnPicker(on_screen, self.state.spec.widths, [find(name) for name in DEFAULT]), chosen)

    def action_closed(self) -> None:
        """Show or hide closed connections."""
        self.change(self.state.closed_toggled())

    def action_loopback(self) -> None:
        """Show or hide what stays on this host."""
        self.change(self.state.loopback_toggled())

    def action_group_menu(self) -> None:
        """Put connections together, or apart."""

        def chosen(key: str | None) -> None:
            if key is not None:
                self.change(self.state.grouped_by(key))

        open_over(self.app, GroupMenu(self.state.spec.group), chosen)

    def on_connection_table_folding(self, event: ConnectionTable.Folding) -> None:
        """Show the connections of a group, or hide them."""
        self.fold(event.identity, event.unfold)

    def fold(self, identity: int, unfold: bool) -> None:
        """Show the connections of a group, or hide them. The cursor stays on the group."""
        self.change(self.state.folded(identity, unfold))
        place = None if self.state.shown is None else self.state.shown.position_of(identity)
        if place is not None:
            self.panels.table.select(place)

    # The filter

    def action_filter(self) -> None:
        """Write a filter, beginning with the one in force."""
        bar = self.panels.filter_bar
        if bar.is_open:
            bar.focus_text()
            return
        self.state = self.state.filter_opened()
        self.panels.table.hold()
        bar.open(self.state.spec.filter)
        self.panels.set_typing(True)

    def on_filter_bar_changed(self, event: FilterBar.Changed) -> None:
        """Show at once what is written."""
        if event.filter != self.state.spec.filter:
            self.change(self.state.filtered_by(event.filter))

    def on_filter_bar_left(self, event: FilterBar.Left) -> None:
        """Close the filter bar; the filter that was written stays, or the one from before comes back."""
        table = self.panels.table
        self.set_focus(table, scroll_visible=False)
        self.panels.set_typing(False)
        self._filter(self.state.filter_closed(event.keep))
        table.release()

    def _filter(self, state: ViewState) -> None:
        """Take a state with a filter that was decided on, and remember that."""
        if state.spec.filter is not None:
            self.panels.filter_bar.remember(state.spec.filter.text)
        self.change(state)

    def action_clear_filter(self) -> None:
        """Show all rows; the history still has the filter."""
        if self.state.spec.filter is not None:
            self._filter(self.state.filtered_by(None))

    def action_finding(self) -> None:
        """Show the rows of the only finding, or go back; of several: open the list, where a digit chooses."""
        places = self.state.places.told

        def chosen(number: int | None) -> None:
            if number == ALL:
                self.action_finding_left()
            elif number is not None:
                self._show_rows_of(places[number - 1].finding)

        if len(places) > 1:
            menu = FindingsMenu(places, self.state.finding_key, self.panels.findings.tag_styles())
            open_over(self.app, menu, chosen)
        elif self.state.is_finding_shown:
            self.action_finding_left()
        elif places:
            self._show_rows_of(places[0].finding)
        else:
            self.notice("nothing was found that several flows share")

    def action_finding_nth(self, number: int) -> None:
        """Show the rows of the finding with this number, from 1."""
        places = self.state.places.told
        if number <= len(places):
            self._show_rows_of(places[number - 1].finding)

    def action_finding_left(self) -> None:
        """Go back to the filter from before the finding."""
        if self.state.is_finding_shown:
            self._filter(self.state.finding_left())

    def _show_rows_of(self, finding: Finding) -> None:
        """Show the rows of a finding, as it is told now or was told last."""
        now = next((one for one in self.state.findings if one.key == finding.key), finding)
        self._filter(self.state.finding_entered(now))
        self.panels.table.action_first()

    def action_only_process(self) -> None:
        """Show the connections of the selected one's process."""
        self._narrow(to_process(self.state.shown, self.panels.table.cursor))

    def action_only_remote(self) -> None:
        """Show the connections to the selected one's remote address."""
        self._narrow(to_remote(self.state.shown, self.panels.table.cursor))

    def _narrow(self, wanted: Narrowing) -> None:
        if wanted.condition:
            self._filter(self.state.filtered_by(joined(self.state.spec.filter, wanted.condition)))
        elif wanted.why_not:
            self.notice(wanted.why_not)
