"""Stories unrolled from their ring, what was seen put together from all CPUs, and when the map is read at all."""

from __future__ import annotations

import numpy as np
import pytest

from tcptop_ops.bpf import story_map, syscall
from tcptop_ops.bpf.connection_map import ConnectionMap
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.model.enums import WritingOperator
from tcptop_ops.model.fields import HAPPENINGS
from tcptop_ops.model.records import COUNTERS, EVENTS, SEEN, STORY, Records


@pytest.mark.parametrize("told", [0, 1, HAPPENINGS - 1, HAPPENINGS, HAPPENINGS + 1, 3 * HAPPENINGS + 5])
def test_the_newest_happenings_in_their_order(told: int) -> None:
    story = np.zeros((), STORY)
    story["told"] = told
    for number in range(told):
        story["happenings"]["a"][number % HAPPENINGS] = number
    assert story_map.unrolled(story)["a"].tolist() == list(range(max(0, told - HAPPENINGS), told))


def test_what_was_seen_on_all_cpus() -> None:
    values = np.zeros(3, SEEN)
    values["calls"][:, 8] = [1, 2, 4]
    values["last_ns"][:, 8] = [10, 30, 20]
    values["args"][:, 8, 1] = [100, 300, 200]
    values["rtt"][:, 5] = [7, 0, 1]
    total = story_map.merged(values)
    assert (total["calls"][8], total["last_ns"][8], total["args"][8, 1], total["rtt"][5]) == (7, 30, 300, 8)
    assert not total["calls"][9]


class Map:
    """Stands for the map: counts how often it is read."""

    def __init__(self) -> None:
        self.rows = 3
        self.reads = 0
        self.deleted: list[int] = []

    def lookup_batch(self, fd: int, keys: Records, values: Records) -> int | None:
        self.reads += 1
        if len(keys) < self.rows:
            return None
        keys[: self.rows] = np.arange(1, self.rows + 1)
        return self.rows

    def delete_batch(self, fd: int, keys: Records) -> None:
        self.deleted += keys.tolist()


@pytest.fixture
def map_(monkeypatch: pytest.MonkeyPatch) -> Map:
    made = Map()
    for name in ("lookup_batch", "delete_batch"):
        monkeypatch.setattr(syscall, name, getattr(made, name))
    return made


def test_the_map_is_read_until_two_reads_saw_the_same_calls(map_: Map) -> None:
    rows, counters = ConnectionMap(0), np.zeros((), COUNTERS)
    for reads in (1, 2, 2, 2):
        keys, values = rows.read(counters)
        assert (keys.tolist(), len(values), map_.reads) == ([1, 2, 3], 3, reads)
    for operator in WritingOperator:
        counters["calls"][operator] += 1
        for _ in range(4):
            rows.read(counters)
    assert map_.reads == 2 + 2 * len(WritingOperator)
    counters["calls"][14] += 1  # HDR_OPT_LEN_CB writes no row
    rows.read(counters)
    assert map_.reads == 2 + 2 * len(WritingOperator)
    counters["adopted"] = 1
    rows.read(counters)
    assert map_.reads == 3 + 2 * len(WritingOperator)


def test_after_a_deletion_the_map_is_read_again(map_: Map) -> None:
    rows, counters = ConnectionMap(0), np.zeros((), COUNTERS)
    for _ in range(3):
        rows.read(counters)
    rows.delete(np.zeros(0, "u8"))
    rows.read(counters)
    assert (map_.reads, map_.deleted) == (2, [])
    rows.delete(np.array([2], "u8"))
    rows.read(counters)
    assert (map_.reads, map_.deleted) == (3, [2])


def test_buffers_grow(map_: Map) -> None:
    map_.rows = 10_000
    keys, values = ConnectionMap(0).read(np.zeros((), COUNTERS))
    assert (len(keys), len(values), values.dtype) == (10_000, 10_000, EVENTS)


def test_the_writing_operators_have_the_names_of_the_operators() -> None:
    names = {operator.number: operator.name for operator in OPERATORS}
    assert {each.value: each.name for each in WritingOperator}.items() <= names.items()
