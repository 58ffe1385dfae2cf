"""Connection attempts that their application gave up, judged by what came of its attempts to that destination. Pure.

One that lost while another won is nothing: the application opened several (RFC 8305, "happy eyeballs"), and closed the
rest as soon as the first was established. Several in a row to one destination, none of them established, are an outage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model import endings as ends
from tcptop_ops.model.addresses import are_mapped, halves
from tcptop_ops.model.arrays import Mask, find_sorted
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.flows import Rows
from tcptop_ops.model.records import Records

REMEMBERED_S = 60.0
"""How long an attempt is remembered after its end, and a connection after it was established."""

MOST_REMEMBERED = 20_000
"""Most attempts, and most connections, that are remembered: the newest."""

IN_A_ROW = 3
"""Fewest attempts to a destination, given up since the last one that was established, that are an outage."""

IN_A_ROW_POLLED = 5
"""The same where only polls tell: an attempt that is gone may have been established between two of them."""

PENDING_SHARE = 0.8
"""Least share of the polls that found such attempts: the loser of a race lives too short a time for that."""

EXCUSED_SHARE = 0.5
"""Share of attempts to a destination that lost to another connection, from which on all count as such losers."""

IMPATIENT_NS = 50_000_000
"""An attempt that was given up sooner than this was not waited for."""

AT_ONCE_NS = 100_000_000
"""Longest time between the winner's establishment and the close of the loser."""

STAGGER_NS = 500_000_000
"""Longest time between the begins of a race over IPv6 and IPv4 whose loser is closed whenever it suits the program.

RFC 8305, 5, recommends 250 ms.
"""

WAITED_US = 400_000
"""Where only polls tell: least age at which one of the attempts was found. The loser of a race is closed sooner."""

LATE_NS = 5_000_000_000
"""Longest time from the establishment of a connection to the tick that shows it first: a poll takes its time."""

CHANCE = 0.2
"""Where connections are established all the time, one of them precedes any close.

A loser's must do so by less than this share of their mean distance.
"""

FIRST_RTO_US = 1_000_000
"""The first timeout of a SYN: TCP_TIMEOUT_INIT."""

_MIX = np.uint64(0x9E3779B97F4A7C15)
_TRIED = np.dtype(
    [
        ("cookie", "u8"),
        ("first_ns", "u8"),  # CLOCK_MONOTONIC of connect(), or of the poll that found it
        ("end_ns", "u8"),
        ("place", "u8"),  # who -> where, as a number: process name, namespace, address and port
        ("who", "u8"),  # the process
        ("way", "u8"),  # the process, the port, and whether it is IPv6, as a number
        ("other_way", "u8"),  # the same of the other family
        ("waited", "?"),  # the time it is known to have waited is WAITED_US or more
        ("polled", "?"),
        ("lost", "?"),  # to another connection of the process
        ("failed", "?"),  # one of several in a row without a success
    ]
)
_STOOD = np.dtype(
    [("cookie", "u8"), ("first_ns", "u8"), ("stood_ns", "u8"), ("place", "u8"), ("who", "u8"), ("way", "u8")]
)


class _Told(NamedTuple):
    """What callbacks told of rows, or what polls did."""

    place: NDArray[np.uint64]
    who: NDArray[np.uint64]
    ways: tuple[NDArray[np.uint64], NDArray[np.uint64]]  # that of its own family, that of the other
    polled: Mask


class Attempts:
    """Attempts that were given up, and what the same processes established meanwhile.

    At each tick those that are new are added, as long as there are attempts at all.
    """

    def __init__(self) -> None:
        """Begin without attempts, connections or polls."""
        self._tried: Records = np.zeros(0, _TRIED)
        self._stood: Records = np.zeros(0, _STOOD)
        self._pending: list[tuple[int, NDArray[np.uint64]]] = []  # by poll: when it was, and the places in SYN-SENT

    def update(self, live: Rows, ended: Rows, before_ns: int, now_ns: int) -> None:
        """Take note of the rows of a tick. ``ended``: those since the last one, which was at ``before_ns``."""
        waiting = np.flatnonzero(live.sockets["state"] == State.SYN_SENT)
        given_up = np.flatnonzero(_given_up(ended)) if len(ended) else waiting[:0]
        if not (len(waiting) or len(given_up) or len(self._tried)):
            self._stood, self._pending = self._stood[:0], []
            return
        stood = [_established(live, before_ns, now_ns), _established(ended, before_ns, now_ns)]
        self._stood = _newest(_distinct(np.concatenate([self._stood, *stood])), "stood_ns", now_ns)
        self._tried = _newest(np.concatenate([self._tried, _tries(ended, given_up)]), "end_ns", now_ns)
        self._remember_pending(live.take(waiting), now_ns)
        if len(self._tried):
            _find_winners(self._tried, self._stood)
            self._judge()

    def _remember_pending(self, waiting: Rows, now_ns: int) -> None:
        since = now_ns - int(REMEMBERED_S * 1e9)
        self._pending = [one for one in self._pending if one[0] >= since]
        told = _told(waiting)
        if told.polled.any() or self._tried["polled"].any():
            self._pending.append((now_ns, np.unique(told.place)))

    def _judge(self) -> None:
        """Tell which attempts are among several in a row that failed. One that did stays so, unless it is excused."""
        tried = self._tried
        places, group = np.unique(tried["place"], return_inverse=True)
        at, is_one = find_sorted(places, self._stood["place"])
        last = np.zeros(len(places), "u8")
        np.maximum.at(last, at[is_one], self._stood["stood_ns"][is_one])
        in_row = tried["end_ns"] > last[group]
        count, lost = (np.bincount(group[which], minlength=len(places)) for which in (in_row, in_row & tried["lost"]))
        many = np.where(self._found_by_polls(places, group), IN_A_ROW_POLLED, IN_A_ROW)
        outage = (count - lost >= many) & (lost < EXCUSED_SHARE * count) & self._is_always_pending(places, group)
        every, ever_lost = np.bincount(group), np.bincount(group[tried["lost"]], minlength=len(places))
        tried["failed"] |= in_row & outage[group]
        tried["failed"] &= (ever_lost < EXCUSED_SHARE * every)[group]

    def _found_by_polls(self, places: NDArray[np.uint64], group: NDArray[np.intp]) -> Mask:
        found: Mask = np.bincount(group[self._tried["polled"]], minlength=len(places)) > 0
        return found

    def _is_always_pending(self, places: NDArray[np.uint64], group: NDArray[np.intp]) -> Mask:
        """Return which places most polls found attempts at, since the first; true where callbacks tell."""
        found = np.ones(len(places), np.bool_)
        for place in np.flatnonzero(self._found_by_polls(places, group)).tolist():
            first = int(self._tried["first_ns"][group == place].min())
            polls = [(places[place] == pending).any() for at_ns, pending in self._pending if at_ns >= first]
            waited = self._tried["waited"][group == place].any()
            found[place] = waited and sum(polls) >= PENDING_SHARE * max(len(polls), 1)
        return found

    def judged(self, rows: Rows) -> tuple[Mask, Mask]:
        """Return which of these closed rows are attempts that failed as several did, and which lost to another."""
        failed, lost = np.zeros((2, len(rows)), np.bool_)
        if not len(self._tried):
            return failed, lost
        order = np.argsort(self._tried["cookie"], kind="stable")
        tried = self._tried[order]
        at, found = find_sorted(tried["cookie"], rows.sockets["cookie"])
        known = np.flatnonzero(found)
        # A refused socket that connects again keeps its cookie.
        same = np.isin(rows.events["first_ns"][known], [0, *tried["first_ns"][at[known]].tolist()])
        known = known[same]
        failed[known] = tried["failed"][at[known]]
        lost[known] = tried["lost"][at[known]] & ~failed[known]
        return failed, lost


def _given_up(rows: Rows) -> Mask:
    """Return the closed rows that were given up, or were last seen in SYN-SENT where only polls tell."""
    assert rows.endings is not None
    young = rows.endings["from_state"] == State.SYN_SENT
    found = np.zeros(len(rows), np.bool_)
    which = np.flatnonzero(young)
    few = rows.take(which)
    assert few.endings is not None
    codes = ends.end_codes(few.sockets, few.events, few.endings)
    found[which] = (codes == ends.ABANDONED) | (few.events["first_ns"] == 0)
    return found


def _told(rows: Rows) -> _Told:
    """Return who each row belongs to, and who -> where, as numbers."""
    sockets, events, owners = rows.sockets, rows.events, rows.owners
    polled = events["first_ns"] == 0
    name = np.where(polled, owners["name"].astype("S16"), events["comm"]).astype("S16")
    pid = np.where(polled, owners["pid"], events["pid"]).astype("u8")
    parts = [*np.ascontiguousarray(name).view("u8").reshape(-1, 2).T]
    by_name = _mixed(parts)
    where = sockets["netns"].astype("u8") << np.uint64(16) | sockets["rport"]
    place = _mixed([*parts, *np.ascontiguousarray(sockets["raddr"]).view("u8").reshape(-1, 2).T, where])
    who = np.where(pid == 0, by_name, pid)
    is_v6 = ~are_mapped(*halves(sockets["raddr"]))
    ways = tuple(_mixed([who, where, family.astype("u8")]) for family in (is_v6, ~is_v6))
    return _Told(place, who, (ways[0], ways[1]), polled)


def _mixed(parts: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return a hash of 64 bits of numbers, by row."""
    found = np.zeros(len(parts[0]), "u8")
    for part in parts:
        found = (found ^ part) * _MIX
        found ^= found >> np.uint64(29)
    return found


def _tries(rows: Rows, which: NDArray[np.intp]) -> Records:
    """Return _TRIED rows of attempts that were given up, those left out that were not waited for."""
    few = rows.take(which)
    assert few.endings is not None
    told = _told(few)
    tried = np.zeros(len(few), _TRIED)
    tried["cookie"], tried["end_ns"] = few.sockets["cookie"], few.endings["end_ns"]
    life = (few.rates["state_s"] * 1e9).astype("u8")
    seen = tried["end_ns"] - np.minimum(life, tried["end_ns"])
    tried["first_ns"] = np.where(told.polled, seen, few.events["first_ns"])
    tried["place"], tried["who"], tried["polled"] = told.place, told.who, told.polled
    tried["way"], tried["other_way"] = told.ways
    left_us = few.sockets["timer_us"].astype("i8")
    tried["waited"] = (few.sockets["retransmits"] > 0) | (FIRST_RTO_US - left_us >= WAITED_US)
    kept: Records = tried[told.polled | (tried["end_ns"] >= tried["first_ns"] + np.uint64(IMPATIENT_NS))]
    return kept


def _established(rows: Rows, before_ns: int, now_ns: int) -> Records:
    """Return _STOOD rows of the connections that were dialled, and established since LATE_NS before ``before_ns``.

    Of those that are only polled: the ones that this poll found first, and found established.
    """
    events = rows.events
    dialled = np.flatnonzero(events["connect_us"])
    stood_ns = events["first_ns"][dialled] + events["connect_us"][dialled] * np.uint64(1000)
    stood = ends.was_established(events["states"][dialled])
    dialled = dialled[
        stood & (stood_ns + np.uint64(LATE_NS) > before_ns) & (events["direction"][dialled] == Direction.OUT)
    ]
    fresh = np.flatnonzero(rows.rates["fresh"] == 0)
    fresh = fresh[(events["first_ns"][fresh] == 0) & (rows.sockets["state"][fresh] == State.ESTABLISHED)]
    few = rows.take(np.concatenate([dialled, fresh]))
    found, told = np.zeros(len(few), _STOOD), _told(few)
    found["cookie"], found["place"], found["who"], found["way"] = (
        few.sockets["cookie"],
        told.place,
        told.who,
        told.ways[0],
    )
    stood_ns = few.events["first_ns"] + few.events["connect_us"] * np.uint64(1000)
    found["first_ns"] = np.where(told.polled, before_ns, few.events["first_ns"])
    found["stood_ns"] = np.where(told.polled, now_ns, stood_ns)
    return found


def _distinct(rows: Records) -> Records:
    """Return _STOOD rows without those that are there twice: the same socket, established at the same time."""
    _, first = np.unique(np.stack([rows["cookie"], rows["stood_ns"]], axis=1), axis=0, return_index=True)
    distinct: Records = rows[first]
    return distinct


def _newest(rows: Records, name: str, now_ns: int) -> Records:
    """Return the rows of the last REMEMBERED_S, in the order of their time; MOST_REMEMBERED at most."""
    kept = rows[rows[name] + np.uint64(REMEMBERED_S * 1e9) >= now_ns]
    newest: Records = kept[np.argsort(kept[name], kind="stable")][-MOST_REMEMBERED:]
    return newest


def _find_winners(tried: Records, stood: Records) -> None:
    """Fill in ``lost``: which attempts were closed as soon as another connection of the process was established.

    Its connect() must have begun before the close, and it must have been established since the attempt began, or a poll
    can't tell. One winner excuses one loser by destination.
    """
    tried["lost"] = False
    order = np.lexsort((stood["stood_ns"], stood["who"]))
    winners = stood[order]
    if not len(winners):
        return
    base = int(min(tried["first_ns"].min(), winners["stood_ns"].min()))
    who = np.unique(np.concatenate([winners["who"], tried["who"]]))
    keys = _keys(who, winners["who"], winners["stood_ns"], base)
    began, ended = (np.searchsorted(keys, _keys(who, tried["who"], tried[at], base)) for at in ("first_ns", "end_ns"))
    meanwhile = ended - began
    between = (tried["end_ns"] - tried["first_ns"]) / np.maximum(meanwhile - 1, 1)
    near = np.where(meanwhile > 1, np.minimum(CHANCE * between, AT_ONCE_NS), AT_ONCE_NS)
    before = _won(tried, winners, ended - 1, near) & (meanwhile > 0)
    after = _won(tried, winners, ended, near / 2)
    at = np.where(before, ended - 1, ended)
    which = np.flatnonzero(before | after)
    _, first = np.unique(np.stack([at[which].astype("u8"), tried["place"][which]], axis=1), axis=0, return_index=True)
    tried["lost"][which[first]] = True
    tried["lost"] |= _lost_whenever(tried, stood, base)


def _lost_whenever(tried: Records, stood: Records, base: int) -> Mask:
    """Return which attempts belong to a race of the two families that another won, whenever they were closed.

    The process established exactly one connection to that port over the other family meanwhile, and began it about when
    the attempt began: one that opens connections all the time is no race.
    """
    winners = stood[np.lexsort((stood["stood_ns"], stood["way"]))]
    ways = np.unique(np.concatenate([winners["way"], tried["other_way"]]))
    keys = _keys(ways, winners["way"], winners["stood_ns"], base)
    since, until = (
        np.searchsorted(keys, _keys(ways, tried["other_way"], tried[at], base)) for at in ("first_ns", "end_ns")
    )
    winner = winners[np.minimum(since, len(winners) - 1)]
    apart = np.abs(winner["first_ns"].astype("i8") - tried["first_ns"].astype("i8"))
    found: Mask = (until - since == 1) & (apart <= STAGGER_NS) & ~tried["polled"]
    return found


def _won(tried: Records, winners: Records, at: NDArray[np.intp], near: NDArray[np.float64]) -> Mask:
    """Return which attempts lost to the winner at this index: it stood at most ``near`` ns off their close."""
    winner = winners[np.clip(at, 0, len(winners) - 1)]
    distance = np.abs(tried["end_ns"].astype("i8") - winner["stood_ns"].astype("i8"))
    found: Mask = (at >= 0) & (at < len(winners)) & (winner["who"] == tried["who"])
    found &= (winner["first_ns"] <= tried["end_ns"]) & (winner["place"] != tried["place"])
    found &= (distance <= near) | tried["polled"]
    return found


def _keys(
    who: NDArray[np.uint64], whose: NDArray[np.uint64], at_ns: NDArray[np.uint64], base: int
) -> NDArray[np.uint64]:
    """Return process and time as one number, by which both can be sorted. ``who``: all processes, sorted."""
    number = np.searchsorted(who, whose).astype("u8")
    keys: NDArray[np.uint64] = number << np.uint64(44) | (at_ns - np.uint64(base))
    return keys
