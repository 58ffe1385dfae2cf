"""The replay of a recording, run headless and driven by a pilot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tcptop_ops.app.replay_application import Recording, ReplayApp
from tcptop_ops.recording.player import lead_s
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tests.support.screens import until


def app_of(path: Path, **options: Any) -> ReplayApp:
    """Return the replay of this file; by default it plays so slowly that it stands still."""
    reader = RecordingReader(str(path))
    recording = Recording(
        lambda: reader,
        reader.index,
        partial(Tracker, 20.0, 5.0),
        lead_s(20.0, 5.0),
        20.0,
        options.pop("speed", 0.001),
        options.pop("again", False),
    )
    return ReplayApp(recording, Spec(), host="web-3", **options)


@asynccontextmanager
async def running(app: ReplayApp, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Pilot[Any]]:
    """Run the app, with its first tick on the screen."""
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.shown is not None)
        yield pilot
