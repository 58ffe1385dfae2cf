"""Sorting against Python's own, windows of rows, and where a connection stands."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.filters.compiler import compile
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.view import Spec, View, make, ranks, read_at, row_at, sort, worst
from tests.support.fakes import BOOT_NS, finals, flow, scrambled, snapshot

IDENTITIES = ("cookie", "netns", "inode", "partner_cookie")


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
    flows = flows_of(flow(1, inode=0), flow(2, inode=2**64 - 2), flow(3, inode=7), flow(4, inode=2**63 + 1))
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


# Groups


def two_processes(**spec: Any) -> View:
    """By srtt: curl (mean 40) with 7 and 8, nginx (mean 25) with 2, 1 and the closed 9."""
    flows = flows_of(
        flow(1, name=b"nginx", srtt_us=30),
        flow(2, name=b"nginx", srtt_us=35),
        flow(7, name=b"curl", srtt_us=60),
        flow(8, name=b"curl", srtt_us=20),
        closed=[flow(9, name=b"nginx", srtt_us=10)],
    )
    return make(flows, Spec(sort=find("srtt"), group="process", **spec))


def entries(view: View) -> list[str | int]:
    """Names of groups and cookies of connections, in their order."""
    found: list[str | int] = []
    for position, cookie in enumerate(view.cookies()):
        number = view.group_at(position)
        assert (number is None) == (cookie > 0)
        found.append(cookie if number is None or view.groups is None else view.groups.title(number))
    return found


def unfolded(view: View, *names: str) -> View:
    assert view.groups is not None
    identities = {view.groups.title(g): int(view.groups.identities[g]) for g in range(len(view.groups))}
    return make(view.flows, replace(view.spec, unfolded=frozenset(identities[name] for name in names)))


def test_groups_stand_in_the_order_of_their_own_values() -> None:
    view = two_processes()
    assert entries(view) == ["curl", "nginx"]
    assert view.values(find("srtt")) == [40, 25]
    assert view.values(find("connections"), 1, 2) == [3]
    assert (len(view), view.connections) == (2, 5)
    assert entries(two_processes(falling=False)) == ["nginx", "curl"]
    assert entries(make(view.flows, replace(view.spec, sort=find("connections")))) == ["nginx", "curl"]
    assert entries(make(view.flows, replace(view.spec, sort=find("process"), falling=True))) == ["nginx", "curl"]


def test_groups_of_equal_value_stand_in_the_order_of_their_names() -> None:
    names = [b"zsh", b"awk", b"nginx", b"bash"]
    flows = flows_of(*(flow(c, name=name) for c, name in enumerate(names, 1)))
    for falling in (True, False):
        view = make(flows, Spec(sort=find("srtt"), falling=falling, group="process"))
        assert entries(view) == ["awk", "bash", "nginx", "zsh"]


def test_an_unfolded_group_is_followed_by_its_connections_in_the_order_of_the_list() -> None:
    view = unfolded(two_processes(), "nginx")
    assert entries(view) == ["curl", "nginx", 2, 1, 9]
    assert view.values(find("srtt")) == [40, 25, 35, 30, 10]
    assert view.values(find("srtt"), 1, 3) == [25, 35]
    assert [view.is_closed(i) for i in range(5)] == [False, False, False, False, True]
    assert entries(unfolded(view, "nginx", "curl")) == ["curl", 7, 8, "nginx", 2, 1, 9]
    assert (len(view), view.connections) == (5, 5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), falling=st.booleans())
def test_connections_of_a_group_stand_as_they_do_without_groups(seed: int, falling: bool) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(6, seed))
    flows = tracker.update(scrambled(6, seed + 1, 1))
    for column in COLUMNS:
        folded = make(flows, Spec(sort=column, falling=falling, group="state"))
        assert folded.groups is not None
        view = make(flows, replace(folded.spec, unfolded=frozenset(folded.cookies())))
        plain = sort(flows, column, falling).tolist()
        place = 0
        for number in (-1 - folded.order).tolist():
            mine = set(folded.groups.rows(number).tolist())
            assert view.order[place : place + 1 + len(mine)].tolist() == [
                -1 - number,
                *(row for row in plain if row in mine),
            ]
            place += 1 + len(mine)
        assert place == len(view)


def test_where_a_connection_stands_in_groups() -> None:
    folded = two_processes()
    identity = folded.cookies()[1]
    assert folded.position_of(identity) == folded.position_of(2) == folded.position_of(9) == 1
    view = unfolded(folded, "nginx")
    assert [view.position_of(c) for c in (identity, 2, 9, 7, 5, -5)] == [1, 2, 4, 0, None, None]
    plain = make(view.flows, Spec())
    assert plain.position_of(identity) is None


def test_a_group_keeps_its_identity_from_tick_to_tick() -> None:
    before, later = (
        two_processes(),
        make(flows_of(flow(5, name=b"curl"), flow(6, name=b"nginx")), Spec(group="process")),
    )
    assert sorted(before.cookies()) == sorted(later.cookies())


def test_a_group_is_no_row() -> None:
    view = unfolded(two_processes(), "nginx")
    assert row_at(view, 2).sockets["cookie"][0] == 2
    with pytest.raises(ValueError, match="a group"):
        row_at(view, 1)


def test_a_group_of_closed_connections_is_closed() -> None:
    flows = flows_of(flow(1, name=b"a"), closed=[flow(2, name=b"b"), flow(3, name=b"a")])
    view = make(flows, Spec(group="process", sort=find("process"), falling=False))
    assert [view.is_closed(i) for i in range(2)] == [False, True]
    assert entries(make(flows, replace(view.spec, show_closed=False))) == ["a"]


def test_the_filter_is_of_connections_not_of_groups() -> None:
    view = two_processes(filter=compile("srtt > 25us"))
    assert entries(view) == ["curl", "nginx"]
    assert view.values(find("connections")) == [1, 2]
    assert view.values(find("srtt")) == [60, 32.5]
    assert view.position_of(8) is None
    assert entries(make(view.flows, replace(view.spec, filter=compile("cookie = 8")))) == ["curl"]


def test_the_worst_is_a_connection_where_one_is_shown() -> None:
    flows = flows_of(
        flow(1, name=b"a", data_segs_out=100),
        flow(2, name=b"b", data_segs_out=100, retrans_segs=50),
        flow(3, name=b"b", data_segs_out=100),
    )
    view = make(flows, Spec(group="process", sort=find("process"), falling=False))
    assert worst(view) == 1
    assert worst(unfolded(view, "a")) == 2
    assert worst(unfolded(view, "b")) == 2
    assert worst(make(flows_of(), Spec(group="process"))) is None
