"""Sockets that no descriptor shows: which are found when, and whom that costs what."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records
from tcptop_ops.sources import unheld
from tcptop_ops.sources.cgroup_follow import CgroupMembers
from tcptop_ops.sources.sock_diag import PASSING, STAYING
from tcptop_ops.sources.unheld import CHECK_S, UnheldReader
from tests.support.fakes import flow
from tests.support.made_up_kernel import Kernel, access


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path, 1, 2)


def reader(kernel: Kernel, **rest: Any) -> UnheldReader:
    rest = {"handshakes": lambda: 0} | rest
    return UnheldReader(access(kernel), clock=lambda: kernel.now_s, cpu=lambda: kernel.cpu_s, **rest)


def found(of: UnheldReader, kernel: Kernel, *held: int, seconds: float = 1.0) -> list[int]:
    """The cookies that a read finds, sorted, a while after the last one."""
    kernel.now_s += seconds
    kernel.tell()
    return sorted(of.read(kernel.held(*held)).sockets["cookie"].tolist())


def asked(kernel: Kernel) -> list[tuple[str, int, int]]:
    log, kernel.log = kernel.log, []
    return log


def test_where_all_are_held_nobody_is_asked(kernel: Kernel) -> None:
    kernel.add(1, 2, 3)
    kernel.add(4, state=State.LISTEN, peer=("0.0.0.0", 0))
    kernel.add(5, family=10)
    kernel.add(6, state=State.CLOSE)
    kernel.add(7, netns=2)
    one = reader(kernel)
    assert found(one, kernel, 1, 2, 3, 4, 5, 6, 7) == []
    asked(kernel)  # the first check
    assert found(one, kernel, 1, 2, 3, 4, 5, 6, 7) == []
    assert asked(kernel) == []


@pytest.mark.parametrize("state", [s for s in State if 0 < s <= State.CLOSING and s not in (6, 7, 3)])
@pytest.mark.parametrize("family", [2, 10])
def test_one_in_each_state_is_told_at_each_read_and_once(kernel: Kernel, state: State, family: int) -> None:
    kernel.add(1, 2)
    one = reader(kernel)
    assert found(one, kernel, 1, 2) == []
    kernel.add(9, state=state, family=family, srtt_us=777)
    for _ in range(3):
        assert found(one, kernel, 1, 2) == [9]
    last = one.read(kernel.held(1, 2))
    assert (last.sockets["state"][0], last.sockets["srtt_us"][0], last.sockets["netns"][0]) == (state, 777, 1)
    assert last.before["cookie"].tolist() == [9]
    asked(kernel)
    assert found(one, kernel, 1, 2) == [9]
    assert asked(kernel) == [("exact", 1, 9)]


def test_what_is_accepted_meanwhile_is_told_by_the_pass_alone(kernel: Kernel) -> None:
    kernel.add(1, 2, 3)
    one = reader(kernel)
    assert found(one, kernel, 1) == [2, 3]
    assert found(one, kernel, 1, 2) == [3]
    assert found(one, kernel, 1) == [2, 3]  # accepted, but after the pass had been there
    kernel.close(3)
    assert found(one, kernel, 1, 2) == []


def test_what_was_closed_after_the_pass_is_told_by_the_pass_alone(kernel: Kernel) -> None:
    kernel.add(1, 2)
    one = reader(kernel)
    held = kernel.held(1, 2)
    kernel.add(2, state=State.FIN_WAIT1)
    kernel.add(3, state=State.LAST_ACK)
    kernel.tell()
    assert one.read(held).sockets["cookie"].tolist() == [3]


def test_others_than_orphans_are_not_looked_at_for_these(kernel: Kernel) -> None:
    kernel.add(1, 2)
    one = reader(kernel)
    found(one, kernel, 1, 2)
    asked(kernel)
    kernel.add(8, state=State.FIN_WAIT2)
    assert found(one, kernel, 1, 2) == [8]
    assert asked(kernel) == [("dump", 1, PASSING)]


def test_a_count_that_misleads_costs_no_search_each_time(kernel: Kernel) -> None:
    kernel.add(*range(1, 200))
    kernel.counts_too_many = 1
    one = reader(kernel)
    for _ in range(10):
        assert found(one, kernel, *range(1, 200)) == []
    log = [states for _, namespace, states in asked(kernel) if namespace == 1]
    assert (log.count(STAYING), log.count(PASSING), len(log)) == (1, 1, 2)


def test_a_count_that_misled_once_is_believed_again(kernel: Kernel) -> None:
    kernel.add(1, 2)
    kernel.counts_too_many = 1
    one = reader(kernel)
    assert found(one, kernel, 1, 2) == []
    kernel.counts_too_many = 0
    assert found(one, kernel, 1, 2) == []
    kernel.add(9)
    assert found(one, kernel, 1, 2) == [9]


def test_one_that_a_count_hides_is_found_by_the_next_check(kernel: Kernel) -> None:
    kernel.add(1, 2)
    one = reader(kernel)
    found(one, kernel, 1, 2)
    kernel.add(9)
    kernel.counts_too_many = -1
    assert found(one, kernel, 1, 2) == []
    assert found(one, kernel, 1, 2, seconds=CHECK_S + 1) == [9]


def test_searches_are_bounded_where_nothing_is_counted(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs 0.2 s: at most a twentieth of the time goes there."""
    monkeypatch.setattr("tests.support.made_up_kernel.WALK_S", 0.2)
    kernel.add(1, 2)
    kernel.hides = {1, 2}
    one = reader(kernel)
    for _ in range(100):
        found(one, kernel, 1, 2)
    searches = [states for _, _, states in asked(kernel) if states == STAYING]
    walks = kernel.cpu_s / 0.2 - len(searches)
    assert 100 * unheld.SMALL_SHARE / 0.2 - 1 <= len(searches) <= 100 * unheld.SMALL_SHARE / 0.2 + 3
    assert walks <= 100 * (unheld.WALK_SHARE + unheld.GUESS_SHARE + 0.02) / 0.2 + 4


def test_a_large_namespace_does_not_keep_small_ones_from_being_searched(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the large one the count never fits."""
    monkeypatch.setattr("tests.support.made_up_kernel.SOCKET_S", 0.000_2)
    monkeypatch.setattr(unheld, "SMALL", 500)
    every = range(1, 1000)
    kernel.add(*every)
    one = reader(kernel)
    for number in range(2000, 2020):
        kernel.add(number)
        found(one, kernel, *every)
    kernel.add(3000, netns=2)
    assert 3000 in found(one, kernel, *every)


def test_where_nothing_is_counted_they_are_found_all_the_same(kernel: Kernel) -> None:
    kernel.add(1, 2, 3)
    kernel.add(4, state=State.LAST_ACK)
    kernel.add(5, netns=2)
    kernel.hides = {1, 2}
    assert found(reader(kernel), kernel, 1) == [2, 3, 4, 5]


def test_a_listener_for_which_another_answers(kernel: Kernel) -> None:
    kernel.add(1)
    kernel.add(8, 9, state=State.LISTEN, local=("10.0.0.1", 80), peer=("0.0.0.0", 0))
    kernel.silent = {9}
    one = reader(kernel)
    for _ in range(3):
        assert found(one, kernel, 1) == [8, 9]


def test_what_answers_no_question_is_dumped(kernel: Kernel) -> None:
    kernel.add(*range(1, 300))
    kernel.silent = {9}
    one = reader(kernel)
    held = [cookie for cookie in range(1, 300) if cookie != 9]
    found(one, kernel, *held)
    for _ in range(3):
        assert found(one, kernel, *held) == [9]


def test_many_are_dumped_and_not_asked_for_one_by_one(kernel: Kernel) -> None:
    kernel.add(*range(1, 1000))
    one = reader(kernel)
    assert found(one, kernel, 1) == list(range(2, 1000))
    assert found(one, kernel, 1) == list(range(2, 1000))
    assert not [kind for kind, *_ in asked(kernel) if kind == "exact"]


def test_handshakes_are_looked_for_where_some_have_begun(kernel: Kernel) -> None:
    begun = 5
    kernel.add(1, state=State.LISTEN, peer=("0.0.0.0", 0))
    one = reader(kernel, handshakes=lambda: begun)
    found(one, kernel, 1)
    asked(kernel)
    found(one, kernel, 1)
    assert asked(kernel) == []
    begun, kernel.requests[1] = 6, [flow(77, netns=1, state=State.SYN_RECV, local=("10.0.0.1", 1))]
    found(one, kernel, 1)
    state = one.read(kernel.held(1))
    assert (state.syn_recv, state.half_open["lport"].tolist(), state.half_open["netns"].tolist()) == (1, [1], [1])
    assert len(state.sockets) == 0
    kernel.requests = {}
    kernel.now_s += 1
    assert one.read(kernel.held(1)).syn_recv == 0


def test_time_wait_is_that_of_all_namespaces(kernel: Kernel) -> None:
    kernel.add(1)
    kernel.time_wait = {1: 5, 2: 6}
    kernel.tell()
    one = reader(kernel)
    assert one.read(kernel.held(1)).time_wait == 11
    kernel.time_wait = {1: 5}
    kernel.tell()
    assert one.read(kernel.held(1)).time_wait == 5


def test_a_namespace_that_goes_is_let_go(kernel: Kernel) -> None:
    kernel.add(1)
    kernel.add(2, netns=2)
    one = reader(kernel)
    opened = cast(Any, one)._reach.opened
    assert found(one, kernel, 1) == [2]
    del kernel.sockets[2]
    one.expire()
    assert found(one, kernel, 1) == []
    assert [each.is_open for each in opened].count(True) <= 1
    one.close()
    assert not any(each.is_open for each in opened)


def test_in_an_empty_namespace_nothing_stays_open(kernel: Kernel) -> None:
    kernel.add(1)
    kernel.add(2, netns=2)
    one = reader(kernel)
    opened = cast(Any, one)._reach.opened
    assert found(one, kernel, 1) == [2]
    kernel.close(2)
    assert found(one, kernel, 1) == []
    assert all(not each.is_open for each in opened if each._namespace == 2)


class Members:
    """Of cgroup 5."""

    def among(self, cgroup_ids: Any) -> Any:
        return cgroup_ids == 5


def test_of_a_cgroup_only_its_own_are_told(kernel: Kernel) -> None:
    kernel.add(1, 2, cgroup_id=5)
    kernel.add(3, state=State.LAST_ACK, cgroup_id=5)
    kernel.add(4, 5)
    kernel.add(6, state=State.LAST_ACK)
    one = reader(kernel, members=cast(CgroupMembers, Members()))
    for _ in range(3):
        assert found(one, kernel, 1) == [2, 3]
    assert ("exact", 1, 4) not in asked(kernel)


def test_none_held_at_all(kernel: Kernel) -> None:
    held: Records = kernel.held()
    assert len(reader(kernel).read(held).sockets) == 0
