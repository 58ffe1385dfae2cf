"""Transitions of a ViewState, by itself, no screen, no threads: ticks, pause, the cursor."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tcptop_ops.app.view_state import ViewState
from tcptop_ops.filters import compiler
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec, make
from tests.support.view_states import CALM, LOCAL, LOSSY, TICKS, at, consistent, differing, received, rows, tick

# Before the first tick


def test_before_the_first_tick_there_is_nothing_to_show() -> None:
    state = ViewState(Spec())
    assert (state.shown, state.newest, state.mark, state.behind_s, state.worst_row) == (None,) * 5
    assert state.cookie_at(0) is None
    assert state.findings == ()
    assert [state.can_mark, state.is_behind, state.is_mark_ahead, state.is_finding_shown] == [False] * 4


def test_before_the_first_tick_keys_change_what_will_be_shown() -> None:
    start = ViewState(Spec())
    state = start.reversed().closed_toggled().loopback_toggled().sorted_by(find("srtt_us")).grouped_by("process")
    assert state.shown is None
    assert (state.spec.show_closed, state.spec.show_loopback, state.spec.group) == (False, False, "process")
    assert state.spec.sort is find("srtt_us")
    assert received(state, 1).caught_up().spec is state.spec


@pytest.mark.parametrize("name", ["caught_up", "marked", "unmarked"])
def test_before_the_first_tick_some_keys_do_nothing(name: str) -> None:
    state = ViewState(Spec())
    assert getattr(state, name)() is state


def test_no_row_leaves_the_selection_as_it_was() -> None:
    state = at().selecting(0)
    assert state.selecting(None) is state
    assert ViewState(Spec()).selecting(3).selected == 0


# Ticks


def test_a_tick_is_shown_when_it_is_caught_up_with() -> None:
    before = at(1)
    state = received(before, 2)
    assert differing(before, state) == {"newest"}
    assert (tick(state.newest), tick(state.shown)) == (2, 1)
    assert state.is_behind
    caught_up = state.caught_up()
    assert differing(state, caught_up) == {"shown"}
    assert caught_up.shown is caught_up.newest
    assert not caught_up.is_behind


def test_a_view_that_was_made_before_the_last_key_is_made_again() -> None:
    late = make(TICKS[2], Spec())
    state = at(1).sorted_by(find("srtt_us")).received(late).caught_up()
    assert tick(state.shown) == 2
    assert consistent(state)
    assert state.newest is late


def test_a_view_that_was_made_before_the_mark_is_told_by_it() -> None:
    late = make(TICKS[2], Spec())
    state = at(1).marked().received(late).caught_up()
    assert state.mark is not None
    assert consistent(state)


# Pause


def test_pause_keeps_the_picture_and_tells_how_old_it_is() -> None:
    before = at(1)
    state = before.paused(TICKS[1])
    assert differing(before, state) == {"is_paused", "shown"}
    assert state.behind_s == 0.0
    state = received(received(state, 2), 3)
    assert (tick(state.shown), tick(state.newest)) == (1, 3)
    assert state.behind_s == 2.0
    assert not state.is_behind  # there is nothing to catch up with


def test_a_paused_picture_is_that_of_the_flows_that_were_kept() -> None:
    kept = replace(TICKS[1])
    state = at(1).paused(kept)
    assert state.shown is not None
    assert state.shown.flows is kept


def test_a_paused_picture_can_be_sorted_and_filtered() -> None:
    state = received(at(1).paused(TICKS[1]), 3).sorted_by(find("srtt_us")).filtered_by(compiler.compile("calm"))
    assert tick(state.shown) == 1
    assert set(rows(state)) == {CALM, LOCAL}
    assert consistent(state)


def test_resuming_shows_the_last_tick_as_it_is_looked_at_now() -> None:
    state = received(at(1).paused(TICKS[1]), 3).sorted_by(find("srtt_us")).resumed()
    assert not state.is_paused
    assert tick(state.shown) == 3
    assert state.behind_s is None
    assert consistent(state)


# The cursor


def test_the_cookie_of_a_row_and_of_a_group() -> None:
    state = at()
    assert [state.cookie_at(row) for row in range(4)] == rows(state)
    assert state.cookie_at(None) is None
    cookie = state.grouped_by("process").cookie_at(0)
    assert cookie is not None
    assert cookie < 0


def test_what_is_selected_is_a_connection_or_nothing() -> None:
    state = at(sort=find("process"), falling=False).selecting(0)
    assert state.selected == rows(state)[0] > 0
    assert state.grouped_by("process").selecting(0).selected == 0


def test_what_is_watched_is_told_until_it_is_no_longer() -> None:
    state = at().watching(LOSSY)
    assert state.watched == LOSSY
    assert state.watching(0).watched == 0


def test_the_cursor_follows_the_worst_whatever_the_order() -> None:
    state = at(sort=find("process"), falling=False)
    assert state.worst_row is None
    following = state.following(True)
    assert following.cookie_at(following.worst_row) == LOSSY
    turned = following.reversed()
    assert turned.cookie_at(turned.worst_row) == LOSSY
    assert turned.following(False).worst_row is None


def test_in_an_empty_table_there_is_no_worst() -> None:
    assert at().following(True).filtered_by(compiler.compile("process = nobody")).worst_row is None


# It never changes


def test_a_state_never_changes() -> None:
    state = at()
    before = {one.name: getattr(state, one.name) for one in fields(ViewState)}
    state.reversed().marked().paused(TICKS[1]).grouped_by("process").following(True).watching(5)
    assert {one.name: getattr(state, one.name) for one in fields(ViewState)} == before
