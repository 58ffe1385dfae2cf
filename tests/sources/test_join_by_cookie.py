"""What the kernel tells in pieces, put together: against dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.model.enums import State
from tcptop_ops.model.records import EVENTS, FINAL, SOCKET, UNKNOWN_U32, Records
from tcptop_ops.sources.join_by_cookie import LostSockets, RowMatcher, last_known, still_open, without_record

COOKIE = st.integers(1, 12) | st.integers(2**63, 2**64 - 1)


def events_of(firsts: list[int]) -> Records:
    events = np.zeros(len(firsts), EVENTS)
    events["first_ns"] = firsts
    events["comm"] = [b"c%d" % (first % 1000) for first in firsts]
    return events


def cookies_of(cookies: list[int]) -> Any:
    return np.array(cookies, "u8")


ROWS = st.dictionaries(COOKIE, st.integers(1, 2**64 - 1))


@given(st.lists(st.tuples(st.lists(COOKIE, unique=True), ROWS, st.integers(1, 3)), max_size=4))
def test_join(ticks: list[tuple[list[int], dict[int, int], int]]) -> None:
    """Tick after tick, the same sockets and rows several times, with other values in the rows."""
    join = RowMatcher()
    for cookies, first, times in ticks:
        for more in range(times):
            rows = {cookie: ns ^ more for cookie, ns in first.items()}
            events, lonely = join(cookies_of(cookies), cookies_of(list(rows)), events_of(list(rows.values())))
            assert len(events) == len(cookies)
            for event, cookie in zip(events, cookies, strict=True):
                assert event == (events_of([rows[cookie]])[0] if cookie in rows else np.zeros((), EVENTS))
            assert lonely.tolist() == [cookie not in cookies for cookie in rows]


def test_join_leaves_the_map_as_it_was_and_keeps_nothing_of_its_buffers() -> None:
    join, cookies, keys, values = RowMatcher(), cookies_of([1, 2, 3]), cookies_of([3, 1, 2]), events_of([30, 10, 20])
    events, _ = join(cookies, keys, values)
    assert events["first_ns"].tolist() == [10, 20, 30]
    assert (keys.tolist(), values["first_ns"].tolist()) == ([3, 1, 2], [30, 10, 20])
    cookies[:], keys[:] = [7, 8, 3], [8, 3, 7]
    assert join(cookies, keys, values)[0]["first_ns"].tolist() == [20, 30, 10]
    assert events["first_ns"].tolist() == [10, 20, 30]


LIFE = st.tuples(st.integers(1, 5), st.integers(0, 3))


@given(st.lists(LIFE, unique_by=lambda life: life[0]), st.lists(LIFE))
def test_still_open(sockets: list[tuple[int, int]], ended: list[tuple[int, int]]) -> None:
    """One that ended in another life is open; one whose life nobody knows ended with its cookie."""
    closed = np.zeros(len(ended), FINAL)
    closed["socket"]["cookie"] = [cookie for cookie, _ in ended]
    closed["events"]["first_ns"] = [first for _, first in ended]
    told = still_open(cookies_of([c for c, _ in sockets]), events_of([first for _, first in sockets]), closed)
    cookies = {cookie for cookie, _ in ended}
    wanted = [c not in cookies if first == 0 else (c, first) not in ended for c, first in sockets]
    assert told.tolist() == wanted


def sockets_of(*cookies: int) -> Records:
    rows = np.zeros(len(cookies), SOCKET)
    rows["cookie"], rows["lport"] = cookies, [cookie + 100 for cookie in cookies]
    return rows


def test_what_was_known_of_a_socket() -> None:
    found = last_known(sockets_of(5, 1, 3), cookies_of([3, 4, 5]))
    assert found["cookie"].tolist() == [3, 4, 5]
    assert found["lport"].tolist() == [103, 0, 105]
    assert found["drops"].tolist() == [0, UNKNOWN_U32, 0]
    assert set(found["state"].tolist()) == {State.CLOSE}
    assert len(last_known(sockets_of(1), cookies_of([]))) == 0
    assert last_known(sockets_of(), cookies_of([1]))["lport"].tolist() == [0]


def test_a_socket_that_two_passes_miss_is_unseen() -> None:
    """Passes over keys 1 (vanishes), 2 (is missed once), 3 (never found) and 4 (stays)."""
    unseen, keys = LostSockets(), cookies_of([1, 2, 3, 4])
    told = []
    before = sockets_of()
    for present in ((1, 2, 4), (4,), (2, 4), (2, 4)):
        gone, sockets = unseen.update(keys, ~np.isin(keys, present), before)
        told.append((keys[gone].tolist(), sockets["lport"].tolist()))
        before = sockets_of(*present)
    assert told == [([], []), ([], []), ([1], [101]), ([], [])]


def test_an_end_without_a_record() -> None:
    final = without_record(sockets_of(7), events_of([5]), 99, State.UNSEEN)
    assert (final["ending"]["end_ns"][0], final["ending"]["error"][0]) == (99, UNKNOWN_U32)
    assert (final["socket"]["cookie"][0], final["events"]["first_ns"][0]) == (7, 5)
