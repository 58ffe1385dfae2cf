"""The connection over which this is used is marked."""

from __future__ import annotations

from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import app_of, running
from tests.support.screens import next_tick, text_of


async def test_the_session_is_marked() -> None:
    shots = [snapshot(tick, [flow(1, name=b"sshd", pid=77), flow(2, name=b"other", pid=78)]) for tick in range(4)]
    app = app_of(FakeSource(shots))
    app.receiver.sshds = frozenset({77})
    async with running(app) as pilot:
        await next_tick(pilot)
        assert next(line for line in text_of(app) if "*you" in line).split()[-8:-6] == ["sshd", "*you"]
        assert sum("*you" in line for line in text_of(app)) == 1


async def test_of_two_connections_of_sshd_none_is_the_session() -> None:
    shots = [snapshot(tick, [flow(1, name=b"sshd", pid=77), flow(2, name=b"sshd", pid=77)]) for tick in range(4)]
    app = app_of(FakeSource(shots))
    app.receiver.sshds = frozenset({77})
    async with running(app) as pilot:
        await next_tick(pilot)
        assert not any("*you" in line for line in text_of(app))
