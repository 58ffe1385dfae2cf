"""The batch commands on a real hash map."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from tcptop_ops.bpf import syscall

MAP_CREATE, MAP_TYPE_HASH = 0, 1
ROWS = 3000


@pytest.fixture
def full_map() -> Iterator[int]:
    """A hash map with as many rows as it takes: many share a bucket. Row n is n -> 2 n."""
    fd = syscall.bpf(MAP_CREATE, struct.pack("<IIIII44x", MAP_TYPE_HASH, 8, 8, ROWS, 0))
    for number in range(ROWS):
        syscall.update(fd, np.array([number], "u8"), np.array([2 * number], "u8"))
    yield fd
    os.close(fd)


def test_all_rows_or_word_that_the_buffers_are_too_small(full_map: int) -> None:
    for size in (1, 7, 100, *range(ROWS - 40, ROWS + 41)):
        keys, values = np.zeros(size, "u8"), np.zeros(size, "u8")
        count = syscall.lookup_batch(full_map, keys, values)
        assert count in (None, ROWS), size
        assert count == ROWS or size <= ROWS + 8, "the last bucket alone may not fit"
        if count is not None:
            assert sorted(keys[:count].tolist()) == list(range(ROWS))
            assert (values[:count] == 2 * keys[:count]).all()


def test_rows_are_deleted_and_those_that_are_gone_are_passed_over(full_map: int) -> None:
    syscall.delete_batch(full_map, np.array([5, ROWS + 1, 7, 5, ROWS + 2, 9], "u8"))
    keys, values = np.zeros(2 * ROWS, "u8"), np.zeros(2 * ROWS, "u8")
    count = syscall.lookup_batch(full_map, keys, values)
    assert sorted(keys[:count].tolist()) == sorted(set(range(ROWS)) - {5, 7, 9})
