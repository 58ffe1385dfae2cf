"""Bad rows that are the two ends of one connection: an incident of this host is told once, not for each end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.findings.bad_rows import Table, hashed
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.arrays import Mask, find_sorted
from tcptop_ops.model.flows import Flows

Indices = NDArray[np.intp]

_INBOUND_LOSS = np.array([cause.name == "inbound-loss" for cause in CAUSES])


@dataclass(frozen=True)
class Ends:
    """The pairs among bad rows. The arrays are aligned with these rows.

    ``partner``: the index of the bad row of the other end, -1 where there is none. ``is_second``: which rows are told
    with their partner and not searched themselves.
    """

    partner: Indices
    is_second: Mask

    def seconds_of(self, which: Mask) -> Mask:
        """Return the rows that are told with these."""
        found = np.zeros(len(which), np.bool_)
        partners = self.partner[which]
        found[partners[partners >= 0]] = True
        return found & self.is_second


def ends_of(flows: Flows, table: Table, families: NDArray[np.uint8], may: Mask) -> Ends:
    """Return the pairs among the rows ``may`` of a table of bad rows.

    A row is second if both ends have a fault of the same family, or if it blames the peer, and the peer is to blame.
    First is then who is to blame, else the sender, else the end that connected.
    """
    partner = _partners(flows, table, may)
    paired = np.flatnonzero(partner >= 0)
    is_second = np.zeros(len(table), np.bool_)
    if len(paired):
        other = partner[paired]
        blames_peer = table.blame == b"peer"
        is_own = (table.blame == b"app") | (table.blame == b"host")
        explained = blames_peer[paired] & is_own[other]
        same = families[paired] == families[other]
        order = np.lexsort((table.row, table.came_in, _INBOUND_LOSS[table.cause], ~is_own, blames_peer))
        rank = np.empty(len(table), np.intp)
        rank[order] = np.arange(len(table))
        is_second[paired] = explained | (same & (rank[paired] > rank[other]))
    return Ends(partner, is_second)


def _partners(flows: Flows, table: Table, may: Mask) -> Indices:
    """Return the index of the row of the other end, of live rows as the tick knows it; -1 where there is none."""
    partner = np.full(len(table), -1, np.intp)
    edge = int(np.searchsorted(table.row, len(flows.live)))
    if flows.pairs is not None:
        at, is_one = find_sorted(table.row[:edge], flows.pairs.partner[table.row[:edge]])
        partner[:edge][is_one] = at[is_one]
    if edge < len(table):  # connections that are over are known by their addresses alone
        _pair_closed(table, partner, edge)
    mutual = (partner >= 0) & may
    mutual[mutual] &= may[partner[mutual]] & (partner[partner[mutual]] == np.flatnonzero(mutual))
    return np.where(mutual, partner, -1)


def _pair_closed(table: Table, partner: Indices, edge: int) -> None:
    """Fill in the partners of closed rows, which begin at ``edge``, and of live ones whose other end has closed."""
    (high, low), (far_high, far_low) = table.local, table.remote
    stays = table.is_v4 & (far_low >> np.uint64(24) & np.uint64(0xFF) == 127) | (far_high == 0) & (far_low == 1)
    netns = np.where(stays, table.netns, np.uint64(0))
    here = hashed(high, low, table.lport, far_high, far_low, table.rport, netns)
    there = hashed(far_high, far_low, table.rport, high, low, table.lport, netns)
    order = np.argsort(here, kind="stable")
    at, is_one = find_sorted(here[order], there)
    found = order[at]
    is_one &= table.has_remote & (partner < 0) & (found != np.arange(len(table)))
    is_one &= (np.arange(len(table)) >= edge) | (found >= edge)
    partner[is_one] = found[is_one]


def other_ends(flows: Flows, rows: Indices) -> Indices:
    """Return the indices of the live rows that are the other ends of these rows, given as indices into all rows."""
    if flows.pairs is None:
        return np.zeros(0, np.intp)
    others = flows.pairs.partner[rows[rows < len(flows.live)]]
    return others[others >= 0]


def connections_of(flows: Flows, rows: Indices) -> int:
    """Return how many connections these rows are, given as indices into all rows: two ends of one count once."""
    return len(rows) - int(np.isin(other_ends(flows, rows), rows).sum()) // 2
