"""Which variants of the tests are tried where not all are: ``TCPTOP_VARIANTS``, and ``tests/live/conftest.py``.

A test that is marked ``halved`` has variants that differ in the ground it stands on (IPv4 or IPv6, the source, who came
first): many combinations of few values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Any

import pytest

MARK = "halved"

Value = tuple[str, str]
"""Name of a parameter, and one of its values as text."""


def half_of(items: list[pytest.Item]) -> list[pytest.Item]:
    """Leave out every other variant of each marked test: those of one colour of a chessboard.

    Where there are two parameters or more, each value is still tried with every other one of a second; a single one
    begins with its first value in one test, and with its second in the next.
    """
    seen: dict[str, dict[str, list[str]]] = {}
    kept = []
    for item in items:
        if not _varies(item):
            kept.append(item)
            continue
        name = _test_of(item)
        turn = list(seen).index(name) if name in seen else len(seen)
        values = seen.setdefault(name, {})
        for parameter, value in _values(item):
            told = values.setdefault(parameter, [])
            if value not in told:
                told.append(value)
            turn += told.index(value)
        if turn % 2 == 0:
            kept.append(item)
    return kept


def few_of(items: list[pytest.Item]) -> list[pytest.Item]:
    """Keep of the marked tests so few variants that each test, and in each file each value of each parameter, is tried.

    Where tests of a file have a parameter with the same values (a family, a source), each value may be tried in one of
    them alone, and is in as many as come to its turn. What a single test has is tried there.
    """
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        if _varies(item):
            files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    kept = {id(item) for of_file in files.values() for item in _fewest(of_file)}
    return [item for item in items if not _varies(item) or id(item) in kept]


LEVELS: dict[str, Callable[[list[pytest.Item]], list[pytest.Item]]] = {
    "all": list,
    "half": half_of,
    "few": few_of,
}
"""Values of ``TCPTOP_VARIANTS``."""


def _fewest(items: list[pytest.Item]) -> list[pytest.Item]:
    """Choose one variant of each test of a file, then more until no value is left out."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(_test_of(item), []).append(item)
    goals = {id(item): goal for variants in tests.values() for item, goal in _goals(variants)}
    missing = set().union(*goals.values())
    tried: Counter[object] = Counter()
    chosen: list[pytest.Item] = []

    def worth(item: pytest.Item) -> tuple[int, int, int]:
        """Rank a variant, the best first: new values, then rarely tried ones, then rarely tried pairs of them."""
        values = _values(item)
        pairs = combinations(values, 2)
        return (
            -len(missing & goals[id(item)]),
            sum(tried[value] for value in values),
            sum(tried[pair] for pair in pairs),
        )

    def choose(among: Iterable[pytest.Item]) -> None:
        best = min(among, key=worth)
        chosen.append(best)
        missing.difference_update(goals[id(best)])
        values = _values(best)
        tried.update(values)
        tried.update(combinations(values, 2))

    for variants in tests.values():
        choose(variants)
    while missing:
        choose(items)
    return chosen


def _goals(variants: list[pytest.Item]) -> Iterator[tuple[pytest.Item, set[object]]]:
    """Yield each variant of a test with its values, each beside all that its parameter has in this test.

    So two tests have a value in common where their parameters have the same ones, and else each has its own.
    """
    choice: dict[str, set[str]] = {}
    for item in variants:
        for name, value in _values(item):
            choice.setdefault(name, set()).add(value)
    for item in variants:
        yield item, {(name, value, frozenset(choice[name])) for name, value in _values(item)}


def _varies(item: pytest.Item) -> bool:
    return hasattr(item, "callspec") and item.get_closest_marker(MARK) is not None


def _test_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _values(item: pytest.Item) -> list[Value]:
    spec: Any = item.callspec  # type: ignore[attr-defined]  # pytest.Function has it where there are parameters
    return [(name, repr(value)) for name, value in spec.params.items()]
