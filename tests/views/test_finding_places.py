"""Where findings stand on the screen: no line jumps, and the gravest comes to the top in the end."""

from __future__ import annotations

from tcptop_ops.model.flows import Finding
from tcptop_ops.views.finding_places import MOST, OVER_S, SORTED_AGAIN_S, FindingPlaces, numbered


def told(keys: str) -> list[Finding]:
    return [Finding(f"finding {key}", f"port = {ord(key)}", 1, key=key) for key in keys]


def keys(places: FindingPlaces) -> str:
    """Those that are over in upper case."""
    return "".join(one.finding.key.upper() if one.is_over else one.finding.key for one in places.told)


def ticks(*findings: str) -> list[str]:
    """The places of ticks a second apart."""
    places, seen = FindingPlaces(), []
    for now, one in enumerate(findings, 1):
        places = places.updated(told(one), float(now), None)
        seen.append(keys(places))
    return seen


def test_a_new_one_stands_before_those_that_are_less_grave() -> None:
    assert ticks("ac", "abc", "xabcz") == ["ac", "abc", "xabcz"]


def test_two_that_change_places_from_tick_to_tick_do_not_on_the_screen() -> None:
    assert set(ticks(*["ab", "ba"] * 20)) == {"ab"}


def test_one_that_stays_the_gravest_comes_to_the_top() -> None:
    seen = ticks("ab", *["ba"] * 30)
    assert seen.index("ba") == SORTED_AGAIN_S + 1


def test_one_that_is_over_keeps_its_place_for_a_while_and_comes_back_to_it() -> None:
    assert ticks("abc", "ac", "abc") == ["abc", "aBc", "abc"]
    seen = ticks("ab", *["b"] * 12)
    assert seen[1 : int(OVER_S) + 1] == ["Ab"] * int(OVER_S)
    assert seen[-1] == "b"


def test_another_filter_and_another_time_begin_anew() -> None:
    places = FindingPlaces().updated(told("abc"), 10.0, None)
    assert keys(places.updated(told("c"), 11.0, "another")) == "c"
    assert keys(places.updated(told("c"), 9.0, None)) == "c"


def test_each_place_has_a_digit() -> None:
    places = FindingPlaces().updated(told("abcdefghijklmn"), 1.0, None)
    assert len(places.told) == MOST
    assert len(places.updated(told("nmlkjihgfedcba"), 2.0, None).told) == MOST


def test_what_is_over_gives_way_where_there_is_no_room() -> None:
    places = FindingPlaces().updated(told("abcd"), 1.0, None).updated(told("acd"), 2.0, None)
    assert keys(places) == "aBcd"
    assert [(number, place.finding.key) for number, place in numbered(places.told, 3)] == [(1, "a"), (3, "c"), (4, "d")]
    assert [number for number, _ in numbered(places.told, 2)] == [1, 3]
    assert numbered(places.told, 0) == []


def test_one_that_is_told_otherwise_stays_where_it_was() -> None:
    assert ticks("abc", "axc") == ["abc", "axc"]
    network, peer = (Finding("", "", 1, blame, key=blame) for blame in ("network", "peer"))
    places = FindingPlaces().updated([network], 1.0, None).updated([peer], 2.0, None)
    assert [(one.finding.blame, one.is_over) for one in places.told] == [("network", True), ("peer", False)]


def test_while_its_rows_are_looked_at_the_order_stays() -> None:
    places = FindingPlaces().updated(told("ab"), 1.0, None)
    for now in range(2, 60):
        places = places.updated(told("ba"), float(now), None, is_held=True)
    assert keys(places) == "ab"
