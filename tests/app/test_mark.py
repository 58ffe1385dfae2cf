"""The mark: what has changed since a key was pressed."""

from __future__ import annotations

import pytest

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import app_of, header, running
from tests.support.screens import next_tick, text_of


def since(tick: int) -> Snapshot:
    """One that retransmits twice a second, one that is quiet and slower by 5 ms each second, one born at tick 3."""
    flows = [
        flow(1, name=b"lossy", retrans_segs=10 + 2 * tick, bytes_acked=1000 * tick, srtt_us=30_000),
        flow(2, name=b"quiet", retrans_segs=7, bytes_received=5000, srtt_us=10_000 + 5_000 * tick),
    ]
    if tick >= 3:
        flows.append(flow(3, name=b"young", retrans_segs=1, first_ns=1_000_000_000_000 + int(2.5e9)))
    return snapshot(tick, flows)


def marked_rows(app: TcptopApp) -> dict[str, list[str]]:
    """The figures since the mark, by process."""
    at = header(app).index("PROCESS")
    rows = [line[at:].split() for line in text_of(app)[4:9] if line.strip()]
    return {row[0]: row[3:] for row in rows if len(row) > 3}


async def test_a_mark_tells_what_has_changed_since() -> None:
    app = app_of(FakeSource([since(tick) for tick in range(10)]))
    async with running(app, (100, 30)) as pilot:
        await pilot.press("m")
        assert "SINCE MARK" in text_of(app)[0]
        assert header(app).split()[-5:] == ["+RETR", "+RTO", "+SENT", "+RECVD", "+SRTT"]
        assert marked_rows(app)["lossy"] == ["0", "0", "0", "0", "0"]
        await next_tick(pilot)
        await next_tick(pilot)
        rows = marked_rows(app)
        assert rows["lossy"] == ["4", "0", "2.0k", "0", "0"]
        assert rows["quiet"] == ["0", "0", "0", "0", "10ms"]
        assert rows["young"] == ["1", "0", "0", "0", "-"]
        assert "SINCE MARK 2.00s" in text_of(app)[0]
        assert [line[0] for line in text_of(app)[4:7] if "young" in line] == ["+"]
        await pilot.press("m")
        assert "MARK" not in text_of(app)[0]
        assert "+RETR" not in header(app)
        assert "RETR" in header(app)


async def test_with_columns_of_ones_own_a_mark_changes_none() -> None:
    app = app_of(FakeSource([since(tick) for tick in range(10)]), spec=Spec(columns=parse_list("process,mark_retrans")))
    async with running(app) as pilot:
        await pilot.press("m")
        await next_tick(pilot)
        assert text_of(app)[3].split() == ["PROCESS", "+RETR"]
        assert any(line.split()[-1:] == ["2"] for line in text_of(app) if "lossy" in line)


async def test_there_is_no_mark_in_a_picture_that_stands_still() -> None:
    app = app_of()
    async with running(app) as pilot:
        await pilot.press("space", "m")
        assert "no mark" in text_of(app)[2]
        assert "+RETR" not in header(app)


@pytest.mark.parametrize(("width", "titles"), [(80, 9), (60, 7), (40, 4), (120, 10)])
async def test_what_has_changed_fits_any_width(width: int, titles: int) -> None:
    app = app_of(FakeSource([since(tick) for tick in range(10)]))
    async with running(app, (width, 24)) as pilot:
        await pilot.press("m")
        shown = [column.id for column in app.query_one(ConnectionTable).columns]
        assert "mark_retrans" in shown
        assert len(shown) == titles, shown
        assert app.query_one(ConnectionTable).virtual_size.width <= width
