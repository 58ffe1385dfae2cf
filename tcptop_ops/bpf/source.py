"""The real source: events from the sock_ops program, present state and owners from iterators, in every namespace."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf import cgroup, syscall
from tcptop_ops.bpf.launch import RING_BYTES, Attached, Options, attach
from tcptop_ops.bpf.ring import Ring
from tcptop_ops.errors import Failed, Unsupported
from tcptop_ops.netns import Namespaces
from tcptop_ops.processes import Owners, Users
from tcptop_ops.snapshot import (
    COUNTERS,
    EVENTS,
    FINAL,
    OWNER,
    SOCKET,
    UNKNOWN_U32,
    Records,
    Snapshot,
    State,
)

PASS_READ, PASS_ADOPT, PASS_CLEAR = 0, 1, 2
CONTROL = np.dtype([("watched", "u8"), ("pass", "u4"), ("pad", "u4")])
NAMESPACE_SWEEP_S = 2.0
DESCRIPTOR_SWEEP_S = 10.0
CONNECT_CB, PASSIVE_CB = 3, 5


class Buffer:
    """A record array that is used again, twice as large whenever it was too small."""

    def __init__(self, dtype: np.dtype[np.void], count: int = 4096) -> None:
        self.records = np.zeros(count, dtype)

    def grow(self, keep: int) -> None:
        larger = np.zeros(len(self.records) * 2, self.records.dtype)
        larger[:keep] = self.records[:keep]
        self.records = larger

    def read(self, fd: int, filled: int) -> int:
        """Append all that a descriptor has to say to ``filled`` rows: how many there are then. Closes it."""
        size = self.records.dtype.itemsize
        try:
            at = filled * size
            while True:
                raw = memoryview(self.records.view(np.uint8).data)
                at = syscall.read_records(fd, raw, at)
                if at < len(raw):
                    return at // size
                del raw
                self.grow(at // size)
        finally:
            os.close(fd)


class SockOpsSource:
    """Attached to the kernel for as long as it is open. Used by one thread."""

    name = "sockops"

    def __init__(self, options: Options) -> None:
        self._attached = attach(options)
        self._adopt = options.adopt
        fds = self._attached.fds
        if "bpf_iter__tcp" not in fds:
            self._close_fds()
            reason = self._attached.refused.get("bpf_iter__tcp", "it has no BTF (/sys/kernel/btf/vmlinux)")
            raise Unsupported(f"this kernel can't list its sockets: {reason}", "watch without BPF: --source sockdiag")
        self._ring = Ring(fds["done"], RING_BYTES, FINAL)
        self._namespaces = Namespaces()
        self._owners, self._users = Owners(), Users()
        self._paths = cgroup.Paths(self._attached.cgroup_root)
        self._sockets = [Buffer(SOCKET), Buffer(SOCKET)]
        self._descriptors = Buffer(OWNER)
        self._keys, self._values = np.zeros(4096, "u8"), np.zeros(4096, EVENTS)
        self._per_cpu = np.zeros(_possible_cpus(), COUNTERS)
        self._pending: list[Records] = []
        self._last = np.zeros((), COUNTERS)
        self._turn = 0
        self._swept = self._learned = 0.0
        self._set_control(PASS_ADOPT if self._adopt else PASS_READ)

    @property
    def attached(self) -> Attached:
        """What the kernel accepted."""
        return self._attached

    def drain(self) -> None:
        """Take final records out of the ring before it is full."""
        final = self._ring.drain()
        if len(final):
            self._pending.append(final)

    def poll(self) -> Snapshot:
        """Raises Failed where the kernel no longer answers."""
        started = time.monotonic()
        try:
            return self._poll(started)
        except OSError as error:
            raise Failed(f"reading from the kernel failed: {error.strerror}") from error

    def _poll(self, started: float) -> Snapshot:
        before = self._counters()
        sockets = self._present_state(started)
        after = self._counters()
        keys, values = self._events()
        self.drain()
        pending, self._pending = self._pending, []
        closed = np.concatenate([*pending, self._left_in_map(keys, values)])
        events, unmatched = join(sockets["cookie"], keys, values)
        still = still_open(sockets["cookie"], events, closed)
        if not still.all():
            sockets, events = sockets[still], events[still]
        if unmatched > len(closed):
            self._swept = 0.0
        opened = int(_births(after) - _births(self._last))
        self._last = after
        self._learn_owners(sockets["cookie"], sockets["inode"])
        return Snapshot(
            time=time.time(),
            now_ns=time.monotonic_ns(),
            source=self.name,
            sockets=sockets,
            events=events,
            owners=self._owners.assign(sockets["cookie"], events),
            closed=closed,
            closed_owners=self._owners.assign(closed["socket"]["cookie"], closed["events"]),
            counters=after,
            callbacks_mode=self._attached.callbacks,
            opened=opened,
            time_wait=int(after["time_wait"] - before["time_wait"]),
            syn_recv=int(after["syn_recv"] - before["syn_recv"]),
            namespaces=len(np.unique(sockets["netns"])),
            notes=self._notes(after),
            users=self._users.learn(sockets["uid"]),
            cgroups=self._paths.learn(set(np.unique(sockets["cgroup_id"]).tolist())),
            poll_s=time.monotonic() - started,
        )

    def _present_state(self, now: float) -> Records:
        """One pass of the TCP iterator in each namespace, into the buffer that the last snapshot does not use."""
        if now - self._swept >= NAMESPACE_SWEEP_S:
            self._namespaces.refresh()
            self._swept = now
        self._turn ^= 1
        buffer = self._sockets[self._turn]
        filled = 0
        with self._namespaces.each() as visit:
            for _ in visit:
                filled = buffer.read(syscall.create_iterator(self._attached.fds["bpf_iter__tcp"]), filled)
        return buffer.records[:filled]

    def _events(self) -> tuple[NDArray[np.uint64], Records]:
        """The map, in one batch: keys and values."""
        while True:
            count = syscall.lookup_batch(self._attached.fds["conns"], self._keys, self._values)
            if count < len(self._keys):
                return self._keys[:count], self._values[:count]
            self._keys, self._values = np.zeros(2 * count, "u8"), np.zeros(2 * count, EVENTS)

    def _left_in_map(self, keys: NDArray[np.uint64], values: Records) -> Records:
        """Rows that closed while the ring was full: what there is of their final records. Deleted from the map."""
        left = values["closed"] != 0
        if not left.any():
            return np.zeros(0, FINAL)
        final = np.zeros(int(left.sum()), FINAL)
        final["events"] = values[left]
        final["socket"]["cookie"] = keys[left]
        final["socket"]["state"] = State.CLOSE
        final["ending"]["end_ns"], final["ending"]["error"] = time.monotonic_ns(), UNKNOWN_U32
        syscall.delete_batch(self._attached.fds["conns"], keys[left])
        return final

    def _learn_owners(self, cookies: NDArray[np.uint64], inodes: NDArray[np.uint64]) -> None:
        """A pass over all descriptors, if a socket's holder is not known yet; and now and then, since they move."""
        if "bpf_iter__task_file" not in self._attached.fds:
            return
        held, now = cookies[inodes != 0], time.monotonic()
        if now - self._learned < DESCRIPTOR_SWEEP_S and self._owners.is_current(held):
            return
        filled = self._descriptors.read(syscall.create_iterator(self._attached.fds["bpf_iter__task_file"]), 0)
        self._owners.learn(self._descriptors.records[:filled], held)
        self._learned = now

    def _counters(self) -> Records:
        """The per-CPU counters, all together: one COUNTERS."""
        syscall.lookup(self._attached.fds["counters"], np.zeros(1, "u4"), self._per_cpu)
        total = np.zeros((), COUNTERS)
        for name in COUNTERS.names or ():
            total[name] = self._per_cpu[name].sum(axis=0)
        return total

    def _notes(self, counters: Records) -> tuple[str, ...]:
        notes = []
        if counters["untracked"]:
            notes.append(f"map full: {int(counters['untracked'])} connections not tracked; --map-size helps")
        if counters["ring_full"]:
            notes.append(f"ring full: {int(counters['ring_full'])} final records without figures")
        if self._attached.neighbours:
            names = sorted({program["name"] for program in self._attached.neighbours})
            notes.append(f"beside other sock_ops programs: {', '.join(names)}")
        return tuple(notes)

    def _set_control(self, flags_pass: int, watched: int = 0) -> None:
        value = np.zeros(1, CONTROL)
        value["pass"], value["watched"] = flags_pass, watched
        syscall.update(self._attached.fds["control"], np.zeros(1, "u4"), value)

    def watch(self, cookie: int) -> None:
        """The flags of this connection do not retire while it is looked at; 0 for none."""
        self._set_control(PASS_ADOPT if self._adopt else PASS_READ, cookie)

    def close(self) -> None:
        """Detach, take back the flags that we set, let go of everything."""
        if not self._attached.fds:
            return
        for name in ("link", "program"):
            os.close(self._attached.fds.pop(name))
        try:
            if not self._attached.neighbours:
                self._clear_flags()
        finally:
            self._ring.close()
            self._namespaces.close()
            self._close_fds()

    def _clear_flags(self) -> None:
        """Other sock_ops programs may live by a flag that we set too: this is done only where there is none."""
        with suppress(OSError, Unsupported):
            self._set_control(PASS_CLEAR)
            self._namespaces.refresh()
            with self._namespaces.each() as visit:
                for _ in visit:
                    self._sockets[0].read(syscall.create_iterator(self._attached.fds["bpf_iter__tcp"]), 0)

    def _close_fds(self) -> None:
        while self._attached.fds:
            os.close(self._attached.fds.popitem()[1])


def _possible_cpus() -> int:
    """How many values a per-CPU map has: the possible CPUs, not those that are on (libbpf_num_possible_cpus)."""
    with open("/sys/devices/system/cpu/possible") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1


def _births(counters: Records) -> int:
    """Connections born: connects and accepts on full sockets, less those that the map turned away."""
    full = counters["calls"] - counters["requests"]
    return int(full[CONNECT_CB] + full[PASSIVE_CB])


def join(cookies: NDArray[np.uint64], keys: NDArray[np.uint64], values: Records) -> tuple[Records, int]:
    """The map's row of each socket, zeros where it has none; and how many rows of the map have no socket."""
    events = np.zeros(len(cookies), EVENTS)
    if not len(keys):
        return events, 0
    order = np.argsort(keys)
    ordered = keys[order]
    at = np.minimum(np.searchsorted(ordered, cookies), len(keys) - 1)
    found = ordered[at] == cookies
    events[found] = values[order[at[found]]]
    return events, len(keys) - int(found.sum())


def still_open(cookies: NDArray[np.uint64], events: Records, closed: Records) -> NDArray[np.bool_]:
    """False for a socket that closed between the pass of the iterator and the drain of the ring.

    A life is (cookie, first_ns): a refused socket that connects again keeps its cookie.
    """
    if not len(closed):
        return np.ones(len(cookies), np.bool_)
    ended = np.isin(cookies, closed["socket"]["cookie"])
    if not ended.any():
        return ~ended
    lives = set(zip(closed["socket"]["cookie"].tolist(), closed["events"]["first_ns"].tolist(), strict=True))
    which = np.flatnonzero(ended)
    for row, cookie, first in zip(
        which.tolist(), cookies[which].tolist(), events["first_ns"][which].tolist(), strict=True
    ):
        ended[row] = first == 0 or (cookie, first) in lives
    return ~ended
