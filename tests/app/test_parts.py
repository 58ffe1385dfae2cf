"""The small parts of the screen that need none: the slow line, the own cost, the limit, the selection, closing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.app import close_connection
from tcptop_ops.app.accept_limit import AcceptLimit, read_accept_limit
from tcptop_ops.app.cost_meter import SELDOM_S, CostMeter
from tcptop_ops.app.selection import Narrowing, to_process, to_remote, value_at
from tcptop_ops.app.slow_terminal import MOST_SPARED_S, SlowTerminal
from tcptop_ops.errors import Failed
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec, View, make
from tcptop_ops.widgets.base.row_text import RowText
from tcptop_ops.widgets.panels.summary import HeaderStatus
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

# A slow line


class Line:
    """A terminal whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[str] = []
        self.terminal = SlowTerminal(self._hold_back, lambda: self.now)

    def draws(self) -> bool:
        return self.terminal.takes_ticks

    @contextmanager
    def _hold_back(self) -> Iterator[None]:
        self.told.append("held")
        yield
        self.told.append("drawn")


def test_a_full_line_is_held_back_once_and_then_drawn_once() -> None:
    line = Line()
    assert line.draws()
    line.terminal.full()
    line.terminal.full()
    assert not line.draws()
    assert line.told == ["held"]
    line.now += 2.0
    assert line.terminal.drained() == 2.0
    assert line.terminal.drained() is None
    assert line.told == ["held", "drawn"]


@pytest.mark.parametrize(("full_s", "spared_s"), [(0.5, 0.5), (60.0, MOST_SPARED_S)])
def test_ticks_wait_as_long_again_as_the_line_was_full(full_s: float, spared_s: float) -> None:
    line = Line()
    line.terminal.full()
    line.now += full_s
    assert line.terminal.drained() == spared_s
    line.now += spared_s - 0.01
    assert not line.draws()
    line.now += 0.01
    assert line.draws()


# The own cost


def shot(second: float, program: int = 0) -> Snapshot:
    return snapshot(second, [flow(1)], program_ns=1000 * program, program_calls=program)


def test_the_cost_is_that_between_two_ticks() -> None:
    sent = iter((100, 700))
    meter = CostMeter(lambda: next(sent))
    first = meter.told(HeaderStatus(), shot(1, program=10))
    assert first == HeaderStatus()
    second = meter.told(first, shot(3, program=30))
    assert second.own is not None
    assert (second.terminal_per_s, second.program_calls_per_s, second.program_ns_per_s) == (300.0, 10.0, 10_000.0)


def test_the_cost_is_told_seldom_unless_it_has_a_line_of_its_own() -> None:
    meter = CostMeter(lambda: 0)
    told = meter.told(meter.told(HeaderStatus(), shot(1)), shot(2))
    assert meter.told(told, shot(2 + SELDOM_S - 0.1)) is told
    assert meter.told(told, shot(2 + SELDOM_S)) is not told
    shown = HeaderStatus(own=told.own, own_shown=True)
    assert meter.told(shown, shot(2 + SELDOM_S + 0.1)) is not shown


def test_a_program_that_is_not_measured_has_no_cost() -> None:
    meter = CostMeter(lambda: 0)
    told = meter.told(meter.told(HeaderStatus(), shot(1)), shot(2, program=5))
    assert told.program_ns_per_s != told.program_ns_per_s


# The limit of a listener


def test_somaxconn_is_known_of_one_namespace() -> None:
    limit = AcceptLimit(netns=7, somaxconn=4096)
    assert (limit.of(7), limit.of(8), AcceptLimit().of(0)) == (4096, None, None)
    assert "asked for so few" in limit.explained(7, 128)
    assert limit.explained(8, 128) == limit.explained(None, 128) == limit.explained(7, None) == ""


def test_that_of_this_process_is_read() -> None:
    limit = read_accept_limit()
    assert limit.netns == os.stat("/proc/self/ns/net").st_ino
    assert limit.somaxconn == int(Path("/proc/sys/net/core/somaxconn").read_text())


# The row under the cursor

HERE: dict[str, Any] = {"local": ("10.0.0.1", 80)}


def view_of(*flows: dict[str, Any], closed: list[dict[str, Any]] | None = None, **spec: Any) -> View:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    ended = finals(closed, BOOT_NS + int(1e9)) if closed else None
    return make(tracker.update(snapshot(1, list(flows), ended)), Spec(**spec))


def test_a_value_of_a_row_and_of_none() -> None:
    view = view_of(flow(1, pid=4711))
    assert value_at(view, 0, "pid") == 4711
    assert value_at(view, None, "pid") is None
    assert value_at(None, 0, "pid") is None


def test_a_row_narrows_to_its_process_and_to_its_peer() -> None:
    view = view_of(flow(1, pid=4711, peer=("10.2.0.1", 443)))
    assert to_process(view, 0) == Narrowing("pid = 4711")
    assert to_remote(view, 0) == Narrowing("raddr = 10.2.0.1")
    for narrow in (to_process, to_remote):
        assert narrow(view, None) == narrow(None, 0) == Narrowing()


def test_a_row_without_them_says_why_it_narrows_to_nothing() -> None:
    listener = flow(1, pid=0, name=b"", how=0, state=State.LISTEN, direction=Direction.LISTEN, peer=("0.0.0.0", 0))
    view = view_of(listener)
    assert to_process(view, 0).why_not == "no process is known for this row"
    assert to_remote(view, 0).why_not == "this row has no remote address"


def test_a_group_narrows_to_what_it_has_in_common() -> None:
    rows = [flow(c, pid=100 + c, name=b"nginx", peer=(f"10.2.0.{c}", 443)) for c in (1, 2)]
    assert to_process(view_of(*rows, group="process"), 0).condition == "process = nginx"
    assert to_remote(view_of(*rows, group="process"), 0).why_not == "these have no remote address in common"
    assert to_process(view_of(*rows, group="state"), 0).why_not == "these have no process in common"
    alone = view_of(rows[0], group="state")
    assert to_process(alone, 0).condition == "pid = 101"
    assert to_remote(alone, 0).condition == "raddr = 10.2.0.1"


# Closing


def row_of(*flows: dict[str, Any], closed: list[dict[str, Any]] | None = None) -> RowText:
    return RowText.of(view_of(*flows, closed=closed), 0)


def test_what_can_not_be_closed_and_why() -> None:
    living, listener = flow(1), flow(2, state=State.LISTEN, direction=Direction.LISTEN, peer=("0.0.0.0", 0))
    for row, allowed, failed, words in (
        (row_of(living), False, False, "--allow-close"),
        (row_of(closed=[living]), True, False, "closed already"),
        (row_of(listener), True, False, "a listener is no connection"),
        (row_of(living), True, True, "the source has failed"),
    ):
        assert words in close_connection.refusal(row, is_allowed=allowed, has_failed=failed)
    assert close_connection.refusal(row_of(living), is_allowed=True, has_failed=False) == ""


def test_a_connection_and_a_listener_in_words() -> None:
    living = flow(1, pid=7, name=b"nginx", peer=("10.2.0.1", 443), **HERE)
    listener = flow(2, pid=0, name=b"", how=0, state=State.LISTEN, direction=Direction.LISTEN, peer=("0.0.0.0", 0))
    assert close_connection.named(row_of(living)) == "nginx 7  10.0.0.1:80 -> 10.2.0.1:443"
    assert "->" not in close_connection.named(row_of(listener))


def test_how_it_went() -> None:
    assert close_connection.outcome("nginx", None) == "closed: nginx"
    assert close_connection.outcome("nginx", Failed("no such socket")) == "not closed: no such socket"
