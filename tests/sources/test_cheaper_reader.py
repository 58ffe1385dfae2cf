"""Which of two readers reads: the cheaper one, without going to and fro."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tcptop_ops.model.records import OWNER, SOCKET, Records
from tcptop_ops.sources.cheaper_reader import SETTLED_S, TRY_AGAIN_S, CheaperReader
from tcptop_ops.sources.socket_state import SocketState

NONE = np.zeros(0, SOCKET)


class Host:
    """Time, CPU time, and the sockets and descriptors that there are."""

    def __init__(self) -> None:
        self.now_s = self.cpu_s = 0.0
        self.sockets, self.descriptors = 10, 20


class Made:
    """A reader that costs so many seconds of CPU; its cookies tell who read them."""

    def __init__(self, host: Host, cost_s: float, name: int, is_pass: bool) -> None:
        self.host, self.cost_s, self.name, self.is_pass = host, cost_s, name, is_pass
        self.reads, self.last, self.left, self.is_open = 0, NONE, 0, True

    def read(self) -> SocketState:
        self.host.cpu_s += self.cost_s * (3 if not self.reads else 1)  # the first is dearer
        self.reads += 1
        rows = np.zeros(self.host.sockets, SOCKET)
        rows["cookie"] = self.name * 1000 + self.reads
        before, self.last = self.last, rows
        owners = np.zeros(self.host.descriptors, OWNER) if self.is_pass else None
        changed = np.zeros(0, np.intp) if self.is_pass else None
        return SocketState(rows, before, NONE, 0, 0, changed=changed, descriptors=owners)

    def devices(self, sockets: Records) -> dict[int, str]:
        return {self.name: ""}

    def rest(self) -> SocketState | None:
        return self.read() if self.left else None

    def close(self) -> None:
        self.is_open = False


class Both:
    """A CheaperReader, which ticks each second."""

    def __init__(self, passes_s: float, dumps_s: float) -> None:
        self.host = Host()
        self.passes, self.dumps = Made(self.host, passes_s, 1, True), Made(self.host, dumps_s, 2, False)
        self.reader = CheaperReader(self.passes, self.dumps, lambda: self.host.now_s, lambda: self.host.cpu_s)

    def ticks(self, count: int) -> str:
        """Who read, a letter a tick: p or d."""
        read = ""
        for _ in range(count):
            self.host.now_s += 1
            read += "p" if self.reader.read().descriptors is not None else "d"
        return read


def test_the_pass_reads_where_it_is_cheaper() -> None:
    both = Both(0.01, 0.03)
    assert both.ticks(10) == "ppddpppppp"
    told = "by descriptors, which costs less here: descriptors 10.0 ms, sock_diag with owners 40.0 ms of CPU a read"
    assert both.reader.why == told


def test_sock_diag_reads_where_it_is_cheaper_and_a_dear_pass_is_made_once() -> None:
    both = Both(1.5, 0.01)
    assert both.reader.why == "by descriptors: the other way was not tried yet"
    assert both.ticks(200) == "p" + "d" * 199
    assert both.reader.why.startswith("by sock_diag, which costs less here")


def test_a_first_pass_that_is_dear_is_made_again_where_it_may_have_been_that_alone() -> None:
    both = Both(0.2, 0.3)
    assert both.ticks(20) == "pddp" + "p" * 16


def test_what_has_changed_since_the_last_read_is_told_where_the_same_reader_goes_on() -> None:
    both = Both(0.01, 0.03)
    both.ticks(5)
    assert both.reader.read().changed is not None


def test_a_pass_that_is_little_dearer_stays_for_it_tells_the_owners_too() -> None:
    assert Both(0.03, 0.02).ticks(20)[-1] == "p"
    assert Both(0.3, 0.1).ticks(20)[-1] == "d"


def test_one_that_costs_hardly_less_is_not_taken() -> None:
    both = Both(0.3, 0.18)
    assert both.ticks(20)[-1] == "p"
    assert both.reader.why.startswith("by descriptors, the other way costs hardly less here: ")


@pytest.mark.parametrize(("passes_s", "dumps_s"), [(0.1, 0.001), (0.05, 0.05), (0.2, 0.08), (0.25, 0.12)])
def test_it_does_not_go_to_and_fro(passes_s: float, dumps_s: float) -> None:
    read = Both(passes_s, dumps_s).ticks(int(4 * TRY_AGAIN_S))
    assert sum(one != other for one, other in itertools.pairwise(read[10:])) <= 2 * 4
    assert read[10:].count(read[10]) >= len(read) - 10 - 2 * 4


def test_the_other_is_tried_again_after_minutes() -> None:
    both = Both(0.01, 0.03)
    both.ticks(20)
    both.dumps.cost_s, both.passes.cost_s = 0.001, 0.2
    assert set(both.ticks(100)) == {"p"}
    assert both.ticks(int(TRY_AGAIN_S))[-1] == "d"


def test_the_other_is_tried_again_where_numbers_have_changed() -> None:
    both = Both(0.01, 0.03)
    both.ticks(20)
    both.passes.cost_s, both.host.descriptors = 0.3, 1000
    assert both.ticks(int(SETTLED_S) + 5)[-1] == "d"
    both.passes.cost_s, both.dumps.cost_s, both.host.sockets = 0.3, 1.0, 1000
    assert both.ticks(int(SETTLED_S) + 5)[-1] == "p"


def test_what_was_before_is_what_was_told_last_whoever_told_it() -> None:
    both = Both(2.0, 0.01)
    last = NONE
    for _ in range(int(TRY_AGAIN_S) + 20):
        both.host.now_s += 1
        state = both.reader.read()
        assert np.array_equal(state.before["cookie"], last["cookie"])
        last_by, by = (rows["cookie"][0] // 1000 if len(rows) else 0 for rows in (last, state.sockets))
        assert state.changed is None or last_by in (by, 0)
        last = state.sockets


def test_the_rest_is_asked_of_the_one_that_reads() -> None:
    both = Both(2.0, 0.01)
    both.ticks(1)
    before = both.passes.last
    both.ticks(1)
    assert both.reader.rest() is None
    both.dumps.left = 1
    rest = both.reader.rest()
    assert rest is not None
    assert np.array_equal(rest.before["cookie"], before["cookie"])
    assert both.reader.devices(NONE) == {2: ""}


def test_both_are_closed() -> None:
    both = Both(0.01, 0.01)
    both.reader.close()
    assert not both.passes.is_open
    assert not both.dumps.is_open
