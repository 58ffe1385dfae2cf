"""The hint of the first start."""

from __future__ import annotations

from pathlib import Path

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.config.settings import Settings
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tests.support.fakes import FakeSource
from tests.support.lossy_network import world
from tests.support.running_app import app_of, running
from tests.support.screens import next_tick, text_of, until


async def test_the_hint_of_the_first_start_comes_once(tmp_path: Path) -> None:
    settings = Settings(mark=tmp_path / "state" / "started")
    for wanted in (True, False):
        app = app_of(settings=settings)
        async with running(app) as pilot:
            if wanted:
                await until(pilot, lambda: "first time here?" in text_of(app)[2])  # noqa: B023
                await pilot.press("j")
            await pilot.pause()
            assert "first time" not in text_of(app)[2]
    assert (tmp_path / "state" / "started").stat().st_mode & 0o777 == 0o600


async def test_a_finding_is_worth_more_than_the_hint(tmp_path: Path) -> None:
    source = FakeSource([world(tick) for tick in range(3)])
    app = TcptopApp(polled(source, Tracker()), Spec(), delay_s=3600.0, settings=Settings(mark=tmp_path / "started"))
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "first time here?" in text_of(app)[1])
        await next_tick(pilot)
        assert "first time here?" not in "".join(text_of(app))
        assert text_of(app)[2].startswith("1 NET  6 of 6 flows to 10.2.0.")


async def test_without_a_place_to_remember_there_is_no_hint(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    app = app_of(settings=Settings(mark=file / "started"))
    async with running(app):
        assert "first time" not in text_of(app)[2]
