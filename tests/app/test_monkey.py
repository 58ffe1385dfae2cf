"""Somebody who presses anything, clicks anywhere and pulls at the window: the screen stays whole.

TCPTOP_MONKEY: how many such evenings (default 2); what fails says its number.
"""

from __future__ import annotations

import os
import random
from contextlib import closing

import pytest
from textual.pilot import OutOfBounds, Pilot

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.config import keymap
from tcptop_ops.errors import TcptopError
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.recording import demo
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tests.support import running_replay
from tests.support.fakes import FakeSource
from tests.support.screens import text_of

EVENINGS = int(os.environ.get("TCPTOP_MONKEY", "2"))
DEEDS = 50
ENDS = {"app.quit", "app.save", "app.save_flight"}
"""What the monkey leaves alone: the end, and files."""

KEYS = [name for key in keymap.KEYS if key.action not in ENDS for name in key.keys.split(",")]
WORDS = ["escape", "enter", "tab", "backspace", "delete", "ctrl+p", "slash", "backslash", "a", "1", "less_than_sign"]
SIZES = [(80, 24), (160, 50), (40, 10), (39, 9), (12, 4), (1, 1), (220, 60), (58, 18)]


@pytest.fixture(scope="module")
def shots() -> list[Snapshot]:
    with closing(RecordingReader(str(demo.PATH))) as reader:
        return [shot for shot in reader.snapshots() if shot is not None]


async def do_something(pilot: Pilot[TcptopError], chance: random.Random) -> str:
    """What was done."""
    what = chance.random()
    if what < 0.75:
        key = chance.choice(KEYS + 3 * WORDS)
        await pilot.press(key)
        return key
    if what < 0.87:
        width, height = chance.choice(SIZES)
        await pilot.resize_terminal(width, height)
        return f"{width}x{height}"
    size = pilot.app.size
    at = chance.randrange(max(size.width, 1)), chance.randrange(max(size.height, 1))
    try:
        await pilot.click(offset=at, times=chance.choice([1, 1, 2]))
    except OutOfBounds:
        return "beside"
    return f"click at {at}"


async def spend_an_evening(app: TcptopApp, number: int) -> None:
    """Until it is over, or somebody clicked on Quit."""
    chance, done = random.Random(number), []
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(DEEDS):
            done.append(await do_something(pilot, chance))
            if app._exit:
                break
            widths = {len(line) for line in text_of(app)}
            assert widths <= {app.size.width}, done
    assert app._exception is None, done


@pytest.mark.parametrize("number", range(EVENINGS))
async def test_with_the_live_screen(shots: list[Snapshot], number: int) -> None:
    await spend_an_evening(TcptopApp(polled(FakeSource(shots * 50), Tracker()), Spec(), delay_s=0.05), number)


@pytest.mark.parametrize("number", range(EVENINGS))
async def test_with_a_recording(number: int) -> None:
    await spend_an_evening(running_replay.app_of(demo.PATH, speed=20.0, again=True), 1000 + number)
