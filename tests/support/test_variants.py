"""Which variants are left out: of made-up tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.support import variants


@dataclass
class Spec:
    params: dict[str, Any]


@dataclass
class Item:
    """As much of a ``pytest.Function`` as is asked for."""

    nodeid: str
    callspec: Spec
    marks: set[str] = field(default_factory=lambda: {variants.MARK})

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def made(test: str, **parameters: Sequence[object]) -> list[Item]:
    """All variants of a test, ``file::name``."""
    combined = [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]
    return [Item(f"{test}[{'-'.join(map(str, each.values()))}]", Spec(each)) for each in combined]


def chosen(level: str, items: list[Item]) -> list[Item]:
    kept = variants.LEVELS[level](cast("list[pytest.Item]", items))
    return cast("list[Item]", kept)


def values(items: list[Item]) -> set[tuple[str, object]]:
    return {pair for item in items for pair in item.callspec.params.items()}


FAMILY = {"family": (4, 6)}
GROUND: dict[str, Sequence[object]] = {"family": (4, 6), "source": ("sockops", "sockdiag")}


def test_all_are_tried_where_nothing_is_asked_for() -> None:
    items = made("a::x", **GROUND)
    assert chosen("all", items) == items


@pytest.mark.parametrize("level", ["half", "few"])
def test_what_is_not_marked_stays(level: str) -> None:
    items = made("a::x", **GROUND)
    for item in items:
        item.marks.clear()
    assert chosen(level, items) == items


def test_half_is_one_colour_of_a_chessboard() -> None:
    kept = chosen("half", made("a::x", **GROUND))
    assert [tuple(item.callspec.params.values()) for item in kept] == [(4, "sockops"), (6, "sockdiag")]


def test_few_try_each_test_and_each_value() -> None:
    items = [
        *made("a::x", **GROUND, size=(1, 2, 3)),
        *made("a::y", **GROUND),
        *made("a::z", **FAMILY),
        *made("b::x", **FAMILY),
    ]
    kept = chosen("few", items)
    assert {item.nodeid.partition("[")[0] for item in kept} == {"a::x", "a::y", "a::z", "b::x"}
    in_file = [[item for item in some if item.nodeid.startswith("a")] for some in (items, kept)]
    assert values(in_file[0]) == values(in_file[1])
    assert kept == [item for item in items if item in kept], "in their order"


def test_few_are_as_few_as_can_be() -> None:
    items = [*made("a::x", **GROUND, size=(1, 2, 3)), *made("a::y", **GROUND)]
    assert len(chosen("few", items)) == 3 + 1


def test_what_tests_have_in_common_is_tried_by_turns() -> None:
    """Four tests see each pair of a family and a source once."""
    kept = chosen("few", [item for name in "wxyz" for item in made(f"a::{name}", **GROUND)])
    pairs = {tuple(item.callspec.params.values()) for item in kept if item.nodeid[3] in "wxyz"}
    assert pairs == set(itertools.product(*GROUND.values()))
    assert len(kept) == 4


def test_a_list_of_its_own_is_tried_in_each_test() -> None:
    """Though another test has its values, too."""
    items = [*made("a::x", by=("link", "multi", "none")), *made("a::y", by=("link", "multi"))]
    assert chosen("few", items) == items
