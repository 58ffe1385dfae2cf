"""What the poller's thread does with a tick, without a thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tcptop_ops.app.tick_receiver import TickReceiver, calls_per_s
from tcptop_ops.app.view_state import ViewState
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import COUNTERS
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec, View, make
from tests.support.fakes import flow, snapshot


def shot(second: int, calls: int = 0) -> Snapshot:
    counters = np.zeros((), COUNTERS)
    counters["calls"][:] = calls
    rows = [flow(1, pid=77, bytes_acked=1000 * second), flow(2, pid=78)]
    return snapshot(second, rows, counters=counters)


def ticks(*shots: Snapshot) -> list[Flows]:
    tracker = Tracker()
    return [tracker.update(one) for one in shots]


class Heard:
    """A receiver, and what it has told."""

    def __init__(self, **rest: Any) -> None:
        self.state = ViewState(Spec())
        self.published = 0
        options: dict[str, Any] = {"sshds": frozenset()} | rest
        self.receiver = TickReceiver(lambda: self.state, published=self._publish, **options)

    def _publish(self) -> None:
        self.published += 1


def test_a_tick_is_told_once_until_it_is_taken_and_the_newest_counts() -> None:
    heard = Heard()
    first, second, third = ticks(shot(0), shot(1), shot(2))
    assert heard.receiver.take() is None
    heard.receiver.receive(first)
    heard.receiver.receive(second)
    assert heard.published == 1
    taken = heard.receiver.take()
    assert taken is not None
    assert taken.flows.tick == second.tick
    heard.receiver.receive(third)
    assert heard.published == 2


def test_the_view_is_made_as_the_state_says_at_that_moment() -> None:
    heard = Heard()
    first, second = ticks(shot(0), shot(1))
    heard.receiver.receive(first)
    taken = heard.receiver.take()
    assert taken is not None
    heard.state = heard.state.received(taken).caught_up().sorted_by(find("srtt_us")).marked()
    heard.receiver.receive(second)
    view = heard.receiver.take()
    assert view is not None
    assert view.spec is heard.state.spec
    assert view.flows.mark is heard.state.mark


def test_the_connection_over_which_this_is_used_is_told() -> None:
    heard = Heard(sshds=frozenset({77}))
    heard.receiver.receive(ticks(shot(0))[0])
    view = heard.receiver.take()
    assert view is not None
    assert view.flows.session == 1


def test_what_is_looked_at_has_a_history_even_where_it_is_idle() -> None:
    heard = Heard()
    heard.state = replace(heard.state, watched=2)
    for one in ticks(*(shot(second) for second in range(4))):
        heard.receiver.receive(one)
    assert not np.isnan(heard.receiver.history.series(2, 3).srtt_us).any()
    heard.state = replace(heard.state, watched=0, selected=2)
    heard.receiver.receive(ticks(*(shot(second) for second in range(6)))[5])
    assert not np.isnan(heard.receiver.history.series(2, 1).srtt_us).any()


def test_what_comes_before_a_place_in_a_recording_is_remembered_and_not_shown() -> None:
    heard = Heard()
    for one in ticks(shot(0), shot(1), shot(2)):
        heard.receiver.lead_in(one)
    assert len(heard.receiver.history) == 2
    assert heard.receiver.take() is None
    heard.receiver.lead_in(None)
    assert len(heard.receiver.history) == 0


class Observer:
    """A TickObserver that keeps what it is shown."""

    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.seen: list[Flows] = []

    def observe(self, flows: Flows) -> None:
        self.seen.append(flows)


def test_observers_see_every_tick_with_its_mark_though_no_view_is_taken() -> None:
    observers = [Observer(), Observer()]
    heard = Heard(observers=observers)
    first, second, third = ticks(shot(0), shot(1), shot(2))
    heard.receiver.receive(first)
    taken = heard.receiver.take()
    assert taken is not None
    heard.state = heard.state.received(taken).caught_up().marked()
    heard.receiver.receive(second)
    heard.receiver.receive(third)
    for observer in observers:
        assert [flows.tick for flows in observer.seen] == [first.tick, second.tick, third.tick]
        assert [flows.mark for flows in observer.seen] == [None, heard.state.mark, heard.state.mark]


def test_what_leads_in_to_a_place_in_a_recording_is_not_observed() -> None:
    observer = Observer()
    Heard(observers=[observer]).receiver.lead_in(ticks(shot(0))[0])
    assert observer.seen == []


def views(*shots: Snapshot) -> list[View]:
    return [make(one, Spec()) for one in ticks(*shots)]


def test_calls_a_second_are_those_between_two_ticks() -> None:
    first, second = views(shot(0, calls=10), shot(2, calls=30))
    rates = calls_per_s(first, second)
    assert rates is not None
    assert set(rates.tolist()) == {10.0}


def test_calls_that_are_fewer_than_before_are_none() -> None:
    first, second = views(shot(0, calls=10), shot(1, calls=3))
    rates = calls_per_s(first, second)
    assert rates is not None
    assert set(rates.tolist()) == {0.0}


def test_at_the_first_tick_and_between_a_tick_and_itself_there_is_no_rate() -> None:
    first, second = views(shot(0, calls=10), shot(1, calls=30))
    assert calls_per_s(None, second) is None
    assert calls_per_s(second, first) is None
    assert calls_per_s(second, second) is None
