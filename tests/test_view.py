"""Sorting against Python's own, windows of rows, and where a connection stands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.columns import COLUMNS, Column, find
from tcptop_ops.tracker import Flows, Tracker
from tcptop_ops.view import Spec, make, ranks, read_at, row_at, sort
from tests.fakes import BOOT_NS, finals, flow, scrambled, snapshot

IDENTITIES = ("cookie", "netns", "inode")


def flows_of(*flows: dict[str, Any], closed: list[dict[str, Any]] | None = None) -> Flows:
    ended = finals(closed, BOOT_NS + int(1e9)) if closed else None
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    return tracker.update(snapshot(1, list(flows), ended))


def is_null(column: Column, value: Any) -> bool:
    if isinstance(value, bytes):
        return value == b""
    return value == 0 if column.id in IDENTITIES else math.isnan(value)


def sorted_in_python(flows: Flows, column: Column, falling: bool) -> list[int]:
    """Nulls last, ties by cookie, the live ones first."""
    values = column.seen(flows.column(column.read)).tolist()
    cookies = [*flows.live.sockets["cookie"].tolist(), *flows.closed.sockets["cookie"].tolist()]
    edge = len(flows.live)
    rows = sorted(range(len(values)), key=lambda i: (i >= edge, cookies[i]))
    known = [i for i in rows if not is_null(column, values[i])]
    known.sort(key=lambda i: Reversed(values[i]) if falling else values[i])
    return known + [i for i in rows if is_null(column, values[i])]


class Reversed:
    """Sorts the other way round, and leaves ties as they are."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: Reversed) -> bool:
        return bool(other.value < self.value)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), falling=st.booleans())
def test_any_column_sorts_as_python_sorts(seed: int, falling: bool) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(6, seed))
    flows = tracker.update(scrambled(6, seed + 1, 1))
    for column in COLUMNS:
        assert sort(flows, column, falling).tolist() == sorted_in_python(flows, column, falling), column.id


def test_by_hand() -> None:
    flows = flows_of(
        flow(3, srtt_us=30),
        flow(1, srtt_us=0),
        flow(4, srtt_us=10),
        flow(2, srtt_us=30),
        closed=[flow(5, srtt_us=20), flow(2, srtt_us=30)],
    )
    view = make(flows, Spec(sort=find("srtt")))
    assert view.cookies() == [2, 3, 2, 5, 4, 1]
    assert [view.is_closed(i) for i in range(6)] == [False, False, True, True, False, False]
    assert make(flows, Spec(sort=find("srtt"), falling=False)).cookies() == [4, 5, 2, 3, 2, 1]


def test_an_identity_that_is_zero_is_null() -> None:
    flows = flows_of(flow(1, inode=0), flow(2, inode=2**64 - 1), flow(3, inode=7), flow(4, inode=2**63 + 1))
    assert make(flows, Spec(sort=find("inode"), falling=False)).cookies() == [3, 4, 2, 1]
    assert make(flows, Spec(sort=find("inode"), falling=True)).cookies() == [2, 4, 3, 1]


def test_words_sort_with_the_empty_one_last() -> None:
    flows = flows_of(flow(1, name=b"nginx"), flow(2, name=b""), flow(3, name=b"apache"))
    assert make(flows, Spec(sort=find("process"), falling=False)).cookies() == [3, 1, 2]
    assert make(flows, Spec(sort=find("process"), falling=True)).cookies() == [1, 3, 2]


def test_addresses_sort_as_numbers() -> None:
    peers = {1: ("10.0.0.10", 1), 2: ("10.0.0.9", 80), 3: ("10.0.0.9", 9), 4: ("::1", 5), 5: ("9.255.0.0", 70)}
    flows = flows_of(*(flow(cookie, peer=peer) for cookie, peer in peers.items()))
    assert make(flows, Spec(sort=find("peer"), falling=False)).cookies() == [4, 5, 3, 2, 1]


def test_without_the_closed_ones() -> None:
    flows = flows_of(flow(2), flow(1), closed=[flow(9)])
    view = make(flows, Spec(show_closed=False))
    assert sorted(view.cookies()) == [1, 2]
    assert view.position_of(9) is None
    assert len(make(flows, Spec())) == 3


def test_a_window_of_rows() -> None:
    live = [flow(i, retrans_segs=i, srtt_us=1000 * i) for i in range(1, 30)]
    flows = flows_of(*live, closed=[flow(i, srtt_us=1000 * i) for i in range(30, 40)])
    view = make(flows, Spec(sort=find("srtt")))
    assert view.cookies(5, 15) == list(range(34, 24, -1))
    for column in COLUMNS:
        everything = flows.column(column.read)[view.order].tolist()
        for start, stop in ((0, None), (3, 12), (12, 12), (38, 99)):
            shown = view.values(column, start, stop)
            wanted = everything[start:stop]
            assert np.array_equal(shown, wanted) or list(map(repr, shown)) == list(map(repr, wanted))


def test_rows_in_any_order() -> None:
    flows = flows_of(flow(1, cwnd=11), flow(2, cwnd=12), closed=[flow(3, cwnd=13)])
    assert read_at(flows, find("cwnd"), np.array([2, 0, 1, 2])) == [13, 11, 12, 13]


def test_where_a_connection_stands() -> None:
    flows = flows_of(flow(7, srtt_us=5), flow(8, srtt_us=9), closed=[flow(7, srtt_us=99), flow(6, srtt_us=50)])
    view = make(flows, Spec(sort=find("srtt")))
    assert view.cookies() == [7, 6, 8, 7]
    assert view.position_of(7) == 3
    assert view.position_of(6) == 1
    assert view.position_of(5) is None


def test_a_single_row() -> None:
    flows = flows_of(flow(7, cwnd=70), flow(8, cwnd=80), closed=[flow(9, cwnd=90)])
    view = make(flows, Spec(sort=find("cwnd")))
    for position in range(3):
        rows = row_at(view, position)
        assert len(rows) == 1
        assert rows.sockets["cwnd"][0] == [90, 80, 70][position]
        assert (rows.endings is not None) == view.is_closed(position)


def test_nothing_to_show() -> None:
    view = make(flows_of(), Spec())
    assert len(view) == 0
    assert view.cookies() == view.values(find("peer")) == []
    assert view.position_of(1) is None


def test_ranks_of_nothing() -> None:
    for dtype in ("S4", "f8", "u8"):
        assert len(ranks(np.zeros(0, dtype), falling=True)) == 0
