"""What a column is, and what its value is for a group of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tcptop_ops import text
from tcptop_ops.model.flows import Flows
from tcptop_ops.views.column_readers import ColumnReader, Values
from tcptop_ops.views.column_text import show_id


@dataclass(frozen=True)
class GroupRule:
    """How the value of a group is computed from those of its connections; nulls are left out. See ``groups``.

    ``how`` is one of:

    - ``sum``, ``mean`` (every connection has the same weight), ``least``, ``greatest``
    - ``same``: the value that all have in common; null where they differ
    - ``worst``: the value of the connection with the highest score
    - ``share``: 100 * sum(``part``) / sum(``whole``), at most ``most``; null while the whole is less than ``enough``

    With ``same`` and ``sum``, ``part`` replaces the column's own reader if it is given; with ``sum``, only in groups of
    which at least one connection has a value of it.
    """

    how: Literal["sum", "mean", "least", "greatest", "same", "worst", "share"]
    part: ColumnReader | None = None
    whole: ColumnReader | None = None
    enough: float = 0.0
    most: float = math.inf


SUM, MEAN, LEAST, GREATEST = GroupRule("sum"), GroupRule("mean"), GroupRule("least"), GroupRule("greatest")


SAME, WORST = GroupRule("same"), GroupRule("worst")


@dataclass(frozen=True)
class Column:
    """One column of the table.

    ``width``: characters on the screen; ``falling``: whether sorting begins with the greatest value; ``alias``: a
    second name for filters and options; ``right``: whether cells are right-aligned, as those of numbers are; ``names``:
    of a column of numbers that name something, the words for them in these flows; ``least`` and ``most``: of a column
    of numbers, the bounds of one connection's value, beyond which ``read`` gives null.
    """

    id: str
    title: str
    width: int
    help: str
    read: ColumnReader
    show: Callable[[Any], str]
    plain: Callable[[Any], Any]
    alias: str = ""
    right: bool = True
    falling: bool = True
    severity: tuple[float, float] | None = None  # thresholds: a warning from the first, bad from the second
    step: Callable[[Values], Values] | None = None  # rounds values for ``seen``; None: cells show values exactly
    screen_only: bool = False  # left out of outputs
    group: GroupRule = SAME
    names: Callable[[Flows], Mapping[int, str]] | None = None
    least: float = 0.0
    most: float = math.inf

    def shower(self, flows: Flows) -> Callable[[Any], str]:
        """Return a formatter like ``show`` for the screen, which says names where these flows have any."""
        names = self.names(flows) if self.names is not None else {}
        return (lambda value: text.printable(names.get(value, "")) or self.show(value)) if names else self.show

    def seen(self, values: Values) -> Values:
        """Round values to what a cell can show, so that rows are not sorted by differences that nobody sees.

        Only columns with a ``step`` function and float64 values are rounded; others are returned unchanged.
        """
        return values if self.step is None or values.dtype.kind != "f" else self.step(values)

    @property
    def is_number(self) -> bool:
        """Whether its values are quantities: words and identities (cookie, netns, inode) are not."""
        return self.right and self.show is not show_id

    def level(self, value: Any, severity: tuple[float, float] | None = None) -> int:
        """Return the severity of a value: 0 none, 1 a warning, 2 bad, -1 zero or null (drawn dimmed).

        ``severity``: the user's thresholds (warning, bad), in place of the column's own.
        """
        if isinstance(value, bytes):
            return 0 if value else -1
        if math.isnan(value) or value == 0:
            return -1
        limits = severity or self.severity
        if limits is None:
            return 0
        return int(value >= limits[0]) + int(value >= limits[1])

    def show_of_group(self, value: Any) -> str:
        """Format a group's value; a dash where its connections have no value in common."""
        return text.DASH if value == b"" else self.show(value)

    def level_of_group(self, value: Any, severity: tuple[float, float] | None = None) -> int:
        """Return the severity of a group's value, as ``level``.

        A sum is never a warning: the thresholds are meant for one connection.
        """
        level = self.level(value, severity)
        return min(level, 0) if self.group.how == "sum" else level
