"""Draw the table of connections on Textual's Line API: visible rows are formatted, changed cells repainted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tcptop_ops.config import keymap
from tcptop_ops.dns.name_book import NOBODY, NameBook, NameKey
from tcptop_ops.views.column import Column
from tcptop_ops.views.columns import GROUP
from tcptop_ops.views.view import Spec, View
from tcptop_ops.widgets.base.key_bindings import bindings
from tcptop_ops.widgets.table.cell_text import Line, empty_lines, lines, name_keys
from tcptop_ops.widgets.table.changed_cells import changed_regions
from tcptop_ops.widgets.table.column_fit import GUTTER, ColumnLayout, at, fit, total_width
from tcptop_ops.widgets.table.strips import COUNT, header_strip, row_segments

LOOKS = ("header", "sorted", "cursor", "dim", "warn", "bad", "closed", "group")

WHEEL_ROWS = 3
STRIPS_KEPT = 1024


class ConnectionTable(ScrollView, can_focus=True, inherit_bindings=False):
    """The rows of a View below a fixed header line.

    The cursor stays on its connection when the order changes. Until it is moved for the first time, and after Home, it
    stays on the first row instead, which by default is the connection with the highest score.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"flow-table--{look}" for look in LOOKS}
    DEFAULT_CSS = """
    ConnectionTable {
        overflow: hidden hidden;
        & > .flow-table--header { background: $panel; color: $text-muted; }
        & > .flow-table--sorted { background: $panel; color: $text; text-style: bold; }
        & > .flow-table--cursor { background: $block-cursor-background; }
        & > .flow-table--dim { color: $text-disabled; }
        & > .flow-table--warn { color: $text-warning; }
        & > .flow-table--bad { color: $text-error; text-style: bold; }
        & > .flow-table--closed { color: $text-muted; }
        & > .flow-table--group { text-style: bold; }
    }
    ConnectionTable:ansi {
        & > .flow-table--header { text-style: underline; }
        & > .flow-table--sorted { text-style: bold underline; }
        & > .flow-table--cursor { text-style: reverse; }
        & > .flow-table--dim { text-style: dim; }
        & > .flow-table--closed { text-style: dim; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings(keymap.TABLE)

    class Moved(Message):
        """The user has moved the cursor."""

    class Opened(Message):
        """A row was double-clicked."""

    class Folding(Message):
        """The user wants a group unfolded or folded."""

        def __init__(self, identity: int, unfold: bool) -> None:
            """Take the group's identity (``Groups.identities``) and whether to unfold it."""
            super().__init__()
            self.identity, self.unfold = identity, unfold

    class HeaderClicked(Message):
        """The title of a column was clicked."""

        def __init__(self, column: Column) -> None:
            """Take the column that was clicked."""
            super().__init__()
            self.column = column

    def __init__(self, spec: Spec, *, id: str | None = None) -> None:
        """Take the columns and widths for the layout until the first view comes."""
        super().__init__(id=id)
        self._spec = spec
        self._view: View | None = None
        self._layout_of: ColumnLayout = ()
        self._lines: list[Line] = []
        self._cursor = 0
        self._cookie: int | None = None
        self._held: int | None = None
        self._typing = False
        self._scrolled_away = False
        self._names = NOBODY
        self._ask: Callable[[list[NameKey]], None] | None = None
        self._strips: LRUCache[Line, Strip] = LRUCache(STRIPS_KEPT)
        self._looks: dict[str, Style] = {}

    # Contents

    @property
    def view(self) -> View | None:
        """The view that is shown; None before the first tick."""
        return self._view

    @property
    def cursor(self) -> int | None:
        """The position of the cursor in the view; None in an empty table."""
        return self._cursor if self._view else None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns on the screen, from left to right, without GROUP."""
        return tuple(placed.column for placed in self._layout_of if placed.column is not GROUP)

    def show(self, view: View) -> None:
        """Show a view. The cursor stays on its connection; if that is gone, at its position."""
        self._view = view
        self._find_cursor(view)
        old, self._spec = self._spec, view.spec
        if not self._layout_of or replace(old, filter=None) != replace(view.spec, filter=None):
            self._fit()
        self.set_reactive(ConnectionTable.virtual_size, Size(total_width(self._layout_of), len(view) + 1))
        self._follow()
        self._repaint()

    def _find_cursor(self, view: View) -> None:
        if self._cookie is None:
            return
        for cookie in (self._held, self._cookie):
            position = None if cookie is None else view.position_of(cookie)
            if position is not None:
                self._cursor, self._cookie = position, cookie
                return
        self._place_cursor(self._cursor)

    def hold(self) -> None:
        """Let the cursor return to its connection once a later view contains it again, as while a filter is typed."""
        self._held = self._cookie

    def release(self) -> None:
        """End ``hold``: a connection that is not in the view is forgotten."""
        self._held = None

    def set_typing(self, typing: bool) -> None:
        """Set whether a filter is being typed, which decides what an empty table advises."""
        self._typing = typing
        self._repaint()

    def name_by(self, names: NameBook, ask: Callable[[list[NameKey]], None] | None) -> None:
        """Show these names from now on.

        ``ask`` is called at each repaint with the keys of names that could be shown.
        """
        self._names, self._ask = names, ask
        self._repaint()

    def _fit(self) -> None:
        spec = self._spec
        self._layout_of = fit(spec.columns, spec.sort, self.size.width, spec.widths, spec.group != "none")
        width = total_width(self._layout_of)
        self.set_reactive(ConnectionTable.virtual_size, Size(width, self.virtual_size.height))
        if self.scroll_x:
            self.scroll_to(x=self.scroll_x, animate=False, force=True)
        self.refresh()

    # Cursor and scrolling

    @property
    def _rows(self) -> int:
        """Number of rows for which the window has room."""
        return max(self.size.height - 1, 0)

    @property
    def _top(self) -> int:
        return self.scroll_offset.y

    def _place_cursor(self, row: int) -> None:
        """Put the cursor on the row at this position, clipped to the view, and remember its connection."""
        if not self._view:
            return
        self._cursor = min(max(row, 0), len(self._view) - 1)
        self._cookie = self._view.cookies(self._cursor, self._cursor + 1)[0]

    def _follow(self) -> None:
        """Scroll no further than needed to keep the cursor in the window, and the window within the rows."""
        top = self._top
        if not self._scrolled_away and self._rows:
            top = min(max(top, self._cursor - self._rows + 1), self._cursor)
        top = min(top, self.max_scroll_y)
        if top != self._top:
            self.scroll_to(y=top, animate=False, force=True)

    def select(self, row: int) -> None:
        """Move the cursor to this position, scroll it into view, and post Moved."""
        self._scrolled_away = False
        self._place_cursor(row)
        self._held = self._cookie if self._held is not None else None
        self._follow()
        self._repaint()
        self.post_message(self.Moved())

    def follow(self, row: int) -> None:
        """Move the cursor to this position without posting Moved: it was moved by the program, not by the user."""
        if row != self._cursor:
            self._scrolled_away = False
            self._place_cursor(row)
            self._follow()
            self._repaint()

    def action_move(self, rows: int) -> None:
        """Move the cursor down by this many rows; up if negative."""
        self.select(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Scroll down by this many windows (up if negative), and move the cursor along."""
        rows = max(self._rows - 1, 1) * pages
        self.scroll_to(y=self._top + rows, animate=False, force=True)
        self.select(self._cursor + rows)

    def action_first(self) -> None:
        """Move the cursor to the first row, and keep it there whichever connection that becomes."""
        self.select(0)
        self._cookie = None

    def action_last(self) -> None:
        """Move the cursor to the last row."""
        self.select(len(self._view) - 1 if self._view else 0)

    def action_sideways(self, cells: int) -> None:
        """Scroll right by this many cells (left if negative).

        If all columns fit, unfold (right) or fold (left) a group instead.
        """
        if self._view and self._view.groups is not None and not self.max_scroll_x:
            self._fold(self._view, cells > 0)
            return
        self.scroll_to(x=self.scroll_x + cells, animate=False, force=True)

    def _fold(self, view: View, unfold: bool) -> None:
        """Unfold or fold the group at the cursor; from a connection in it, folding moves the cursor to its group."""
        identity = view.cookies(self._cursor, self._cursor + 1)[0]
        if identity >= 0:
            before = (view.order[: self._cursor] < 0).nonzero()[0]
            if not unfold and len(before):
                self.select(int(before[-1]))
        elif unfold != (identity in view.spec.unfolded):
            self.post_message(self.Folding(identity, unfold))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down; with Ctrl or Shift held, sideways."""
        self._wheel(event, WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up; with Ctrl or Shift held, sideways."""
        self._wheel(event, -WHEEL_ROWS)

    def _wheel(self, event: events.MouseEvent, rows: int) -> None:
        event.stop()
        if event.ctrl or event.shift:
            self.action_sideways(rows)
            return
        self._scrolled_away = True
        self.scroll_to(y=self._top + rows, animate=False, force=True)

    def focus_on_click(self) -> bool:
        """Return False: a click must not take the focus from the filter bar."""
        return False

    def on_click(self, event: events.Click) -> None:
        """Select the row that was clicked, and open it at a double click; on the header, post HeaderClicked."""
        if event.y == 0:
            scrolled = event.x - GUTTER + (self.scroll_offset.x if event.x >= GUTTER else 0)
            column = at(self._layout_of, scrolled)
            if column is not None:
                self.post_message(self.HeaderClicked(COUNT if column is GROUP else column))
        elif self._view and self._top + event.y - 1 < len(self._view):
            self.select(self._top + event.y - 1)
            if event.chain == 2:
                self.post_message(self.Opened())

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self._fit()
        self._follow()
        self._repaint()

    # Drawing

    def watch_scroll_x(self, old_value: float, new_value: float) -> None:
        """Refresh every line after horizontal scrolling."""
        if round(old_value) != round(new_value):
            self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Repaint the lines that differ after vertical scrolling; adjacent rows often look alike in part."""
        if round(old_value) != round(new_value):
            self._repaint()

    def _repaint(self) -> None:
        """Format the rows in the window, and refresh the cells that look different from before."""
        old, top = self._lines, self._top
        view, window = self._view, (top, top + self._rows, self._cursor)
        new = [] if view is None else lines(view, self._layout_of, *window, self._names)
        self._lines = new
        if view and self._ask is not None:
            self._ask(name_keys(view, self._layout_of, *window))
        changed = changed_regions(old, new, self._layout_of, self.size.width, is_scrolled=bool(self.scroll_offset.x))
        if changed:
            self.refresh(*changed)

    def notify_style_update(self) -> None:
        """Drop all cached strips and styles, since the theme has changed."""
        super().notify_style_update()
        self._looks.clear()
        self._strips.clear()
        self.refresh()

    def _look(self, name: str, on: str = "") -> Style:
        """Return the style of a component class. ``on``: the component whose background it gets."""
        key = f"{name} {on}"
        style = self._looks.get(key)
        if style is None:
            style = self.rich_style if not name else self.get_component_rich_style(f"flow-table--{name}")
            if on:
                style += Style(bgcolor=self._look(on).bgcolor, reverse=self._look(on).reverse or None)
            self._looks[key] = style
        return style

    def render_line(self, y: int) -> Strip:
        """Return line ``y`` of the window: the header, a row, or the message of an empty table."""
        if y == 0:
            return self._window(header_strip(self._layout_of, self._spec, self._look), self._look("header"))
        if y <= len(self._lines):
            line = self._lines[y - 1]
            return self._window(self._strip(line), self._look("", "cursor") if line.cursor else self._look(""))
        told = [] if self._lines else empty_lines(self._view, self._typing, self.size.width - GUTTER)
        if y <= len(told):
            strip = Strip([Segment(" " * GUTTER + told[y - 1], self._look("closed"))])
            return strip.adjust_cell_length(self.size.width, self._look(""))
        return Strip.blank(self.size.width, self._look(""))

    def _window(self, strip: Strip, fill: Style) -> Strip:
        """Return the visible part of a line; the gutter does not scroll."""
        width, x = self.size.width, self.scroll_offset.x
        if x:
            strip = Strip.join([strip.crop(0, GUTTER), strip.crop(GUTTER + x, x + width)])
        return strip.crop(0, width).adjust_cell_length(width, fill).simplify()

    def _strip(self, line: Line) -> Strip:
        """Return the strip of a line, cached: but for the theme, a Line determines its look."""
        strip = self._strips.get(line)
        if strip is None:
            strip = self._strips[line] = Strip(row_segments(line, self._look))
        return strip
