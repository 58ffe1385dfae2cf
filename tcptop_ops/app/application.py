"""The application: it starts and ends, hears what other threads tell, and does what concerns more than the view."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, ClassVar

from textual import events
from textual.binding import BindingType
from textual.screen import Screen

from tcptop_ops import text
from tcptop_ops.app import close_connection
from tcptop_ops.app.accept_limit import read_accept_limit
from tcptop_ops.app.cost_meter import CostMeter
from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.app.messages import Alarmed, CloseTried, Died, NamesCame, Published
from tcptop_ops.app.overlays import Overlays
from tcptop_ops.app.panels import Drawing
from tcptop_ops.app.terminal_application import TerminalApp
from tcptop_ops.app.tick_receiver import TickReceiver, calls_per_s
from tcptop_ops.app.view_state import ViewState
from tcptop_ops.config import keymap, settings_file
from tcptop_ops.config.settings import Settings
from tcptop_ops.dns.name_book import NOBODY, NameKey
from tcptop_ops.dns.resolver import Resolver
from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.host.ssh_session import sshds
from tcptop_ops.polling.worker import Feed
from tcptop_ops.recording.flight_recorder import FlightConfig, FlightRecorder, with_tilde
from tcptop_ops.views.view import Spec, View
from tcptop_ops.widgets.base.charts import pencil
from tcptop_ops.widgets.base.command_palette import PaletteCommands
from tcptop_ops.widgets.base.key_bindings import bindings
from tcptop_ops.widgets.base.themes import after
from tcptop_ops.widgets.panels.summary import HeaderStatus
from tcptop_ops.widgets.screens.host_counters import HostList
from tcptop_ops.widgets.screens.operators import OperatorList

RENAMING_S = 0.3
"""Between two repaints for the sake of names that came."""

HINT = "first time here?  ? help  / filter  Enter all about one  x retransmits  q quit"
DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class TcptopApp(TerminalApp):
    """Shows what ``feed`` brings until it is told to quit. Returns the error that ended it, or none.

    ``closed_s``: how long the tracker keeps closed rows. ``iterations``: end after so many ticks, the baseline apart.
    ``allow_close``: whether a key may close connections. ``settings``: the theme, the keys, and whether there are
    names; all else that it says has reached the other parameters. ``flight_config``: that of the flight recorder.
    """

    main: MainScreen

    CSS_PATH = "app.tcss"
    TITLE = "tcptop-ops"
    COMMANDS: ClassVar[set[Any]] = {PaletteCommands}
    BINDINGS: ClassVar[list[BindingType]] = bindings(key for key in keymap.APP if key.priority)

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
        flight_config: FlightConfig | None = None,
    ) -> None:
        """Set up all that is asked of the host while there is privilege; nothing runs yet."""
        super().__init__(settings or Settings(), mouse=mouse)
        self._closed_s = closed_s
        self._iterations = iterations
        self._allow_close = allow_close
        self._resolver = resolver or Resolver()
        self._shows_names = self.settings.names
        self._is_renaming = False
        self._flight: FlightRecorder | None = None
        if flight_config is not None:
            self._flight = FlightRecorder(flight_config, lambda why: self.post_message(Alarmed(why)))
        self.receiver = TickReceiver(
            lambda: self.main.state,
            sshds=sshds(),
            published=lambda: self.post_message(Published()),
            observers=() if self._flight is None else (self._flight,),
        )
        self.poller = feed(self.receiver.receive, self._fail, delay_s)
        drawing = Drawing(
            self.receiver.history.series,
            read_accept_limit(),
            pencil(getattr(sys.stderr, "encoding", None)),  # Textual draws on standard error
        )
        status = HeaderStatus(os.uname().nodename if host is None else host, delay_s)
        self.main = self.make_main_screen(ViewState(spec), status, drawing)
        self._overlays = Overlays(self, self.main, self.poller, drawing)
        self._saved = self._chosen()

    def make_main_screen(self, state: ViewState, status: HeaderStatus, drawing: Drawing) -> MainScreen:
        """Return the screen that all others lie over."""
        return MainScreen(state, status, CostMeter(self.bytes_written), drawing)

    def get_default_screen(self) -> Screen[None]:
        """Return the screen to begin with."""
        return self.main

    @property
    def shown(self) -> View | None:
        """What is on the screen; none before the first tick."""
        return self.main.state.shown

    @property
    def newest(self) -> View | None:
        """The last tick, shown or not: while paused it is not."""
        return self.main.state.newest

    # Start and end

    def on_main_screen_ready(self) -> None:
        """Connect the threads that report to this loop, and start polling."""
        self._resolver.on_change(lambda: self.post_message(NamesCame()))
        self._show_names()
        self.poller.start()

    def on_ready(self) -> None:
        """Show the keys: the bindings are in force now."""
        self.main.panels.show_keys()

    def on_resize(self, event: events.Resize) -> None:
        """Give the keys back when there is room again, and the findings their lines.

        Textual calls that of ``TerminalApp`` too.
        """
        if self.main.panels.is_mounted:
            self.call_after_refresh(self.main.show_status)
        self.call_after_refresh(self.main.focus_again)

    def on_unmount(self) -> None:
        """Stop polling before the terminal is given back."""
        self._resolver.close()
        self.poller.stop()

    # Ticks

    def on_published(self) -> None:
        """Show the newest view, unless it is on the screen already; end after the last of ``iterations``."""
        view, before = self.receiver.take(), self.newest
        if view is None or view is before or not self.is_running:  # at the end the widgets go first
            return
        self._overlays.calls_per_s = calls_per_s(before, view)
        self.main.receive(view)
        if before is None and self.settings.mark is not None:
            self.run_worker(self._greet())
        elif self.main.status.notice == HINT and view.findings:
            self.main.notice("")
        if not self.line.takes_ticks:
            return
        self.main.show_newest()
        if self._iterations is not None and view.flows.tick >= self._iterations:
            self.quit()

    async def _greet(self) -> None:
        """Give a hint to who starts it for the first time; never again."""
        if await asyncio.to_thread(settings_file.is_first_start, self.settings.mark):
            self.main.notice(HINT)

    def _fail(self, error: TcptopError) -> None:
        """Tell that the source has failed. In the poller's thread."""
        self.post_message(Died(error))

    def on_died(self, event: Died) -> None:
        """Keep the last picture, and the reason with it. Without a picture there is nothing to stay for."""
        self.error = event.error
        if self.shown is None or self._iterations is not None:
            self.quit()
            return
        self.main.add_class("-dead")
        self.main.tell(failure=event.error.message)

    def action_pause(self) -> None:
        """Stop the picture, from whichever screen."""
        self.main.action_pause()

    def action_delay(self, steps: int) -> None:
        """Take the next longer or shorter of the usual delays."""
        now = self.main.status.delay_s
        longer = [d for d in DELAYS if d > now] or [now]
        shorter = [d for d in DELAYS if d < now] or [now]
        delay_s = longer[0] if steps > 0 else shorter[-1]
        self.poller.set_delay(delay_s)
        self.main.tell(delay_s=delay_s)

    def action_own_cost(self) -> None:
        """Tell what this program costs: measured in the kernel too, while it is shown."""
        shown = not self.main.status.own_shown
        self.poller.measure(shown)
        self.main.set_class(shown, "-own")
        self.main.tell(own_shown=shown)

    def catch_up(self) -> None:
        """Show the tick that came while the line was spared."""
        if self.main.state.is_behind and not self.line.is_full:
            self.main.show_newest()

    # Pages over the main screen

    def action_help(self) -> None:
        """Open the help: keys, marks, columns."""
        self._overlays.help(self._closed_s)

    def action_detail(self) -> None:
        """Open all about the selected connection; of a group, its connections."""
        self._overlays.detail()

    def on_connection_table_opened(self) -> None:
        """Do the same at a double click."""
        self._overlays.detail()

    def action_other_end(self) -> None:
        """Go from one end of a connection to the other, where both are on this host."""
        self._overlays.other_end()

    def action_operators(self) -> None:
        """Open what the kernel calls."""
        self._overlays.operators()

    def on_operator_list_chosen(self, event: OperatorList.Chosen) -> None:
        """Open the page of an operator."""
        self._overlays.explain(event.operator.name)

    def action_host(self) -> None:
        """Open the figures of the host."""
        self._overlays.host()

    def on_host_list_chosen(self, event: HostList.Chosen) -> None:
        """Open the page of a figure of the host."""
        self._overlays.explain(event.figure.name)

    def action_explain_cause(self) -> None:
        """Open the page about the cause of the connection on the screen."""
        self._overlays.explain_cause()

    def action_elsewhere(self) -> None:
        """Open what shows the connection in other tools."""
        self._overlays.elsewhere()

    def action_close_connection(self) -> None:
        """Ask whether to close the connection."""
        self._overlays.close_connection(
            is_allowed=self._allow_close,
            has_failed=self.error is not None,
            tell=lambda who, error: self.post_message(CloseTried(who, error)),
        )

    def on_close_tried(self, event: CloseTried) -> None:
        """Show whether the connection was closed, or why not."""
        self.main.notice(close_connection.outcome(event.who, event.error))

    # Names

    def action_names(self) -> None:
        """Show names, or numbers again."""
        self._shows_names = not self._shows_names
        self._show_names()
        self.main.notice("names, as far as they are known" if self._shows_names else "numbers, no names")

    def _show_names(self) -> None:
        self._is_renaming = False
        names, ask = (self._resolver.book, self._want_names) if self._shows_names else (NOBODY, None)
        self.main.panels.name_by(names, ask)
        self._overlays.name_by(names)

    def _want_names(self, keys: list[NameKey]) -> None:
        """Look up what is on the screen, the detail's first."""
        self._resolver.want(self._overlays.names_wanted() + keys)

    def on_names_came(self) -> None:
        """Show them soon, with those that come meanwhile."""
        if not self._is_renaming:
            self._is_renaming = True
            self.set_timer(RENAMING_S, self._show_names)

    # What stays

    def action_theme(self) -> None:
        """Switch to the next theme; with NO_COLOR, only say that it is set."""
        self.theme = after(self.theme)
        self.main.notice("NO_COLOR is set" if self.no_color else f"theme: {self.theme}")

    def _chosen(self) -> dict[str, Any]:
        """Return what the settings file would keep."""
        return self.main.state.to_save(self.main.status.delay_s, self.theme, self._shows_names)

    async def action_save(self) -> None:
        """Keep what was changed by keys for the next start. In a thread: a disk may take its time."""
        chosen = self._chosen()
        changed = {name: value for name, value in chosen.items() if value != self._saved[name]}
        try:
            await asyncio.to_thread(settings_file.update, self.settings.path, changed)
        except Failed as error:
            self.main.notice(error.message)
        else:
            self._saved = chosen
            told = f"saved in {self.settings.path}" if changed else "nothing was changed that could be saved"
            self.main.notice(told)

    def action_save_flight(self) -> None:
        """Save the last minutes, as a recording."""
        self.main.notice("saving the last minutes ...")
        self.run_worker(self._save_flight(""))

    def on_alarmed(self, event: Alarmed) -> None:
        """Save them without being asked."""
        self.run_worker(self._save_flight(event.why))

    async def _save_flight(self, why: str) -> None:
        """Save what is kept now, in a thread. ``why``: it was not asked for by a key."""
        flight, time_s = self._flight, time.time()
        if flight is None:
            self.main.notice("there is no flight recorder here")
            return
        kept = flight.frames()
        try:
            path = await asyncio.to_thread(flight.save, kept, bool(why), time_s)
        except Failed as error:
            self.main.notice(error.message)
        else:
            lasted = text.duration(kept[-1].at_s - kept[0].at_s)
            self.main.notice(f"saved {with_tilde(path)}: the last {lasted}{', ' + why if why else ''}")
