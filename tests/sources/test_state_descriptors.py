"""Passes over descriptors that are made up, merged into the rows of all sockets."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from tcptop_ops.bpf.descriptor_walk import DescriptorWalk, Walked
from tcptop_ops.model.enums import HasRecord, State, Timer
from tcptop_ops.model.records import MET, MET_PROCESS, SOCKET, UNKNOWN_U64, Records
from tcptop_ops.sources.socket_state import SocketState
from tcptop_ops.sources.state_descriptors import DescriptorReader


def sockets(*rows: dict[str, Any]) -> Records:
    """SOCKET rows with these values."""
    made = np.zeros(len(rows), SOCKET)
    for at, row in enumerate(rows):
        for name, value in ({"state": State.ESTABLISHED} | row).items():
            made[name][at] = value
    return made


def passed(*met: dict[str, Any], told: Records | None = None, began: int = 1000, is_whole: bool = True) -> Walked:
    """A pass that met these descriptors."""
    rows = np.zeros(len(met), MET)
    for at, row in enumerate(met):
        for name, value in ({"pid": 7, "fd": 3 + at, "state": State.ESTABLISHED} | row).items():
            rows[name][at] = value
    processes = np.zeros(1, MET_PROCESS)
    processes["pid"], processes["start_ns"], processes["comm"] = 7, 99, b"web"
    records = sockets() if told is None else told
    return Walked(rows, np.zeros(0, MET), processes, records, is_whole, began)


def written(cookie: int, **more: Any) -> dict[str, Any]:
    return {"cookie": cookie, "record": HasRecord.WRITTEN, **more}


def at_rest(cookie: int, **more: Any) -> dict[str, Any]:
    return {"cookie": cookie, "record": HasRecord.AT_REST, **more}


class Kernel:
    """Hands out the passes that it is given, and the sockets that no descriptor shows; it is its own clock."""

    def __init__(self) -> None:
        self.passes: list[Walked] = []
        self.since: list[int] = []
        self.unheld = sockets()
        self.now_us = 10_000_000
        self.expired = 0

    def walk(self, since: int = 0) -> Walked:
        self.since.append(since)
        return self.passes.pop(0)

    def read(self, held: Records) -> SocketState:
        return SocketState(self.unheld, self.unheld[:0], self.unheld[:0], 4, 0)

    def expire(self) -> None:
        self.expired += 1

    def reader(self) -> DescriptorReader:
        return DescriptorReader(cast(DescriptorWalk, self), cast(Any, self), clock_us=lambda: self.now_us)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_one_that_comes_rests_moves_and_goes(kernel: Kernel) -> None:
    reader = kernel.reader()
    kernel.passes = [
        passed(written(1), written(2), told=sockets({"cookie": 1}, {"cookie": 2, "cwnd": 10})),
        passed(at_rest(1), at_rest(2)),
        passed(at_rest(1), written(2), told=sockets({"cookie": 2, "cwnd": 11})),
        passed(at_rest(2), written(3), told=sockets({"cookie": 3})),
    ]
    first, second, third, fourth = (state_of(reader) for _ in range(4))
    assert (first, second) == (({1: 0, 2: 10}, {1, 2}), ({1: 0, 2: 10}, set()))
    assert third == ({1: 0, 2: 11}, {2})
    assert fourth == ({2: 11, 3: 0}, {3})
    assert kernel.since == [0, 1000, 1000, 1000]


def state_of(reader: DescriptorReader) -> tuple[dict[int, int], set[int]]:
    """The congestion windows by cookie, and the cookies of what has changed."""
    state = reader.read()
    assert state.changed is not None
    cookies = state.sockets["cookie"]
    return dict(zip(cookies.tolist(), state.sockets["cwnd"].tolist(), strict=True)), set(
        cookies[state.changed].tolist()
    )


def test_what_is_told_in_full_and_is_as_it_was_has_not_changed(kernel: Kernel) -> None:
    """Times go on, and what is between the members of a record tells nothing."""
    reader = kernel.reader()
    cookies = range(1, 2001)
    for age in (5, 7):
        told = sockets(*({"cookie": cookie, "cwnd": 10, "last_sent_us": age} for cookie in cookies))
        kernel.passes.append(passed(*map(written, cookies), told=told))
    assert len(state_of(reader)[1]) == len(cookies)
    np.full(len(cookies) * SOCKET.itemsize, 0xA5, "u1")  # memory that is used again is not zero
    assert state_of(reader)[1] == set()


def test_a_socket_that_many_hold_has_one_row(kernel: Kernel) -> None:
    reader = kernel.reader()
    many = [written(1), *({"cookie": 1, "record": HasRecord.BEFORE, "pid": pid} for pid in (8, 9))]
    kernel.passes = [passed(*many, told=sockets({"cookie": 1}))]
    state = reader.read()
    assert state.sockets["cookie"].tolist() == [1]
    assert state.descriptors is not None
    assert state.descriptors["pid"].tolist() == [7, 8, 9]
    assert state.descriptors["comm"].tolist() == [b"web", b"", b""]
    assert state.time_wait == 4


def test_descriptors_are_the_same_array_while_they_are_the_same(kernel: Kernel) -> None:
    reader = kernel.reader()
    kernel.passes = [
        passed(written(1), told=sockets({"cookie": 1})),
        passed(at_rest(1)),
        passed(at_rest(1, fd=9)),
    ]
    first, second, third = (reader.read().descriptors for _ in range(3))
    assert first is second
    assert third is not None
    assert third["fd"].tolist() == [9]


def test_times_go_on_at_rest(kernel: Kernel) -> None:
    reader = kernel.reader()
    ages = {"last_sent_us": 500, "last_received_us": UNKNOWN_U64, "last_ack_received_us": 0}
    kernel.passes = [
        passed(written(1), told=sockets({"cookie": 1, **ages})),
        passed(at_rest(1, timer=Timer.KEEPALIVE << 28 | 90)),
    ]
    reader.read()
    kernel.now_us += 1_000_000
    [row] = reader.read().sockets
    assert (row["last_sent_us"], row["last_received_us"], row["last_ack_received_us"]) == (
        1_000_500,
        UNKNOWN_U64,
        1_000_000,
    )
    assert (row["timer"], row["timer_us"]) == (Timer.KEEPALIVE, 90_000)


def test_what_a_row_at_rest_tells_is_written_into_its_record(kernel: Kernel) -> None:
    reader = kernel.reader()
    kernel.passes = [
        passed(written(1, segs_in=1), told=sockets({"cookie": 1, "segs_in": 1})),
        passed(at_rest(1, segs_in=2, cb_flags=7)),
    ]
    reader.read()
    state = reader.read()
    assert state.changed is not None
    assert state.changed.tolist() == [0]
    assert (state.sockets["segs_in"][0], state.sockets["cb_flags"][0]) == (2, 7)


def test_an_unknown_one_at_rest_has_all_told_in_full(kernel: Kernel) -> None:
    reader = kernel.reader()
    both = sockets({"cookie": 1}, {"cookie": 2, "cwnd": 5})
    kernel.passes = [
        passed(written(1), told=sockets({"cookie": 1})),
        passed(at_rest(1), at_rest(2)),
        passed(written(1), written(2), told=both),
    ]
    reader.read()
    assert state_of(reader) == ({1: 0, 2: 5}, {2})
    assert kernel.since == [0, 1000, 0]


def test_one_that_is_accepted_at_rest_keeps_what_was_known_of_it(kernel: Kernel) -> None:
    reader = kernel.reader()
    kernel.passes = [passed(written(1), told=sockets({"cookie": 1})), passed(at_rest(1), at_rest(2))]
    kernel.unheld = sockets({"cookie": 2, "cwnd": 6})
    assert state_of(reader) == ({1: 0, 2: 6}, {1, 2})
    kernel.unheld = sockets()
    assert state_of(reader) == ({1: 0, 2: 6}, {2})
    assert len(kernel.since) == 2


def test_a_full_ring_has_the_pass_made_again(kernel: Kernel) -> None:
    reader = kernel.reader()
    kernel.passes = [
        passed({"cookie": 1, "record": HasRecord.NO_ROOM}, is_whole=False),
        passed(written(1), told=sockets({"cookie": 1, "cwnd": 3})),
    ]
    assert state_of(reader) == ({1: 3}, {1})


def test_the_rows_of_the_last_read_still_hold(kernel: Kernel) -> None:
    reader = kernel.reader()
    kernel.passes = [
        passed(written(1), told=sockets({"cookie": 1, "cwnd": 1})),
        passed(written(1), told=sockets({"cookie": 1, "cwnd": 2})),
    ]
    first, second = reader.read(), reader.read()
    assert (first.sockets["cwnd"].tolist(), second.sockets["cwnd"].tolist()) == ([1], [2])
    assert second.before is first.sockets
