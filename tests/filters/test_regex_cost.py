"""Regular expressions that might take for ever are refused; how much the others may cost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.filters.regex_cost import LONGEST_PATTERN, MOST_WAYS, TooManyWays, ways
from tests.support.filter_fleet import cookies, refused


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("nginx", 1),
        ("a|b|c", 3),
        ("(a|b)(c|d)", 4),
        ("a?b??", 4),
        ("a{2,4}[0-9a-f]{64}", 3),
        (r"[]*+?|(]\*\+\[x", 1),
        (r"[^]*]\(", 1),
        ("(?:a|b){3}", 24),
        ("(?i)a|(?i:b)", 2),
        ("(?P<x>a)(?P=x)(?#*+*+)", 1),
        ("(?=a|b)c", 2),
        ("a{,2}x{}", 3),
        ("a*", 513),
        ("^10\\.[0-9]{1,3}\\.[0-9]{1,3}\\.", 9),
        ("(a)(?(1)b|c)", 2),
    ],
)
def test_ways(pattern: str, wanted: int) -> None:
    re.compile(pattern)
    assert ways(pattern) == wanted


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+", "(a*)*b", "(a|a)*", "a*a*a*", "(a|b){21}", "a?" * 21, "(a|b)" * 21, "(?=(a+)+)", "(?s:.*)+"),
        *("(?:){1000000000}", "a{513}", "(((?:){500}){500}){500}", "((a?){30}){30}", "(((a{2}){500}){500}){500}"),
        "(?x)a",
    ],
)
def test_patterns_that_might_take_for_ever(pattern: str) -> None:
    with pytest.raises(TooManyWays):
        ways(pattern)


PIECES = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^]]",
    "(",
    "(?:",
    "(?=",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{1,3}",
    "\\w",
    "\\)",
    "^",
    "$",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_how_ways_add_up(pattern: str) -> None:
    try:
        re.compile(pattern)
        counted = ways(pattern)
    except (re.error, TooManyWays):
        return
    assert 1 <= counted <= MOST_WAYS
    assert ways(f"(?:{pattern})") == counted
    if 2 * counted <= MOST_WAYS:
        assert ways(f"{pattern}|{pattern}") == 2 * counted
    re.search(pattern, "a" * 32 + "!")  # where every character fits, and the end does not: it comes back


def test_the_longest_pattern() -> None:
    pattern = "|".join(["sshd"] * 51)
    assert len(pattern) == LONGEST_PATTERN - 2
    assert cookies(f"process ~ '{pattern}'") == [5]
    error = refused(f"process ~ '{'(' * 125}sshd{')' * 125}'")
    assert error is None or "regular expression" in error.expected
