"""A tick: rows with their rates and verdicts, totals, findings, and the mark that later ticks are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import gather
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.host_counters import HostTick
from tcptop_ops.model.listener_drops import none_listening
from tcptop_ops.model.namespace_counters import none_known
from tcptop_ops.model.pairs import Pairs
from tcptop_ops.model.records import OWNED, UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot

RATES = np.dtype(
    [
        ("tx_bytes_per_s", "f8"),  # acknowledged payload; the four rates are those since the last snapshot
        ("rx_bytes_per_s", "f8"),
        ("retrans_per_s", "f8"),
        ("rto_per_s", "f8"),
        ("win", COUNTED),  # growth within W
        ("win_s", "f4"),  # length of W for this row, seconds: less than W for a younger one
        ("fresh", "u1"),  # ticks since it was first seen, 255 at most; 0: in this one
        ("cause", "u1"),  # index into diagnosis.CAUSES
        ("limit", "u1"),  # index into diagnosis.LIMITS
        ("score", "f4"),  # 0 to 100; NaN: not known yet
        ("stall_us", "u8"),  # time lost so far: diagnosis.stall_us
        ("state_s", "f8"),  # seconds in its state, or that a listener's queue is full, as far as seen
        ("kept", "u1"),  # 1: the cause is that of an earlier tick, and no rule tells it now; see Flows.past
        ("over_s", "f4"),  # where it is kept: seconds since its rule last matched; of a closed row, before its end
        ("reset_by", "u1"),  # ResetBy
        ("passing", "u1"),  # 1: while full segments are not acknowledged, smaller ones pass
        ("acked_size", "u2"),  # in a stall: largest segments acknowledged before, as the average of a tick; bytes
        ("mss_before", "u2"),  # MSS before the kernel lowered it in a stall; 0: it did not
        ("least_rtt_us", "u4"),  # least round trip as far as seen; UNKNOWN_U32: none was measured
        ("paired", "u1"),  # 1: the other end is on this host, too, or was as long as it lived
        ("listener", "u8"),  # cookie of the listener in whose queue an attempt waits, or waited to its end; 0: none
        ("listeners", "u1"),  # of how many that share an address it may be any; 0: of none
        ("unread_s", "f4"),  # while bytes wait: seconds in which none were taken, as far as known
    ]
)
"""What the tracker works out for each row."""


@dataclass(frozen=True)
class Rows:
    """Live rows, or closed ones. The arrays are aligned: element i of each belongs to the same socket."""

    sockets: Records  # SOCKET
    events: Records  # EVENTS
    owners: Records  # OWNED
    rates: Records  # RATES
    endings: Records | None = None  # ENDING; None for live rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.sockets)

    def take(self, which: NDArray[Any]) -> Rows:
        """Return the rows at these indices, or where this mask is true."""
        endings = None if self.endings is None else gather(self.endings, which)
        sockets, events, owners, rates = (
            gather(part, which) for part in (self.sockets, self.events, self.owners, self.rates)
        )
        return Rows(sockets, events, owners, rates, endings)


@dataclass(frozen=True)
class Totals:
    """Sums over all rows of a tick. Throughput has one side of a connection with both ends here."""

    connections: int = 0  # live rows
    by_state: dict[str, int] = field(default_factory=dict)  # names as in STATE_NAMES; states without sockets left out
    opened: int = 0  # since the last snapshot, as are the following counts
    closed: int = 0  # listeners left out
    retrans_segs: int = 0
    rto_events: int = 0
    retrans_per_s: float = 0.0
    rto_per_s: float = 0.0
    retrans_pct: float = float("nan")  # of the data segments sent in W; NaN where none were
    tx_bytes_per_s: float = 0.0
    rx_bytes_per_s: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A fault that several rows share, or one of a listener."""

    text: str  # in words
    filter: str  # filter expression that shows the rows
    rows: int  # how many they are
    blame: str = ""  # whose fault it is: network, peer, app, host; "": not known
    since: float = 0.0  # when the first of its rows was seen bad: CLOCK_REALTIME, seconds
    key: str = ""  # the same from tick to tick: what the rows share, and what is wrong with them


@dataclass(frozen=True)
class BadRows:
    """The rows of a tick that have a fault. The arrays are aligned."""

    row: NDArray[np.intp]  # indices into all rows, the live ones before the closed; rising
    since: NDArray[np.float64]  # when each was seen bad first: CLOCK_REALTIME, seconds
    told_since: Mapping[str, float] = field(default_factory=dict)  # since when a finding is told, by its key
    has_older: bool = False  # whether bad rows are listed that closed too long ago to be among these


@dataclass(frozen=True)
class Flows:
    """All rows of a tick. Where an array has one value per row of all, the live ones come first, then the closed."""

    snapshot: Snapshot
    live: Rows
    closed: Rows  # those that closed lately and are still listed
    by_cookie: NDArray[np.intp]  # indices that sort the live rows by cookie
    seconds: float  # since the last tick; 0 at the first
    window_s: float  # W
    tick: int  # number of the tick, from 0
    totals: Totals
    findings: tuple[Finding, ...] = ()  # the gravest first
    bad: BadRows | None = None  # what the findings were made of; None: nobody has looked yet
    mark: Mark | None = None  # the moment with which the user compares
    session: int = 0  # cookie of the connection over which this program is used; 0: not known
    listened: Records = field(default_factory=none_listening)  # LISTENED, sorted by cookie
    pairs: Pairs | None = None  # which live rows belong together; None: nobody has looked
    net_of: Records = field(default_factory=none_known)  # NET_OF, sorted by namespace
    past: Rows | None = None  # rows whose cause is kept, as they were when its rule last matched; sorted by cookie
    host: HostTick = field(default_factory=HostTick)
    stirred: NDArray[np.intp] | None = None  # indices of the live rows that may have rates or a score; None: any may

    def column(self, read: Callable[[Rows, Flows], NDArray[Any]]) -> NDArray[Any]:
        """Return one value per row, live rows first. ``read`` is called for the live and for the closed rows."""
        live = read(self.live, self)
        return np.concatenate([live, read(self.closed, self)]) if len(self.closed) else live

    def was(self, row: Rows) -> Rows | None:
        """Return the only row of ``row`` as it was when the rule of its cause last matched; None if not kept."""
        if self.past is None:
            return None
        cookie = row.sockets["cookie"][0]
        at = int(np.searchsorted(self.past.sockets["cookie"], cookie))
        if at == len(self.past) or self.past.sockets["cookie"][at] != cookie:
            return None
        found = self.past.take(np.array([at]))
        same_life = found.events["first_ns"][0] == row.events["first_ns"][0]
        return found if same_life and found.rates["cause"][0] == row.rates["cause"][0] else None

    def copy(self) -> Flows:
        """Return the same with a copy of the snapshot, whose arrays the live rows share: see ``Snapshot.copy``."""
        snapshot = self.snapshot.copy()
        live = replace(self.live, sockets=snapshot.sockets, events=snapshot.events, owners=snapshot.owners)
        return replace(self, snapshot=snapshot, live=live)

    def __len__(self) -> int:
        """Return the number of rows, live and closed."""
        return len(self.live) + len(self.closed)


def empty(dtype: np.dtype[np.void], count: int = 0) -> Records:
    """Return ``count`` rows of zeros."""
    return np.zeros(count, dtype)


def rto_events(sockets: Records, events: Records) -> NDArray[np.uint32]:
    """Return the retransmission timeouts so far: tcpi_total_rto (6.7), or the calls of RTO_CB where it is unknown."""
    total: NDArray[np.uint32] = sockets["total_rto"]
    return np.where(total == UNKNOWN_U32, events["rto_events"], total)


def owners_from_events(events: Records) -> Records:
    """Return OWNED rows with the callers that the sock_ops program recorded."""
    owners = np.zeros(len(events), OWNED)
    owners["pid"], owners["name"], owners["how"] = events["pid"], events["comm"], events["owner"]
    return owners


MARK_COUNTERS = ("retrans_segs", "rto_events", "bytes_acked", "bytes_received")
"""The values of a mark that only grow."""


MARKED = np.dtype([*((name, "f8") for name in MARK_COUNTERS), ("srtt_us", "f8")])
"""What a mark holds of a connection; ``srtt_us`` is NaN where it was not measured yet."""


@dataclass(frozen=True)
class Mark:
    """The connections of one moment."""

    at_ns: int  # CLOCK_MONOTONIC
    cookies: NDArray[np.uint64]  # sorted
    values: Records  # MARKED, aligned with cookies


def row_of(flows: Flows, row: int) -> Rows:
    """Return one row, given as an index into all rows, as arrays of length 1."""
    edge = len(flows.live)
    rows, at = (flows.live, row) if row < edge else (flows.closed, row - edge)
    return rows.take(np.arange(at, at + 1))
