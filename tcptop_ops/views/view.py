"""Select, sort and group rows, and choose columns: a View is what the screen draws and what every output prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.findings.tell import Narrowed, findings
from tcptop_ops.model.addresses import stays_here
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.flows import Finding, Flows, Rows, row_of
from tcptop_ops.model.listeners import among
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_readers import Values
from tcptop_ops.views.column_sets import DEFAULT, DEFAULT_SORT
from tcptop_ops.views.groups import Groups, group_rows

if TYPE_CHECKING:
    from tcptop_ops.model.filter import Filter


@dataclass(frozen=True)
class Spec:
    """What to show, and in which order. ``falling``: the greatest value first."""

    columns: tuple[Column, ...] = field(default_factory=lambda: tuple(find(name) for name in DEFAULT))
    sort: Column = field(default_factory=lambda: find(DEFAULT_SORT))
    falling: bool = True
    show_closed: bool = True
    show_loopback: bool = True
    widths: Mapping[str, int] = field(default_factory=dict)  # widths set by the user, by column id
    thresholds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # set by the user, by column id
    filter: Filter | None = None  # None: every row
    group: str = "none"  # a name of group_keys.GROUP_KEYS, or "none"
    unfolded: frozenset[int] = frozenset()  # identities of the groups whose connections are shown


@dataclass(frozen=True)
class View:
    """The rows to show, in order.

    ``order``: int array; an entry >= 0 is an index into all rows (live ones first), an entry -1 - g is group g. The
    connections of an unfolded group follow it.
    """

    flows: Flows
    spec: Spec
    order: NDArray[np.intp]
    groups: Groups | None = None
    wanted: Mask | None = None  # over all rows: which the filter of ``spec`` lets through; None: there is no filter

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What the bad rows share, the gravest first; with a filter, of the rows that match it."""
        if self.wanted is None or self.spec.filter is None:
            return self.flows.findings
        return findings(self.flows, Narrowed(self.wanted, self.spec.filter.text))

    def __len__(self) -> int:
        """Return the number of lines: connections and groups that are shown."""
        return len(self.order)

    @property
    def connections(self) -> int:
        """The number of connections, including those in folded groups."""
        return len(self.order) if self.groups is None else len(self.groups.members)

    def values(self, column: Column, start: int = 0, stop: int | None = None) -> list[Any]:
        """Return the raw values of a column for the lines ``start`` to ``stop`` of the view; null is NaN, b"" or 0."""
        which = self.order[start:stop]
        if self.groups is None:
            return read_at(self.flows, column, which)
        of_groups = self.groups.column(column)
        return self._mixed(which, lambda numbers: of_groups[numbers], lambda rows: read_at(self.flows, column, rows))

    def cookies(self, start: int = 0, stop: int | None = None) -> list[int]:
        """Return the cookies of these lines; for a group its identity, which is negative."""
        which = self.order[start:stop]
        if self.groups is None:
            return self._cookies(which)
        identities = self.groups.identities
        return self._mixed(which, lambda numbers: identities[numbers], self._cookies)

    def _cookies(self, which: NDArray[np.intp]) -> list[int]:
        return [int(c) for c in _gather(self.flows, which, lambda rows: rows.sockets["cookie"])]

    @staticmethod
    def _mixed(
        which: NDArray[np.intp],
        of_groups: Callable[[NDArray[np.intp]], NDArray[Any]],
        of_rows: Callable[[NDArray[np.intp]], list[Any]],
    ) -> list[Any]:
        is_group = which < 0
        found: list[Any] = [None] * len(which)
        for at, values in (
            (np.flatnonzero(is_group), of_groups(-1 - which[is_group]).tolist()),
            (np.flatnonzero(~is_group), of_rows(which[~is_group])),
        ):
            for place, value in zip(at.tolist(), values, strict=True):
                found[place] = value
        return found

    def group_at(self, position: int) -> int | None:
        """Return the number of the group at this position; None if a connection is there."""
        entry = int(self.order[position])
        return -1 - entry if entry < 0 else None

    def is_closed(self, position: int) -> bool:
        """Return whether the connection at this position has ended; for a group, whether all its connections have."""
        number = self.group_at(position)
        if self.groups is not None and number is not None:
            return self.groups.is_closed(number)
        return bool(self.order[position] >= len(self.flows.live))

    def position_of(self, cookie: int) -> int | None:
        """Return the position of a connection, or of its group while that is folded; None if it is not in the view.

        A negative ``cookie`` is a group's identity. If a live and a closed connection share a cookie, the live one
        wins.
        """
        if cookie < 0:
            number = None if self.groups is None else self.groups.with_identity(cookie)
            return None if number is None else self._position(-1 - number)
        live, closed = self.flows.live.sockets["cookie"], self.flows.closed.sockets["cookie"]
        rows = np.concatenate([np.flatnonzero(live == cookie), len(live) + np.flatnonzero(closed == cookie)])
        places = [self._position(int(row)) for row in rows]
        if self.groups is not None and not any(place is not None for place in places):
            numbers = [self.groups.holding(int(row)) for row in rows]
            places = [self._position(-1 - number) for number in numbers if number is not None]
        return next((place for place in places if place is not None), None)

    def _position(self, entry: int) -> int | None:
        at = np.flatnonzero(self.order == entry)
        return int(at[0]) if len(at) else None


def read_at(flows: Flows, column: Column, which: NDArray[np.intp]) -> list[Any]:
    """Return a column's values at these rows only (indices into all rows)."""
    return _gather(flows, which, lambda rows: column.read(rows, flows))


def _gather(flows: Flows, which: NDArray[np.intp], read: Any) -> list[Any]:
    edge = len(flows.live)
    is_live = which < edge
    found: list[Any] = [None] * len(which)
    for rows, mask, base in ((flows.live, is_live, 0), (flows.closed, ~is_live, edge)):
        at = np.flatnonzero(mask)
        if len(at):
            for place, value in zip(at.tolist(), read(rows.take(which[at] - base)).tolist(), strict=True):
                found[place] = value
    return found


def ranks(values: Values, falling: bool) -> Values:
    """Return keys that sort ascending in the wanted order, nulls last."""
    if values.dtype.kind in "SU":
        _, keys = np.unique(values, return_inverse=True)
        empty = values == values.dtype.type()
        return np.where(empty, np.iinfo(np.intp).max, -keys if falling else keys)
    if values.dtype.kind == "f":
        return -values if falling else values
    # An identity (uint64), of which 0 is null: 0 - 1 wraps to the greatest value, so nulls come last.
    return values.max(initial=0) - values if falling else values - 1


def sort(flows: Flows, column: Column, falling: bool) -> NDArray[np.intp]:
    """Return the indices of all rows in order; nulls last, ties by cookie."""
    keys = ranks(column.seen(flows.column(column.read)), falling)
    by_cookie = np.concatenate(
        [flows.by_cookie, len(flows.live) + np.argsort(flows.closed.sockets["cookie"], kind="stable")]
    )
    return by_cookie[np.argsort(keys[by_cookie], kind="stable")]


def make(flows: Flows, spec: Spec) -> View:
    """Build the view of these flows."""
    wanted = None if spec.filter is None else matching(flows, spec.filter)
    if spec.group != "none":
        return _grouped(flows, spec, wanted)
    return View(flows, spec, _chosen(flows, spec, wanted, sort(flows, spec.sort, spec.falling)), wanted=wanted)


def matching(flows: Flows, filter: Filter) -> Mask:
    """Return which of all rows a filter lets through, the live ones before the closed."""
    return np.concatenate([filter.mask(rows, flows) for rows in (flows.live, flows.closed)])


def _chosen(flows: Flows, spec: Spec, wanted: Mask | None, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Drop the rows that are hidden: closed ones, loopback ones, and those that the filter excludes."""
    if not spec.show_closed:
        order = order[order < len(flows.live)]
    if not spec.show_loopback:
        away = np.concatenate([~stays_here(rows.sockets) for rows in (flows.live, flows.closed)])
        order = order[away[order]]
    return order if wanted is None else order[wanted[order]]


def _grouped(flows: Flows, spec: Spec, wanted: Mask | None) -> View:
    """Build a view of groups, sorted by value, ties by key; unfolded groups are followed by their connections."""
    groups = group_rows(flows, spec.group, _chosen(flows, spec, wanted, np.arange(len(flows))))
    keys = ranks(spec.sort.seen(groups.column(spec.sort)), spec.falling)
    order = groups.by_key[np.argsort(keys[groups.by_key], kind="stable")]
    unfolded = np.isin(groups.identities[order], np.fromiter(spec.unfolded, np.int64, len(spec.unfolded)))
    parts, done = [], 0
    for place in np.flatnonzero(unfolded).tolist():
        parts += [-1 - order[done : place + 1], _sorted(flows, spec, groups.rows(int(order[place])))]
        done = place + 1
    return View(flows, spec, np.concatenate([*parts, -1 - order[done:]]), groups, wanted)


def _sorted(flows: Flows, spec: Spec, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Sort these rows as ``sort`` does."""
    cookies = np.concatenate([part.sockets["cookie"] for part in (flows.live, flows.closed)])
    rows = rows[np.lexsort((cookies[rows], rows >= len(flows.live)))]
    keys = ranks(spec.sort.seen(flows.column(spec.sort.read)[rows]), spec.falling)
    return rows[np.argsort(keys, kind="stable")]


def worst(view: View) -> int | None:
    """Return the position of the row with the highest score, the first of several; None in an empty view.

    A connection is preferred to the group that contains it.
    """
    if not len(view):
        return None
    score = find(DEFAULT_SORT)
    if view.groups is None:
        scores = view.flows.column(score.read)[view.order]
        return int(np.argmax(np.nan_to_num(scores, nan=-1.0)))
    is_group = view.order < 0
    scores = np.empty(len(view))
    scores[~is_group] = view.flows.column(score.read)[view.order[~is_group]]
    scores[is_group] = view.groups.column(score)[-1 - view.order[is_group]]
    scores = np.nan_to_num(scores, nan=-1.0)
    highest = np.flatnonzero(scores == scores.max())
    return int(highest[np.argmin(is_group[highest])])


def top_sources(flows: Flows, listener: Rows, most: int = 3) -> list[tuple[bytes, int]]:
    """Return who has half-open connections (SYN-RECV) to a listener (Rows of length 1).

    Each is an address (16 bytes) and a count, the greatest first.
    """
    half_open = flows.snapshot.half_open
    listeners = among(flows.live.sockets)
    here = listeners.groups_of(listener.sockets)[0]
    mine = half_open["raddr"][(listeners.of(half_open) == here) & (here >= 0)]
    if not len(mine):
        return []
    addresses, counts = np.unique(np.ascontiguousarray(mine).view("V16"), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(bytes(addresses[at]), int(counts[at])) for at in order]


def row_at(view: View, position: int) -> Rows:
    """Return the row of the connection at this position, as arrays of length 1. Raises ValueError for a group."""
    if view.group_at(position) is not None:
        raise ValueError("a group is no connection")
    return row_of(view.flows, int(view.order[position]))
