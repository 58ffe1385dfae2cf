"""The screen of the host: values against limits, what is bad, and where the cursor goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.host_figures import FIGURES
from tcptop_ops.model.host_counters import HOST
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.widgets.screens.explain import ExplainScreen
from tcptop_ops.widgets.screens.host_counters import SHORT, TITLE, HostScreen
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import app_of, running
from tests.support.screens import next_tick, text_of


def world(tick: int, **told: int) -> Snapshot:
    host, net = np.zeros(1, HOST), np.zeros(2, NETNS)
    host["tcp_mem_pages"], host["tcp_mem_pressure"], host["files"] = 300, 1000, 70
    net["netns"] = (7, 9)
    net["max_tw_buckets"] = 100
    net["out_segs"], net["retrans_segs"] = 1000 * tick, 30 * tick
    for name, value in told.items():
        where = host if name in (host.dtype.names or ()) else net[1:]
        where[name] = value
    names = {7: "blue", 9: "green"}
    return snapshot(tick, [flow(1)], host_counters=host, namespace_counters=net, namespace_names=names)


def source(**told: int) -> FakeSource:
    return FakeSource([world(tick, **told) for tick in range(10)])


def values(lines: list[str], title: str) -> list[str]:
    return line(lines, title)[2 + TITLE :].split()[:2]


def line(lines: list[str], title: str) -> str:
    return next(one for one in lines if one[2:].startswith(title + " "))


async def test_values_limits_rates_and_words() -> None:
    app = app_of(source())
    async with running(app) as pilot:
        await pilot.press("H")
        await next_tick(pilot)
        assert "blue: 2.9 % of those sent" in line(text_of(app), "retransmitted")
        await pilot.press("home")
        assert isinstance(app.screen, HostScreen)
        lines = text_of(app)
        assert {len(one) for one in lines} == {80}
        assert values(lines, "memory, pages") == ["300", "1000"]
        assert values(lines, "open files") == ["70", "?"]
        assert values(lines, "local ports") == ["-", "-"]
        await pilot.press("end")
        assert values(text_of(app), "segments sent") == ["4000", "2.0k"]
        await pilot.press("H")
        assert not isinstance(app.screen, HostScreen)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_the_cursor_begins_at_the_worst_and_its_namespace_is_named(size: tuple[int, int]) -> None:
    app = app_of(source(conntrack=95, conntrack_max=100))
    async with running(app, size) as pilot:
        await pilot.press("H")
        lines = text_of(app)
        assert "2 bad" in lines[0]
        chosen = next(one for one in lines if one.startswith("> "))
        assert chosen.startswith("> conntrack entries")
        assert "green: tracked" in chosen
        assert "host_counters.tracked_connections" in "".join(lines)
        assert "most in namespace green" in "".join(lines)
        if size[0] > 100:
            assert "95.0%" in chosen
            assert any(one.startswith("LISTENERS") for one in lines)
        await pilot.press("enter")
        assert isinstance(app.screen, ExplainScreen)
        assert "tracked_connections: a figure of the host" in " ".join(text_of(app))


async def test_of_a_source_that_does_not_tell_nothing_is_known() -> None:
    app = app_of(FakeSource([snapshot(0, [flow(1)])]))
    async with running(app, ticks=1) as pilot:
        await pilot.press("H")
        lines = text_of(app)
        assert values(lines, "orphans") == ["?", "?"]
        assert values(lines, "accept overflows") == ["?", "?"]


def test_words_fit_beside_the_figures() -> None:
    told: list[Any] = [(figure.name, len(figure.title), len(figure.short)) for figure in FIGURES]
    assert [one for one in told if one[1] > TITLE or one[2] > SHORT] == []
