"""What bad rows are compared with: the healthy ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import Numbers, Table
from tcptop_ops.diagnosis.findings.ends import other_ends
from tcptop_ops.diagnosis.findings.families import BAD_FLOWS, INSIDE
from tcptop_ops.diagnosis.findings.groups import Group, Kind, count, counted, keys, networks
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows

MOST_SUSPECTS = 16
"""Most other groups that are left out of a comparison."""


@dataclass(frozen=True)
class World:
    """The rows of all that a family's bad rows are compared with, themselves included."""

    table: Table
    bad: Mask  # which are bad rows of the family
    wanted: Mask  # which the user's filter lets through

    @cached_property
    def suspects(self) -> tuple[Mask, ...]:
        """Places, listeners, processes and networks with many bad rows: each may be an incident of its own.

        The bad rows of one do not speak against another.
        """
        found: list[tuple[int, Mask]] = []
        for values in self._all_keys():
            bad_keys, bad = counted(values[self.bad])
            enough = bad >= BAD_FLOWS
            bad_keys, bad = bad_keys[enough], bad[enough]
            if len(bad_keys):
                mostly = np.flatnonzero(bad >= INSIDE * count(bad_keys, values))
                found += [
                    (int(bad[at]), values == bad_keys[at]) for at in mostly[np.argsort(-bad[mostly])][:MOST_SUSPECTS]
                ]
        found.sort(key=lambda one: -one[0])
        return tuple(which for _, which in found[:MOST_SUSPECTS])

    def _all_keys(self) -> tuple[Numbers, ...]:
        kinds = (Kind.PLACE, Kind.LISTENER, Kind.PID)
        return (*(keys(kind, self.table) for kind in kinds), networks(self.table))

    def others(self, group: Group, taken: Mask) -> Mask:
        """Return the rows that a group is compared with: those outside of it.

        Those of groups that were told already (``taken``) are left out, and those of suspects that have nothing to do
        with this one.
        """
        inside = group.holds(self.table)
        outside = ~inside & ~taken
        for which in self.suspects:
            if not (which & inside & self.bad).any():
                outside &= ~which
        return outside


def moving(flows: Flows, bad: Table, seconds: Table, wanted: Mask | None) -> World:
    """Return the connections that sent or received data within W, with the bad rows, without their ``seconds``.

    An attempt that was abandoned without a fault, such as the slower of two in Happy Eyeballs (RFC 8305), is left out.
    """
    return _world(
        flows,
        bad,
        seconds,
        wanted,
        lambda rows: (rows.rates["win"]["data_segs_out"] | rows.rates["win"]["data_segs_in"]) > 0,
    )


def standing(flows: Flows, bad: Table, seconds: Table, wanted: Mask | None) -> World:
    """Return the connections that were established, with the bad rows, without their ``seconds``."""
    return _world(flows, bad, seconds, wanted, _stood)


def _stood(rows: Rows) -> Mask:
    state = rows.sockets["state"] if rows.endings is None else rows.endings["from_state"]
    found: Mask = (state != State.SYN_SENT) & (state != State.SYN_RECV)
    return found


def _world(flows: Flows, bad: Table, seconds: Table, wanted: Mask | None, which: Callable[[Rows], Mask]) -> World:
    """Return the connections that are bad, or that ``which`` tells of the live and of the closed rows.

    The other ends of bad ones are left out: what happens to them says nothing of others.
    """
    chosen = [
        _connects(rows) & which(rows) if len(rows) else np.zeros(0, np.bool_) for rows in (flows.live, flows.closed)
    ]
    is_in, is_bad = np.concatenate(chosen), np.zeros(len(flows), np.bool_)
    is_in[other_ends(flows, bad.row)] = is_in[seconds.row] = False
    is_in[bad.row] = is_bad[bad.row] = True
    rows = np.flatnonzero(is_in)
    return World(Table(flows, rows), is_bad[rows], np.ones(len(rows), np.bool_) if wanted is None else wanted[rows])


def _connects(rows: Rows) -> Mask:
    found: Mask = (rows.sockets["state"] != State.LISTEN) & (rows.sockets["rport"] != 0)
    return found
