"""Transitions of a ViewState: the mark, its columns and its end."""

from __future__ import annotations

from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT_SORT, SINCE_MARK, parse_list
from tests.support.view_states import CALM, DEFAULT_COLUMNS, LOSSY, TICKS, at, consistent, differing, received, rows

MARK_COLUMNS = tuple(map(find, SINCE_MARK))


def test_a_mark_is_that_of_the_last_tick_and_brings_its_columns() -> None:
    before = at(1)
    state = before.marked()
    assert before.can_mark
    assert state.mark is not None
    assert state.mark.at_ns == TICKS[1].snapshot.now_ns
    assert state.spec.columns == MARK_COLUMNS
    assert state.shown is state.newest
    assert consistent(state)
    assert differing(before, state) == {"spec", "newest", "shown", "mark_set"}


def test_a_mark_leaves_columns_of_ones_own_as_they_are() -> None:
    own = parse_list("process,mark_retrans")
    state = at(columns=own).marked()
    assert state.spec.columns == own
    assert state.unmarked().spec.columns == own


def test_a_mark_tells_what_has_changed_since() -> None:
    state = received(at(1).marked(), 3).caught_up()
    assert state.shown is not None
    grown = dict(zip(rows(state), state.shown.values(find("mark_retrans")), strict=True))
    assert (grown[LOSSY], grown[CALM]) == (40.0, 0.0)


def test_without_the_mark_the_columns_from_before_it_are_back() -> None:
    state = at(1).marked().with_columns(parse_list("process"), {}, ()).unmarked()
    assert state.mark is None
    assert state.spec.columns == DEFAULT_COLUMNS
    assert consistent(state)


def test_an_order_by_what_has_changed_ends_with_the_mark() -> None:
    marked = at(1).marked()
    assert marked.sorted_by(find("mark_retrans")).unmarked().spec.sort is find(DEFAULT_SORT)
    assert marked.sorted_by(find("srtt_us")).unmarked().spec.sort is find("srtt_us")


def test_without_a_mark_there_is_none_to_take_away() -> None:
    state = at()
    assert state.unmarked() is state


def test_there_is_no_mark_in_a_paused_picture() -> None:
    assert not at(1).paused(TICKS[1]).can_mark


def test_a_recording_can_go_back_before_its_mark() -> None:
    state = at(2).marked()
    assert not state.is_mark_ahead
    assert not received(state, 3).caught_up().is_mark_ahead
    back = received(state, 1).caught_up()
    assert back.is_mark_ahead
    assert not back.unmarked().is_mark_ahead
