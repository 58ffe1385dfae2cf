"""The application: it starts and ends, hears what other threads tell, and does what concerns more than the view."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from rich.console import RenderableType
from textual import events
from textual.actions import ActionParseResult
from textual.app import ActionError, App
from textual.binding import BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from tcptop_ops import format as text
from tcptop_ops import keymap, settings_file
from tcptop_ops.app import closing
from tcptop_ops.app.accept_limit import read_accept_limit
from tcptop_ops.app.cost_meter import CostMeter
from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.app.messages import Alarmed, CloseTried, Died, NamesCame, Published
from tcptop_ops.app.overlays import Overlays
from tcptop_ops.app.panels import Drawing
from tcptop_ops.app.sizes import fit, is_too_small
from tcptop_ops.app.slow_terminal import SlowTerminal
from tcptop_ops.app.tick_receiver import TickReceiver, calls_per_s
from tcptop_ops.app.view_state import ViewState
from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.flight import Alarm, Box, save, with_tilde
from tcptop_ops.namebook import NOBODY, Key
from tcptop_ops.names import Resolver
from tcptop_ops.poller import Feed
from tcptop_ops.session import sshds
from tcptop_ops.settings import Settings
from tcptop_ops.view import Spec, View
from tcptop_ops.widgets.graphs import pencil
from tcptop_ops.widgets.keys import bindings
from tcptop_ops.widgets.operators import OperatorList
from tcptop_ops.widgets.palette import Commands
from tcptop_ops.widgets.summary import Status
from tcptop_ops.widgets.terminal import Terminal, cropped
from tcptop_ops.widgets.themes import THEMES, after, usual

RENAMING_S = 0.3
"""Between two repaints for the sake of names that came."""

HINT = "first time here?  ? help  / filter  Enter all about one  x retransmits  q quit"
DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
LEADING_OUT = ("app.quit", "quit", "dismiss")
"""What the actions of keys begin with that count where there is no room for a picture."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TcptopApp(App[TcptopError]):
    """Shows what ``feed`` brings until it is told to quit. Returns the error that ended it, or none.

    ``closed_s``: how long the tracker keeps closed rows. ``iterations``: end after so many ticks, the baseline apart.
    ``allow_close``: whether a key may close connections. ``settings``: the theme, the keys, and whether there are
    names; all else that it says has reached the other parameters. ``box``: what the flight recorder needs.
    """

    main: MainScreen

    CSS_PATH = "app.tcss"
    TITLE = "tcptop-ops"
    COMMANDS: ClassVar[set[Any]] = {Commands}
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
        box: Box | None = None,
    ) -> None:
        """Set up all that is asked of the host while there is privilege; nothing runs yet."""
        environment = dict(os.environ)  # Textual takes NO_COLOR out, and would make colours it does not know grey
        if not environment.get("NO_COLOR"):
            os.environ.pop("NO_COLOR", None)  # set to nothing it asks for nothing: no-color.org
        super().__init__(driver_class=Terminal, ansi_color=True if environment.get("NO_COLOR") else None)
        for theme in THEMES:
            self.register_theme(theme)
        self._settings = settings or Settings()
        self.theme = usual(environment) if self._settings.theme == "auto" or self.no_color else self._settings.theme
        self._closed_s = closed_s
        self._iterations = iterations
        self._mouse = mouse
        self._allow_close = allow_close
        self._resolver = resolver or Resolver()
        self._shows_names = self._settings.names
        self._is_renaming = False
        self._box = box
        self._error: TcptopError | None = None
        self._line = SlowTerminal(self.batch_update)
        self.receiver = TickReceiver(
            lambda: self.main.state,
            sshds=sshds(),
            alarm=None if box is None else Alarm(box.trigger),
            published=lambda: self.post_message(Published()),
            alarmed=lambda why: self.post_message(Alarmed(why)),
        )
        self.poller = feed(self.receiver.receive, self._fail, delay_s)
        drawing = Drawing(
            self.receiver.history.series,
            read_accept_limit(),
            pencil(getattr(sys.stderr, "encoding", None)),  # Textual draws on standard error
        )
        status = Status(os.uname().nodename if host is None else host, delay_s)
        self.main = self.make_main_screen(ViewState(spec), status, drawing)
        self._overlays = Overlays(self, self.main, self.poller, drawing)
        self._saved = self._chosen()

    def make_main_screen(self, state: ViewState, status: Status, drawing: Drawing) -> MainScreen:
        """Return the screen that all others lie over."""
        return MainScreen(state, status, CostMeter(self.bytes_written), drawing, self._show_over)

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

    def _show_over(self, view: View) -> None:
        """Show what the main screen shows on the pages over it."""
        self._overlays.show(view)

    # Start and end

    def run_screen(self) -> TcptopError | None:
        """Run in this terminal until the end; the terminal is as it was when this returns."""
        error = self.run(mouse=self._mouse)
        if error is None and self.return_code:
            return Failed("the screen broke down", "this is a bug in tcptop-ops: please report it")
        return error

    def on_mount(self) -> None:
        """Take the keys of the settings, and end at the signals that ask for it."""
        self._give_way_to(self._settings.keys)
        self.set_keymap(dict(self._settings.keys))
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in ENDING_SIGNALS:
                loop.add_signal_handler(number, self._quit)

    def _give_way_to(self, wanted: Mapping[str, str]) -> None:
        """Take a key that the settings give to something away from what Textual itself does at it: ^P, ^Q."""
        for key in {key for keys in wanted.values() for key in keys.split(",")}:
            self._bindings.key_to_bindings.pop(key, None)

    def on_main_screen_ready(self) -> None:
        """Start polling."""
        self._resolver.on_change(lambda: self.post_message(NamesCame()))
        self._show_names()
        self.poller.start()

    def on_ready(self) -> None:
        """Show the keys: the bindings are in force now."""
        self.main.panels.show_keys()

    def on_unmount(self) -> None:
        """Stop polling before the terminal is given back."""
        self._resolver.close()
        self.poller.stop()

    def _quit(self) -> None:
        self.exit(self._error)

    async def action_quit(self) -> None:
        """End."""
        self._quit()

    # Room

    async def on_event(self, event: events.Event) -> None:
        """Let only the keys that lead out do something where there is no room for a picture."""
        if isinstance(event, events.Key) and is_too_small(self.size) and not self._leads_out(event.key):
            return
        await super().on_event(event)

    def _leads_out(self, key: str) -> bool:
        found = self.screen.active_bindings.get(key)
        return key == "escape" or (found is not None and found.binding.action.startswith(LEADING_OUT))

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Run it as Textual does; a click on a key of what has no longer the focus does nothing."""
        try:
            return await super().run_action(action, default_namespace, namespaces)
        except ActionError:
            return False

    def on_resize(self, event: events.Resize) -> None:
        """Give all screens another frame."""
        for screen in self.screen_stack:
            fit(screen, event.size)
        self.call_after_refresh(self.main.focus_again)

    # Ticks

    def on_published(self) -> None:
        """Show a tick."""
        view, before = self.receiver.take(), self.newest
        if view is None or view is before or not self.is_running:  # at the end the widgets go first
            return
        self._overlays.calls_per_s = calls_per_s(before, view)
        self.main.receive(view)
        if before is None and self._settings.mark is not None:
            self.run_worker(self._greet())
        elif self.main.status.notice == HINT and view.flows.findings:
            self.main.notice("")
        if not self._line.takes_ticks:
            return
        self.main.show_newest()
        if self._iterations is not None and view.flows.tick >= self._iterations:
            self._quit()

    async def _greet(self) -> None:
        """Give a hint to who starts it for the first time; never again."""
        if await asyncio.to_thread(settings_file.is_first_start, self._settings.mark):
            self.main.notice(HINT)

    def _fail(self, error: TcptopError) -> None:
        """Tell that the source has failed. In the poller's thread."""
        self.post_message(Died(error))

    def on_died(self, event: Died) -> None:
        """Keep the last picture, and the reason with it. Without a picture there is nothing to stay for."""
        self._error = event.error
        if self.shown is None or self._iterations is not None:
            self._quit()
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

    # The terminal

    def bytes_written(self) -> int:
        """Return how many bytes went to the terminal so far."""
        return self._driver.written if isinstance(self._driver, Terminal) else 0

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        super()._display(screen, cropped(renderable))

    def on_terminal_full(self) -> None:
        """Draw nothing until the line has taken what waits."""
        self._line.full()

    def on_terminal_drained(self) -> None:
        """Go on; with ticks after a while only."""
        if (spared_s := self._line.drained()) is not None:
            self.set_timer(spared_s, self._catch_up)

    def _catch_up(self) -> None:
        if self.main.state.is_behind and not self._line.is_full:
            self.main.show_newest()

    def on_terminal_gone(self) -> None:
        """End, as SIGHUP would have it."""
        self._quit()

    # Pages over the main screen

    def action_help(self) -> None:
        """Open the help: keys, marks, columns."""
        self._overlays.help(self._closed_s)

    def action_detail(self) -> None:
        """Open all about the selected connection; of a group, its connections."""
        self._overlays.detail()

    def on_flow_table_opened(self) -> None:
        """Do the same at a double click."""
        self._overlays.detail()

    def action_operators(self) -> None:
        """Open what the kernel calls."""
        self._overlays.operators()

    def on_operator_list_chosen(self, event: OperatorList.Chosen) -> None:
        """Open the page of an operator."""
        self._overlays.explain(event.operator.name)

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
            has_failed=self._error is not None,
            tell=lambda who, error: self.post_message(CloseTried(who, error)),
        )

    def on_close_tried(self, event: CloseTried) -> None:
        """Tell how it went."""
        self.main.notice(closing.outcome(event.who, event.error))

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

    def _want_names(self, keys: list[Key]) -> None:
        """Look up what is on the screen, the detail's first."""
        self._resolver.want(self._overlays.names_wanted() + keys)

    def on_names_came(self) -> None:
        """Show them soon, with those that come meanwhile."""
        if not self._is_renaming:
            self._is_renaming = True
            self.set_timer(RENAMING_S, self._show_names)

    # What stays

    def action_theme(self) -> None:
        """Take the next theme."""
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
            await asyncio.to_thread(settings_file.update, self._settings.path, changed)
        except Failed as error:
            self.main.notice(error.message)
        else:
            self._saved = chosen
            told = f"saved in {self._settings.path}" if changed else "nothing was changed that could be saved"
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
        kept, time_s = self.receiver.flight.frames(), time.time()
        try:
            if self._box is None:
                raise Failed("there is no flight recorder here", "")
            path = await asyncio.to_thread(save, kept, self._box, bool(why), time_s)
        except Failed as error:
            self.main.notice(error.message)
        else:
            lasted = text.duration(kept[-1].at_s - kept[0].at_s)
            self.main.notice(f"saved {with_tilde(path)}: the last {lasted}{', ' + why if why else ''}")
