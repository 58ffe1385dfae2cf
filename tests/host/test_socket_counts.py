"""How many sockets the kernel counts in a namespace, and what stays open for that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcptop_ops.host.namespaces import InProcessAccess
from tcptop_ops.host.socket_counts import UNKEPT_A_TICK, Counts, SocketCounts, parse
from tests.support.made_up_kernel import Kernel, access

SOCKSTAT = b"sockets: used 9\nTCP: inuse 5 orphan 6 tw 7 alloc 8 mem 1\nUDP: inuse 4 mem 0\n"


def test_both_files() -> None:
    assert parse(SOCKSTAT, b"TCP6: inuse 3\nUDP6: inuse 2\n") == Counts(5, 3, 7)
    assert parse(SOCKSTAT, b"") == Counts(5, 0, 7)


@pytest.mark.parametrize("text", [b"", b"UDP: inuse 4\n", b"TCP: inuse x\n"])
def test_anything_else_is_no_count(text: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(text, b"")


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_they_are_read_anew_and_kept_open_where_there_are_sockets(tmp_path: Path) -> None:
    kernel, before = Kernel(tmp_path, 1, 2, 3), opened()
    kernel.add(1, 2)
    kernel.add(3, netns=2, family=10)
    kernel.hides = {3}
    one = SocketCounts(access(kernel))
    assert one.read([1, 2, 3]) == {1: (2, 0, 0), 2: (0, 1, 0), 3: None}
    assert opened() == before + 4
    kernel.close(3)
    kernel.tell()
    assert one.read([1, 2]) == {1: (2, 0, 0), 2: (0, 0, 0)}
    assert opened() == before + 2
    one.let_go({2})
    assert opened() == before
    one.close()


def test_of_too_many_some_are_read_each_time(tmp_path: Path) -> None:
    every = range(1, 101)
    kernel, before = Kernel(tmp_path, *every), opened()
    for number in every:
        kernel.add(number, netns=number)
    one = SocketCounts(access(kernel), most=8)
    read = [set(one.read(every)) for _ in range(5)]
    assert set.union(*read) == set(every)
    assert all(len(each) <= UNKEPT_A_TICK + 8 for each in read)
    assert opened() == before + 16
    one.close()
    assert opened() == before


def test_those_of_this_process() -> None:
    reach = InProcessAccess.__new__(InProcessAccess)
    reach.own, reach._threads = 7, {}
    counts = SocketCounts(reach)
    found = counts.read([7])[7]
    counts.close()
    assert found is not None
    assert min(found) >= 0
