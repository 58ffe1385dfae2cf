"""Reading what the kernel counts for network namespaces, and the limits there: once a tick, where that tells something.

Descriptors of a namespace's /proc/net/netstat and its like are opened once, and read from their begin at each tick.
They keep the namespace alive, so that they are closed as soon as no socket is left there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.arrays import distinct
from tcptop_ops.model.enums import State
from tcptop_ops.model.namespace_counters import LIMITS, NETNS
from tcptop_ops.model.records import Records

MOST_A_TICK = 64
"""Namespaces that are read at a tick; of more, those that were read longest ago."""

MOST_OPEN = 96
"""Namespaces of which descriptors are kept, four each: a process may have 1,024."""

LIMITS_S = 10.0
"""How old limits may become, seconds."""

FULL = 0.8
"""Share of conntrack_max from which on limits, which tell of packets dropped for it, may become FULL_LIMITS_S old."""

FULL_LIMITS_S = 1.0

LOOKED_AT_S = 5.0
"""After how long a namespace that holds any socket is read, seconds."""

MANY = 1000
"""Connections of a namespace from which on its ports may run out."""

FEW_PORTS = 2 * MANY
"""Local ports up to which less than MANY connections may take nearly all: such a namespace is always read."""

LEARNED_A_TICK = 4
"""Namespaces of resting connections that are read at a tick for their limits alone: each once in LIMITS_S at most."""

_BYTES = 1 << 15  # netstat has 6 KiB

Names = Mapping[bytes, Mapping[bytes, str]]
"""The names of counters here by their names in a file of /proc/net, by the prefix of their two lines."""

_NETSTAT: Names = {
    b"TcpExt:": {
        b"ListenOverflows": "listen_overflows",
        b"ListenDrops": "listen_drops",
        b"TCPReqQFullDrop": "req_q_full_drop",
        b"TCPReqQFullDoCookies": "req_q_full_do_cookies",
        b"SyncookiesSent": "syncookies_sent",
        b"TCPRetransFail": "retrans_fail",
        b"PruneCalled": "prune_called",
        b"TCPRcvCollapsed": "rcv_collapsed",
        b"TCPRcvQDrop": "rcv_q_drop",
        b"TCPTimeWaitOverflow": "tw_overflow",
        b"TCPMemoryPressures": "memory_pressures",
        b"TCPAbortOnMemory": "abort_on_memory",
    }
}
"""Of /proc/net/netstat (snmp4_net_list, net/ipv4/proc.c), and what they are called here."""

_SNMP: Names = {
    b"Ip:": {b"OutDiscards": "out_discards"},
    b"Tcp:": {b"OutSegs": "out_segs", b"RetransSegs": "retrans_segs", b"InErrs": "in_errs", b"OutRsts": "out_rsts"},
}
"""Of /proc/net/snmp (snmp4_tcp_list and snmp4_ipstats_list)."""


def worth_reading(sockets: Records, half_open: Records, closed: Records) -> set[int]:
    """Return the namespaces whose counters may tell something of these SOCKET rows.

    Those of listeners, of attempts, of handshakes that wait, of what closed since the last tick, of connections after
    a second timeout, and of many connections.
    """
    state, netns = sockets["state"].copy(), sockets["netns"].copy()  # next to each other, they are read far faster
    waits = (state == State.LISTEN) | (state == State.SYN_SENT) | (sockets["retransmits"] >= 2)
    parts = [netns[waits], half_open["netns"], closed["netns"]]
    found = {number for part in parts for number in distinct(part).tolist()}
    if len(sockets) >= MANY:
        found |= {one for one in distinct(netns).tolist() if np.count_nonzero(netns == one) >= MANY}
    return found - {0}


def parse_netstat(text: bytes) -> dict[str, int]:
    """Return the values of /proc/net/netstat by their names here: 0 for what this kernel does not count."""
    return _parse(text, _NETSTAT)


def parse_snmp(text: bytes) -> dict[str, int]:
    """Return the values of /proc/net/snmp by their names here."""
    return _parse(text, _SNMP)


def _parse(text: bytes, wanted: Names) -> dict[str, int]:
    """Lines come in pairs, of names and of values, both behind a prefix."""
    found: dict[str, int] = {}
    lines = text.split(b"\n")
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        here = wanted.get(names.partition(b" ")[0])
        if here is not None:
            told = values.split()
            found |= {name: int(told[at]) if at else 0 for name, at in _places(names, tuple(here.items()))}
    return found


@lru_cache(maxsize=8)
def _places(names: bytes, wanted: tuple[tuple[bytes, str], ...]) -> tuple[tuple[str, int], ...]:
    """Return at which word of the line each of the wanted ones stands: 0, the prefix, for what is not counted.

    A kernel's lines of names are always the same.
    """
    at = {name: place for place, name in enumerate(names.split())}
    return tuple((here, at.get(theirs, 0)) for theirs, here in wanted)


def parse_sockstat(text: bytes) -> dict[str, int]:
    """Return ``tw`` and ``orphans``."""
    for line in text.split(b"\n"):
        words = line.split()
        if words[:1] == [b"TCP:"]:
            told = dict(zip(words[1::2], words[2::2], strict=False))
            return {"tw": int(told.get(b"tw", 0)), "orphans": int(told.get(b"orphan", 0))}
    return {}


def parse_limits(text: bytes) -> dict[str, int]:
    """Return LIMITS and ``conntrack_drops``: the numbers of ``proc_walk.limits`` in their order.

    What is missing at the end is 0.
    """
    names = (*LIMITS, "conntrack_drops")
    numbers = [int(word) for word in text.split()]
    return dict(zip(names, numbers + [0] * len(names), strict=False))


@dataclass
class _Open:
    """What is open of a namespace."""

    fds: list[int]
    limits: dict[str, int]
    limits_s: float  # when they were read, CLOCK_MONOTONIC
    is_filling: bool = False  # whether the table of connection tracking has little room left

    def read(self) -> dict[str, int]:
        netstat, snmp, sockstat, *tracked = (os.pread(fd, _BYTES, 0) for fd in self.fds)
        found = parse_netstat(netstat) | parse_snmp(snmp) | parse_sockstat(sockstat) | self.limits
        for count in tracked:
            found["conntrack"] = int(count)
            self.is_filling = 0 < FULL * self.limits["conntrack_max"] <= found["conntrack"]
        return found

    def limits_age_s(self) -> float:
        """How old limits may become, seconds."""
        return FULL_LIMITS_S if self.is_filling else LIMITS_S

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


class NamespaceCounters:
    """Reads NETNS rows, in the namespaces that are reached. Used by one thread."""

    def __init__(self, reach: NamespaceAccess) -> None:
        """Take what gives access to the namespaces: it stays its owner's, who closes it."""
        self._reach = reach
        self._open: dict[int, _Open] = {}
        self._tried: dict[int, int] = {}  # of those that are worth it: the tick at which each was last tried
        self._learned: dict[int, tuple[float, bool]] = {}  # when limits were read, and whether there are few ports
        self._tick = 0
        self._looked: dict[int, float] = {}  # when a namespace was last looked at for its own sake, CLOCK_MONOTONIC

    def read(self, sockets: Records, half_open: Records, closed: Records) -> Records:
        """Return a NETNS row for each namespace that is worth it: MOST_A_TICK at most, in turn.

        Takes SOCKET rows: the live ones, the request sockets, and those that closed since the last tick. Where nothing
        can be read there is no row.
        """
        self._tick += 1
        present = set(distinct(sockets["netns"].copy()).tolist()) - {0}
        wanted = worth_reading(sockets, half_open, closed) | self._not_looked_at(present)
        self._learn(present - wanted)
        wanted |= {one for one, (_, few) in self._learned.items() if few}
        if self._open.keys() - wanted:
            self._let_go(self._open.keys() - wanted - present)
        turn = sorted(wanted, key=lambda one: (self._tried.get(one, 0), one))[:MOST_A_TICK]
        self._tried = {one: self._tried.get(one, 0) for one in wanted} | dict.fromkeys(turn, self._tick)
        found = [row for one in turn if (row := self._row(one)) is not None]
        recent = sorted(self._open, key=lambda one: -self._tried.get(one, 0))
        self._let_go(recent[MOST_OPEN:])
        return np.concatenate([np.zeros(0, NETNS), *found])

    def _not_looked_at(self, present: set[int]) -> set[int]:
        """Return which of these namespaces were not read for LOOKED_AT_S: their ports may have run out."""
        now = time.monotonic()
        self._looked = {one: at for one, at in self._looked.items() if one in present and now - at < LOOKED_AT_S}
        found = present - self._looked.keys()
        self._looked |= dict.fromkeys(found, now)
        return found

    def _learn(self, resting: set[int]) -> None:
        """Learn in which of these namespaces less than MANY connections may take all local ports: a few at a tick."""
        self._learned = {one: self._learned[one] for one in self._learned.keys() & resting}
        long_ago = time.monotonic() - LIMITS_S
        ages = sorted((self._learned.get(one, (-LIMITS_S, False))[0], one) for one in resting)
        for one in [one for learned_s, one in ages if learned_s <= long_ago][:LEARNED_A_TICK]:
            row = self._row(one)
            few = row is not None and 0 <= int(row["port_high"][0]) - int(row["port_low"][0]) < FEW_PORTS
            self._learned[one] = (time.monotonic(), few)
            if not few:
                self._let_go([one])

    def _row(self, namespace: int) -> Records | None:
        """Return the row of a namespace, as an array of length 1; None where it can't be read."""
        try:
            values = self._opened(namespace).read()
        except (OSError, Unsupported):
            self._let_go([namespace])
            return None
        row = np.zeros(1, NETNS)
        row["netns"] = namespace
        for name, value in values.items():
            row[name] = value
        return row

    def _opened(self, namespace: int) -> _Open:
        now = time.monotonic()
        found = self._open.get(namespace)
        if found is None:
            fds, limits = self._reach.counters(namespace)
            found = self._open[namespace] = _Open(fds, parse_limits(limits), now)
        elif now - found.limits_s >= found.limits_age_s():
            found.limits, found.limits_s = parse_limits(self._reach.limits(namespace)), now
        return found

    def _let_go(self, namespaces: Iterable[int]) -> None:
        for namespace in list(namespaces):
            if namespace in self._open:
                self._open.pop(namespace).close()

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        self._let_go(self._open)
