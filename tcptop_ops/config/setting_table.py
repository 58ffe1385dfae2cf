"""THE table of settings: what each may be, and what it means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tcptop_ops.config.settings import GROUPS, LEAST_WIDTH, MOST_WIDTH, THEMES, Settings, between, said
from tcptop_ops.errors import Usage

# Checks of values: each returns the value as Settings holds it, or raises Usage


def _seconds(name: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if not _is_number(value):
            raise Usage(f"{said(value)} is not a number of seconds", f"for instance: {getattr(Settings(), name):g}")
        return between(name, value)

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Usage(f"{said(value)} is not true or false", "true or false, without quotes")
    return value


def _one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise Usage(
                f"{said(value)} is none of: {', '.join(names)}", nearest(value, names) or f"for instance: {names[1]}"
            )
        return value

    return check


def _sort(value: Any) -> str:
    from tcptop_ops.views.column_sets import parse_sort

    if not isinstance(value, str):
        raise Usage(f"{said(value)} is not a column's name", 'for instance: "retr:desc"')
    column, falling = parse_sort(value)
    return f"{column.id}:{'desc' if falling else 'asc'}"


def _columns(value: Any) -> tuple[str, ...] | None:
    from tcptop_ops.views.column_sets import DEFAULT, parse_list

    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise Usage(f"{said(value)} is not a list of columns", 'for instance: ["process", "peer", "srtt"]')
    chosen = tuple(column.id for column in parse_list(",".join(names)))
    return None if chosen == DEFAULT else chosen


# Checks of table entries: each returns the id and the value as Settings holds them, or raises Usage


def _width(name: str, value: Any) -> tuple[str, int]:
    from tcptop_ops.views.column_lookup import find

    column = find(name)
    if not isinstance(value, int) or isinstance(value, bool) or not LEAST_WIDTH <= value <= MOST_WIDTH:
        raise Usage(
            f"{said(value)} is not from {LEAST_WIDTH} to {MOST_WIDTH} characters", f"for instance: {column.width}"
        )
    return column.id, value


def _threshold(name: str, value: Any) -> tuple[str, tuple[float, float]]:
    from tcptop_ops.views.column_lookup import find

    column = find(name)
    if not column.is_number:
        raise Usage("its values are not numbers", "thresholds are for columns of numbers, such as srtt")
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise Usage(f"{said(value)} is not two numbers", f"from where it is a warning, and bad: {name} = [3, 20]")
    if not (all(map(_is_finite, value)) and value[0] < value[1]):
        raise Usage(f"{said(value)} does not ascend", f"from where it is a warning, and bad: {name} = [3, 20]")
    return column.id, (value[0], value[1])


def _is_finite(value: float) -> bool:
    """Return whether a number can be compared with float64 values without overflow."""
    return abs(value) <= 1e300 if isinstance(value, int) else math.isfinite(value)


def _key(name: str, value: Any) -> tuple[str, str]:
    from tcptop_ops.config.key_names import listed
    from tcptop_ops.config.keymap import KEYS

    known = [key.id for key in KEYS]
    if name not in known:
        raise Usage(
            f"no key is called {said(name)}", nearest(name, known) or f"--print-config lists them: {known[0]}, ..."
        )
    if not isinstance(value, str):
        raise Usage(f"{said(value)} is not a key, or several", 'for instance: "q,f10"')
    return name, ",".join(listed(value))


@dataclass(frozen=True)
class Setting:
    """One setting: its name, its description in the file, and ``check``, which returns its value or raises Usage."""

    name: str
    means: str
    check: Callable[[Any], Any]


@dataclass(frozen=True)
class Table:
    """A TOML table of settings of one kind.

    ``check`` takes an entry's name and value and returns both, or raises Usage.
    """

    name: str
    means: tuple[str, ...]
    check: Callable[[str, Any], tuple[str, Any]]


SETTINGS = (
    Setting("delay", "Seconds between refreshes: 0.1 to 3600.", _seconds("delay")),
    Setting("window", 'Seconds that are "recent": 1 to 86400.', _seconds("window")),
    Setting("closed", "Seconds that a closed connection stays listed: 0 to 3600.", _seconds("closed")),
    Setting("sort", 'What rows are sorted by: a column; then ":asc" or ":desc".', _sort),
    Setting("columns", 'Columns: a list, or a text as of --columns: "all", "+cwnd,-rto".', _columns),
    Setting("group", f"What rows are put together by: {', '.join(GROUPS)}.", _one_of(GROUPS)),
    Setting("names", "Names of hosts and services in place of numbers: true or false.", _switch),
    Setting("mouse", "Whether the mouse is the program's (true), or left to the terminal (false).", _switch),
    Setting("theme", f"The colours: {', '.join(THEMES)}; auto is what the terminal asks for.", _one_of(THEMES)),
    Setting("show_closed", "Whether closed connections are shown: true or false.", _switch),
    Setting("loopback", "Whether connections within this host are shown: true or false.", _switch),
)


SETTING_TABLES = (
    Table(
        "widths",
        (f"How wide a column is: {LEAST_WIDTH} to {MOST_WIDTH} characters; without it, as wide as it needs.",),
        _width,
    ),
    Table(
        "thresholds",
        (
            "From where a column's value is a warning, and bad: two numbers. Any column of numbers may have them, in",
            "the unit that its id tells: srtt_us = [20000, 100000].",
        ),
        _threshold,
    ),
    Table("keys", ('The keys, separated by commas: names ("slash"), or what they type ("/").',), _key),
)


# Helpers for messages


def nearest(name: Any, names: tuple[str, ...] | list[str]) -> str:
    """Return a hint that names the most similar of ``names``; an empty string where none is similar."""
    near = get_close_matches(name, names, 1) if isinstance(name, str) and len(name) < 100 else []
    return f"did you mean {near[0]}?" if near else ""
