"""States that show made-up ticks, and what two states differ in."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from tcptop_ops.app.view_state import ViewState
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT
from tcptop_ops.views.view import Spec, View, make
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

DEFAULT_COLUMNS = tuple(map(find, DEFAULT))

CALM, LOSSY, LOCAL, GONE = 1, 2, 3, 4
"""Cookies: by the default order the lossy one is the worst; one stays on this host, one has closed."""


def ticks(count: int) -> list[Flows]:
    """Return the same four connections at so many seconds.

    One of them retransmits, one is closed from the second tick on.
    """
    tracker = Tracker(closed_s=1e9)
    found = []
    for second in range(count):
        rows = [
            flow(CALM, name=b"calm", pid=100, srtt_us=40_000, bytes_acked=1000 * second),
            flow(LOSSY, name=b"lossy", pid=200, retrans_segs=20 * second, data_segs_out=100 * second),
            flow(LOCAL, name=b"calm", pid=100, local=("127.0.0.1", 5), peer=("127.0.0.1", 6)),
        ]
        gone = flow(GONE, name=b"gone", pid=300, states=1 << State.ESTABLISHED)
        closed = finals([gone], BOOT_NS + int(0.5e9)) if second == 1 else None
        found.append(tracker.update(snapshot(second, rows if second else [*rows, gone], closed)))
    return found


TICKS = ticks(4)


def at(second: int = 1, **spec: Any) -> ViewState:
    """Return the state that shows this tick."""
    chosen = Spec(**spec)
    return ViewState(chosen).received(make(TICKS[second], chosen)).caught_up()


def received(state: ViewState, second: int) -> ViewState:
    """Return the state with the view of this tick, made as the poller's thread does."""
    return state.received(make(replace(TICKS[second], mark=state.mark), state.spec))


def rows(state: ViewState) -> list[int]:
    """Return the cookies on the screen, from the top; of groups their identities."""
    assert state.shown is not None
    return state.shown.cookies()


def tick(view: View | None) -> int:
    """Return the number of the tick of a view."""
    assert view is not None
    return view.flows.tick


def differing(before: ViewState, after: ViewState) -> set[str]:
    """Return the fields that a transition has changed."""
    return {one.name for one in fields(ViewState) if getattr(before, one.name) is not getattr(after, one.name)}


def consistent(state: ViewState) -> bool:
    """Return whether what is shown was made as the state says."""
    shown = state.shown
    return shown is not None and shown.spec is state.spec and shown.flows.mark is state.mark
