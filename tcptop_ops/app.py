"""The screen: bindings, messages, and what is shown when."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from textual import events
from textual.actions import ActionParseResult
from textual.app import ActionError, App, ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.dom import DOMNode
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tcptop_ops import elsewhere, keymap, mark, settings_file
from tcptop_ops import format as text
from tcptop_ops.columns import DEFAULT, DEFAULT_SORT, SINCE_MARK, Column, find
from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.facts import binds
from tcptop_ops.flight import Alarm, Box, Flight, save, with_tilde
from tcptop_ops.history import History
from tcptop_ops.namebook import NOBODY, Key
from tcptop_ops.names import Resolver
from tcptop_ops.own_cost import Meter
from tcptop_ops.poller import Feed
from tcptop_ops.reach import own_namespace
from tcptop_ops.session import session_of, sshds
from tcptop_ops.settings import Settings
from tcptop_ops.snapshot import Records
from tcptop_ops.tracker import Flows
from tcptop_ops.view import Spec, View, make, worst
from tcptop_ops.widgets.box import ElsewhereBox, Question
from tcptop_ops.widgets.column_picker import Choice, ColumnPicker
from tcptop_ops.widgets.detail import DetailScreen
from tcptop_ops.widgets.explain import ExplainScreen
from tcptop_ops.widgets.filter_bar import FilterBar, joined
from tcptop_ops.widgets.flow_table import FlowTable
from tcptop_ops.widgets.graphs import pencil
from tcptop_ops.widgets.group_menu import GroupMenu
from tcptop_ops.widgets.help import HelpScreen
from tcptop_ops.widgets.key_bar import KeyBar
from tcptop_ops.widgets.keys import KeyHelp, bindings, character, listed
from tcptop_ops.widgets.operators import OperatorList, OperatorsScreen
from tcptop_ops.widgets.palette import Commands
from tcptop_ops.widgets.row import Row
from tcptop_ops.widgets.sort_menu import SortMenu
from tcptop_ops.widgets.story import Story
from tcptop_ops.widgets.summary import Status, Summary
from tcptop_ops.widgets.terminal import Terminal, cropped
from tcptop_ops.widgets.themes import THEMES, after, usual

if TYPE_CHECKING:
    from tcptop_ops.filters import Filter

LEAST_WIDTH, LEAST_HEIGHT = 40, 10
SHORT, LOW, TALL = 16, 20, 34
"""Heights below which the summary has one line, and the story one less; and from which the story has sparklines."""

SPARK_TICKS = 120
RENAMING_S = 0.3
"""Between two repaints for the sake of names that came."""
MOST_SPARED_S = 3.0
HINT = "first time here?  ? help  / filter  Enter all about one  x retransmits  q quit"
COST_S = 5.0
"""So often is the own cost told, unless the line about it is shown."""

DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OwnLimit:
    """net.core.somaxconn of the own network namespace: of others it is not known."""

    def __init__(self) -> None:
        self._netns = self._value = 0
        try:
            self._netns = os.stat("/proc/self/ns/net").st_ino
            with open("/proc/sys/net/core/somaxconn", "rb") as file:
                self._value = int(file.read())
        except OSError:  # privilege may be gone: then it is not known
            self._netns = 0

    def of(self, netns: int) -> int | None:
        """That of this namespace; None where it is not known."""
        return self._value if self._netns and netns == self._netns else None


def _calls_per_s(before: View | None, now: View) -> NDArray[np.float64] | None:
    """Calls a second of each operator between two ticks, by number; None at the first."""
    if before is None or now.flows.seconds <= 0:
        return None
    calls = [view.flows.snapshot.counters["calls"].astype(np.float64) for view in (before, now)]
    passed = (now.flows.snapshot.now_ns - before.flows.snapshot.now_ns) / 1e9
    return np.maximum(calls[1] - calls[0], 0.0) / passed if passed > 0 else None


def _named(row: Row) -> str:
    """A connection in a few words, in numbers."""
    pid = "" if row.shown("pid") in (text.DASH, text.UNKNOWN) else f" {row.shown('pid')}"
    there = "" if row.listens else f" -> {row.shown('peer')}"
    return f"{row.shown('process')}{pid}  {row.shown('local')}{there}"


class TcptopApp(App[TcptopError]):
    """Shows what ``feed`` brings until it is told to quit. Returns the error that ended it, or none.

    ``closed_s``: how long the tracker keeps closed rows. ``iterations``: end after so many ticks, the baseline apart.
    ``allow_close``: whether a key may close connections. ``settings``: the theme, the keys, and whether there are
    names; all else that it says has reached the other parameters. ``box``: what the flight recorder needs.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tcptop-ops"
    COMMANDS: ClassVar[set[Any]] = {Commands}
    KEYS: ClassVar[tuple[keymap.Key, ...]] = keymap.APP
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS)

    class Published(Message):
        """A view is waiting in ``_mail``. Newer ones replace older ones there: frames are dropped, not queued."""

    class Died(Message):
        """The source has failed."""

        def __init__(self, error: TcptopError) -> None:
            super().__init__()
            self.error = error

    class Alarmed(Message):
        """The last minutes are worth saving. ``why``: in words."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    class NamesCame(Message):
        """There are more names, or fewer."""

    class CloseTried(Message):
        """The kernel was asked to close a connection. ``error``: why it did not."""

        def __init__(self, who: str, error: TcptopError | None) -> None:
            super().__init__()
            self.who = who
            self.error = error

    def __init__(
        self,
        feed: Feed,
        spec: Spec,
        *,
        delay_s: float,
        closed_s: float = 5.0,
        iterations: int | None = None,
        mouse: bool = True,
        host: str | None = None,
        allow_close: bool = False,
        resolver: Resolver | None = None,
        settings: Settings | None = None,
        box: Box | None = None,
    ) -> None:
        environment = dict(os.environ)  # Textual takes NO_COLOR out, and would make colours it does not know grey
        if not environment.get("NO_COLOR"):
            os.environ.pop("NO_COLOR", None)  # set to nothing it asks for nothing: no-color.org
        super().__init__(driver_class=Terminal, ansi_color=True if environment.get("NO_COLOR") else None)
        for theme in THEMES:
            self.register_theme(theme)
        self._settings = settings or Settings()
        self.theme = usual(environment) if self._settings.theme == "auto" or self.no_color else self._settings.theme
        self._spec = spec
        self._closed_s = closed_s
        self._iterations = iterations
        self._mouse = mouse
        self._status = Status(os.uname().nodename if host is None else host, delay_s)
        self._mail: View | None = None
        self._told = False
        self._newest: View | None = None
        self._shown: View | None = None
        self._paused = False
        self._filter_before: Filter | None = None  # while the filter bar is open: what Escape goes back to
        self._noticed_row: int | None = None
        self._error: TcptopError | None = None
        self._finding: tuple[Filter, Filter | None] | None = None  # that of the finding shown, and the one before
        self._watched = self._selected_cookie = 0
        self._history = History()
        self._calls_per_s: NDArray[np.float64] | None = None
        self._somaxconn = OwnLimit()
        self._drawn = pencil(getattr(sys.stderr, "encoding", None))  # Textual draws on standard error
        self._meter = Meter()
        self._cost_ns = self._written = 0
        self._program_cost = (0, 0)
        self._full_at = self._spared_until = 0.0
        self._mark: mark.Mark | None = None
        self._before_mark: Spec | None = None
        self._sshds = sshds()
        self._held_back = ExitStack()
        self._slow = self._hinted = False
        self._allow_close = allow_close
        self._own_netns = own_namespace()
        self._resolver = resolver or Resolver()
        self._named = self._settings.names
        self._renaming = False
        self._at_first = self._chosen()
        self._box = box
        self._flight = Flight()
        self._alarm = Alarm(box.trigger if box is not None else None)
        self.poller = feed(self._publish, self._fail, delay_s)

    def run_screen(self) -> TcptopError | None:
        """Run in this terminal until the end; the terminal is as it was when this returns."""
        error = self.run(mouse=self._mouse)
        if error is None and self.return_code:
            return Failed("the screen broke down", "this is a bug in tcptop-ops: please report it")
        return error

    @property
    def shown(self) -> View | None:
        """What is on the screen; none before the first tick."""
        return self._shown

    @property
    def newest(self) -> View | None:
        """The last tick, shown or not: while paused it is not."""
        return self._newest

    # The frame

    def compose(self) -> ComposeResult:
        """Summary, table, story, keys."""
        with Container(id="main"):
            yield Summary(self._status, id="summary")
            yield FlowTable(self._spec, id="table")
            yield Story(self._drawn, id="story")
            yield FilterBar(id="filter")
            yield from self.bars()
            yield KeyBar(id="keys")
        yield Static(f"terminal too small (needs {LEAST_WIDTH}x{LEAST_HEIGHT})", id="small")

    def bars(self) -> Iterable[Widget]:
        """More lines above that of the keys."""
        return ()

    def on_mount(self) -> None:
        """Start polling."""
        self.set_keymap(dict(self._settings.keys))
        self._table.focus()
        if self._spec.filter is not None:
            self._bar.remember(self._spec.filter.text)
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in ENDING_SIGNALS:
                loop.add_signal_handler(number, self._quit)
        self._resolver.on_change(lambda: self.post_message(self.NamesCame()))
        self._show_names()
        self.poller.start()

    def on_ready(self) -> None:
        """The bindings are in force now."""
        self._show_keys()

    def on_unmount(self) -> None:
        """Nothing polls any more when the terminal is given back."""
        self._resolver.close()
        self.poller.stop()

    async def on_event(self, event: events.Event) -> None:
        """Where there is no room for a picture only the keys that lead out of it do something."""
        if isinstance(event, events.Key) and self._is_too_small and not self._leads_out(event.key):
            return
        await super().on_event(event)

    def _leads_out(self, key: str) -> bool:
        found = self.screen.active_bindings.get(key)
        return key == "escape" or (found is not None and found.binding.action.startswith(("quit", "dismiss")))

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """As Textual does; a click on a key of what has no longer the focus does nothing."""
        try:
            return await super().run_action(action, default_namespace, namespaces)
        except ActionError:
            return False

    @property
    def _is_too_small(self) -> bool:
        return self.size.width < LEAST_WIDTH or self.size.height < LEAST_HEIGHT

    def on_resize(self, event: events.Resize) -> None:
        """Another height, another frame."""
        for screen in self.screen_stack:
            self._fit(screen, event.size.width, event.size.height)
        self.call_after_refresh(self._focus_again)

    def _focus_again(self) -> None:
        """What was hidden, in a terminal too small, has lost the keys."""
        base = self.screen_stack[0]
        if base.focused is None and not base.has_class("-small"):
            if self._bar.is_open:
                self._bar.focus_text()
            else:
                base.set_focus(self._table, scroll_visible=False)

    def _fit(self, screen: Screen[Any], width: int, height: int) -> None:
        screen.set_class(height < SHORT, "-short")
        screen.set_class(height < LOW, "-low")
        screen.set_class(height >= TALL, "-tall")
        screen.set_class(width < LEAST_WIDTH or height < LEAST_HEIGHT, "-small")

    @property
    def _table(self) -> FlowTable:
        return self.screen_stack[0].query_one(FlowTable)

    @property
    def _bar(self) -> FilterBar:
        return self.screen_stack[0].query_one(FilterBar)

    def _keys(self) -> list[KeyHelp]:
        """Those in force: where text is typed, a letter is a letter."""
        active, typing = self.screen.active_bindings, self.screen.focused
        if typing is not None:
            active = {k: b for k, b in active.items() if not typing.check_consume_key(k, character(k))}
        return listed(active)

    def _show_keys(self) -> None:
        self.screen_stack[0].query_one(KeyBar).show(self._keys())

    # Ticks

    def _publish(self, flows: Flows) -> None:
        """In the poller's thread: the view is made there, and the event loop only draws it."""
        self._history.add(flows, (self._watched, self._selected_cookie))
        flows = replace(flows, mark=self._mark, session=session_of(flows, self._sshds))
        self._mail = make(flows, self._spec)
        if not self._told:
            self._told = True
            self.post_message(self.Published())
        if self._box is not None:
            self._flight.add(flows.snapshot)
            if why := self._alarm.look(flows):
                self.post_message(self.Alarmed(why))

    def _fail(self, error: TcptopError) -> None:
        self.post_message(self.Died(error))

    def on_tcptop_app_published(self) -> None:
        """A tick."""
        self._told = False
        view = self._mail
        if view is None or view is self._newest or not self.is_running:  # at the end the widgets go first
            return
        self._calls_per_s = _calls_per_s(self._newest, view)
        self._status = self._with_cost(view)
        self._newest = view
        if not self._hinted:
            self._hint()
        elif self._status.notice == HINT and view.flows.findings:
            self._notice("")
        if self._slow or time.monotonic() < self._spared_until:
            return
        if self._paused:
            self._show_status()
        else:
            self._show(view)
        if self._iterations is not None and view.flows.tick >= self._iterations:
            self._quit()

    def _hint(self) -> None:
        """To who starts it for the first time; never again."""
        self._hinted = True
        if self._settings.mark is not None:
            self.run_worker(self._look_for_mark())

    async def _look_for_mark(self) -> None:
        if await asyncio.to_thread(settings_file.is_first_start, self._settings.mark):
            self._notice(HINT)

    def clock_ns(self, now: View) -> int:
        """Between two ticks this much of the time that the own cost is for has passed."""
        return now.flows.snapshot.now_ns

    def _with_cost(self, now: View) -> Status:
        """The status with what was spent since the last look: seldom, since each costs bytes to the terminal."""
        snapshot = now.flows.snapshot
        now_ns = self.clock_ns(now)
        passed = (now_ns - self._cost_ns) / 1e9
        if self._cost_ns and self._status.own is not None and not self._status.own_shown and passed < COST_S:
            return self._status
        own, written = self._meter.look(), self._driver.written if isinstance(self._driver, Terminal) else 0
        program = (snapshot.program_ns, snapshot.program_calls)
        before, grown = self._program_cost, written - self._written
        first = not self._cost_ns
        self._cost_ns, self._written, self._program_cost = now_ns, written, program
        if first or passed <= 0:
            return self._status
        nan = float("nan")
        measured = [(now - then) / passed if then and now else nan for now, then in zip(program, before, strict=True)]
        return replace(
            self._status,
            own=own,
            terminal_per_s=grown / passed,
            program_ns_per_s=measured[0],
            program_calls_per_s=measured[1],
        )

    # A slow line

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        super()._display(screen, cropped(renderable))

    def on_terminal_full(self) -> None:
        """Draw nothing until the line has taken what waits: what is seen then is the newest, nothing in between."""
        if not self._slow:
            self._slow = True
            self._full_at = time.monotonic()
            self._held_back.enter_context(self.batch_update())

    def on_terminal_gone(self) -> None:
        """End, as SIGHUP would have it."""
        self._quit()

    def on_terminal_drained(self) -> None:
        """Go on; with ticks only after as long again, so that half of a slow line is left for what keys draw."""
        if self._slow:
            self._slow = False
            self._held_back.close()
            took = min(time.monotonic() - self._full_at, MOST_SPARED_S)
            self._spared_until = time.monotonic() + took
            self.set_timer(took, self._catch_up)

    def _catch_up(self) -> None:
        newest = self._newest
        if newest is not None and not self._slow and not self._paused and newest is not self._shown:
            self._show(newest)

    def on_tcptop_app_died(self, event: Died) -> None:
        """Without a picture there is nothing to stay for; else the last one stays, and the reason with it."""
        self._error = event.error
        if self._shown is None or self._iterations is not None:
            self._quit()
            return
        self._status = replace(self._status, failure=event.error.message)
        self.screen_stack[0].add_class("-dead")
        self._show_status()

    def _show(self, view: View) -> None:
        if view.spec is not self._spec:
            view = make(view.flows, self._spec)
        self._shown = view
        self._table.show(view)
        self._follow_worst()
        self._show_story()
        self._show_status()
        for screen in self.screen_stack:
            if isinstance(screen, DetailScreen):
                screen.show(view.flows)
            elif isinstance(screen, OperatorsScreen):
                screen.show(view.flows, self._calls_per_s)

    def _show_story(self) -> None:
        view, row = self._shown, self._table.cursor
        if view is None:
            return
        series = None
        if row is not None:
            self._selected_cookie = max(view.cookies(row, row + 1)[0], 0)  # a group has no history
            if self._selected_cookie and self.screen_stack[0].has_class("-tall"):
                until_s = view.flows.snapshot.now_ns / 1e9
                series = self._history.series(self._selected_cookie, SPARK_TICKS, until_s)
        self.screen_stack[0].query_one(Story).show(view, row, series, self._binding(row))

    def _binding(self, row: int | None) -> str:
        """Of a listener whose queue overflows: what makes its limit."""
        if row is None or self._shown is None:
            return ""
        known = self._somaxconn.of(int(self._selected("netns") or 0))
        limit = self._selected("backlog_max")
        return "" if limit is None or known is None else binds(int(limit), known)

    def _show_status(self) -> None:
        behind = None
        if self._paused and self._shown is not None and self._newest is not None:
            behind = (self._newest.flows.snapshot.now_ns - self._shown.flows.snapshot.now_ns) / 1e9
        flows = self._shown.flows if self._shown is not None else None
        self.screen_stack[0].query_one(Summary).show(flows, replace(self._status, behind_s=behind))

    def on_flow_table_opened(self) -> None:
        """A double click."""
        self.action_detail()

    def on_flow_table_moved(self) -> None:
        """Another connection's story."""
        if self._status.following:
            self._status = replace(self._status, following=False)
            self._show_status()
        self._show_story()
        if self._table.cursor != self._noticed_row:
            self._notice("")

    def _notice(self, words: str) -> None:
        """Say why a key did nothing, until the next one that does something."""
        self._noticed_row = self._table.cursor
        if words != self._status.notice:
            self._status = replace(self._status, notice=words)
            self._show_status()

    # Keys

    def _quit(self) -> None:
        self.exit(self._error)

    async def action_quit(self) -> None:
        """End."""
        self._quit()

    def action_help(self) -> None:
        """Keys, marks, columns."""
        screen = HelpScreen(self._keys(), self._table.columns, self._closed_s)
        self._fit(screen, *self.size)
        self.push_screen(screen)

    # Diagnosis

    def action_finding(self) -> None:
        """The flows of the most telling finding; again: back to the filter from before."""
        if self._finding is not None and self._spec.filter is self._finding[0]:
            before, self._finding = self._finding[1], None
            self._filter_by(before)
            return
        found = self._shown.flows.findings if self._shown is not None else ()
        if not found:
            self._notice("nothing was found that several flows share")
            return
        from tcptop_ops import filters

        wanted = filters.compile(found[0].filter)
        self._finding = (wanted, self._spec.filter)
        self._filter_by(wanted)
        self._table.action_first()

    def action_detail(self) -> None:
        """All about the selected connection; it is looked at closer until that is left. Of a group: its connections."""
        if self._shown is None or self._table.cursor is None:
            return
        cookie = self._shown.cookies(self._table.cursor, self._table.cursor + 1)[0]
        if cookie < 0:
            self._fold(cookie, cookie not in self._spec.unfolded)
            return
        self._watched = cookie
        self.poller.watch(cookie)
        screen = DetailScreen(
            self._shown.flows, cookie, self._history.series, self._somaxconn.of, self._drawn, self._spec.thresholds
        )
        self._fit(screen, *self.size)
        self.push_screen(screen, self._detail_left)

    def _detail_left(self, _: None) -> None:
        self._watched = 0
        self.poller.watch(0)

    def action_operators(self) -> None:
        """What the kernel calls."""
        if self._shown is None:
            return
        screen = OperatorsScreen(self._shown.flows, self._calls_per_s)
        self._fit(screen, *self.size)
        self.push_screen(screen)

    def on_operator_list_chosen(self, event: OperatorList.Chosen) -> None:
        """Its page."""
        self._explain(event.operator.name)

    def action_explain_cause(self) -> None:
        """The page about the cause of the connection on the screen."""
        if isinstance(self.screen, DetailScreen) and self.screen.row is not None:
            self._explain(self.screen.row.cause.name)

    def _explain(self, word: str) -> None:
        screen = ExplainScreen(word)
        self._fit(screen, *self.size)
        self.push_screen(screen)

    # One connection, elsewhere and no longer

    def _row(self) -> Row | None:
        """The connection on the screen: that of the detail, or the selected one."""
        if isinstance(self.screen, DetailScreen):
            return self.screen.row
        view, at = self._shown, self._table.cursor
        if view is None or at is None:
            return None
        if view.group_at(at) is not None:
            self._notice("a group is no connection: Enter shows those in it")
            return None
        return Row.of(view, at)

    def action_elsewhere(self) -> None:
        """What shows it in other tools."""
        row = self._row()
        if row is not None:
            box = ElsewhereBox(_named(row), elsewhere.commands(row.rows, row.flows, self._own_netns))
            self._fit(box, *self.size)
            self.push_screen(box)

    def action_close_connection(self) -> None:
        """Ask first."""
        row = self._row()
        if row is None:
            return
        refusal = self._why_not_closed(row)
        if refusal:
            self._notice(refusal)
            return
        who, sock = _named(row), row.rows.sockets[0].copy()
        lines = (who, f"{row.state}, {row.shown('cause')}; its peer gets a reset, and what was not sent yet is lost")
        question = Question("close this connection?", lines, "closes it")
        self._fit(question, *self.size)
        self.push_screen(question, lambda yes: self._close_answered(who, sock, bool(yes)))

    def _why_not_closed(self, row: Row) -> str:
        if not self._allow_close:
            return "connections can be closed if the program was started with --allow-close"
        if row.closed:
            return "it is closed already"
        if row.listens:
            return "a listener is no connection: end its process instead"
        return "the source has failed" if self._error is not None else ""

    def _close_answered(self, who: str, sock: Records, yes: bool) -> None:
        if yes:
            self._notice(f"closing {who}")
            self.poller.close_connection(sock, lambda error: self.post_message(self.CloseTried(who, error)))
        else:
            self._notice("nothing was closed")

    def on_tcptop_app_close_tried(self, event: CloseTried) -> None:
        """How it went."""
        self._notice(f"closed: {event.who}" if event.error is None else f"not closed: {event.error.message}")

    # Names

    def action_names(self) -> None:
        """Names, or numbers again."""
        self._named = not self._named
        self._show_names()
        self._notice("names, as far as they are known" if self._named else "numbers, no names")

    def _show_names(self) -> None:
        self._renaming = False
        names, ask = (self._resolver.book, self._want_names) if self._named else (NOBODY, None)
        self._table.name_by(names, ask)
        self.screen_stack[0].query_one(Story).name_by(names)
        for screen in self.screen_stack:
            if isinstance(screen, DetailScreen):
                screen.name_by(names)

    def _want_names(self, keys: list[Key]) -> None:
        """Those of what is on the screen, the detail's first."""
        details = [screen.row for screen in self.screen_stack if isinstance(screen, DetailScreen)]
        self._resolver.want([key for row in details if row is not None for key in row.name_keys()] + keys)

    def on_tcptop_app_names_came(self) -> None:
        """Show them, with those that come meanwhile."""
        if not self._renaming:
            self._renaming = True
            self.set_timer(RENAMING_S, self._show_names)

    # Keys

    def action_pause(self) -> None:
        """Stop the picture, not the world; again: catch up."""
        if self._shown is None or self._newest is None:
            return
        self._paused = not self._paused
        # The source uses its arrays again at its second next poll: a picture that stays needs its own.
        self._show(make(self._shown.flows.copy(), self._spec) if self._paused else self._newest)

    def action_delay(self, steps: int) -> None:
        """The next longer or shorter of the usual delays."""
        now = self._status.delay_s
        longer = [d for d in DELAYS if d > now] or [now]
        shorter = [d for d in DELAYS if d < now] or [now]
        delay_s = longer[0] if steps > 0 else shorter[-1]
        self._status = replace(self._status, delay_s=delay_s)
        self.poller.set_delay(delay_s)
        self._show_status()

    def action_closed(self) -> None:
        """Show or hide closed connections."""
        self._look(replace(self._spec, show_closed=not self._spec.show_closed))

    def action_loopback(self) -> None:
        """Show or hide what stays on this host."""
        self._look(replace(self._spec, show_loopback=not self._spec.show_loopback))

    def action_theme(self) -> None:
        """The next one."""
        self.theme = after(self.theme)
        self._notice("NO_COLOR is set" if self.no_color else f"theme: {self.theme}")

    async def action_save(self) -> None:
        """Keep what was changed by keys for the next start. In a thread: a disk may take its time."""
        chosen = self._chosen()
        changed = {name: value for name, value in chosen.items() if value != self._at_first[name]}
        try:
            await asyncio.to_thread(settings_file.update, self._settings.path, changed)
        except Failed as error:
            self._notice(error.message)
        else:
            self._at_first = chosen
            self._notice(f"saved in {self._settings.path}" if changed else "nothing was changed that could be saved")

    def _chosen(self) -> dict[str, Any]:
        """What the screen shows, as Settings has it. The columns of a mark last as long as the mark."""
        spec, lasting = self._spec, self._before_mark if self._mark is not None else None
        columns = (lasting or spec).columns
        sorted_by = lasting if lasting is not None and spec.sort.screen_only else spec
        return {
            "delay": self._status.delay_s,
            "sort": f"{sorted_by.sort.id}:{'desc' if sorted_by.falling else 'asc'}",
            "columns": None if columns == tuple(map(find, DEFAULT)) else tuple(column.id for column in columns),
            "theme": self.theme,
            "names": self._named,
            "group": spec.group,
            "show_closed": spec.show_closed,
            "loopback": spec.show_loopback,
            "widths": dict(spec.widths),
        }

    def action_save_flight(self) -> None:
        """The last minutes, as a recording."""
        self._notice("saving the last minutes ...")
        self.run_worker(self._save_flight(""))

    def on_tcptop_app_alarmed(self, event: Alarmed) -> None:
        """Save them by itself."""
        self.run_worker(self._save_flight(event.why))

    async def _save_flight(self, why: str) -> None:
        """In a thread, from what is kept now. ``why``: it was not asked for by a key."""
        kept, time_s = self._flight.frames(), time.time()
        try:
            if self._box is None:
                raise Failed("there is no flight recorder here", "")
            path = await asyncio.to_thread(save, kept, self._box, bool(why), time_s)
        except Failed as error:
            self._notice(error.message)
        else:
            lasted = text.duration(kept[-1].at_s - kept[0].at_s)
            self._notice(f"saved {with_tilde(path)}: the last {lasted}{', ' + why if why else ''}")

    def action_own_cost(self) -> None:
        """What this program costs: measured in the kernel too, while it is shown."""
        shown = not self._status.own_shown
        self._status = replace(self._status, own_shown=shown)
        self.poller.measure(shown)
        self.screen_stack[0].set_class(shown, "-own")
        self._show_status()

    def action_follow(self) -> None:
        """Keep the cursor on the worst connection, whatever the order; until it is moved by hand."""
        self._status = replace(self._status, following=not self._status.following)
        self._follow_worst()
        self._show_status()

    def _follow_worst(self) -> None:
        if self._status.following and self._shown is not None and (row := worst(self._shown)) is not None:
            self._table.follow(row)

    def action_mark(self) -> None:
        """From now on tell what has changed since now; again: no longer."""
        if self._newest is None or self._paused:
            self._notice("there is no mark while the picture stands still")
            return
        if self._mark is None:
            self._mark, self._before_mark = mark.take(self._newest.flows), self._spec
            columns = tuple(find(name) for name in SINCE_MARK)
            default = self._spec.columns == tuple(find(name) for name in DEFAULT)
            self._spec = replace(self._spec, columns=columns) if default else self._spec
        else:
            self._mark = None
            columns = self._before_mark.columns if self._before_mark is not None else self._spec.columns
            sort = self._spec.sort if not self._spec.sort.screen_only else find(DEFAULT_SORT)
            self._spec = replace(self._spec, columns=columns, sort=sort)
        self._newest = self._shown = make(replace(self._newest.flows, mark=self._mark), self._spec)
        self._look(self._spec)

    def action_columns(self) -> None:
        """Choose them."""
        picker = ColumnPicker(self._table.columns, self._spec.widths, [find(name) for name in DEFAULT])
        self._fit(picker, *self.size)
        self.push_screen(picker, self._columns_chosen)

    def _columns_chosen(self, choice: Choice | None) -> None:
        if choice is not None:
            same = choice.columns == self._table.columns  # then the set still adapts to the width
            columns = self._spec.columns if same else choice.columns
            self._look(replace(self._spec, columns=columns, widths=choice.widths))

    def action_reverse(self) -> None:
        """The other way round."""
        self._look(replace(self._spec, falling=not self._spec.falling))

    def action_sort_menu(self) -> None:
        """Any column there is."""
        menu = SortMenu(self._spec.sort)
        self._fit(menu, *self.size)
        self.push_screen(menu, self._sort_chosen)

    def _sort_chosen(self, column: Column | None) -> None:
        if column is not None:
            self._sort_by(column)

    def action_group_menu(self) -> None:
        """Put connections together, or apart."""
        menu = GroupMenu(self._spec.group)
        self._fit(menu, *self.size)
        self.push_screen(menu, self._group_chosen)

    def _group_chosen(self, key: str | None) -> None:
        if key is not None and key != self._spec.group:
            self._look(replace(self._spec, group=key, unfolded=frozenset()))

    def on_flow_table_folding(self, event: FlowTable.Folding) -> None:
        """A group was opened, or closed."""
        self._fold(event.identity, event.unfold)

    def _fold(self, identity: int, unfold: bool) -> None:
        """The cursor stays on the group."""
        unfolded = self._spec.unfolded | {identity} if unfold else self._spec.unfolded - {identity}
        self._look(replace(self._spec, unfolded=unfolded))
        place = self._shown.position_of(identity) if self._shown is not None else None
        if place is not None:
            self._table.select(place)

    def action_sort_retransmits(self) -> None:
        """Those of the window."""
        self._sort_by(find("retrans_win"))

    def action_sort_nth(self, n: int) -> None:
        """By the nth column on the screen."""
        columns = self._table.columns
        if n <= len(columns):
            self._sort_by(columns[n - 1])

    def action_move_sort(self, steps: int) -> None:
        """By its neighbour on the screen."""
        columns = self._table.columns
        if self._spec.sort in columns:
            self._sort_by(columns[min(max(columns.index(self._spec.sort) + steps, 0), len(columns) - 1)])
        elif columns:
            self._sort_by(columns[0])

    def on_flow_table_header_clicked(self, event: FlowTable.HeaderClicked) -> None:
        """Sort by it; again: the other way round."""
        if event.column is self._spec.sort:
            self.action_reverse()
        else:
            self._sort_by(event.column)

    def _sort_by(self, column: Column) -> None:
        if column is not self._spec.sort:
            self._look(replace(self._spec, sort=column, falling=column.falling))

    def _look(self, spec: Spec) -> None:
        """Another look at what is shown, at once: not at the next tick."""
        self._spec = spec
        is_finding = self._finding is not None and spec.filter is self._finding[0]
        self._status = replace(self._status, notice="", finding_shown=is_finding)
        if self._shown is not None:
            self._show(self._shown)

    # The filter

    def action_filter(self) -> None:
        """Write one, beginning with the one in force."""
        if self._bar.is_open:
            self._bar.focus_text()
            return
        self._filter_before = self._spec.filter
        self._table.hold()
        self._bar.open(self._spec.filter)
        self._typing(True)

    def on_filter_bar_changed(self, event: FilterBar.Changed) -> None:
        """Seen at once."""
        if event.filter != self._spec.filter:
            self._look(replace(self._spec, filter=event.filter))

    def on_filter_bar_left(self, event: FilterBar.Left) -> None:
        """Back to the table."""
        self.screen_stack[0].set_focus(self._table, scroll_visible=False)
        self._typing(False)
        self._filter_by(self._spec.filter if event.keep else self._filter_before)
        self._table.release()

    def _typing(self, on: bool) -> None:
        self.screen_stack[0].set_class(on, "-filtering")
        self._table.set_typing(on)
        self._show_keys()

    def _filter_by(self, filter: Filter | None) -> None:
        if filter is not None:
            self._bar.remember(filter.text)
        self._look(replace(self._spec, filter=filter))

    def action_clear_filter(self) -> None:
        """All of it; the history still has it."""
        if self._spec.filter is not None:
            self._filter_by(None)

    def action_only_process(self) -> None:
        """The connections of the selected one's process."""
        if self._narrow_to_group("process"):
            return
        pid = self._selected("pid")
        if pid is not None:
            self._narrow(f"pid = {pid}")
        elif self._table.cursor is not None:
            grouped = self._group_here() is not None
            self._notice("these have no process in common" if grouped else "no process is known for this row")

    def action_only_remote(self) -> None:
        """The connections to the selected one's remote address."""
        if self._narrow_to_group("raddr"):
            return
        address = self._selected("raddr")
        if address not in (None, "0.0.0.0", "::"):
            self._narrow(f"raddr = {address}")
        elif self._table.cursor is not None:
            grouped = self._group_here() is not None
            self._notice("these have no remote address in common" if grouped else "this row has no remote address")

    def _group_here(self) -> int | None:
        """The group under the cursor."""
        view, row = self._shown, self._table.cursor
        return None if view is None or row is None else view.group_at(row)

    def _narrow_to_group(self, column: str) -> bool:
        """Filter by what the group under the cursor has in common, if that is this column."""
        number = self._group_here()
        groups = self._shown.groups if self._shown is not None else None
        condition = groups.condition(number, column) if groups is not None and number is not None else ""
        if condition:
            self._narrow(condition)
        return bool(condition)

    def _selected(self, name: str) -> Any:
        """A value of the selected row, as JSON has it; None: null, or no row."""
        view, row = self._shown, self._table.cursor
        if view is None or row is None or name in view.flows.snapshot.missing:
            return None
        column = find(name)
        return column.plain(view.values(column, row, row + 1)[0])

    def _narrow(self, condition: str) -> None:
        self._filter_by(joined(self._spec.filter, condition))
