"""Transitions of a ViewState: the filter, and a finding, which is one for a while."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tcptop_ops.app.view_state import FindingShown, ViewState
from tcptop_ops.filters import compiler
from tcptop_ops.model.flows import Finding
from tcptop_ops.views.view import Spec, make
from tests.support.view_states import CALM, GONE, LOCAL, LOSSY, TICKS, at, consistent, rows

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


ONE = Finding("one loses", "process = lossy", 1, key="one")
TWO = Finding("more", "port = 443", 3, key="two")


def found(**spec: Any) -> ViewState:
    """A tick in which something was found."""
    flows = replace(TICKS[1], findings=(ONE, TWO))
    return ViewState(Spec(**spec)).received(make(flows, Spec(**spec))).caught_up()


@pytest.mark.parametrize("before", [None, "process = calm"])
def test_a_finding_shows_its_flows_and_goes_back(before: str | None) -> None:
    """With a filter, the findings are of its rows: here there are none, but those of all that were told before."""
    first = None if before is None else compiler.compile(before)
    state = found()
    assert state.findings == (ONE, TWO)
    assert not state.is_finding_shown
    state = replace(state, spec=replace(state.spec, filter=first))
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
    assert state.findings == (), "none of the rows of that filter"
    again = replace(found(), spec=Spec(filter=other)).finding_entered()
    assert again.finding_shown == FindingShown(compiler.compile("process = lossy"), other, "one", frozenset({"one"}))
    assert again.finding_left().spec.filter is other


def test_each_finding_is_shown_after_the_other_and_then_none() -> None:
    state = found().finding_entered()
    assert (state.findings_told.current, state.findings_told.next) == (ONE, TWO)
    state = state.finding_entered()
    assert rows(state) != [LOSSY]
    assert (state.findings_told.current, state.findings_told.next) == (TWO, None)
    left = state.finding_left()
    assert left.spec.filter is None
    assert left.findings_told.next == ONE


def test_a_finding_that_is_gone_while_it_is_shown_is_not_told() -> None:
    state = found().finding_entered()
    assert state.shown is not None
    gone = replace(state, shown=make(replace(state.shown.flows, findings=(TWO,)), state.spec))
    assert (gone.findings_told.current, gone.findings_told.next) == (None, TWO)


def test_a_filter_of_the_same_words_is_not_that_of_the_finding() -> None:
    assert not found().finding_entered().filtered_by(compiler.compile("process = lossy")).is_finding_shown


def test_leaving_where_no_finding_is_shown_takes_the_filter_away() -> None:
    assert at(filter=compiler.compile("process = calm")).finding_left().spec.filter is None
