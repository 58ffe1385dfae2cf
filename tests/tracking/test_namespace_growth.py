"""What namespaces counted within W."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.diagnosis.case import MEMORY, Case
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.namespace_counters import NET, NETNS
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.namespace_growth import NamespaceGrowth
from tests.support.fakes import flow, records

W = 10.0


def read(*rows: dict[str, Any]) -> Records:
    found = np.zeros(len(rows), NETNS)
    for at, row in enumerate(rows):
        for name, value in row.items():
            found[name][at] = value
    return found


def by_namespace(grown: Records, name: str) -> dict[int, int]:
    return dict(zip(grown["netns"].tolist(), grown["net"][name].tolist(), strict=True))


def test_nothing_is_known_where_nothing_was_read() -> None:
    assert len(NamespaceGrowth(W).update(read(), 5.0)) == 0


def test_growth_begins_at_the_first_reading_and_leaves_with_the_window() -> None:
    growth = NamespaceGrowth(W)
    counts = [100, 103, 103, 110, *[110] * 11]
    told = [
        by_namespace(growth.update(read({"netns": 7, "listen_drops": count}), float(at)), "listen_drops")[7]
        for at, count in enumerate(counts)
    ]
    assert told == [0, 3, 3, *[10] * 8, 7, 7, 0, 0]


def test_gauges_and_limits_are_told_as_they_are() -> None:
    growth = NamespaceGrowth(W)
    for second, tw in enumerate((5, 3)):
        grown = growth.update(read({"netns": 7, "tw": tw, "port_low": 32768, "syncookies": 1}), float(second))
        assert by_namespace(grown, "known") == {7: 1}
        assert by_namespace(grown, "tw") == {7: tw}
        assert by_namespace(grown, "port_low") == {7: 32768}
        assert by_namespace(grown, "syncookies") == {7: 1}


def test_namespaces_read_in_turn_stay_known_as_long_as_the_window() -> None:
    growth = NamespaceGrowth(W)
    for second in range(8):
        read_now = read({"netns": 9 - second % 2, "retrans_fail": 10 * second})
        grown = growth.update(read_now, float(second))
    assert by_namespace(grown, "retrans_fail") == {8: 60, 9: 60}
    assert by_namespace(growth.update(read(), 16.5), "known") == {8: 1}, "9 was last read at second 6"
    assert len(growth.update(read(), 30.0)) == 0


def test_a_number_given_to_a_new_namespace_begins_at_zero() -> None:
    growth = NamespaceGrowth(W)
    growth.update(read({"netns": 7, "listen_drops": 500, "syncookies_sent": 1}), 0.0)
    grown = growth.update(read({"netns": 7, "listen_drops": 4, "syncookies_sent": 2}), 1.0)
    assert by_namespace(grown, "listen_drops") == {7: 4}
    assert by_namespace(grown, "syncookies_sent") == {7: 2}


def test_a_case_tells_each_row_of_its_own_namespace() -> None:
    growth = NamespaceGrowth(W)
    for drops in (1, 6):
        net_of = growth.update(read({"netns": 9, "listen_drops": drops}, {"netns": 4, "tw": 8}), float(drops))
    sockets, events, _ = records([flow(n, netns=netns) for n, netns in enumerate((9, 1, 4, 9, 0), 1)])
    zeros = np.zeros(5)
    case = Case(sockets, events, np.zeros(5, COUNTED), zeros, np.zeros(5, MEMORY), 6.0, zeros.astype("u1"), net_of)
    assert case.net["known"].tolist() == [1, 0, 1, 1, 0]
    assert case.net["listen_drops"].tolist() == [5, 0, 0, 5, 0]
    assert case.net["tw"].tolist() == [0, 0, 8, 0, 0]
    assert case.take(np.array([3, 1])).net["listen_drops"].tolist() == [5, 0]


def test_what_namespaces_counted_since_the_start_is_summed_up_beyond_the_window() -> None:
    growth = NamespaceGrowth(W)
    for second in range(40):
        rows = [{"netns": 9, "out_segs": 1000 + 10 * second}]
        if 5 <= second < 30:
            rows.append({"netns": 4, "out_segs": 77 + second, "conntrack_drops": second})
        growth.update(read(*rows), float(second))
    assert growth.since_start["out_segs"] == 390 + 24
    assert growth.since_start["conntrack_drops"] == 24
    assert growth.since_start["in_errs"] == 0


def test_rows_told_and_rows_read_are_alike_behind_their_first_field() -> None:
    def behind(dtype: np.dtype[Any]) -> list[tuple[str, np.dtype[Any], int]]:
        fields: Any = dtype.fields
        return [(name, *fields[name][:2]) for name in (dtype.names or ())[1:]]

    assert behind(NETNS) == behind(NET)
    assert NETNS.itemsize == NET.itemsize
