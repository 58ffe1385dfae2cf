"""Observers: what they are told, in which order, and what becomes of their notes."""

from __future__ import annotations

import threading
from dataclasses import fields

import numpy as np
import pytest

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.observers import complete
from tcptop_ops.polling.poller import Poller
from tcptop_ops.polling.schedule import Clock, PollSchedule, ticks
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import FakeSource, finals, flow, scrambled, snapshot


class Listener:
    """Remembers the ticks, and in which order several of them were told."""

    def __init__(self, calls: list[str], name: str, notes: tuple[str, ...] = ()) -> None:
        self.calls, self.name = calls, name
        self.seen: list[Flows] = []
        self._notes = notes

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes if self.seen else ()

    def observe(self, flows: Flows) -> None:
        self.calls.append(self.name)
        self.seen.append(flows)


def refused(cookie: int) -> Snapshot:
    """Attempts of one process that failed within a second: there is something to be found."""
    rows = [flow(cookie + n, states=1 << State.SYN_SENT) for n in range(4)]
    return snapshot(1, [], finals(rows, snapshot(1, []).now_ns, from_state=State.SYN_SENT, error=111))


def test_each_observer_gets_each_tick_with_its_findings_and_without_notes_of_others() -> None:
    calls: list[str] = []
    first, second = Listener(calls, "first", ("full",)), Listener(calls, "second", ("slow", "late"))
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    flows = complete(tracker.update(refused(1)), FindingsMemory(), (first, second))
    assert calls == ["first", "second"]
    assert flows.findings
    for observer in (first, second):
        [seen] = observer.seen
        assert seen.findings == flows.findings == findings(flows)
        assert seen.snapshot.notes == ()
    assert flows.snapshot.notes == ("full", "slow", "late")


def test_notes_of_the_source_come_first() -> None:
    told = complete(
        Tracker().update(snapshot(0, [], notes=("polled only",))), FindingsMemory(), (Listener([], "a", ("full",)),)
    )
    assert told.snapshot.notes == ("polled only", "full")


def test_a_tick_without_observers_has_no_other_snapshot() -> None:
    flows = Tracker().update(snapshot(0, [flow(1)]))
    assert complete(flows, FindingsMemory()).snapshot is flows.snapshot


def test_the_baseline_is_told_too() -> None:
    observer = Listener([], "a")
    source = FakeSource([snapshot(second, [flow(1)]) for second in range(9)])
    found = list(ticks(source, Tracker(), 0.001, threading.Event(), 3, Clock(), (observer,)))
    assert [flows.tick for flows in observer.seen] == [0, 1, 2, 3]
    assert [flows.tick for flows in found] == [1, 2, 3]


def test_a_poller_publishes_with_the_notes() -> None:
    published: list[Flows] = []
    enough = threading.Event()

    def publish(flows: Flows) -> None:
        published.append(flows)
        enough.set()

    observer = Listener([], "a", ("full",))
    source = FakeSource([snapshot(0, [flow(1)])])
    poller = Poller(source, Tracker(), publish, delay_s=3600, fail=lambda _: None, observers=(observer,))
    poller.start()
    assert enough.wait(30)
    poller.stop()
    assert published[0].snapshot.notes == ("full",)
    assert len(observer.seen) == 1


def test_an_error_of_an_observer_is_an_error_of_the_tick() -> None:
    class Broken(Listener):
        def observe(self, flows: Flows) -> None:
            raise ZeroDivisionError

    schedule = PollSchedule(FakeSource([snapshot(0, [])]), Tracker(), Clock(), (Broken([], "a"),))
    with pytest.raises(ZeroDivisionError):
        schedule.tick()


def test_a_copy_shares_nothing_that_a_source_uses_again() -> None:
    shot = scrambled(20, 7, 1.0)
    copied = shot.copy()
    for field in fields(Snapshot):
        one, other = getattr(shot, field.name), getattr(copied, field.name)
        if isinstance(one, (np.ndarray, np.void)):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), field.name
            assert np.shape(one) == np.shape(other), field.name
            assert not np.shares_memory(np.asarray(one), np.asarray(other)), field.name
        else:
            assert one == other, field.name


def test_a_copied_tick_has_the_rows_of_its_snapshot() -> None:
    flows = Tracker().update(snapshot(0, [flow(1), flow(2)]))
    copied = flows.copy()
    assert copied.live.sockets is copied.snapshot.sockets
    assert copied.live.sockets is not flows.live.sockets
    assert copied.live.sockets["cookie"].tolist() == [1, 2]
    assert copied.live.rates is flows.live.rates
