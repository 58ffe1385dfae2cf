"""The present state of every socket by one pass over all descriptors, and whose each is.

A socket that has moved since the last pass comes with a record of its state. Of one at rest a row of a few words comes,
which is compared with that of the last pass: its record stays what it was, but for what goes on with time. What no
descriptor shows is asked of sock_diag (``UnheldSockets``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf.descriptor_walk import DescriptorWalk, Walked, owners
from tcptop_ops.model.arrays import distinct, find_sorted, gather, scatter
from tcptop_ops.model.enums import HasRecord
from tcptop_ops.model.records import MET, OWNER, SOCKET, TOO_LONG, UNKNOWN_U64, Records
from tcptop_ops.sources.cgroup_follow import CgroupMembers
from tcptop_ops.sources.changed_rows import differ
from tcptop_ops.sources.socket_state import SocketState, UnheldSockets

Indices = NDArray[np.intp]
Numbers = NDArray[np.uint64]
Mask = NDArray[np.bool_]

_AGES = ("last_sent_us", "last_received_us", "last_ack_received_us")
_WORDS = ("inode", "state", "cb_flags", "segs_in", "segs_out")
"""What a row of MET tells of a socket at rest, too."""

_OF_DESCRIPTOR = ("cookie", "inode", "pid", "fd")

_OPAQUE = f"V{SOCKET.itemsize}"

SPARE_ROWS = 256
"""Rows for which there is room behind those that are needed."""

_TIMER_BITS, _TIMER_MS, _US_OF_MS = np.uint32(28), np.uint32(0xFFFFFFF), np.uint64(1000)


@dataclass(frozen=True)
class _Known:
    """The held sockets as of a pass, in the order in which it met them. The arrays are aligned but for ``order``."""

    rows: Records = field(default_factory=lambda: np.zeros(0, SOCKET))
    met: Records = field(default_factory=lambda: np.zeros(0, MET))  # the first descriptor of each
    order: Indices = field(default_factory=lambda: np.zeros(0, np.intp))  # indices that sort the cookies
    firsts: Indices = field(default_factory=lambda: np.zeros(0, np.intp))  # where ``met`` is among all that was met
    zeros: Numbers = field(default_factory=lambda: np.zeros((len(_AGES), 0), "u8"))
    """When each of _AGES was 0: us of CLOCK_MONOTONIC; UNKNOWN_U64: never."""

    def put(self, which: Indices, records: Records, now_us: int) -> None:
        """Replace the rows at these indices."""
        scatter(self.rows, which, records)
        for at, name in enumerate(_AGES):
            ages = records[name]
            self.zeros[at, which] = np.where(ages < TOO_LONG, np.uint64(now_us) - ages, ages)

    def go_on(self, now_us: int) -> None:
        """Write what goes on with time."""
        for at, name in enumerate(_AGES):
            zeros = self.zeros[at]
            self.rows[name] = np.where(zeros < TOO_LONG, np.uint64(now_us) - zeros, zeros)
        which = np.flatnonzero(self.met["record"] == HasRecord.AT_REST)
        timers = self.met["timer"][which]
        self.rows["timer"][which] = timers >> _TIMER_BITS
        self.rows["timer_us"][which] = (timers & _TIMER_MS) * _US_OF_MS

    def find(self, cookies: Numbers) -> tuple[Indices, NDArray[np.bool_]]:
        """Return the index of each of these sockets, and which are here."""
        at, found = find_sorted(self.met["cookie"][self.order], cookies)
        return self.order[at] if len(self.order) else at, found


class DescriptorReader:
    """A StateReader by passes over all descriptors. Used by one thread."""

    def __init__(
        self,
        walk: DescriptorWalk,
        unheld: UnheldSockets,
        members: CgroupMembers | None = None,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        """Take what makes the passes, and what finds the sockets that they miss; both are closed at the end.

        ``members``: only the sockets of this cgroup are wanted; None: all.
        """
        self._walk, self._unheld, self._members, self._clock_us = walk, unheld, members, clock_us
        self._known = _Known()
        self._buffers = [np.zeros(0, SOCKET), np.zeros(0, SOCKET)]  # of this pass, and of the one before
        self._held: Records = np.zeros(0, MET)  # what the last pass met
        self._queued: Records = np.zeros(0, MET)
        self._written: Indices | None = None
        """Rows in which the two buffers differ by more than what goes on with time; None: they may in any."""
        self._descriptors: Records = np.zeros(0, OWNER)
        self._alone: Records = np.zeros(0, SOCKET)  # what no descriptor showed
        self._read_us = 0  # when that was
        self._namespaces: set[int] = set()  # in which a socket was met
        self._left_out = False  # whether a socket that was met has no row, since nothing was known of it
        self._began = 0  # jiffies at the begin of the last pass
        self._last: Records = np.zeros(0, SOCKET)

    def read(self) -> SocketState:
        """See StateReader."""
        self._buffers.reverse()
        walked = self._walk.walk(self._began)
        if not walked.is_whole:
            walked = self._walk.walk(self._began)
        merged = self._merge(walked)
        if merged is None:  # a socket that is met for the first time has been at rest for long
            walked = self._walk.walk()
            merged = self._merge(walked, at_last=True)
        assert merged is not None
        self._known, changed = merged
        self._began = walked.began
        self._learn(walked)
        return self._with_unheld(changed)

    def _merge(self, walked: Walked, at_last: bool = False) -> tuple[_Known, Mask] | None:
        """Return the held sockets as of this pass, and which of them have changed; None where one is not known.

        ``at_last``: a socket of which no record came is left out: it was opened during the pass.
        """
        now_us = self._clock_us()
        same = len(walked.held) == len(self._held) and np.array_equal(walked.held["cookie"], self._held["cookie"])
        same &= not self._left_out
        known, came = self._as_before(walked.held) if same else self._in_new_order(walked.held)
        self._written = None
        its, there = known.find(walked.records["cookie"])
        its, records = its[there], gather(walked.records, there)
        changed = np.zeros(len(known.rows), np.bool_)
        changed[its] = differ(gather(known.rows, its), records)
        changed[came] = True
        known.put(its, records, now_us)
        unknown = came[~np.isin(came, its)]
        if len(unknown):
            unknown = self._take_unheld(known, unknown)
        if len(unknown) and not at_last:
            return None
        patched = _patch(known, self._known.met if same else known.rows)
        changed |= patched
        known.go_on(now_us)
        self._left_out = len(unknown) > 0
        if same:
            self._written = np.union1d(its, np.flatnonzero(patched))
        return (known, changed) if not len(unknown) else _without(known, changed, unknown)

    def _as_before(self, held: Records) -> tuple[_Known, Indices]:
        before = self._known
        older = self._buffers[0]
        rows = self._room(len(before.rows))
        if self._written is None or rows.base is not older:
            rows.view(_OPAQUE)[:] = before.rows.view(_OPAQUE)
        else:
            scatter(rows, self._written, gather(before.rows, self._written))
        return _Known(rows, gather(held, before.firsts), before.order, before.firsts, before.zeros), np.zeros(
            0, np.intp
        )

    def _in_new_order(self, held: Records) -> tuple[_Known, Indices]:
        """Return the sockets of these descriptors as they were, and the indices of those that were not there."""
        before = self._known
        firsts, order = _first_of_each(held["cookie"])
        met = gather(held, firsts)
        at, found = before.find(met["cookie"])
        rows, zeros = self._room(len(met)), np.full((len(_AGES), len(met)), UNKNOWN_U64, "u8")
        came, stays = np.flatnonzero(~found), np.flatnonzero(found)
        rows.view(_OPAQUE)[stays] = before.rows.view(_OPAQUE)[at[stays]]
        rows[came] = np.zeros((), SOCKET)
        zeros[:, stays] = before.zeros[:, at[stays]]
        return _Known(rows, met, order, firsts, zeros), came

    def _room(self, count: int) -> Records:
        """Return an array of so many rows, with some room behind them, that is none of the last pass."""
        wanted = count + len(self._alone) + SPARE_ROWS
        if not wanted <= len(self._buffers[0]) <= 4 * wanted:
            self._buffers[0] = np.zeros(wanted + wanted // 4, SOCKET)
        return self._buffers[0][:count]

    def _take_unheld(self, known: _Known, which: Indices) -> Indices:
        """Give these rows what was known of them while no descriptor showed them; return those that were not known."""
        order = np.argsort(self._alone["cookie"])
        at, found = find_sorted(self._alone["cookie"][order], known.met["cookie"][which])
        known.put(which[found], gather(self._alone, order[at[found]]), self._read_us)
        return which[~found]

    def _learn(self, walked: Walked) -> None:
        """Keep what was met; make anew the rows of descriptors, but only if they tell something else."""
        same = all(
            len(now) == len(last) and all(np.array_equal(now[name], last[name]) for name in _OF_DESCRIPTOR)
            for now, last in ((walked.held, self._held), (walked.queued, self._queued))
        )
        if not same:
            self._descriptors = owners(walked)
        self._held, self._queued = walked.held, walked.queued

    def _with_unheld(self, changed: Mask) -> SocketState:
        met = set(distinct(self._known.rows["netns"][np.flatnonzero(changed)]).tolist())
        if not met <= self._namespaces:  # they are looked for now, so that their counters tell from this tick on
            self._namespaces |= met
            self._unheld.expire()
        found, self._read_us = self._unheld.read(self._known.rows), self._clock_us()
        alone, before, held = found.sockets, self._alone, len(self._known.rows)
        others = _changed_of_few(before, alone)
        sockets = self._room(held + len(alone))
        if sockets.base is not self._known.rows.base:
            sockets[:held].view(_OPAQUE)[:] = self._known.rows.view(_OPAQUE)
        sockets[held:] = alone
        self._alone = gather(sockets, np.arange(held, len(sockets)))
        which = np.flatnonzero(np.concatenate([changed, others]))
        if self._members is not None:
            wanted = self._members.among(sockets["cgroup_id"])
            which = np.cumsum(wanted)[which[wanted[which]]] - 1
            sockets = gather(sockets, wanted)
            came = np.flatnonzero(~np.isin(sockets["cookie"], self._last["cookie"]))  # its cgroup is one of ours now
            which = np.union1d(which, came)
        last, self._last = self._last, sockets
        return SocketState(sockets, last, found.half_open, found.time_wait, found.syn_recv, which, self._descriptors)

    def devices(self, sockets: Records) -> dict[int, str]:
        """See StateReader."""
        return self._unheld.devices(sockets)

    def rest(self) -> SocketState | None:
        """See StateReader: a pass leaves out no namespace; what no descriptor shows is looked for anew at the next."""
        self._unheld.expire()
        return None

    def close(self) -> None:
        """See StateReader."""
        self._walk.close()
        self._unheld.close()


def _first_of_each(cookies: Numbers) -> tuple[Indices, Indices]:
    """Return the index of the first of each socket's descriptors, rising, and what sorts these by cookie."""
    order = np.argsort(cookies, kind="stable")
    rising = cookies[order]
    begins = np.ones(len(rising), np.bool_)
    begins[1:] = rising[1:] != rising[:-1]
    begins &= rising != 0
    by_cookie = order[begins]
    firsts = np.sort(by_cookie)
    return firsts, np.searchsorted(firsts, by_cookie)


def _patch(known: _Known, before: Records) -> Mask:
    """Write into the rows of sockets at rest what their descriptors tell; return where that is something new.

    ``before``: rows, aligned, with the words that were known.
    """
    at_rest = known.met["record"] == HasRecord.AT_REST
    differs = np.zeros(len(known.rows), np.bool_)
    for name in _WORDS:
        differs |= known.met[name] != before[name]
    differs &= at_rest
    which = np.flatnonzero(differs)
    for name in _WORDS:
        known.rows[name][which] = known.met[name][which]
    return differs


def _without(known: _Known, changed: Mask, which: Indices) -> tuple[_Known, Mask]:
    """Return the same without these rows."""
    kept = np.ones(len(known.rows), np.bool_)
    kept[which] = False
    met = gather(known.met, kept)
    rows = known.rows[: len(met)]
    rows[:] = gather(known.rows, kept)
    return _Known(rows, met, np.argsort(met["cookie"]), known.firsts[kept], known.zeros[:, kept]), changed[kept]


def _changed_of_few(before: Records, now: Records) -> Mask:
    """Return which of these rows are new, or differ in more than goes on with time."""
    order = np.argsort(before["cookie"])
    at, found = find_sorted(before["cookie"][order], now["cookie"])
    changed = ~found
    changed[found] = differ(gather(before, order[at[found]]), gather(now, found))
    return changed
