"""The search for groups: the best one is taken out, and the search goes on with what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.findings.bad_rows import Numbers, Table
from tcptop_ops.diagnosis.findings.families import INSIDE, Family, is_attempts
from tcptop_ops.diagnosis.findings.groups import (
    NARROW,
    NET_V4,
    NET_V6,
    Group,
    Kind,
    counted,
    keys,
    most_alike,
    networks,
)
from tcptop_ops.diagnosis.findings.prefixes import prefixes
from tcptop_ops.diagnosis.findings.world import World
from tcptop_ops.model.arrays import Mask, find_sorted

MOST = 8
"""Most groups that are told."""

TRIED = 20
"""Most groups of one kind that are looked at closely."""

CONTRAST = 5
"""Fewest other flows, with fewer of which there is nothing to compare with."""

OUTSIDE = 0.2
"""Share of bad ones among the others, as a part of that inside, from which a group does not stand out."""

PATH_ORDER = (
    Kind.PLACE,
    Kind.PROCESS_TO_PLACE,
    Kind.LISTENER,
    Kind.PROCESS_TO_NET,
    Kind.PREFIX,
    Kind.PID,
    Kind.NAME,
    Kind.NAMESPACE,
)
"""Of groups of the same rows with a fault of the path the first is told."""

APART = 4
"""Most groups of the same fault that are told one by one; more of them are told by what they share."""


@dataclass(frozen=True)
class Found:
    """A group that is worth telling."""

    group: Group
    bad: int  # how many of its rows are bad
    inside: int  # how many there are; ``bad``, where the others were not looked at
    world: World | None = None  # what it was compared with, if anything
    others: Mask | None = None  # which rows of the world it does worse than; None where there are none

    @property
    def kind(self) -> Kind:
        """What its rows share."""
        return self.group.kind


class Search:
    """Looks for groups among the bad rows of one family. ``world``: makes what they are compared with, if it has to."""

    def __init__(self, table: Table, family: Family, world: Callable[[], World]) -> None:
        """Take the bad rows of the family."""
        self._table = table
        self._family = family
        self._make_world = world
        self._left = np.ones(len(table), np.bool_)
        self._coded: dict[Kind, tuple[Numbers, NDArray[np.intp]]] = {}
        self._coded_world: dict[Kind, NDArray[np.intp]] = {}

    @cached_property
    def _world(self) -> World:
        return self._make_world()

    @cached_property
    def _taken(self) -> Mask:
        """Rows of the world in groups that were told."""
        return np.zeros(len(self._world.table), np.bool_)

    def groups(self) -> Iterator[Found]:
        """Yield the groups, at most MOST, the one with the most bad rows first."""
        for _ in range(MOST):
            if int(self._left.sum()) < self._family.least:
                return
            best = min(self._candidates(), key=self._rank, default=None)
            if best is None:
                return
            yield best
            self._left &= ~best.group.which
            if "_world" in self.__dict__:
                self._taken[best.group.holds(self._world.table)] = True

    def _rank(self, found: Found) -> tuple[int, int, int]:
        """Return a key by which the best is the least: most bad rows, fewest rows, the narrowest kind.

        What is wrong with a path is told by its addresses before it is told by who uses it.
        """
        order = PATH_ORDER if self._family.contrast else tuple(Kind)
        return -found.bad, found.inside, order.index(found.kind)

    def _candidates(self) -> Iterator[Found]:
        if self._family.of_process:
            yield from self._same(Kind.PID)
            return
        kinds = [kind for kind in NARROW if kind is not Kind.PROCESS_TO_NET or not self._family.contrast]
        narrow = [found for kind in kinds for found in self._same(kind)]
        yield from narrow
        # A group that has half of all rows leaves none for a wider one: see _is_spread. That spares a look at all rows.
        most = max((found.bad for found in narrow), default=0)
        if self._family.contrast or 2 * most < int(self._left.sum()):
            yield from self._prefixes()
            for kind in (Kind.PID, Kind.NAME, Kind.NAMESPACE):
                yield from self._same(kind)

    def _same(self, kind: Kind) -> Iterator[Found]:
        """Yield the best group of rows with the same key."""
        found, codes = self._codes(kind)
        if not len(found):
            return
        bad = np.bincount(codes[self._left], minlength=len(found))
        enough = np.flatnonzero((bad >= self._family.least) & (found != 0))
        if not len(enough):
            return
        inside = self._inside(kind, bad)
        enough = enough[bad[enough] >= self._share(kind) * inside[enough]]
        for at in enough[np.lexsort((inside[enough], -bad[enough]))][:TRIED].tolist():
            group = Group(kind, (codes == at) & self._left, int(found[at]))
            judged = self._judged(group, int(bad[at]), int(inside[at]))
            if judged is not None:
                yield judged
                return

    def _codes(self, kind: Kind) -> tuple[Numbers, NDArray[np.intp]]:
        """Return the distinct keys of the rows, sorted, and for each row the index of its own."""
        if kind not in self._coded:
            self._coded[kind] = np.unique(keys(kind, self._table), return_inverse=True)
        return self._coded[kind]

    def _inside(self, kind: Kind, bad: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return how many rows there are for each distinct key; ``bad``, where nothing is compared."""
        if not self._share(kind) and not self._needs_contrast(kind):
            return bad
        found, _ = self._codes(kind)
        if kind not in self._coded_world:
            at, is_one = find_sorted(found, keys(kind, self._world.table))
            self._coded_world[kind] = np.where(is_one, at, len(found))
        counts = np.bincount(self._coded_world[kind][self._world.wanted & ~self._taken], minlength=len(found) + 1)
        return counts[: len(found)]

    def _prefixes(self) -> Iterator[Found]:
        """Yield the groups by remote prefix."""
        for prefix in prefixes(self._table, self._left, self._family.least):
            which = prefix.holds(self._table) & self._left
            group = Group(Kind.PREFIX, which, 0, prefix)
            inside = int((prefix.holds(self._world.table) & self._world.wanted & ~self._taken).sum())
            bad = int(which.sum())
            if bad >= self._share(Kind.PREFIX) * inside:
                judged = self._judged(group, bad, inside)
                if judged is not None:
                    yield judged

    def _share(self, kind: Kind) -> float:
        """Return the least share of bad rows in a group of this kind."""
        return self._family.share if kind in NARROW or self._family.of_process else max(self._family.share, INSIDE)

    def _needs_contrast(self, kind: Kind) -> bool:
        return self._family.contrast or kind in (Kind.PREFIX, Kind.NAMESPACE)

    def _judged(self, group: Group, bad: int, inside: int) -> Found | None:
        """Return the group if it is worth telling."""
        if group.kind is Kind.PROCESS_TO_NET and not self._has_places(group):
            return None
        if group.kind not in NARROW and not self._family.of_process and not self._is_spread(group, bad):
            return None
        if not self._needs_contrast(group.kind):
            return Found(group, bad, inside, self._world if self._share(group.kind) else None)
        others = self._world.others(group, self._taken)
        number = int(others.sum())
        if number < CONTRAST:
            return Found(group, bad, inside, self._world) if group.kind in NARROW else None
        bad_others = int((others & self._world.bad).sum())
        if bad_others * inside >= OUTSIDE * bad * number:
            return None
        return Found(group, bad, inside, self._world, others)

    def _has_places(self, group: Group) -> bool:
        """Return whether several places of a group would be told by themselves: they are one incident then."""
        counts = counted(keys(Kind.PLACE, self._table.take(group.which)))[1]
        return int((counts >= self._family.least).sum()) > 1

    def _is_spread(self, group: Group, bad: int) -> bool:
        """Return whether no few narrower groups hold half of a group's bad rows: those would be told instead."""
        rows = self._table.take(group.which)
        places = keys(Kind.PLACE, rows)
        if self._family.repeated and most_alike(places) < 2:
            return False
        prefix = group.prefix
        if prefix is None:
            narrower = [places, keys(Kind.LISTENER, rows)]
        elif prefix.is_address:
            narrower = [places] if is_attempts(self._family) else []
        else:
            is_network = prefix.length >= (NET_V4 if prefix.is_v4 else NET_V6)
            narrower = [keys(Kind.PREFIX, rows) if is_network else networks(rows)]
        few = 1 if self._family.contrast else APART
        return all(2 * self._in_largest(values, few) < bad for values in narrower)

    def _in_largest(self, values: Numbers, few: int) -> int:
        """Return how many rows are in the largest of the groups with these keys, in so many that can be told at most.

        Where there are more than that, each is one of many alike.
        """
        counts = np.sort(counted(values)[1])[::-1]
        tellable = int((counts >= self._family.least).sum())
        return int(counts[: tellable if tellable <= few else 1].sum())
