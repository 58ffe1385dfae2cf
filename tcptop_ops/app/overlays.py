"""What lies over the main screen: the pages about one connection, the operators, the host, the help, boxes that ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textual.app import App

from tcptop_ops.app import close_connection
from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.app.panels import Drawing
from tcptop_ops.app.sizes import open_over
from tcptop_ops.dns.name_book import NameBook, NameKey
from tcptop_ops.errors import TcptopError
from tcptop_ops.explain import commands, connection_facts
from tcptop_ops.host.namespaces import own_namespace
from tcptop_ops.polling.worker import Worker
from tcptop_ops.views.view import View
from tcptop_ops.widgets.base.key_bindings import in_force
from tcptop_ops.widgets.base.row_text import RowText
from tcptop_ops.widgets.screens.connection_detail import DetailScreen
from tcptop_ops.widgets.screens.dialogs import CommandsDialog
from tcptop_ops.widgets.screens.explain import ExplainScreen
from tcptop_ops.widgets.screens.help import HelpScreen
from tcptop_ops.widgets.screens.host_counters import HostScreen
from tcptop_ops.widgets.screens.operators import OperatorsScreen


class Overlays:
    """Opens them over the screen that is there, and shows each tick on those that are open.

    ``main``: the screen below all of them. ``poller`` looks closer at the connection of a detail.
    """

    def __init__(self, app: App[Any], main: MainScreen, poller: Worker, drawing: Drawing) -> None:
        """Set up with nothing open."""
        self._app, self._main, self._poller, self._drawing = app, main, poller, drawing
        self._own_netns = own_namespace()
        main.drawn = self.show
        self.calls_per_s: NDArray[np.float64] | None = None

    # Those that are open

    @property
    def _details(self) -> list[DetailScreen]:
        return [screen for screen in self._app.screen_stack if isinstance(screen, DetailScreen)]

    def show(self, view: View) -> None:
        """Show what the main screen shows."""
        for screen in self._app.screen_stack:
            if isinstance(screen, DetailScreen):
                screen.show(view.flows)
            elif isinstance(screen, OperatorsScreen):
                screen.show(view.flows, self.calls_per_s)
            elif isinstance(screen, HostScreen):
                screen.show(view.flows)

    def name_by(self, names: NameBook) -> None:
        """Show these names from now on."""
        for screen in self._details:
            screen.name_by(names)

    def names_wanted(self) -> list[NameKey]:
        """Return what names are wanted of."""
        return [key for screen in self._details if screen.row is not None for key in screen.row.name_keys()]

    def _row(self) -> RowText | None:
        """Return the connection on the screen: that of the detail, or the selected one."""
        screen, view, at = self._app.screen, self._main.state.shown, self._main.panels.table.cursor
        if isinstance(screen, DetailScreen):
            return screen.row
        if view is None or at is None:
            return None
        if view.group_at(at) is not None:
            self._main.notice("a group is no connection: Enter shows those in it")
            return None
        return RowText.of(view, at)

    # Pages

    def help(self, closed_s: float) -> None:
        """Open the help. ``closed_s``: how long closed connections stay listed."""
        open_over(self._app, HelpScreen(in_force(self._app.screen), self._main.panels.table.columns, closed_s))

    def other_end(self) -> None:
        """Go to the other end of the connection, or to the listener that it waits for: its row, or its page.

        The page shows that end from now on; the cursor moves where the row is in the list, else its page is opened.
        """
        row = self._row()
        if row is None:
            return
        end = connection_facts.other_end(row.rows, row.flows)
        screen, view = self._app.screen, self._main.state.shown
        if end is None:
            self._main.notice(connection_facts.WITHOUT_OTHER_END)
        elif isinstance(screen, DetailScreen):
            self._watch(end.cookie)
            screen.turn_to(end.cookie, row.flows)
        elif view is not None and (place := view.position_of(end.cookie)) is not None:
            self._main.panels.table.select(place)
        else:
            self._open_detail(end.cookie)

    def detail(self) -> None:
        """Open the page of the selected connection, which is looked at closer meanwhile; or unfold a group."""
        state = self._main.state
        cookie = state.cookie_at(self._main.panels.table.cursor)
        if state.shown is None or cookie is None:
            return
        if cookie < 0:
            self._main.fold(cookie, cookie not in state.spec.unfolded)
            return
        self._open_detail(cookie)

    def _open_detail(self, cookie: int) -> None:
        state, with_ = self._main.state, self._drawing
        if state.shown is None:
            return
        self._watch(cookie)
        page = DetailScreen(
            state.shown.flows, cookie, with_.series, with_.limit.of, with_.pencil, state.spec.thresholds
        )
        open_over(self._app, page, lambda _: self._watch(0))

    def _watch(self, cookie: int) -> None:
        self._main.state = self._main.state.watching(cookie)
        self._poller.watch(cookie)

    def operators(self) -> None:
        """Open the list of what the kernel calls."""
        shown = self._main.state.shown
        if shown is not None:
            open_over(self._app, OperatorsScreen(shown.flows, self.calls_per_s))

    def host(self) -> None:
        """Open the figures of the host."""
        shown = self._main.state.shown
        if shown is not None:
            open_over(self._app, HostScreen(shown.flows, self._drawing.pencil))

    def explain(self, word: str) -> None:
        """Open the page about a word."""
        open_over(self._app, ExplainScreen(word))

    def explain_cause(self) -> None:
        """Open the page about the cause of the connection whose detail is on the screen."""
        screen = self._app.screen
        if isinstance(screen, DetailScreen) and screen.row is not None:
            self.explain(screen.row.cause.name)

    # Boxes

    def elsewhere(self) -> None:
        """Tell what shows the connection in other tools."""
        if (row := self._row()) is not None:
            shown = commands.commands(row.rows, row.flows, self._own_netns)
            open_over(self._app, CommandsDialog(close_connection.named(row), shown))

    def close_connection(
        self, *, is_allowed: bool, has_failed: bool, tell: Callable[[str, TcptopError | None], object]
    ) -> None:
        """Ask whether to close the connection, and have it closed.

        ``tell`` is called in the poller's thread, with the connection in words, and why it was not closed.
        """
        row = self._row()
        if row is None:
            return
        if why_not := close_connection.refusal(row, is_allowed=is_allowed, has_failed=has_failed):
            self._main.notice(why_not)
            return
        # Those of the question, whatever comes meanwhile.
        who, sock = close_connection.named(row), row.rows.sockets[0].copy()

        def answered(yes: bool | None) -> None:
            self._main.notice(f"closing {who}" if yes else close_connection.NOTHING_DONE)
            if yes:
                self._poller.close_connection(sock, lambda error: tell(who, error))

        open_over(self._app, close_connection.question(row), answered)
