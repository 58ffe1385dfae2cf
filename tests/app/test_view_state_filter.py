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
