"""Drain a BPF ring buffer of records that all have one size, whole arrays at a time.

Layout: kernel/bpf/ringbuf.c. A page with the consumer's position, a page with the producer's, then the data, mapped
twice in a row so that a record never wraps. A record starts with its length (busy and discard in the two high bits)
and a page offset, and fills a multiple of 8 bytes.
"""

from __future__ import annotations

import mmap

import numpy as np

from tcptop_ops.model.records import Records

_HEADER = 8
_BUSY, _DISCARD = 1 << 31, 1 << 30


class RingBuffer:
    """The consumer's side. ``record``: the dtype of every record. Raises OSError if the ring can't be mapped."""

    def __init__(self, fd: int, size: int, record: np.dtype[np.void]) -> None:
        """Take ``fd``: a descriptor of the map; ``size``: its bytes, a power of two."""
        page = mmap.PAGESIZE
        self._size = size
        self._stride = _HEADER + (record.itemsize + 7) // 8 * 8
        self._consumer_page = mmap.mmap(fd, page)
        self._producer_pages = mmap.mmap(fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        self._consumed = np.frombuffer(self._consumer_page, "u8", 1)
        self._produced = np.frombuffer(self._producer_pages, "u8", 1)
        self._record = record
        self._framed = np.dtype(
            {
                "names": ["length", "record"],
                "formats": ["u4", f"V{record.itemsize}"],  # copied as a whole, not member by member
                "offsets": [0, _HEADER],
                "itemsize": self._stride,
            }
        )

    def drain(self) -> Records:
        """Return the records that are complete, oldest first: a copy."""
        start, end = int(self._consumed[0]), int(self._produced[0])
        count = (end - start) // self._stride
        if not count:
            return np.zeros(0, self._record)
        frames = np.frombuffer(self._producer_pages, self._framed, count, offset=mmap.PAGESIZE + start % self._size)
        lengths = frames["length"]
        busy = np.flatnonzero(lengths & _BUSY)
        if len(busy):
            count = int(busy[0])
        whole = lengths[:count] & _DISCARD == 0
        kept: Records = frames["record"][:count][whole].view(self._record)
        self._consumed[0] = start + count * self._stride
        return kept

    def close(self) -> None:
        """Unmap. The arrays that ``drain`` returned are copies and stay valid."""
        del self._consumed, self._produced
        self._consumer_page.close()
        self._producer_pages.close()
