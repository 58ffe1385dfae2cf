"""Sources that fail, and what is said of what is missing: errors, notes, births without a row."""

from __future__ import annotations

import numpy as np

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.model.records import COUNTERS
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import NEVER_S, app_of, running, world
from tests.support.screens import first_words, text_of


class Failing(FakeSource):
    """Plays the world, then fails."""

    def __init__(self, ticks: int, error: Exception) -> None:
        super().__init__([world(tick) for tick in range(10)])
        self.ticks, self.error = ticks, error

    def poll(self) -> Snapshot:
        if self.polls >= self.ticks:
            raise self.error
        return super().poll()


async def ended(app: TcptopApp) -> TcptopError | None:
    """Run until it ends by itself."""
    async with app.run_test(size=(80, 24)) as pilot:
        while app.return_code is None:
            await pilot.pause()
    return app.return_value


async def test_a_source_that_cannot_be_opened_ends_it_with_the_error() -> None:
    error = Unsupported("root is needed", "sudo tcptop-ops")

    def refused() -> FakeSource:
        raise error

    assert await ended(TcptopApp(polled(refused, Tracker()), Spec(), delay_s=NEVER_S)) is error


async def test_a_source_that_fails_at_once_ends_it_with_the_error() -> None:
    error = Failed("no such map")
    assert await ended(app_of(Failing(0, error))) is error


async def test_a_source_that_dies_leaves_the_last_picture_and_the_reason() -> None:
    error = Failed("the map is gone", "start again")
    app = app_of(Failing(2, error))
    async with running(app) as pilot:
        before = text_of(app)[3:]
        app.poller.poll_now()
        while "map is gone" not in text_of(app)[2]:
            await pilot.pause()
        assert text_of(app)[2].startswith("! the map is gone")
        assert text_of(app)[3:] == before
        await pilot.press("3")
        assert first_words(app)[0] == "curl"
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value is error


async def test_a_source_that_dies_ends_a_run_of_so_many_ticks() -> None:
    error = Failed("the map is gone")
    assert await ended(app_of(Failing(2, error), iterations=5, delay_s=0.001)) is error


async def test_what_nobody_foresaw_is_an_error_in_one_line() -> None:
    found = await ended(app_of(Failing(0, ZeroDivisionError("oh"))))
    assert isinstance(found, Failed)
    assert found.message == "ZeroDivisionError: oh"


async def test_births_without_a_row_are_never_silent() -> None:
    counters = np.zeros((), COUNTERS)
    counters["untracked"] = 12
    shot = snapshot(1, [flow(1)], counters=counters, notes=("first note", "second"))
    for size, line in (((80, 24), 2), ((40, 10), 0)):
        app = app_of(FakeSource([world(0), shot]))
        async with running(app, size):
            assert text_of(app)[line].startswith("! 12 ")
            assert "--map-size" in text_of(app)[line]


async def test_notes_are_shown_and_counted() -> None:
    notes = ("another sock_ops program is attached: events only, and much more that is too long", "second", "third")
    app = app_of(FakeSource([snapshot(0, [flow(1)], notes=notes)]))
    async with running(app, ticks=1):
        line = text_of(app)[2].rstrip()
        assert "another sock_ops program is attached" in line
        assert line.endswith("~ (+2)")
