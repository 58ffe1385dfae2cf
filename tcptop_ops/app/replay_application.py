"""The same screen, of a recording: keys to play it, and a bar that shows where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget

from tcptop_ops import keymap
from tcptop_ops.app.application import TcptopApp
from tcptop_ops.errors import TcptopError
from tcptop_ops.player import SPEEDS, Player
from tcptop_ops.poller import Worker
from tcptop_ops.replay import Reader
from tcptop_ops.settings import Settings
from tcptop_ops.tape import Tape, worst_moments
from tcptop_ops.tracker import Flows, Tracker
from tcptop_ops.view import Spec, View
from tcptop_ops.widgets.keys import bindings
from tcptop_ops.widgets.time_bar import TimeBar


@dataclass(frozen=True)
class Recording:
    """What is played. ``reader`` is called in the thread that plays; ``lead_s`` and ``window_s``: see Player."""

    reader: Callable[[], Reader]
    tape: Tape
    tracker: Callable[[], Tracker]
    lead_s: float
    window_s: float
    speed: float = 1.0
    again: bool = False


def _day(tape: Tape) -> str:
    try:
        return f"of {datetime.fromtimestamp(float(tape.time[0])):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return "of some day"


class ReplayApp(TcptopApp, inherit_bindings=False):
    """Shows a recording until it is told to quit."""

    KEYS: ClassVar[tuple[keymap.Key, ...]] = keymap.REPLAY_APP + keymap.REPLAY
    BINDINGS: ClassVar[list[BindingType]] = [*App.BINDINGS, *bindings(KEYS)]

    class Stopped(Message):
        """It has come to its end."""

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
        self._recording = recording
        self._worst: Iterator[int] = iter(())
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
        self._status = replace(self._status, replayed=_day(recording.tape))

    def _feed(self, publish: Callable[[Flows], None], fail: Callable[[TcptopError], None], _: float) -> Worker:
        played = self._recording
        self._player = Player(
            played.reader,
            played.tape,
            played.tracker,
            played.lead_s,
            played.window_s,
            publish,
            lead=self._lead,
            changed=lambda: self.post_message(self.Stopped()),
            fail=fail,
            speed=played.speed,
            again=played.again,
        )
        return self._player

    @property
    def player(self) -> Player:
        """What plays it."""
        return self._player

    def bars(self) -> Iterable[Widget]:
        """Where it stands."""
        yield TimeBar(self._recording.tape, self._drawn, id="time")

    def clock_ns(self, now: View) -> int:
        """That of this process: a recording goes fast and slow, and back."""
        return time.monotonic_ns()

    def _lead(self, flows: Flows | None) -> None:
        """In the player's thread: what graphs show of the time before."""
        if flows is None:
            self._history.clear()
        else:
            self._history.add(flows, (self._watched, self._selected_cookie))

    def _show(self, view: View) -> None:
        if self._mark is not None and view.flows.snapshot.now_ns < self._mark.at_ns:
            self.action_mark()
            self._notice("the mark lies ahead: it was taken away")
            return
        super()._show(view)
        self._show_bar()

    def _show_bar(self) -> None:
        self.screen_stack[0].query_one(TimeBar).show(self._player.state)

    def on_replay_app_stopped(self) -> None:
        """It stands at its end."""
        if self.is_running:
            self._show_bar()

    # Keys

    def action_pause(self) -> None:
        """Play, or stand."""
        self._player.toggle()
        self._show_bar()

    def action_delay(self, steps: int) -> None:
        """The next higher or lower of the usual speeds."""
        now = self._player.state.speed
        faster = [speed for speed in SPEEDS if speed == 0 or (now and speed > now)]
        slower = [speed for speed in SPEEDS if speed and (not now or speed < now)]
        wanted = faster[0] if steps > 0 else (slower or [now])[-1]
        self._player.set_speed(wanted)
        self._show_bar()

    def action_step(self, ticks: int) -> None:
        """A tick on, or back."""
        self._player.step(ticks)
        self._show_bar()

    def action_skip(self, seconds: float) -> None:
        """Some seconds on, or back."""
        self._player.skip(seconds)
        self._show_bar()

    def action_leap(self, tenths: int) -> None:
        """As many tenths of it on, or back."""
        self._player.skip(tenths * max(self._player.seconds / 10, 1e-3))
        self._show_bar()

    def action_go(self, at: int) -> None:
        """To this tick."""
        self._player.go(at)
        self._show_bar()

    def action_to_start(self) -> None:
        """To the first tick."""
        self.action_go(0)

    def action_to_end(self) -> None:
        """To the last tick."""
        self.action_go(len(self._recording.tape) - 1)

    def action_worst(self) -> None:
        """To the worst moment, then the next worst, and after the last of them the first again."""
        at = next(self._worst, None)
        if at is None:
            self._worst = iter(worst_moments(self._recording.tape))
            at = next(self._worst, None)
        if at is None:
            self._notice("nothing was sent again in this recording")
        else:
            self.action_go(at)

    def action_save_flight(self) -> None:
        """It is one already."""
        self._notice("this is a recording already")
