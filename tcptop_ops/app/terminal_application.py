"""An application in a terminal: which may have few colours, be too small, take its bytes slowly, or go away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from textual import events
from textual.actions import ActionParseResult
from textual.app import ActionError, App
from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.screen import Screen

from tcptop_ops.app.sizes import fit, is_too_small
from tcptop_ops.app.slow_terminal import SlowTerminal
from tcptop_ops.config.settings import Settings
from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.widgets.base.key_bindings import PLACES
from tcptop_ops.widgets.base.terminal_driver import TerminalDriver, cropped
from tcptop_ops.widgets.base.themes import THEMES, usual

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEADING_OUT = ("app.quit", "quit", "dismiss")
"""What the actions of those keys begin with that count where there is no room for a picture."""


class TerminalApp(App[TcptopError]):
    """Takes its theme and its keys from ``settings``, and ends when a signal, a key or the terminal says so.

    Returns the error that ended it (``error``), or none.
    """

    def __init__(self, settings: Settings, *, mouse: bool) -> None:
        """Set up with the colours of the environment. ``mouse``: whether clicks and the wheel are taken."""
        environment = dict(os.environ)  # Textual takes NO_COLOR out, and would make colours it does not know grey
        if not environment.get("NO_COLOR"):
            os.environ.pop("NO_COLOR", None)  # set to nothing it asks for nothing: no-color.org
        super().__init__(driver_class=TerminalDriver, ansi_color=True if environment.get("NO_COLOR") else None)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = usual(environment) if settings.theme == "auto" or self.no_color else settings.theme
        self.settings = settings
        self.error: TcptopError | None = None
        self.line = SlowTerminal(self.batch_update)
        self._mouse = mouse

    def run_screen(self) -> TcptopError | None:
        """Run in this terminal until the end; the terminal is as it was when this returns."""
        error = self.run(mouse=self._mouse)
        if error is None and self.return_code:
            return Failed("the screen broke down", "this is a bug in tcptop-ops: please report it")
        return error

    def on_mount(self) -> None:
        """Take the keys of the settings, and end at the signals that ask for it."""
        _give_way(self._bindings, self.settings.keys)
        self.set_keymap(dict(self.settings.keys))
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in ENDING_SIGNALS:
                loop.add_signal_handler(number, self.quit)

    def quit(self) -> None:
        """Leave the screen, with the error of the source if there is one; the signals that end it call this, too."""
        self.exit(self.error)

    async def action_quit(self) -> None:
        """Leave the screen by its key."""
        self.quit()

    # Its size

    def on_resize(self, event: events.Resize) -> None:
        """Give all screens another frame."""
        for screen in self.screen_stack:
            fit(screen, event.size)

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

    # Its line

    def bytes_written(self) -> int:
        """Return how many bytes went to the terminal so far."""
        return self._driver.written if isinstance(self._driver, TerminalDriver) else 0

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        super()._display(screen, cropped(renderable))

    def on_terminal_driver_full(self) -> None:
        """Draw nothing until the line has taken what waits."""
        self.line.full()

    def on_terminal_driver_drained(self) -> None:
        """Go on; with what nobody asked for only after a while."""
        if (spared_s := self.line.drained()) is not None:
            self.set_timer(spared_s, self.catch_up)

    def catch_up(self) -> None:
        """Draw what was held back while the line was spared."""

    def on_terminal_driver_gone(self) -> None:
        """End, as SIGHUP would have it."""
        self.quit()


def _give_way(own: BindingsMap, wanted: Mapping[str, str]) -> None:
    """Take from Textual's own keys, which count on every screen, those that the settings give to something: ^P, ^Q."""
    for key in {key for keys in wanted.values() for key in keys.split(",")} & own.key_to_bindings.keys():
        own.key_to_bindings[key] = [bound for bound in own.key_to_bindings[key] if bound.id in PLACES]
