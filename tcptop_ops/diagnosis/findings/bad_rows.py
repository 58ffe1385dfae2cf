"""The rows that have a fault, live or closed, and the values of them that a search needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.rules import CAUSES, blames
from tcptop_ops.model.addresses import are_mapped, are_unspecified, halves
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.flows import BadRows, Flows, Rows

Numbers = NDArray[np.uint64]

BAD_SCORE = 10.0
"""Score from which a row with a fault is bad."""

RECENT_S = 60.0
"""How long a closed row counts, seconds since its close."""

_IS_FAULT = np.array([cause.rule is not None for cause in CAUSES])

_ODD = tuple(np.uint64(pow(0x9E3779B97F4A7C15, power, 2**64)) for power in range(1, 17))


def hashed(*parts: NDArray[Any]) -> Numbers:
    """Return one number for each row of these aligned columns, at most 16: equal where all of them are, never 0."""
    total = np.zeros(len(parts[0]), np.uint64)
    for part, odd in zip(parts, _ODD, strict=False):
        total = (total ^ part.astype(np.uint64)) * odd
        total ^= total >> np.uint64(29)
    found: Numbers = total | np.uint64(1)
    return found


@dataclass(frozen=True)
class Table:
    """Some rows of a tick. Each property is a column: an array with one element per row, read when it is asked for."""

    flows: Flows
    row: NDArray[np.intp]  # indices into all rows, the live ones before the closed; rising

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    def take(self, which: NDArray[Any]) -> Table:
        """Return the rows where this mask is true."""
        return Table(self.flows, self.row[which])

    def values(self, read: Callable[[Rows], NDArray[Any]]) -> NDArray[Any]:
        """Return what ``read`` gives of these rows; it is called for all live and for all closed ones."""
        live, closed = self.flows.live, self.flows.closed
        edge = int(np.searchsorted(self.row, len(live)))
        if edge == len(self.row):
            return read(live)[self.row]
        late = read(closed)[self.row[edge:] - len(live)]
        return np.concatenate([read(live)[self.row[:edge]], late]) if edge else late

    @cached_property
    def cause(self) -> NDArray[np.uint8]:
        """The cause of each row, as an index into rules.CAUSES."""
        return self.values(lambda rows: rows.rates["cause"])

    @cached_property
    def blame(self) -> NDArray[np.bytes_]:
        """Whose fault it is: network, peer, app or host."""
        return blames(self.cause, self.values(lambda rows: rows.rates["reset_by"]))

    @cached_property
    def score(self) -> NDArray[np.float32]:
        """How bad each row is, 0 to 100."""
        return self.values(lambda rows: rows.rates["score"])

    @cached_property
    def cookie(self) -> Numbers:
        """The kernel's socket cookie of each row, by which it is known from tick to tick."""
        return self.values(lambda rows: rows.sockets["cookie"])

    @cached_property
    def life(self) -> Numbers:
        """One number for each life of a socket: a refused one that connects again keeps its cookie."""
        return hashed(self.cookie, self.values(lambda rows: rows.events["first_ns"]))

    @cached_property
    def state(self) -> NDArray[np.uint8]:
        """State; of a closed row the one before the close."""
        return self.values(lambda rows: rows.sockets["state"] if rows.endings is None else rows.endings["from_state"])

    @property
    def listens(self) -> Mask:
        """Which are listeners."""
        found: Mask = self.state == State.LISTEN
        return found

    @cached_property
    def listener(self) -> Numbers:
        """The cookie of the listener that an attempt waits for, or waited for to its end; 0: of none on this host."""
        return self.values(lambda rows: rows.rates["listener"])

    @cached_property
    def came_in(self) -> Mask:
        """Which were opened by the peer."""
        found: Mask = self.values(lambda rows: rows.events["direction"]) == Direction.IN
        return found

    @cached_property
    def pid(self) -> Numbers:
        """Process, 0 where it is not known."""
        return self.values(lambda rows: rows.owners["pid"]).astype(np.uint64)

    @cached_property
    def name(self) -> NDArray[np.bytes_]:
        """Name of the process, empty where it is not known."""
        return self.values(lambda rows: rows.owners["name"])

    @cached_property
    def netns(self) -> Numbers:
        """Inode number of the network namespace."""
        return self.values(lambda rows: rows.sockets["netns"]).astype(np.uint64)

    @cached_property
    def lport(self) -> Numbers:
        """Local port."""
        return self.values(lambda rows: rows.sockets["lport"]).astype(np.uint64)

    @cached_property
    def rport(self) -> Numbers:
        """Remote port, 0 of a listener."""
        return self.values(lambda rows: rows.sockets["rport"]).astype(np.uint64)

    @cached_property
    def local(self) -> tuple[Numbers, Numbers]:
        """Upper and lower half of the local address."""
        return halves(self.values(lambda rows: rows.sockets["laddr"]))

    @cached_property
    def remote(self) -> tuple[Numbers, Numbers]:
        """Upper and lower half of the remote address."""
        return halves(self.values(lambda rows: rows.sockets["raddr"]))

    @cached_property
    def is_v4(self) -> Mask:
        """Whose remote address is an IPv4 one."""
        return are_mapped(*self.remote)

    @cached_property
    def has_remote(self) -> Mask:
        """Which have a remote address and port."""
        found: Mask = (self.rport != 0) & ~are_unspecified(*self.remote)
        return found

    @cached_property
    def place(self) -> Numbers:
        """A hash of the remote address and port; 0 of a connection that came in, whose remote port says nothing."""
        return np.where(self.has_remote & ~self.came_in, hashed(*self.remote, self.rport), np.uint64(0))

    @cached_property
    def hashed_name(self) -> Numbers:
        """A hash of the name of the process; 0 where it is not known."""
        width = -(-self.name.dtype.itemsize // 8)
        words = np.ascontiguousarray(self.name, f"S{8 * width}").view("u8").reshape(len(self), width)
        return np.where(words.any(axis=1), hashed(*words.T), np.uint64(0))

    @cached_property
    def waits(self) -> Mask:
        """Which are connection attempts: they wait in SYN-SENT, or they ended there."""
        found: Mask = self.state == State.SYN_SENT
        return found


def bad_rows(flows: Flows) -> BadRows:
    """Return the rows with a fault and a score of BAD_SCORE or more, closed within RECENT_S; each connection once.

    They are told to be bad since now: ``FindingsMemory`` knows more.
    """
    live = np.flatnonzero(_is_bad(flows.live))
    closed = np.flatnonzero(_is_bad(flows.closed)) if len(flows.closed) else np.zeros(0, np.intp)
    has_older = False
    if len(closed):
        assert flows.closed.endings is not None
        age_s = (flows.snapshot.now_ns - flows.closed.endings["end_ns"][closed].astype(np.float64)) / 1e9
        recent = age_s <= RECENT_S
        has_older = not recent.all()
        closed = closed[recent]
    table = Table(flows, np.concatenate([live, closed + len(flows.live)]))
    if len(live) and len(closed):
        here = table.row < len(flows.live)
        table = table.take(here | ~np.isin(table.life, table.life[here]))
    return BadRows(table.row, np.full(len(table), flows.snapshot.time), has_older=has_older)


def _is_bad(rows: Rows) -> Mask:
    """Return the rows whose score is BAD_SCORE or more. NaN, a score that is not known yet, compares as False."""
    found: Mask = rows.rates["score"] >= BAD_SCORE
    if found.any():
        found &= _IS_FAULT[rows.rates["cause"]]
    return found
