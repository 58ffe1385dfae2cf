"""Which listener dropped what, and why: its own drops, told apart by what its network namespace counted. Pure.

The kernel counts a listener's drops (sk_drops) for whatever it throws away there: a handshake for which the accept
queue has no room and a SYN for which the backlog has none, but also a stray reset (tcp_rcv_state_process(), LISTEN), a
reset in reply to a SYN-ACK, and a SYN that is sent again while the first waits (tcp_v4_rcv(), discard_and_relse). What
was dropped at a full queue the namespace counts as well, over all its listeners: ListenOverflows and TCPReqQFullDrop.
So a drop of a listener counts as far as the namespace counted one at the same tick. A SYN cookie is no drop: only the
namespace counts it, and the listener is that whose backlog is full.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask, find_sorted, gather
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.listener_drops import COUNTS, LISTENED, none_listening
from tcptop_ops.model.listeners import Listeners
from tcptop_ops.model.records import UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.window import SAMPLES

Counts = NDArray[np.int64]

FORGOTTEN_S = 120.0
"""For how long after W what a listener dropped is remembered, for those who tell of it while it fades."""

ALWAYS = 2
"""Of tcp_syncookies: each SYN is answered by a cookie, whether or not a backlog is full (tcp_conn_request())."""

_MEASURED = np.dtype(
    [
        ("cookie", "u8"),
        ("netns", "u4"),
        ("drops", "u4"),
        ("accept_filled", "f8"),  # what share of its limit the queue holds
        ("syn_filled", "f8"),
        ("half_open", "f8"),
        ("first_ns", "u8"),  # when listen() was called: CLOCK_MONOTONIC; 0: not seen
    ]
)
"""A listener at a tick."""

_GROWN = ("listen_overflows", "listen_drops", "req_q_full_drop", "req_q_full_do_cookies")
_OVERFLOWS, _DROPS, _SYN_DROPS, _COOKIES = range(4)


def spread(count: int, room: Counts, likely: Mask) -> Counts:
    """Divide what a namespace counted among its listeners, each of which takes ``room`` at most, by their room.

    The likely ones, whose queue was seen filling up, come first. Where those explain less than half of it, the others
    take the rest; of them only those with a quarter of the largest room, since a few stray resets beside a queue that
    overflows prove nothing. And if all their room is less than half of the rest, they take nothing: whose queue
    overflowed is not seen here (``--cgroup``), or its drops show at the next tick.
    """
    given = np.zeros(len(room), np.int64)
    for which, least in ((likely, 0.0), (~likely & (4 * room >= room.max(initial=0)), 0.5)):
        left, open_room = count - int(given.sum()), np.where(which, room, 0)
        total = int(open_room.sum())
        if 2 * left > count and total and total >= least * left:
            given += np.minimum(open_room, -(-open_room * min(left, total) // total))
    return given


class ListenerDrops:
    """What each listener dropped at a full queue within W. Costs next to nothing while namespaces count nothing."""

    def __init__(self, seconds: float) -> None:
        """Begin with no listeners. ``seconds``: the length of W."""
        self._seconds = seconds
        self._before = np.zeros(0, _MEASURED)  # sorted by cookie
        self._before_ns = 0  # when: CLOCK_MONOTONIC; 0: never
        self._counted: dict[int, Counts] = {}  # by namespace: _GROWN as last read
        self._read_s: dict[int, float] = {}  # when: CLOCK_MONOTONIC
        self._left: dict[int, Counts] = {}  # what no listener explained at the last tick: overflows, syn_drops
        self._happened: deque[tuple[float, Records]] = deque()  # LISTENED, those of a tenth of W together
        self._told = none_listening()

    def update(self, snapshot: Snapshot, now_s: float) -> Records:
        """Return LISTENED rows, sorted by cookie: of all listeners, and of those that are gone since a while."""
        now = _measure(snapshot)
        if len(now) or len(self._told):
            self._add(self._attributed(now, snapshot.namespace_counters), now_s)
            self._note_read(now, snapshot.namespace_counters, now_s)
            self._told = self._tell(now, now_s)
        self._before, self._before_ns = now, snapshot.now_ns
        return self._told

    def _attributed(self, now: Records, counters: Records) -> Records:
        """Return LISTENED rows, aligned with ``now``: what each listener dropped since its namespace was last read."""
        found = np.zeros(len(now), LISTENED)
        found["cookie"] = now["cookie"]
        if not len(now):
            return found
        before, read = self._base(now), np.isin(now["netns"], counters["netns"])
        first_read = read & ~np.isin(now["netns"], np.array(list(self._counted), "u4"))
        met_before = first_read & ~self._born(now)
        before["drops"][met_before] = now["drops"][met_before]
        for row in counters[np.isin(counters["netns"], now["netns"])]:
            self._of_namespace(row, now, before, found)
        now["drops"][~read] = before["drops"][~read]
        return found

    def _note_read(self, now: Records, counters: Records, now_s: float) -> None:
        """Remember when namespaces were read, and forget those without listeners or not read for as long as W."""
        living = set(now["netns"].tolist())
        self._read_s |= dict.fromkeys(counters["netns"].tolist(), now_s)
        self._read_s = {
            netns: read_s
            for netns, read_s in self._read_s.items()
            if netns in living and read_s >= now_s - self._seconds
        }
        self._counted = {netns: counted for netns, counted in self._counted.items() if netns in self._read_s}

    def _born(self, now: Records) -> Mask:
        """Return the listeners that were seen to begin since the last tick."""
        born: Mask = (now["first_ns"] >= self._before_ns) & (self._before_ns > 0)
        return born

    def _base(self, now: Records) -> Records:
        """Return each listener as it was when its namespace was last read; a new one without any drops."""
        base: Records = now.copy()
        at, known = find_sorted(self._before["cookie"], now["cookie"])
        base[known] = self._before[at[known]]
        base["drops"][~known] = 0
        return base

    def _of_namespace(self, row: Records, now: Records, before: Records, found: Records) -> None:
        """Fill in ``found`` for the listeners of a namespace. ``row``: of NETNS."""
        netns, counted = int(row["netns"]), np.array([int(row[name]) for name in _GROWN])
        last = self._counted.get(netns)
        self._counted[netns] = counted
        # Of a namespace that is new, the drops of those listeners that are new as well tell how many are of now.
        since = np.array([0, 0, 0, counted[_COOKIES]]) if last is None else last
        grown = counted - since if (counted >= since).all() else counted
        left = self._left.pop(netns, np.zeros(2, np.int64))
        if not grown.any() and not left.any():
            return
        which = np.flatnonzero(now["netns"] == netns)
        mine, was = now[which], before[which]
        accept, backlog = (np.maximum(mine[name], was[name]) for name in ("accept_filled", "syn_filled"))
        room = (mine["drops"] - was["drops"]).astype(np.int64)  # wraps as the kernel's counter does
        overflows, syn_drops = int(grown[_OVERFLOWS]), int(grown[_SYN_DROPS]) + _for_want_of_backlog(row, grown, mine)
        if last is None:
            overflows, syn_drops = min(overflows, int(room.sum())), min(syn_drops, int(room.sum()))
        syns = spread(syn_drops + int(left[1]), room, backlog >= 0.5)
        accepts = spread(overflows + int(left[0]), room - syns, accept >= 0.5)
        found["syn_drops"][which], found["overflows"][which] = syns, accepts
        if int(row["syncookies"]) != ALWAYS:
            found["cookies"][which] = _cookies(int(grown[_COOKIES]), backlog)
        rest = np.maximum([overflows - accepts.sum(), syn_drops - syns.sum()], 0)
        if last is not None and rest.any():
            self._left[netns] = rest

    def _add(self, grown: Records, now_s: float) -> None:
        """Add what was dropped to what happened within W, and forget what is older."""
        grown = grown[_any(grown)]
        while self._happened and self._happened[0][0] < now_s - self._seconds:
            self._happened.popleft()
        if not len(grown):
            return
        if self._happened and now_s - self._happened[-1][0] < self._seconds / (SAMPLES - 1):
            since, part = self._happened.pop()
            self._happened.append((since, _summed([part, grown])))
        else:
            self._happened.append((now_s, grown))
        self._last(grown, now_s)

    def _last(self, grown: Records, now_s: float) -> None:
        """Note in ``_told`` when each kind was seen last, and how many of it since W was free of them."""
        at, known = find_sorted(self._told["cookie"], grown["cookie"])
        fresh = np.zeros(int((~known).sum()), LISTENED)
        fresh["cookie"] = grown["cookie"][~known]
        self._told = np.sort(np.concatenate([self._told, fresh]), order="cookie")
        at, _ = find_sorted(self._told["cookie"], grown["cookie"])
        for name in COUNTS:
            some = grown[name] > 0
            rows, count = at[some], grown[name][some]
            again = self._told[name + "_s"][rows] >= now_s - self._seconds
            self._told[name + "_since"][rows] = np.where(again, self._told[name + "_since"][rows], 0) + count
            self._told[name + "_s"][rows] = now_s

    def _tell(self, now: Records, now_s: float) -> Records:
        """Return the LISTENED rows of this tick."""
        last = np.max([self._told[name + "_s"] for name in COUNTS], axis=0, initial=0.0)
        kept = self._told[last >= now_s - self._seconds - FORGOTTEN_S]
        told = np.zeros(len(now), LISTENED)
        told["cookie"] = now["cookie"]
        at, known = find_sorted(now["cookie"], kept["cookie"])
        told[at[known]] = kept[known]
        gone = kept[~known]
        if len(gone):
            told = np.sort(np.concatenate([told, gone]), order="cookie")
        at, known = find_sorted(told["cookie"], now["cookie"])
        told["half_open"] = 0
        told["half_open"][at] = np.ceil(now["half_open"])
        told["counted"][at] = np.isin(now["netns"], np.array(list(self._read_s), "u4"))
        for name in COUNTS:
            told[name] = 0
        if self._happened:
            grown = _summed([part for _, part in self._happened])
            at, known = find_sorted(told["cookie"], grown["cookie"])
            for name in COUNTS:
                told[name][at[known]] = grown[name][known]
        return told


def _measure(snapshot: Snapshot) -> Records:
    """Return _MEASURED rows of the listeners, sorted by cookie."""
    which = np.flatnonzero(snapshot.sockets["state"] == State.LISTEN)
    which = which[np.argsort(snapshot.sockets["cookie"][which], kind="stable")]
    sockets, events = gather(snapshot.sockets, which), gather(snapshot.events, which)
    now = np.zeros(len(sockets), _MEASURED)
    if not len(sockets):
        return now
    for name in ("cookie", "netns"):
        now[name] = sockets[name]
    now["first_ns"] = np.where(events["origin"] == Origin.NEW, events["first_ns"], 0)
    now["drops"] = np.where(sockets["drops"] == UNKNOWN_U32, 0, sockets["drops"])
    limit = sockets["send_q"] + 1.0  # both queues are full when they hold more than the backlog
    now["accept_filled"] = sockets["recv_q"] / limit
    if len(snapshot.half_open):
        listeners = Listeners(sockets)
        waits_at = listeners.of(snapshot.half_open)
        waiting = np.bincount(waits_at[waits_at >= 0], minlength=len(listeners))
        now["half_open"] = (waiting / np.bincount(listeners.group, minlength=len(listeners)))[listeners.group]
        now["syn_filled"] = now["half_open"] / limit
    return now


def _for_want_of_backlog(row: Records, grown: Counts, mine: Records) -> int:
    """Count the SYNs that were dropped before the backlog was full.

    Without cookies the kernel keeps the last quarter of tcp_max_syn_backlog for known peers (tcp_conn_request()), and
    counts nothing but ListenDrops. ``mine``: _MEASURED rows of the namespace.
    """
    crowded = 2.0 * mine["half_open"].max(initial=0) > float(row["syn_backlog"])
    if row["syncookies"] or not row["syn_backlog"] or not crowded:
        return 0
    return max(0, int(grown[_DROPS] - grown[_OVERFLOWS] - grown[_SYN_DROPS]))


def _cookies(count: int, filled: NDArray[np.float64]) -> Counts:
    """Divide cookies among the listeners of a namespace, by how full the backlog of each is: see ``spread``.

    Where none is seen to fill up and there are several it is not known whose they are, and nobody gets them.
    """
    if not count:
        return np.zeros(len(filled), np.int64)
    for least in (0.9, 0.5):
        full = filled >= least
        if full.any():
            weight = np.where(full, filled, 0.0)
            shares: Counts = np.ceil(count * weight / weight.sum()).astype(np.int64)
            return shares
    return np.full(len(filled), count if len(filled) == 1 else 0, np.int64)


def _any(grown: Records) -> Mask:
    found: Mask = (grown["overflows"] | grown["syn_drops"] | grown["cookies"]) > 0
    return found


def _summed(parts: list[Records]) -> Records:
    """Return LISTENED rows, a row a cookie, sorted: the sums of COUNTS."""
    rows = np.concatenate(parts)
    cookies, which = np.unique(rows["cookie"], return_inverse=True)
    total = np.zeros(len(cookies), LISTENED)
    total["cookie"] = cookies
    for name in COUNTS:
        total[name] = np.bincount(which.reshape(-1), weights=rows[name], minlength=len(cookies))
    return total
