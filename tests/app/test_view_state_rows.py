"""Transitions of a ViewState: the order, which rows are hidden, columns, groups."""

from __future__ import annotations

import pytest

from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT_SORT, parse_list
from tests.support.view_states import CALM, DEFAULT_COLUMNS, GONE, LOCAL, LOSSY, at, consistent, rows

# The order


def test_sorting_takes_the_usual_direction_of_the_column() -> None:
    state = at(falling=False).sorted_by(find("srtt_us"))
    assert (state.spec.sort, state.spec.falling) == (find("srtt_us"), find("srtt_us").falling)
    assert rows(state)[0] == CALM
    assert consistent(state)


def test_sorting_by_the_same_column_is_no_change() -> None:
    state = at(falling=False)
    assert state.sorted_by(find(DEFAULT_SORT)) is state


def test_reversing_shows_the_same_rows_the_other_way_round() -> None:
    state = at(sort=find("process"), falling=False, show_closed=False)
    assert state.reversed().spec.falling
    assert rows(state.reversed().reversed()) == rows(state)
    assert rows(state.reversed())[0] == LOSSY


@pytest.mark.parametrize(("n", "wanted"), [(1, "process"), (2, "srtt_us"), (3, DEFAULT_SORT), (9, DEFAULT_SORT)])
def test_sorting_by_the_nth_column_on_the_screen(n: int, wanted: str) -> None:
    assert at().sorted_by_nth(n, parse_list("process,srtt")).spec.sort is find(wanted)


@pytest.mark.parametrize(
    ("sort", "steps", "wanted"),
    [
        ("srtt_us", -1, "process"),
        ("srtt_us", 1, "retrans_win"),
        ("process", -1, "process"),
        ("retrans_win", 1, "retrans_win"),
        ("cwnd", 1, "process"),
        ("cwnd", -1, "process"),
    ],
)
def test_sorting_by_a_neighbour(sort: str, steps: int, wanted: str) -> None:
    columns = parse_list("process,srtt,retr")
    assert at(sort=find(sort)).sorted_beside(steps, columns).spec.sort is find(wanted)


def test_without_columns_there_is_no_neighbour() -> None:
    state = at()
    assert state.sorted_beside(1, ()) is state


def test_a_click_on_a_title_sorts_and_another_one_reverses() -> None:
    once = at().sorted_by_title(find("srtt_us"))
    twice = once.sorted_by_title(find("srtt_us"))
    assert once.spec.sort is twice.spec.sort is find("srtt_us")
    assert once.spec.falling is not twice.spec.falling


# Rows and columns


def test_closed_connections_are_hidden_and_shown() -> None:
    state = at()
    assert GONE in rows(state)
    assert GONE not in rows(state.closed_toggled())
    assert rows(state.closed_toggled().closed_toggled()) == rows(state)


def test_what_stays_on_this_host_is_hidden_and_shown() -> None:
    state = at()
    assert LOCAL in rows(state)
    assert LOCAL not in rows(state.loopback_toggled())
    assert rows(state.loopback_toggled().loopback_toggled()) == rows(state)


def test_columns_are_taken_with_their_widths() -> None:
    chosen = parse_list("process,srtt")
    state = at().with_columns(chosen, {"process": 30}, parse_list("process,cwnd"))
    assert state.spec.columns == chosen
    assert state.spec.widths == {"process": 30}
    assert consistent(state)


def test_columns_that_were_on_the_screen_already_go_on_adapting_to_it() -> None:
    on_screen = parse_list("process,srtt")
    state = at().with_columns(on_screen, {"srtt_us": 9}, on_screen)
    assert state.spec.columns == DEFAULT_COLUMNS
    assert state.spec.widths == {"srtt_us": 9}


def test_grouping_folds_every_group() -> None:
    grouped = at().grouped_by("process")
    identity = rows(grouped)[0]
    unfolded = grouped.folded(identity, True)
    assert all(row < 0 for row in rows(grouped))
    assert unfolded.grouped_by("state").spec.unfolded == frozenset()
    assert unfolded.grouped_by("process") is unfolded
    assert set(rows(unfolded.grouped_by("none"))) == {CALM, LOSSY, LOCAL, GONE}


def test_a_group_shows_its_connections_and_hides_them() -> None:
    grouped = at().grouped_by("process")
    first, second = rows(grouped)[:2]
    unfolded = grouped.folded(first, True).folded(second, True)
    assert unfolded.spec.unfolded == {first, second}
    assert len(rows(unfolded)) > len(rows(grouped))
    assert unfolded.folded(first, True).spec.unfolded == {first, second}
    assert rows(unfolded.folded(first, False).folded(second, False)) == rows(grouped)
    assert grouped.folded(first, False).spec.unfolded == frozenset()
