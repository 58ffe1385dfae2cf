"""One pass of the iterator over all descriptors: the rows that it writes, and the records of the sockets that moved."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from tcptop_ops.bpf import syscall
from tcptop_ops.bpf.attach import STATES_BYTES, hertz
from tcptop_ops.bpf.ring_buffer import RingBuffer
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.enums import HasRecord, Met
from tcptop_ops.model.records import MET, MET_PROCESS, OWNER, SOCKET, WALK, Records

READ_BYTES = 32 << 10
"""What one read() of an iterator returns at most: bpf_seq_read() has a buffer of eight pages."""

SETTLES_S = 0.3
"""Seconds before the begin of the last pass from which on a socket counts as moved: until then its delayed
acknowledgement is sent at the latest, and the pass may have come before what moved it."""

KEPT_ROWS = 1 << 20
"""Rows of which only those are kept that ownership needs, once there are more: descriptors may be millions."""

HOLDERS_KEPT = 16
"""Of a socket with more holders, the oldest are kept."""


_OPAQUE = f"V{SOCKET.itemsize}"


@dataclass(frozen=True)
class Walked:
    """What one pass met. Arrays that hold until the next pass but one."""

    held: Records  # MET rows of descriptors, in the order of the pass: process by process
    queued: Records  # MET rows of connections that wait at a listener that shares its address
    processes: Records  # MET_PROCESS rows, in the order of the pass
    records: Records  # SOCKET rows of those that moved, each socket once
    is_whole: bool  # whether each socket that should have a record has one
    began: int  # jiffies at its begin; 0: nothing was met


class DescriptorWalk:
    """Runs passes, one after the other. Used by one thread."""

    def __init__(self, link: int, walk: int, states: int) -> None:
        """Take descriptors of the iterator's link, and of the maps ``walk`` and ``states``: they stay their owner's."""
        self._settles = math.ceil(SETTLES_S * hertz())
        self._link, self._walk = link, walk
        self._ring = RingBuffer(states, STATES_BYTES, SOCKET)
        self._rows = bytearray(4 * READ_BYTES)
        self._state = np.zeros(1, WALK)
        self._began = 0

    def owners(self) -> Records:
        """Make a pass and return OWNER rows of the descriptors that it met. Raises OSError."""
        return owners(self.walk(self._began))

    def walk(self, since: int = 0) -> Walked:
        """Make a pass. ``since``: when an earlier one began, since when sockets may have moved; 0: all have.

        Raises OSError.
        """
        self._state["since"] = max(since - self._settles, 1) if since else 0
        self._state["began"] = self._state["last_pid"] = 0
        self._state["number"] += 1
        key = np.zeros(1, "u4")
        syscall.update(self._walk, key, self._state)
        self._ring.drain()  # of a pass that was broken off
        rows, records = self._read()
        syscall.lookup(self._walk, key, self._state)
        self._began = int(self._state["began"][0])
        return _sorted_out(rows, records, self._began)

    def _read(self) -> tuple[Records, list[Records]]:
        """Return all rows, as MET, and the records, in parts."""
        parts: list[Records] = []
        filled, records = 0, list[Records]()
        fd = syscall.create_iterator(self._link)
        try:
            while True:
                if len(self._rows) - filled < READ_BYTES:
                    filled = self._make_room(parts, filled)
                got = os.readv(fd, [memoryview(self._rows)[filled : filled + READ_BYTES]])
                if not got:
                    break
                filled += got
                found = self._ring.drain()
                if len(found):
                    records.append(found)
        finally:
            os.close(fd)
        rows = np.frombuffer(self._rows, MET, filled // MET.itemsize)
        return np.concatenate([*parts, rows]) if parts else rows, records

    def _make_room(self, parts: list[Records], filled: int) -> int:
        """Double the buffer; where there are very many rows, keep of them what ownership needs."""
        if filled < KEPT_ROWS * MET.itemsize:
            self._rows = self._rows[:filled] + bytes(2 * len(self._rows) - filled)
            return filled
        parts.append(np.frombuffer(bytes(self._rows[:filled]), MET))
        if sum(map(len, parts)) >= 2 * KEPT_ROWS or len(parts) == 1:
            parts[:] = [_oldest_holders(np.concatenate(parts))]
        return 0

    def close(self) -> None:
        """Unmap the ring ``states``; the descriptors stay open, their owner closes them."""
        self._ring.close()


def _oldest_holders(rows: Records) -> Records:
    """Return these rows without the youngest holders of sockets that have more than HOLDERS_KEPT."""
    started = np.zeros(len(rows), "u8")
    processes = np.flatnonzero(rows["kind"] == Met.PROCESS)
    if len(processes):
        of = np.cumsum(rows["kind"] == Met.PROCESS) - 1
        started = rows["cookie"][processes][np.maximum(of, 0)]
    held = np.flatnonzero((rows["kind"] == Met.SOCKET) & (rows["cookie"] != 0))
    order = held[np.lexsort((started[held], rows["cookie"][held]))]
    cookies = rows["cookie"][order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = cookies[1:] != cookies[:-1]
    first = np.flatnonzero(begins)
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    kept = np.ones(len(rows), np.bool_)
    kept[order[rank >= HOLDERS_KEPT]] = False
    return rows[kept]


def _sorted_out(rows: Records, parts: list[Records], began: int) -> Walked:
    kinds = rows["kind"]
    records = np.concatenate([part.view(_OPAQUE) for part in parts]).view(SOCKET) if parts else np.zeros(0, SOCKET)
    held = gather(rows, kinds == Met.SOCKET)
    processes = gather(rows, kinds == Met.PROCESS).view(MET_PROCESS)
    is_whole = not bool((held["record"] == HasRecord.NO_ROOM).any())
    return Walked(held, gather(rows, kinds == Met.QUEUED), processes, _once(records), is_whole, began)


def _once(records: Records) -> Records:
    """Return the newest record of each socket: the kernel may forget that it has written one already."""
    cookies = records["cookie"]
    _, last = np.unique(cookies[::-1], return_index=True)
    if len(last) == len(cookies):
        return records
    once: Records = records[np.sort(len(cookies) - 1 - last)]
    return once


def owners(walked: Walked) -> Records:
    """Return OWNER rows of the descriptors and queues that were met."""
    found = np.zeros(len(walked.held) + len(walked.queued), OWNER)
    for part, rows in ((found[: len(walked.held)], walked.held), (found[len(walked.held) :], walked.queued)):
        for name in ("cookie", "inode", "pid", "fd"):
            part[name] = rows[name]
    order = np.argsort(walked.processes["pid"], kind="stable")
    pids = walked.processes["pid"][order]
    if len(pids):
        at = np.minimum(np.searchsorted(pids, found["pid"]), len(pids) - 1)
        known = np.flatnonzero(pids[at] == found["pid"])
        its = order[at[known]]
        for name in ("start_ns", "image", "comm"):
            found[name][known] = walked.processes[name][its]
    return found
