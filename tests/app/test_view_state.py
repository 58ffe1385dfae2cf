"""Every transition of a ViewState, by itself: no screen, no threads."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from tcptop_ops.app.view_state import FindingShown, ViewState
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Finding, Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, DEFAULT_SORT, SINCE_MARK, parse_list
from tcptop_ops.views.view import Spec, View, make
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

DEFAULT_COLUMNS = tuple(map(find, DEFAULT))
MARK_COLUMNS = tuple(map(find, SINCE_MARK))

CALM, LOSSY, LOCAL, GONE = 1, 2, 3, 4
"""Cookies: by the default order the lossy one is the worst; one stays on this host, one has closed."""


def ticks(count: int) -> list[Flows]:
    """The same four connections at so many seconds; one of them retransmits, one is closed from the second tick on."""
    tracker = Tracker(closed_s=1e9)
    found = []
    for second in range(count):
        rows = [
            flow(CALM, name=b"calm", pid=100, srtt_us=40_000, bytes_acked=1000 * second),
            flow(LOSSY, name=b"lossy", pid=200, retrans_segs=20 * second, data_segs_out=100 * second),
            flow(LOCAL, name=b"calm", pid=100, local=("127.0.0.1", 5), peer=("127.0.0.1", 6)),
        ]
        gone = flow(GONE, name=b"gone", pid=300, states=1 << State.ESTABLISHED)
        closed = finals([gone], BOOT_NS + int(0.5e9)) if second == 1 else None
        found.append(tracker.update(snapshot(second, rows if second else [*rows, gone], closed)))
    return found


TICKS = ticks(4)


def at(second: int = 1, **spec: Any) -> ViewState:
    """The state that shows this tick."""
    chosen = Spec(**spec)
    return ViewState(chosen).received(make(TICKS[second], chosen)).caught_up()


def received(state: ViewState, second: int) -> ViewState:
    """With the view of this tick, made as the poller's thread does."""
    return state.received(make(replace(TICKS[second], mark=state.mark), state.spec))


def rows(state: ViewState) -> list[int]:
    """The cookies on the screen, from the top; of groups their identities."""
    assert state.shown is not None
    return state.shown.cookies()


def tick(view: View | None) -> int:
    assert view is not None
    return view.flows.tick


def differing(before: ViewState, after: ViewState) -> set[str]:
    """The fields that a transition has changed."""
    return {one.name for one in fields(ViewState) if getattr(before, one.name) is not getattr(after, one.name)}


def consistent(state: ViewState) -> bool:
    """What is shown was made as the state says."""
    shown = state.shown
    return shown is not None and shown.spec is state.spec and shown.flows.mark is state.mark


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


# The filter


def test_a_filter_is_seen_at_once_and_taken_away() -> None:
    wanted = compiler.compile("process = lossy")
    state = at().filtered_by(wanted)
    assert state.spec.filter is wanted
    assert rows(state) == [LOSSY]
    assert set(rows(state.filtered_by(None))) == {CALM, LOSSY, LOCAL, GONE}


@pytest.mark.parametrize("before", [None, "process = calm"])
def test_the_filter_bar_keeps_what_was_written_or_goes_back(before: str | None) -> None:
    first = None if before is None else compiler.compile(before)
    written = compiler.compile("process = lossy")
    state = at(filter=first).filter_opened().filtered_by(written)
    assert state.filter_before is first
    assert state.filter_closed(True).spec.filter is written
    assert state.filter_closed(False).spec.filter is first
    assert consistent(state.filter_closed(False))


# The finding


def found(**spec: Any) -> ViewState:
    """A tick in which something was found."""
    flows = replace(TICKS[1], findings=(Finding("one loses", "process = lossy", 1), Finding("more", "port = 443", 3)))
    return ViewState(Spec(**spec)).received(make(flows, Spec(**spec))).caught_up()


@pytest.mark.parametrize("before", [None, "process = calm"])
def test_a_finding_shows_its_flows_and_goes_back(before: str | None) -> None:
    first = None if before is None else compiler.compile(before)
    state = found(filter=first)
    assert [finding.text for finding in state.findings] == ["one loses", "more"]
    assert not state.is_finding_shown
    entered = state.finding_entered()
    assert entered.is_finding_shown
    assert rows(entered) == [LOSSY]
    left = entered.finding_left()
    assert left.spec.filter is first
    assert left.finding_shown is None
    assert not left.is_finding_shown


def test_another_filter_ends_a_finding_and_the_next_finding_goes_back_to_that() -> None:
    other = compiler.compile("process = calm")
    state = found().finding_entered().filtered_by(other)
    assert not state.is_finding_shown
    again = state.finding_entered()
    assert again.finding_shown == FindingShown(compiler.compile("process = lossy"), other)
    assert again.finding_left().spec.filter is other


def test_a_filter_of_the_same_words_is_not_that_of_the_finding() -> None:
    assert not found().finding_entered().filtered_by(compiler.compile("process = lossy")).is_finding_shown


def test_leaving_where_no_finding_is_shown_takes_the_filter_away() -> None:
    assert at(filter=compiler.compile("process = calm")).finding_left().spec.filter is None


# The mark


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


# What to save


def saved(state: ViewState) -> dict[str, Any]:
    return state.to_save(2.0, "dark", True)


def test_what_is_saved_has_the_names_and_the_order_of_the_settings() -> None:
    assert saved(at(sort=find("srtt_us"), falling=False, widths={"process": 20})) == {
        "delay": 2.0,
        "sort": "srtt_us:asc",
        "columns": None,
        "theme": "dark",
        "names": True,
        "group": "none",
        "show_closed": True,
        "loopback": True,
        "widths": {"process": 20},
    }
    assert list(saved(at())) == [
        *("delay", "sort", "columns", "theme", "names", "group", "show_closed", "loopback", "widths")
    ]


def test_what_was_changed_by_keys_is_saved() -> None:
    state = at().closed_toggled().loopback_toggled().grouped_by("process").reversed()
    state = state.with_columns(parse_list("process,srtt"), {}, ())
    told = saved(state)
    assert told["columns"] == ("process", "srtt_us")
    assert (told["group"], told["show_closed"], told["loopback"]) == ("process", False, False)
    assert told["sort"] == f"{DEFAULT_SORT}:asc"


def test_what_lasts_as_long_as_a_mark_is_not_saved() -> None:
    marked = at(sort=find("srtt_us")).marked()
    assert saved(marked)["columns"] is None
    assert saved(marked.sorted_by(find("mark_retrans")))["sort"] == "srtt_us:desc"
    assert saved(marked.sorted_by(find("cwnd")))["sort"].startswith("cwnd:")


# It never changes


def test_a_state_never_changes() -> None:
    state = at()
    before = {one.name: getattr(state, one.name) for one in fields(ViewState)}
    state.reversed().marked().paused(TICKS[1]).grouped_by("process").following(True).watching(5)
    assert {one.name: getattr(state, one.name) for one in fields(ViewState)} == before
