"""What the kernel tells in three ways, put together by cookie: present state, events, ends. Pure.

A life is (cookie, first_ns): a refused socket that connects again keeps its cookie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather, places_of
from tcptop_ops.model.enums import State, WritingOperator
from tcptop_ops.model.records import EVENTS, FINAL, SOCKET, UNKNOWN_U32, Records, unknown_of

_NOT_TOLD = (
    *("total_rto", "total_rto_ms", "min_rtt_us", "drops", "uid", "rcv_wnd", "last_sent_us", "last_received_us"),
    *("last_ack_received_us", "pmtu", "rcv_ssthresh", "rcvbuf", "rmem", "received_ce"),
)


def births(counters: Records) -> int:
    """Return how many were born: connects and accepts on full sockets, less those that the map turned away."""
    full = counters["calls"] - counters["requests"]
    return int(full[WritingOperator.TCP_CONNECT_CB] + full[WritingOperator.PASSIVE_ESTABLISHED_CB])


class RowMatcher:
    """Finds the map's row of each socket. Where they are is remembered while neither sockets nor rows come or go."""

    def __init__(self) -> None:
        """Begin without sockets and rows."""
        self._cookies = self._keys = np.zeros(0, "u8")
        self._at = np.zeros(0, np.intp)
        self._found = np.zeros(0, np.bool_)
        self._lonely = np.zeros(0, np.bool_)

    def __call__(
        self, cookies: NDArray[np.uint64], keys: NDArray[np.uint64], values: Records
    ) -> tuple[Records, NDArray[np.bool_]]:
        """Return the row of each socket, zeros where it has none; and which rows of the map have no socket."""
        if not (np.array_equal(keys, self._keys) and np.array_equal(cookies, self._cookies)):
            self._look(cookies.copy(), keys.copy())
        if not len(keys):
            return np.zeros(len(cookies), EVENTS), self._lonely
        events = gather(values, self._at)
        if not self._found.all():
            events[~self._found] = np.zeros((), EVENTS)
        return events, self._lonely

    def _look(self, cookies: NDArray[np.uint64], keys: NDArray[np.uint64]) -> None:
        self._cookies, self._keys = cookies, keys
        self._lonely = np.ones(len(keys), np.bool_)
        self._at = places_of(cookies, keys)
        self._found = self._at >= 0
        self._lonely[self._at[self._found]] = False


def still_open(cookies: NDArray[np.uint64], events: Records, closed: Records) -> NDArray[np.bool_]:
    """Return false for a socket whose life ended between the pass of the iterator and the drain of the ring."""
    ended = np.isin(cookies, closed["socket"]["cookie"])
    if ended.any():
        first = events["first_ns"][ended]
        ended[ended] = (first == 0) | np.isin(
            _lives(cookies[ended], first), _lives(closed["socket"]["cookie"], closed["events"]["first_ns"])
        )
    return ~ended


def _lives(cookies: NDArray[np.uint64], first_ns: NDArray[np.uint64]) -> NDArray[np.bytes_]:
    """Both numbers as one value that can be compared."""
    pairs: NDArray[np.bytes_] = np.stack([cookies, first_ns], axis=1).view("S16")[:, 0]
    return pairs


def last_known(before: Records, keys: NDArray[np.uint64]) -> Records:
    """Return the sockets of these keys as an earlier pass (SOCKET rows) found them; what is not told, if none did."""
    found = np.zeros(len(keys), SOCKET)
    for name in _NOT_TOLD:
        found[name] = unknown_of(SOCKET[name])
    if len(before) and len(keys):
        order = np.argsort(before["cookie"])
        at, there = find_sorted(before["cookie"][order], keys)
        found[there] = gather(before, order[at[there]])
    found["cookie"] = keys
    found["state"] = State.CLOSE
    return found


def without_record(sockets: Records, events: Records, now_ns: int, from_state: int) -> Records:
    """Return FINAL rows of connections whose end the kernel did not tell."""
    final = np.zeros(len(sockets), FINAL)
    final["socket"], final["events"] = sockets, events
    final["ending"]["end_ns"], final["ending"]["error"] = now_ns, UNKNOWN_U32
    final["ending"]["from_state"] = from_state
    return final


def _few_among(few: NDArray[np.uint64], many: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """``np.isin``, which would sort the many even for none."""
    if not len(few):
        return np.zeros(0, np.bool_)
    return np.isin(few, many[np.isin(many, few)])


class LostSockets:
    """Rows of the map whose socket two passes in a row no longer found: nobody told of their end.

    A socket that no pass ever found may live in a namespace that nothing leads to: its row is left alone.
    """

    def __init__(self) -> None:
        """Begin without rows that were missed."""
        self._found = np.zeros(0, "u8")
        self._missed = np.zeros(0, "u8")
        self._as_last_seen = np.zeros(0, SOCKET)

    def update(
        self, keys: NDArray[np.uint64], lonely: NDArray[np.bool_], before: Records
    ) -> tuple[NDArray[np.intp], Records]:
        """Return indices into ``keys`` of those to close now, and their sockets as last seen.

        ``lonely``: which keys have no socket in this pass; ``before``: the rows of the last pass.
        """
        missing = np.flatnonzero(lonely)
        gone = missing[_few_among(keys[missing], self._missed)]
        sockets = last_known(self._as_last_seen, keys[gone])
        once = keys[missing[_few_among(keys[missing], self._found)]]
        self._as_last_seen = last_known(before, once)
        self._missed, self._found = once, keys[~lonely]
        return gone, sockets
