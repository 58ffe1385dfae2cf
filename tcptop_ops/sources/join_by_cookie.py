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
    """Finds the map's row of each socket. Where they are is remembered while neither sockets nor rows come or go.

    ``changed``: the sockets whose row is another than at the last call, or that are new, as rising indices.
    """

    def __init__(self) -> None:
        """Begin without sockets and rows."""
        self._cookies = self._keys = np.zeros(0, "u8")
        self._at = np.zeros(0, np.intp)
        self._lonely = np.zeros(0, np.bool_)
        self._events: Records = np.zeros(0, EVENTS)
        self.changed = self._at

    def __call__(
        self, cookies: NDArray[np.uint64], keys: NDArray[np.uint64], values: Records, *, is_same: bool = False
    ) -> tuple[Records, NDArray[np.bool_]]:
        """Return the row of each socket, zeros where it has none; and which rows of the map have no socket.

        ``is_same``: the map's rows are known to be those of the last call. What is returned holds for good.
        """
        before = None
        same_rows = np.array_equal(cookies, self._cookies)
        if not (same_rows and (is_same or np.array_equal(keys, self._keys))):
            before = None if same_rows else places_of(cookies, self._cookies)
            self._look(cookies.copy(), keys.copy())
        elif is_same:
            self.changed = self._at[:0]
            return self._events, self._lonely
        events = gather(values, self._at) if len(keys) else np.zeros(len(cookies), EVENTS)
        missing = np.flatnonzero(self._at < 0)
        events[missing] = np.zeros((), EVENTS)
        self.changed = np.flatnonzero(_others(events, self._events, before))
        self._events = events
        return events, self._lonely

    def _look(self, cookies: NDArray[np.uint64], keys: NDArray[np.uint64]) -> None:
        self._cookies, self._keys = cookies, keys
        self._lonely = np.ones(len(keys), np.bool_)
        self._at = places_of(cookies, keys)
        self._lonely[self._at[self._at >= 0]] = False


def _others(events: Records, last: Records, before: NDArray[np.intp] | None) -> NDArray[np.bool_]:
    """Return which EVENTS rows are others than they were. ``before``: where each was in ``last``; None: where it is."""
    if before is None:
        return _differ(events, last)
    new: NDArray[np.bool_] = before < 0
    return new if not len(last) else new | _differ(events, gather(last, before))


def _differ(events: Records, others: Records) -> NDArray[np.bool_]:
    """Compare rows by words of 8 bytes; padding is the kernel's, which is zero."""
    one, other = (rows.view("u8").reshape(len(rows), EVENTS.itemsize // 8) for rows in (events, others))
    found: NDArray[np.bool_] = (one != other).any(axis=1)
    return found


assert EVENTS.itemsize % 8 == 0


def still_open(cookies: NDArray[np.uint64], events: Records, closed: Records) -> NDArray[np.bool_]:
    """Return false for a socket whose life ended between the read of the state and the drain of the ring."""
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
