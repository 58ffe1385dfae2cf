"""The ring's consumer against rings made by hand: records whole, in order, once; wrapped, busy, discarded."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.bpf.ring_buffer import RingBuffer

PAGE = mmap.PAGESIZE
SIZE = PAGE
BUSY, DISCARD = 1 << 31, 1 << 30
RECORD = np.dtype([("number", "u8"), ("text", "S20")])  # 28 bytes: padded to 32, with its header 40
STRIDE = 40


class Producer:
    """The kernel's side: a file laid out as kernel/bpf/ringbuf.c lays out the memory, the data twice."""

    def __init__(self, start: int = 0) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = start
        self._publish(0, start)
        self._publish(PAGE, start)

    def _publish(self, where: int, position: int) -> None:
        os.pwrite(self.fd, struct.pack("<Q", position), where)

    def _write(self, position: int, data: bytes) -> None:
        for at, byte in enumerate(data):
            offset = (position + at) % SIZE
            for copy in (0, SIZE):
                os.pwrite(self.fd, bytes([byte]), 2 * PAGE + copy + offset)

    def reserve(self, number: int, flags: int = 0) -> int:
        """Put a record, busy or discarded or neither: its position."""
        position = self.position
        length = struct.pack("<II", RECORD.itemsize | flags, 1)
        self._write(position, length + struct.pack("<Q20s", number, b"record %d" % number))
        self.position += STRIDE
        self._publish(PAGE, self.position)
        return position

    def commit(self, position: int, flags: int = 0) -> None:
        """Submit or discard what was busy."""
        self._write(position, struct.pack("<I", RECORD.itemsize | flags))

    @property
    def consumed(self) -> int:
        return int(struct.unpack("<Q", os.pread(self.fd, 8, 0))[0])

    @property
    def room(self) -> int:
        return (SIZE - (self.position - self.consumed)) // STRIDE


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(producer: Producer) -> Iterator[RingBuffer]:
    made = RingBuffer(producer.fd, SIZE, RECORD)
    yield made
    made.close()


def numbers(ring: RingBuffer) -> list[int]:
    found = ring.drain()
    assert found.dtype == RECORD
    assert found["text"].tolist() == [b"record %d" % number for number in found["number"].tolist()]
    return [int(number) for number in found["number"]]


def test_an_empty_ring(ring: RingBuffer, producer: Producer) -> None:
    assert numbers(ring) == []
    assert producer.consumed == 0


def test_each_record_once(ring: RingBuffer, producer: Producer) -> None:
    for number in (7, 2**40, 9):
        producer.reserve(number)
    assert numbers(ring) == [7, 2**40, 9]
    assert producer.consumed == producer.position == 3 * STRIDE
    assert numbers(ring) == []
    producer.reserve(10)
    assert numbers(ring) == [10]


def test_a_busy_record_holds_back_what_follows(ring: RingBuffer, producer: Producer) -> None:
    producer.reserve(1)
    busy = producer.reserve(2, BUSY)
    producer.reserve(3)
    assert numbers(ring) == [1]
    assert numbers(ring) == []
    assert producer.consumed == STRIDE
    producer.commit(busy)
    assert numbers(ring) == [2, 3]


def test_a_discarded_record_is_passed_over(ring: RingBuffer, producer: Producer) -> None:
    producer.reserve(1)
    producer.reserve(2, DISCARD)
    producer.reserve(3)
    busy = producer.reserve(4, BUSY)
    assert numbers(ring) == [1, 3]
    producer.commit(busy, DISCARD)
    assert numbers(ring) == []
    assert producer.consumed == 4 * STRIDE


def test_a_record_across_the_end(ring: RingBuffer, producer: Producer) -> None:
    """The size is no multiple of a record: sooner or later one lies across the end, once even its header."""
    wanted, got = list(range(3 * SIZE // STRIDE)), []
    for number in wanted:
        producer.reserve(number)
        if number % 7 == 0:
            got += numbers(ring)
    assert got + numbers(ring) == wanted


def test_a_full_ring(ring: RingBuffer, producer: Producer) -> None:
    count = producer.room
    for number in range(count):
        producer.reserve(number)
    assert producer.room == 0
    assert numbers(ring) == list(range(count))
    assert producer.room == count


def test_what_was_drained_outlives_the_ring(producer: Producer) -> None:
    ring = RingBuffer(producer.fd, SIZE, RECORD)
    producer.reserve(5)
    found = ring.drain()
    producer.commit(0, BUSY)
    os.pwrite(producer.fd, b"\xff" * 2 * SIZE, 2 * PAGE)
    ring.close()
    assert found["number"].tolist() == [5]


def test_a_second_consumer_goes_on_where_the_first_left(producer: Producer) -> None:
    for number in range(3):
        producer.reserve(number)
    first = RingBuffer(producer.fd, SIZE, RECORD)
    assert numbers(first) == [0, 1, 2]
    first.close()
    producer.reserve(3)
    second = RingBuffer(producer.fd, SIZE, RECORD)
    assert numbers(second) == [3]
    second.close()


def test_no_ring() -> None:
    with open(os.devnull, "r+b") as file, pytest.raises(OSError, match="No such device"):
        RingBuffer(file.fileno(), SIZE, RECORD)


STEPS = st.lists(st.sampled_from(["put", "put", "put", "busy", "drop", "commit", "discard", "drain"]), max_size=300)


@settings(max_examples=40)
@given(STEPS, st.integers(0, 2**40))
def test_any_history(steps: list[str], start: int) -> None:
    """Against a list: what is ready at the front comes out, in order, wherever the positions are."""
    producer = Producer(start * 8)
    ring = RingBuffer(producer.fd, SIZE, RECORD)
    queue: list[list[int | str]] = []  # number, state, position
    try:
        for number, step in enumerate(steps):
            if step in ("put", "busy", "drop") and producer.room:
                flags = {"put": 0, "busy": BUSY, "drop": DISCARD}[step]
                queue.append([number, step, producer.reserve(number, flags)])
            elif step in ("commit", "discard"):
                for entry in [entry for entry in queue if entry[1] == "busy"][-1:]:
                    entry[1] = "put" if step == "commit" else "drop"
                    producer.commit(int(entry[2]), 0 if step == "commit" else DISCARD)
            elif step == "drain":
                ready = next((i for i, entry in enumerate(queue) if entry[1] == "busy"), len(queue))
                assert numbers(ring) == [entry[0] for entry in queue[:ready] if entry[1] == "put"]
                del queue[:ready]
    finally:
        ring.close()
        os.close(producer.fd)
