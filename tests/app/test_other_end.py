"""From one end of a connection to the other."""

from __future__ import annotations

from tcptop_ops.filters import compiler
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.screens.connection_detail import DetailScreen
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import app_of, running
from tests.support.screens import text_of

A, B = ("10.0.0.1", 40000), ("10.0.0.2", 80)


def pair(tick: int) -> list[dict[str, object]]:
    return [
        flow(1, local=A, peer=B, name=b"curl", pid=7, netns=1),
        flow(2, local=B, peer=A, name=b"nginx", pid=8, netns=2),
        flow(3, local=A, peer=("192.0.2.1", 80), name=b"away", pid=9, netns=1, data_segs_out=9 * tick),
    ]


def source() -> FakeSource:
    return FakeSource([snapshot(tick, pair(tick)) for tick in range(6)])


def cursor_line(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith(">"))


async def test_in_the_table_and_back() -> None:
    app = app_of(source())
    async with running(app, (160, 50)) as pilot:
        await pilot.press("slash", *"curl", "enter", "backslash", "home")
        while "curl" not in cursor_line(text_of(app)):
            await pilot.press("down")
        shown = " ".join(text_of(app))
        assert "other end nginx 8 ESTAB in namespace 2" in shown
        await pilot.press("b")
        assert "nginx" in cursor_line(text_of(app))
        await pilot.press("b")
        assert "curl" in cursor_line(text_of(app))
        while "away" not in cursor_line(text_of(app)):
            await pilot.press("down")
        await pilot.press("b")
        assert "away" in cursor_line(text_of(app))
        assert "the other end is not on this host" in " ".join(text_of(app))


async def test_in_the_detail() -> None:
    app = app_of(source(), spec=Spec(filter=compiler.compile("process = curl")))
    async with running(app, (100, 30)) as pilot:
        await pilot.press("b")  # its row is hidden by the filter
        assert isinstance(app.screen, DetailScreen)
        assert text_of(app)[0].startswith("nginx 8")
        await pilot.press("b")
        assert text_of(app)[0].startswith("curl 7")
        assert "nginx 8, ESTAB in namespace 2" in " ".join(text_of(app))
        await pilot.press("escape")
        assert "curl" in cursor_line(text_of(app))
