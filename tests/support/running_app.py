"""The app on a fake source of four connections and a listener, run headless and driven by a pilot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot
from textual.screen import Screen

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.screens import next_tick, shown_tick, text_of

NAMES = ("nginx", "postgres", "java", "curl")
NEVER_S = 3600.0


def world(tick: int) -> Snapshot:
    """Return four connections and a listener. By retransmits: nginx is worst at first, java in the end."""
    grown = {"nginx": 25, "postgres": 4 * tick, "java": 10 * tick, "curl": 0}
    srtt = {"nginx": 10_000, "postgres": 212_000, "java": 1_000, "curl": 90_000}
    flows = [
        flow(
            cookie,
            name=name.encode(),
            pid=1000 + cookie,
            srtt_us=srtt[name],
            retrans_segs=grown[name] if tick else 0,
            data_segs_out=1000 * tick,
            bytes_acked=1_000_000 * tick,
            peer=(f"10.2.0.{cookie}", 443),
        )
        for cookie, name in enumerate(NAMES, 1)
    ]
    listener = flow(
        9,
        name=b"sshd",
        state=State.LISTEN,
        direction=Direction.LISTEN,
        local=("0.0.0.0", 22),
        peer=("0.0.0.0", 0),
        send_q=128,
    )
    return snapshot(tick, [*flows, listener], namespaces=3, time_wait=7, opened=1)


def worlds() -> FakeSource:
    """Return a source that plays ten ticks of the world."""
    return FakeSource([world(tick) for tick in range(10)])


def app_of(source: FakeSource | None = None, **rest: Any) -> TcptopApp:
    """Return an app that polls when it is told to, by default over the worlds and sorted by retransmits."""
    options: dict[str, Any] = {"delay_s": NEVER_S, "host": "web-3"} | rest
    spec = options.pop("spec", Spec(sort=find("retrans_win")))
    return TcptopApp(polled(source or worlds(), Tracker()), spec, **options)


@asynccontextmanager
async def running(app: TcptopApp, size: tuple[int, int] = (80, 24), ticks: int = 2) -> AsyncIterator[Pilot[Any]]:
    """Run the app, with so many ticks on the screen."""
    async with app.run_test(size=size) as pilot:
        await shown_tick(pilot, 0)
        for _ in range(ticks - 1):
            await next_tick(pilot)
        yield pilot


def top_is(app: TcptopApp, kind: type[Screen[Any]]) -> bool:
    """Return whether a screen of this kind is on top."""
    return isinstance(app.screen, kind)


def header(app: TcptopApp) -> str:
    """Return the line of the titles of the columns."""
    return next(line for line in text_of(app) if "PEER" in line)
