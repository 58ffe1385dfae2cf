"""Which columns fit into a width."""

from __future__ import annotations

import pytest

from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, OUTPUT, parse_list
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.table.column_fit import fit, total_width
from tests.support.table_bench import BY_RETRANSMITS, BY_SCORE


def ids(width: int, spec: Spec = BY_RETRANSMITS) -> list[str]:
    return [p.column.id for p in fit(spec.columns, spec.sort, width)]


def test_eighty_columns_hold_exactly_the_default_set() -> None:
    for spec in (BY_SCORE, BY_RETRANSMITS):
        layout = fit(spec.columns, spec.sort, 80)
        assert [p.column.id for p in layout] == list(DEFAULT)
        assert total_width(layout) == 80
        assert next(p.width for p in layout if p.column.id == "cause") == len("syn-unanswered")


def test_wider_screens_add_columns_in_order() -> None:
    assert ids(120) == [*DEFAULT, "pid", "lport", "cwnd"]
    assert ids(130) == [*DEFAULT, "pid", "lport", "cwnd", "limit", "tx_bytes_per_s"]
    assert ids(160)[: len(ids(120))] == ids(120)
    assert len(ids(200)) > len(ids(160))


def test_narrow_screens_keep_who_and_what_it_is_sorted_by() -> None:
    assert ids(40) == ["score", "process", "peer", "retrans_win"]
    assert ids(40, BY_SCORE) == ["score", "process", "peer", "retrans_win"]
    assert ids(40, Spec(sort=find("cwnd"))) == ["score", "process", "peer", "cwnd"]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.id)
def test_the_default_columns_never_need_scrolling_and_have_what_they_are_sorted_by(column: Column) -> None:
    for width in range(40, 301):
        layout = fit(BY_RETRANSMITS.columns, column, width)
        assert total_width(layout) <= width
        assert column in [placed.column for placed in layout]


def test_columns_asked_for_are_all_there_however_wide() -> None:
    layout = fit(parse_list("all"), find("cookie"), 80)
    assert [p.column for p in layout] == list(OUTPUT)
    assert total_width(layout) > 80


def test_columns_asked_for_get_the_room_there_is() -> None:
    layout = fit(parse_list("peer,srtt"), find("srtt_us"), 80)
    assert [(p.column.id, p.width) for p in layout] == [("peer", 47), ("srtt_us", 5)]
