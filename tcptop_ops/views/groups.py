"""Rows put together: a group's values, made from those of its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.flows import Flows, Rows, row_of
from tcptop_ops.views.column import Column, GroupRule
from tcptop_ops.views.column_readers import ColumnReader, Values
from tcptop_ops.views.group_keys import GROUP_KEYS, Words
from tcptop_ops.views.word_arrays import hash_rows, order_of, run_starts

# Grouping, and the values of groups


@dataclass(frozen=True)
class Groups:
    """The groups of some rows.

    Rows are indices into all rows of the flows, the live ones first. Group g has the rows ``members[starts[g]:starts[g
    + 1]]``. ``identities`` are negative, one per group; ``by_key`` lists the groups in the order of their keys.
    """

    flows: Flows
    key: str
    members: NDArray[np.intp]
    starts: NDArray[np.intp]
    identities: NDArray[np.int64]
    by_key: NDArray[np.intp]
    _made: dict[str, Values] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.starts)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """The number of rows of each group."""
        return np.diff(np.append(self.starts, len(self.members)))

    def rows(self, group: int) -> NDArray[np.intp]:
        """Return the rows of a group, as indices into all rows."""
        stop = self.starts[group + 1] if group + 1 < len(self) else len(self.members)
        return self.members[self.starts[group] : stop]

    def with_identity(self, identity: int) -> int | None:
        """Return the group with this identity, or None."""
        found = np.flatnonzero(self.identities == identity)
        return int(found[0]) if len(found) else None

    def holding(self, row: int) -> int | None:
        """Return the group that contains this row; None for a row that the view hides."""
        at = np.flatnonzero(self.members == row)
        return int(np.searchsorted(self.starts, at[0], "right")) - 1 if len(at) else None

    def title(self, group: int) -> str:
        """Return what the rows of a group have in common, in printable ASCII."""
        return GROUP_KEYS[self.key].title(self._one(group), self.flows)

    def condition(self, group: int, column: str) -> str:
        """Return a filter of this column that selects the group's rows; "" if there is none."""
        key = GROUP_KEYS[self.key]
        return key.condition(self._one(group), self.flows) if key.narrows == column else ""

    def _one(self, group: int) -> Rows:
        return row_of(self.flows, int(self.members[self.starts[group]]))

    def is_closed(self, group: int) -> bool:
        """Return whether all connections of a group have ended."""
        return bool((self.rows(group) >= len(self.flows.live)).all())

    def column(self, column: Column) -> Values:
        """Return a column's value for each group, computed by its rule.

        Cached: a view is drawn more than once per tick.
        """
        if column.id not in self._made:
            self._made[column.id] = _RULES[column.group.how](self, column, column.group)
        return self._made[column.id]

    def _values(self, read: ColumnReader) -> Values:
        """Read one value per row, aligned with ``members``."""
        return np.take(self.flows.column(read), self.members)

    # One method per ``Rule.how``; NaN (null) is left out

    def _sum(self, column: Column, rule: GroupRule) -> Values:
        total = self._summed(self._values(rule.part or column.read))
        return total if rule.part is None else np.where(np.isnan(total), self._summed(self._values(column.read)), total)

    def _summed(self, values: Values) -> Values:
        known = ~np.isnan(values)
        total = np.add.reduceat(np.where(known, values, 0.0), self.starts)
        return np.where(np.logical_or.reduceat(known, self.starts), total, np.nan)

    def _mean(self, column: Column, _: GroupRule) -> Values:
        values = self._values(column.read)
        known = np.add.reduceat(~np.isnan(values), self.starts, dtype=np.intp)
        return self._summed(values) / np.maximum(known, 1)

    def _share(self, _: Column, rule: GroupRule) -> Values:
        assert rule.part is not None
        assert rule.whole is not None
        part, whole = self._values(rule.part), self._values(rule.whole)
        unknown = np.isnan(part) | np.isnan(whole)
        part[unknown] = whole[unknown] = np.nan
        total = self._summed(whole)
        total[~(total >= rule.enough) | (total <= 0)] = np.nan
        shares: Values = np.minimum(100.0 * self._summed(part) / total, rule.most)
        return shares

    def _least(self, column: Column, _: GroupRule) -> Values:
        return np.fmin.reduceat(self._values(column.read), self.starts)

    def _greatest(self, column: Column, _: GroupRule) -> Values:
        return np.fmax.reduceat(self._values(column.read), self.starts)

    def _same(self, column: Column, rule: GroupRule) -> Values:
        values = self._values(rule.part or column.read)
        first = values[self.starts]
        of_group = np.repeat(first, self.counts)
        equal = values == of_group
        if values.dtype.kind == "f":
            equal |= np.isnan(values) & np.isnan(of_group)
        same = np.logical_and.reduceat(equal, self.starts)
        null = np.nan if values.dtype.kind == "f" else values.dtype.type()
        return np.where(same, first, null)

    def _worst(self, column: Column, _: GroupRule) -> Values:
        found = self.flows.column(column.read)
        return found[self.worst_rows]

    @cached_property
    def worst_rows(self) -> NDArray[np.intp]:
        """The row with the highest score of each group, as an index into all rows.

        Of several with that score it is the one whose cause has the highest precedence: see ``_TELLING``.
        """
        badness = self._values(_badness)
        greatest = np.repeat(np.maximum.reduceat(badness, self.starts), self.counts)
        at = np.flatnonzero(badness == greatest)
        of_group = np.searchsorted(self.starts, at, "right") - 1
        _, first = np.unique(of_group, return_index=True)
        return self.members[at[first]]


_RULES: dict[str, Callable[[Groups, Column, GroupRule], Values]] = {
    "sum": Groups._sum,
    "mean": Groups._mean,
    "share": Groups._share,
    "least": Groups._least,
    "greatest": Groups._greatest,
    "same": Groups._same,
    "worst": Groups._worst,
}


_TELLING = np.array([len(CAUSES) * 2 - n if one.rule is not None else n for n, one in enumerate(CAUSES)])
"""Precedence of causes among rows with equal scores: rules in their order, then healthy, then idle, then unknown."""


def _badness(rows: Rows, _: Flows) -> Values:
    """Return the score as it is shown, with the precedence of the cause as the lesser digits."""
    scores = np.rint(np.nan_to_num(rows.rates["score"].astype("f8"), nan=-1.0))
    badness: Values = scores * 1000 + _TELLING[rows.rates["cause"]]
    return badness


def group_rows(flows: Flows, key: str, which: NDArray[np.intp]) -> Groups:
    """Group rows. ``key``: a name of KEYS; ``which``: indices into all rows, the live ones first."""
    read = GROUP_KEYS[key].words
    words = np.take(flows.column(read), which, axis=0)  # several times as fast as indexing
    order, starts = _arranged(words)
    firsts = words[order[starts]]
    identities = -1 - (hash_rows(firsts) >> np.uint64(1)).astype(np.int64)
    return Groups(flows, key, which[order], starts, identities, np.lexsort(firsts.T[::-1]))


def _arranged(words: Words) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return an order in which equal rows are adjacent, and the position in it at which each run of them begins."""
    hashes = hash_rows(words)
    order = order_of(hashes)
    starts = run_starts(hashes[order][:, None])
    ordered = np.take(words, order, axis=0)
    if len(run_starts(ordered)) > len(starts):  # hash collision
        order = np.lexsort(words.T)
        starts = run_starts(words[order])
    return order, starts
