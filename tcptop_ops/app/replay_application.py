"""The same screen, of a recording: keys to play it, and a bar that shows where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from textual.binding import BindingType
from textual.screen import Screen

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.app.cost_meter import CostMeter
from tcptop_ops.app.main_screen import MainScreen
from tcptop_ops.app.messages import Stopped
from tcptop_ops.app.panels import Drawing
from tcptop_ops.app.view_state import ViewState
from tcptop_ops.config import keymap
from tcptop_ops.config.settings import Settings
from tcptop_ops.errors import TcptopError
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.worker import Worker
from tcptop_ops.recording.index import TickIndex, worst_moments
from tcptop_ops.recording.player import SPEEDS, Player
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.base.key_bindings import bindings
from tcptop_ops.widgets.panels.replay_bar import ReplayBar
from tcptop_ops.widgets.panels.summary import HeaderStatus


@dataclass(frozen=True)
class Recording:
    """What is played. ``reader`` is called in the thread that plays; ``lead_s`` and ``window_s``: see Player."""

    reader: Callable[[], RecordingReader]
    index: TickIndex
    tracker: Callable[[], Tracker]
    lead_s: float
    window_s: float
    speed: float = 1.0
    again: bool = False


def _day(index: TickIndex) -> str:
    try:
        return f"of {datetime.fromtimestamp(float(index.time[0])):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return "of some day"


class ReplayCostMeter(CostMeter):
    """Measures by the clock of this process: a recording goes fast and slow, and back."""

    def clock_ns(self, snapshot: Snapshot) -> int:
        """Return CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()


class ReplayScreen(MainScreen, inherit_bindings=False):
    """The main screen, with a time bar and the keys that play."""

    KEYS: ClassVar[tuple[keymap.KeyAction, ...]] = keymap.REPLAY_APP + keymap.REPLAY
    BINDINGS: ClassVar[list[BindingType]] = [
        *Screen.BINDINGS,
        *bindings(key for key in KEYS if not key.priority),
    ]

    def __init__(
        self,
        state: ViewState,
        status: HeaderStatus,
        costs: CostMeter,
        drawing: Drawing,
        player: Player,
    ) -> None:
        """Set up with what plays it; the rest is that of any main screen."""
        self._time_bar = ReplayBar(player.index, drawing.pencil, id="time")
        self._player = player
        self._worst: Iterator[int] = iter(())
        super().__init__(state, status, costs, drawing, [self._time_bar])

    def draw(self) -> None:
        """Draw what is to be shown, and where that is. A mark that lies ahead of it is taken away."""
        if self.state.is_mark_ahead:
            self.change(self.state.unmarked())
            self.notice("the mark lies ahead: it was taken away")
        else:
            super().draw()
            self.show_bar()

    def show_bar(self) -> None:
        """Show position, speed and whether it plays in the replay bar."""
        self._time_bar.show(self._player.state)

    def action_pause(self) -> None:
        """Play where it is stopped, stop where it plays; show it in the replay bar."""
        self._player.toggle()
        self.show_bar()

    def action_step(self, ticks: int) -> None:
        """Step by ``ticks``, back where negative, and stop there."""
        self._player.step(ticks)
        self.show_bar()

    def action_skip(self, seconds: float) -> None:
        """Go some seconds on, or back."""
        self._player.skip(seconds)
        self.show_bar()

    def action_leap(self, tenths: int) -> None:
        """Go as many tenths of it on, or back."""
        self._player.skip(tenths * max(self._player.seconds / 10, 1e-3))
        self.show_bar()

    def action_go(self, at: int) -> None:
        """Go to tick number ``at`` of the recording."""
        self._player.go(at)
        self.show_bar()

    def action_to_start(self) -> None:
        """Go to the first tick of the recording."""
        self.action_go(0)

    def action_to_end(self) -> None:
        """Go to the last tick of the recording."""
        self.action_go(len(self._player.index) - 1)

    def action_worst(self) -> None:
        """Go to the worst moment, then to the next worst, and after the last of them to the first again."""
        at = next(self._worst, None)
        if at is None:
            self._worst = iter(worst_moments(self._player.index))
            at = next(self._worst, None)
        if at is None:
            self.notice("nothing was sent again in this recording")
        else:
            self.action_go(at)


class ReplayApp(TcptopApp):
    """Shows a recording until it is told to quit."""

    player: Player
    replay_screen: ReplayScreen

    def __init__(
        self,
        recording: Recording,
        spec: Spec,
        *,
        closed_s: float = 5.0,
        iterations: int | None = None,
        mouse: bool = True,
        host: str = "",
        settings: Settings | None = None,
    ) -> None:
        """Set up with what is played."""
        self._recording = recording
        super().__init__(
            self._feed,
            spec,
            delay_s=1.0,
            closed_s=closed_s,
            iterations=iterations,
            mouse=mouse,
            host=host,
            settings=settings,
        )

    def _feed(self, publish: Callable[[Flows], None], fail: Callable[[TcptopError], None], _: float) -> Worker:
        played = self._recording
        self.player = Player(
            played.reader,
            played.index,
            played.tracker,
            played.lead_s,
            played.window_s,
            publish,
            lead=self.receiver.lead_in,
            changed=lambda: self.post_message(Stopped()),
            fail=fail,
            speed=played.speed,
            again=played.again,
        )
        return self.player

    def make_main_screen(self, state: ViewState, status: HeaderStatus, drawing: Drawing) -> MainScreen:
        """Return the screen with the keys that play."""
        costs, status = ReplayCostMeter(self.bytes_written), replace(status, replayed=_day(self.player.index))
        self.replay_screen = ReplayScreen(state, status, costs, drawing, self.player)
        return self.replay_screen

    def on_stopped(self) -> None:
        """Show that it stands at its end."""
        if self.is_running:
            self.replay_screen.show_bar()

    def action_delay(self, steps: int) -> None:
        """Take the next higher or lower of the usual speeds."""
        now = self.player.state.speed
        faster = [speed for speed in SPEEDS if speed == 0 or (now and speed > now)]
        slower = [speed for speed in SPEEDS if speed and (not now or speed < now)]
        wanted = faster[0] if steps > 0 else (slower or [now])[-1]
        self.player.set_speed(wanted)
        self.replay_screen.show_bar()

    def action_save_flight(self) -> None:
        """Say that it is one already."""
        self.main.notice("this is a recording already")
