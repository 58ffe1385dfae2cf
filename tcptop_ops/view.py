"""What is looked at: rows sorted and chosen, columns chosen. Feeds the screen and every output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.columns import DEFAULT, DEFAULT_SORT, Column, find
from tcptop_ops.readers import Values
from tcptop_ops.snapshot import bound_to
from tcptop_ops.tracker import Flows, Rows, stays_here

if TYPE_CHECKING:
    from tcptop_ops.filters import Filter


@dataclass(frozen=True)
class Spec:
    """What to show, and in which order."""

    columns: tuple[Column, ...] = field(default_factory=lambda: tuple(find(name) for name in DEFAULT))
    sort: Column = field(default_factory=lambda: find(DEFAULT_SORT))
    falling: bool = True
    show_closed: bool = True
    show_loopback: bool = True
    widths: Mapping[str, int] = field(default_factory=dict)  # those that the user wants, by column id
    filter: Filter | None = None  # None: every row


@dataclass(frozen=True)
class View:
    """Rows in their order. ``order`` holds indices into the flows' rows, live ones first."""

    flows: Flows
    spec: Spec
    order: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.order)

    def values(self, column: Column, start: int = 0, stop: int | None = None) -> list[Any]:
        """The raw values of a column, for the rows in this window of the order."""
        return read_at(self.flows, column, self.order[start:stop])

    def cookies(self, start: int = 0, stop: int | None = None) -> list[int]:
        """The cookies of these rows."""
        which = self.order[start:stop]
        return [int(c) for c in _gather(self.flows, which, lambda rows: rows.sockets["cookie"])]

    def is_closed(self, position: int) -> bool:
        """Whether the row at this position of the order has ended."""
        return bool(self.order[position] >= len(self.flows.live))

    def position_of(self, cookie: int) -> int | None:
        """Where a connection stands now; the live one first, where a closed one had the same cookie."""
        live, closed = self.flows.live.sockets["cookie"], self.flows.closed.sockets["cookie"]
        rows = np.concatenate([np.flatnonzero(live == cookie), len(live) + np.flatnonzero(closed == cookie)])
        for row in rows:
            at = np.flatnonzero(self.order == row)
            if len(at):
                return int(at[0])
        return None


def read_at(flows: Flows, column: Column, which: NDArray[np.intp]) -> list[Any]:
    """A column's values at these rows only."""
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
    """Keys that sort ascending in the wanted order, nulls last."""
    if values.dtype.kind in "SU":
        _, keys = np.unique(values, return_inverse=True)
        empty = values == values.dtype.type()
        return np.where(empty, np.iinfo(np.intp).max, -keys if falling else keys)
    if values.dtype.kind == "f":
        return -values if falling else values
    # An identity: 0 is null. Less 1, it wraps to the greatest there is.
    return values.max(initial=0) - values if falling else values - 1


def sort(flows: Flows, column: Column, falling: bool) -> NDArray[np.intp]:
    """Indices of all rows in order; ties by cookie, nulls last."""
    keys = ranks(column.seen(flows.column(column.read)), falling)
    by_cookie = np.concatenate(
        [flows.by_cookie, len(flows.live) + np.argsort(flows.closed.sockets["cookie"], kind="stable")]
    )
    return by_cookie[np.argsort(keys[by_cookie], kind="stable")]


def make(flows: Flows, spec: Spec) -> View:
    """The view of these flows."""
    order = sort(flows, spec.sort, spec.falling)
    if not spec.show_closed:
        order = order[order < len(flows.live)]
    if not spec.show_loopback:
        away = np.concatenate([~stays_here(rows.sockets) for rows in (flows.live, flows.closed)])
        order = order[away[order]]
    if spec.filter is not None:
        wanted = np.concatenate([spec.filter.mask(rows, flows) for rows in (flows.live, flows.closed)])
        order = order[wanted[order]]
    return View(flows, spec, order)


def worst(view: View) -> int | None:
    """The position of the row with the highest score, the first of several; none in an empty view."""
    if not len(view):
        return None
    scores = view.flows.column(find(DEFAULT_SORT).read)[view.order]
    return int(np.argmax(np.nan_to_num(scores, nan=-1.0)))


def top_sources(flows: Flows, listener: Rows, most: int = 3) -> list[tuple[bytes, int]]:
    """Who keeps a listener (Rows of length 1) in SYN-RECV: addresses (16 bytes) and how often, the greatest first."""
    half_open = flows.snapshot.half_open
    mine = half_open["raddr"][bound_to(half_open) == bound_to(listener.sockets)[0]]
    if not len(mine):
        return []
    addresses, counts = np.unique(np.ascontiguousarray(mine).view("V16"), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(bytes(addresses[at]), int(counts[at])) for at in order]


def row_at(view: View, position: int) -> Rows:
    """One row, as arrays of length 1."""
    index = int(view.order[position])
    edge = len(view.flows.live)
    rows, at = (view.flows.live, index) if index < edge else (view.flows.closed, index - edge)
    return rows.take(np.arange(at, at + 1))
