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


def found(*findings: Finding, **spec: Any) -> ViewState:
    """A tick in which something was found."""
    flows = replace(TICKS[1], findings=findings or (ONE, TWO))
    return ViewState(Spec(**spec)).received(make(flows, Spec(**spec))).caught_up().placed()


def told(state: ViewState) -> list[Finding]:
    return [place.finding for place in state.places.told]


@pytest.mark.parametrize("before", [None, "process = calm"])
def test_a_finding_shows_its_flows_and_goes_back(before: str | None) -> None:
    """With a filter, the findings are of its rows: here there are none, but those of all that were told before."""
    first = None if before is None else compiler.compile(before)
    state = found()
    assert state.findings == (ONE, TWO)
    assert not state.is_finding_shown
    state = replace(state, spec=replace(state.spec, filter=first))
    entered = state.finding_entered(ONE)
    assert (entered.is_finding_shown, entered.finding_key) == (True, "one")
    assert rows(entered) == [LOSSY]
    left = entered.finding_left()
    assert left.spec.filter is first
    assert left.finding_shown is None
    assert (left.is_finding_shown, left.finding_key) == (False, "")


def test_another_filter_ends_a_finding_and_the_next_finding_goes_back_to_that() -> None:
    other = compiler.compile("process = calm")
    state = found().finding_entered(ONE).filtered_by(other)
    assert not state.is_finding_shown
    assert state.findings == (), "none of the rows of that filter"
    again = replace(found(), spec=Spec(filter=other)).finding_entered(ONE)
    assert again.finding_shown == FindingShown(compiler.compile("process = lossy"), other, "one")
    assert again.finding_left().spec.filter is other


def test_from_one_finding_to_another_and_back_to_all() -> None:
    """All of them keep their places meanwhile."""
    state = found().finding_entered(ONE).placed()
    assert told(state) == [ONE, TWO]
    state = state.finding_entered(TWO).placed()
    assert rows(state) != [LOSSY]
    assert (state.finding_key, told(state)) == ("two", [ONE, TWO])
    left = state.finding_left().placed()
    assert left.spec.filter is None
    assert told(left) == [ONE, TWO]


def test_a_finding_that_is_gone_while_it_is_shown_keeps_its_place_for_a_while() -> None:
    state = found().finding_entered(ONE)
    assert state.shown is not None
    gone = replace(state, shown=make(replace(state.shown.flows, findings=(TWO,)), state.spec)).placed()
    assert gone.finding_key == "one"
    assert [(place.finding, place.is_over) for place in gone.places.told] == [(ONE, True), (TWO, False)]


def test_the_filter_of_a_finding_follows_its_rows() -> None:
    state = found().finding_entered(ONE).placed()
    assert state.shown is not None
    wider = replace(ONE, filter="port = 443")
    state = replace(state, shown=make(replace(state.shown.flows, findings=(wider, TWO)), state.spec)).placed()
    assert state.spec.filter is not None
    assert (state.spec.filter.text, state.finding_key) == ("port = 443", "one")
    assert rows(state) != [LOSSY]
    assert state.finding_left().spec.filter is None


def test_a_filter_of_the_same_words_is_not_that_of_the_finding() -> None:
    assert not found().finding_entered(ONE).filtered_by(compiler.compile("process = lossy")).is_finding_shown


def test_leaving_where_no_finding_is_shown_takes_the_filter_away() -> None:
    assert at(filter=compiler.compile("process = calm")).finding_left().spec.filter is None
