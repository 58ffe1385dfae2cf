"""One row as plain Python values, and the phrases that evidence is made of. Pure."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis import reading
from tcptop_ops.model import endings
from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.listener_drops import listened_by
from tcptop_ops.model.namespace_counters import NET
from tcptop_ops.model.processes import process_keys
from tcptop_ops.model.records import TOO_LONG


class Row:
    """One row as plain Python values. ``end``: how a closed one ended (endings.ENDS); "" where live or not known.

    ``listening``: a row of LISTENED, zeros for what does not listen. ``now_s``: CLOCK_MONOTONIC.
    ``loss_pct``: retransmitted segments per 100 data segments sent in W.
    """

    def __init__(self, rows: Rows, flows: Flows, *, past: bool = False) -> None:
        """Take the only row of ``rows``, which has length 1. ``past``: it is one of ``flows.past``."""
        self.sockets, self.events, self.rates = rows.sockets[0], rows.events[0], rows.rates[0]
        self.owner = rows.owners[0]
        self._flows = flows
        self.win: Any = self.rates["win"]
        self.win_s = float(self.rates["win_s"])
        self.closed = rows.endings is not None
        self.past = past
        self.error = int(rows.endings["error"][0]) if rows.endings is not None else 0
        self.end = (
            endings.ENDS[int(endings.end_codes(rows.sockets, rows.events, rows.endings)[0])]
            if rows.endings is not None
            else ""
        )
        self.listening: Any = listened_by(rows.sockets["cookie"], flows.listened)[0]
        self.now_s = flows.snapshot.now_ns / 1e9
        self.loss_pct = 100.0 * int(self.win["retrans_segs"]) / max(int(self.win["data_segs_out"]), 1)

    @cached_property
    def partner(self) -> Row | None:
        """The row of the other end, where that is on this host too and lives; None where not, or for a past row."""
        flows, at = self._flows, None if self.closed or self.past else self._place(self.socket("cookie"))
        if flows.pairs is None or at is None or flows.pairs.partner[at] < 0:
            return None
        other = int(flows.pairs.partner[at])
        return Row(flows.live.take(np.arange(other, other + 1)), flows)

    @cached_property
    def listener(self) -> Row | None:
        """The row of the listener in whose queue it waits, or waited to its end; None where there is none any more."""
        at = self._place(int(self.rates["listener"])) if self.rates["listener"] else None
        return None if at is None else Row(self._flows.live.take(np.arange(at, at + 1)), self._flows)

    def _place(self, cookie: int) -> int | None:
        """Return the index of a row among the live ones, None if it is not there."""
        live, order = self._flows.live.sockets["cookie"], self._flows.by_cookie
        at = int(np.searchsorted(live, np.uint64(cookie), sorter=order))
        return int(order[at]) if at < len(order) and int(live[order[at]]) == cookie else None

    @property
    def process(self) -> str:
        """Name and pid of the process that owns it, empty where none is known."""
        pid = int(self.owner["pid"])
        return f"{text.printable(bytes(self.owner['name']))} {pid}" if pid else ""

    @property
    def activity(self) -> str:
        """What that process does, as Snapshot.activities says; empty where that is not known."""
        activities = self._flows.snapshot.activities
        return activities.get(int(process_keys(self.owner.reshape(1))[0]), "") if activities else ""

    @cached_property
    def net(self) -> Any:
        """The row of NETNS of its namespace; None where that was not read in this tick."""
        known = self._flows.snapshot.namespace_counters
        at = np.flatnonzero(known["netns"] == self.sockets["netns"])
        return known[at[0]] if len(at) else None

    @cached_property
    def net_win(self) -> Any:
        """A row of NET: what the kernel counted within W in its namespace; zeros where that is not known."""
        at, found = find_sorted(self._flows.net_of["netns"], self.sockets["netns"].reshape(1))
        return self._flows.net_of["net"][at[0]] if found[0] else np.zeros((), NET)

    @property
    def unread(self) -> int:
        """Bytes of payload that wait to be read."""
        return int(reading.unread(self.sockets.reshape(1))[0])

    @property
    def unread_s(self) -> float:
        """Seconds in which none of the bytes that wait were taken, as far as known."""
        return float(self.rates["unread_s"])

    @property
    def doing(self) -> str:
        """The process and what it does: ``java 2210 (stopped)``; empty where no process is known."""
        return f"{self.process} ({self.activity})" if self.process and self.activity else self.process

    @property
    def stood(self) -> bool:
        """Whether it was ever established."""
        if not self.events["states"]:  # it is only polled
            return bool(self.sockets["state"] != State.SYN_SENT)
        return bool(endings.was_established(self.events["states"]))

    def socket(self, name: str) -> int:
        """Return an integer field of SOCKET."""
        return int(self.sockets[name])

    def event(self, name: str) -> int:
        """Return an integer field of EVENTS."""
        return int(self.events[name])

    def grown(self, name: str) -> int:
        """Return how much a counter of COUNTED grew within W."""
        return int(self.win[name])


def us(value: float) -> str:
    """Format a time given in microseconds."""
    return text.duration(value / 1e6)


def within(row: Row) -> str:
    """Say ``in 20 s``: the length of W, or the part of it that the row has lived through."""
    return f"in {row.win_s:.0f} s"


def times(count: int, what: str) -> str:
    """Format a count with its noun, in the plural unless it is one."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def next_in(row: Row) -> str:
    """Say when the timer expires, with a comma before it; empty for a closed or past row, or where no timer runs."""
    runs = 0 < row.socket("timer_us") < TOO_LONG and not row.closed and not row.past
    return f", next in {us(row.socket('timer_us'))}" if runs else ""
