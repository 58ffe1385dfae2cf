"""An app that is nothing but the table, which remembers what it painted; and views to show in it."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec, View, make
from tcptop_ops.widgets.table.column_fit import GUTTER
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import flow, snapshot

BY_RETRANSMITS = Spec(sort=find("retrans_win"))
BY_SCORE = Spec()
BY_NAME = Spec(sort=find("process"), falling=False)


class Recorded(ConnectionTable):
    """Remembers which lines were made for painting, and what was refreshed."""

    def __init__(self, spec: Spec) -> None:
        """Remember nothing yet."""
        super().__init__(spec)
        self.painted: list[int] = []
        self.regions: list[Region] = []

    def render_line(self, y: int) -> Strip:
        """Remember the line."""
        self.painted.append(y)
        return super().render_line(y)

    def refresh(self, *regions: Region, **rest: Any) -> Recorded:
        """Remember the regions."""
        self.regions.extend(regions or [self.size.region])
        super().refresh(*regions, **rest)
        return self

    def forget(self) -> None:
        """Forget what was painted and refreshed."""
        self.painted, self.regions = [], []


class Bench(App[None]):
    """Nothing but a table."""

    def __init__(self, spec: Spec) -> None:
        """Have an empty table."""
        super().__init__()
        self.table = Recorded(spec)
        self.clicked: list[Column] = []
        self.folded: list[tuple[int, bool]] = []
        self.moves = 0

    def compose(self) -> ComposeResult:
        """Show the table alone."""
        yield self.table

    def on_connection_table_header_clicked(self, event: ConnectionTable.HeaderClicked) -> None:
        """Remember the column."""
        self.clicked.append(event.column)

    def on_connection_table_moved(self) -> None:
        """Count the moves."""
        self.moves += 1

    def on_connection_table_folding(self, event: ConnectionTable.Folding) -> None:
        """Remember what was folded or unfolded."""
        self.folded.append((event.identity, event.unfold))


def ticked(*rounds: list[dict[str, Any]], **last: Any) -> Flows:
    """Return the flows after these rounds, a second apart; ``last`` goes into the last snapshot."""
    tracker = Tracker()
    for i, flows in enumerate(rounds):
        found = tracker.update(snapshot(i, flows, **(last if i == len(rounds) - 1 else {})))
    return found


def named(*names: str, **fields: Any) -> list[dict[str, Any]]:
    """Return connections of these processes, cookies from 1."""
    return [flow(i, name=name.encode(), **fields) for i, name in enumerate(names, 1)]


def retransmitting(counts: dict[int, int], **fields: Any) -> View:
    """Return a view of these connections, with so many retransmits each within the window.

    The process is named after the cookie.
    """
    flows = [flow(c, name=f"p{c}".encode(), **fields) for c in counts]
    after = [f | {"retrans_segs": counts[f["cookie"]]} for f in flows]
    return make(ticked(flows, after), BY_RETRANSMITS)


def order_of(table: ConnectionTable) -> list[str]:
    """Return the processes of the rows in the window."""
    shown = [table.render_line(y).text for y in range(1, table.size.height)]
    at = max(table.render_line(0).text.find("PROCESS"), GUTTER)
    return [line[at:].split()[0] for line in shown if line.strip()]


async def shown(pilot: Pilot[None], view: View) -> Recorded:
    """Show a view, and return the table once it is painted."""
    app = pilot.app
    assert isinstance(app, Bench)
    app.table.show(view)
    await pilot.pause()
    return app.table


async def turn_wheel(pilot: Pilot[None], way: type[events.MouseEvent], times: int = 1) -> None:
    """Turn the wheel over the table."""
    app = pilot.app
    assert isinstance(app, Bench)
    for _ in range(times):
        app.table.post_message(way(app.table, 5, 5, 0, 0, 0, False, False, False))
    await pilot.pause()
