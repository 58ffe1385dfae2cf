"""The poller's thread and its loop, with a clock that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import Poller
from tcptop_ops.polling.schedule import DRAIN_S, Clock, Wake, next_due, ticks
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import FakeSource, flow, snapshot


class FakeClock(Clock):
    """Time passes only by waiting, at once. ``at`` has something done at a moment."""

    def __init__(self) -> None:
        self.time = 0.0
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def at(self, moment: float, what: Callable[[], None]) -> None:
        self.plans.append((moment, what))

    def now(self) -> float:
        return self.time

    def wait(self, wake: Wake, seconds: float) -> bool:
        until = self.time + seconds
        for plan in sorted(self.plans, key=lambda p: p[0]):
            if plan[0] <= until:
                self.plans.remove(plan)
                self.time = max(self.time, plan[0])
                plan[1]()
                return wake.is_set()
        self.time = until
        return wake.is_set()


class TimedSource(FakeSource):
    """Knows when it was polled and drained; a poll takes ``cost_s``."""

    def __init__(self, clock: FakeClock, costs_s: dict[int, float] | None = None) -> None:
        super().__init__([snapshot(i, [flow(1)]) for i in range(50)])
        self.clock = clock
        self.costs_s = costs_s or {}
        self.polled: list[float] = []
        self.drained: list[float] = []

    def poll(self) -> Snapshot:
        self.polled.append(round(self.clock.time, 6))
        self.clock.time += self.costs_s.get(self.polls, 0.0)
        return super().poll()

    def drain(self) -> None:
        self.drained.append(self.clock.time)


class Bad(FakeSource):
    """Fails at the second poll."""

    def __init__(self, error: Exception) -> None:
        super().__init__([snapshot(0, [flow(1)])])
        self.error = error

    def poll(self) -> Snapshot:
        if self.polls:
            raise self.error
        return super().poll()


class Heard:
    """What a poller said."""

    def __init__(self, stop_after: int) -> None:
        self.flows: list[Flows] = []
        self.errors: list[TcptopError] = []
        self.stop_after = stop_after
        self.poller: Poller | None = None

    def publish(self, flows: Flows) -> None:
        self.flows.append(flows)
        if len(self.flows) == self.stop_after and self.poller is not None:
            self.poller.stop()

    def fail(self, error: TcptopError) -> None:
        self.errors.append(error)


def heard(source: FakeSource | Callable[[], FakeSource], clock: Clock, stop_after: int = 3) -> tuple[Heard, Poller]:
    found = Heard(stop_after)
    found.poller = Poller(source, Tracker(), found.publish, delay_s=1.0, fail=found.fail, clock=clock)
    return found, found.poller


def ended(poller: Poller) -> None:
    """Wait for the thread's end."""
    poller._worker.thread.join(30)
    assert not poller._worker.thread.is_alive()


def test_ticks_start_one_delay_after_the_baseline() -> None:
    clock = FakeClock()
    source = TimedSource(clock)
    found = list(ticks(source, Tracker(), 2.0, threading.Event(), 3, clock))
    assert source.polled == [0.0, 2.0, 4.0, 6.0]
    assert [f.tick for f in found] == [1, 2, 3]
    assert all(f.seconds > 0 for f in found)


def test_ticks_do_not_drift_and_leave_out_what_they_missed() -> None:
    clock = FakeClock()
    source = TimedSource(clock, {1: 0.3, 2: 2.5})
    list(ticks(source, Tracker(), 1.0, threading.Event(), 5, clock))
    assert source.polled == [0.0, 1.0, 2.0, 5.0, 6.0, 7.0]


def test_where_ticks_take_long_there_is_as_much_rest_as_work() -> None:
    clock = FakeClock()
    source = TimedSource(clock, {2: 0.8, 3: 0.8, 4: 0.8})
    told = [flows.snapshot.notes for flows in ticks(source, Tracker(), 1.0, threading.Event(), 6, clock)]
    assert source.polled == [0.0, 1.0, 2.0, 3.0, 4.6, 6.2, 7.2]
    assert told == [(), (), (), *[("a tick takes 0.8 s: fewer are made",)] * 2, ()]


def test_ticks_end_when_told() -> None:
    clock, stop = FakeClock(), threading.Event()
    clock.at(2.5, stop.set)
    assert len(list(ticks(TimedSource(clock), Tracker(), 1.0, stop, None, clock))) == 2


def test_ticks_pass_an_error_on() -> None:
    with pytest.raises(Failed, match="gone"):
        list(ticks(Bad(Failed("gone")), Tracker(), 1.0, threading.Event(), 3, FakeClock()))


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 1.0, 10.0])
def test_the_source_is_drained_at_least_every_quarter_of_a_second(delay_s: float) -> None:
    clock = FakeClock()
    source = TimedSource(clock)
    list(ticks(source, Tracker(), delay_s, threading.Event(), 4, clock))
    taken_in = sorted(source.polled + source.drained)
    assert max(np.diff(taken_in)) <= DRAIN_S + 1e-6


def test_draining_goes_on_while_keys_are_pressed() -> None:
    clock = FakeClock()
    source = TimedSource(clock)
    found, poller = heard(source, clock)
    for i in range(1, 100):
        clock.at(i * 0.01, lambda: poller.set_delay(1.0))
    poller.start()
    ended(poller)
    assert len(found.flows) == 3
    assert max(np.diff(sorted(source.polled + source.drained))) <= DRAIN_S + 1e-6


def test_next_due_stays_on_the_beat() -> None:
    assert next_due(10.0, 1.0, 10.2) == 11.0
    assert next_due(10.0, 1.0, 13.5) == 14.0
    assert next_due(10.0, 1.0, 9.0) == 11.0


def test_the_first_tick_comes_at_once_and_the_source_is_closed() -> None:
    clock = FakeClock()
    source = TimedSource(clock)
    found, poller = heard(source, clock)
    poller.start()
    ended(poller)
    assert source.polled == [0.0, 1.0, 2.0]
    assert [f.tick for f in found.flows] == [0, 1, 2]
    assert source.closed
    assert not found.errors


def test_another_delay_counts_from_the_last_tick() -> None:
    clock = FakeClock()
    source = TimedSource(clock)
    _, poller = heard(source, clock, stop_after=4)
    clock.at(1.4, lambda: poller.set_delay(5.0))
    clock.at(7.0, lambda: poller.set_delay(0.5))
    poller.start()
    ended(poller)
    assert source.polled == [0.0, 1.0, 6.0, 7.0]


def test_poll_now_polls_at_once_and_then_a_delay_later() -> None:
    clock = FakeClock()
    source = TimedSource(clock)
    _, poller = heard(source, clock, stop_after=4)
    clock.at(1.25, poller.poll_now)
    poller.start()
    ended(poller)
    assert source.polled == [0.0, 1.0, 1.25, 2.25]


def test_stop_does_not_wait_for_the_next_tick() -> None:
    source = FakeSource([snapshot(0, [flow(1)])])
    first = threading.Event()
    poller = Poller(source, Tracker(), lambda _: first.set(), delay_s=3600, fail=Heard(0).fail)
    poller.start()
    assert first.wait(30)
    poller.stop()
    ended(poller)
    assert source.polls == 1
    assert source.closed


def test_stop_before_the_start_is_harmless() -> None:
    found, poller = heard(FakeSource([]), FakeClock())
    poller.stop()
    assert not found.errors


def test_an_error_is_told_once_and_ends_the_thread() -> None:
    error = Failed("the kernel said no", "ask again")
    source = Bad(error)
    found, poller = heard(source, FakeClock())
    poller.start()
    ended(poller)
    assert found.errors == [error]
    assert len(found.flows) == 1
    assert source.closed


def test_an_error_that_nobody_foresaw_is_told_in_one_line() -> None:
    error = OSError("netlink")
    found, poller = heard(Bad(error), FakeClock())
    poller.start()
    ended(poller)
    assert [e.message for e in found.errors] == ["OSError: netlink"]
    assert found.errors[0].__cause__ is error
    assert found.errors[0].hint


def test_a_callable_is_opened_in_the_thread() -> None:
    threads: list[str] = []
    source = FakeSource([snapshot(0, [flow(1)])])

    def opened() -> FakeSource:
        threads.append(threading.current_thread().name)
        return source

    found, poller = heard(opened, FakeClock(), stop_after=1)
    poller.start()
    ended(poller)
    assert threads == ["poller"]
    assert len(found.flows) == 1
    assert source.closed


def test_what_cannot_be_opened_is_told() -> None:
    def refused() -> FakeSource:
        raise Unsupported("no root", "sudo")

    found, poller = heard(refused, FakeClock())
    poller.start()
    ended(poller)
    assert [e.hint for e in found.errors] == ["sudo"]
    assert not found.flows


def test_kept_flows_do_not_change_with_the_source() -> None:
    shot = snapshot(0, [flow(1, name=b"before")])
    kept = Tracker().update(shot).copy()
    shot.sockets["cookie"] = 9
    shot.owners["name"] = b"after"
    assert kept.live.sockets["cookie"].tolist() == [1]
    assert kept.live.owners["name"].tolist() == [b"before"]
