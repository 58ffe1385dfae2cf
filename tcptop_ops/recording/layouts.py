"""The records of a frame: of today's recordings, and of older ones, which lack some fields. Pure.

Frames hold records byte by byte, so that whoever reads them must know their fields. A recording's ``meta`` has a
checksum of those that it was made with.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.host_counters import HOST
from tcptop_ops.model.namespace_addresses import ADDRESS
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import (
    COUNTERS,
    EVENTS,
    FINAL,
    HAPPENING,
    OWNED,
    SEEN,
    SOCKET,
    UNKNOWN_U32,
    UNKNOWN_U64,
    Records,
    unknown_of,
)
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.model.used_ports import USED_PORTS

Tables = tuple[tuple[str, np.dtype[Any]], ...]

_UNKNOWN = ("pmtu", "rcv_ssthresh", "rcvbuf", "rmem", "last_ack_received_us", "received_ce")
"""Of ADDED, those that are played as not known: ``records.unknown_of``."""

ADDED: Mapping[str, tuple[str, ...]] = {
    "events": ("syn_wait_us", "error", "resets", "syn_retrans", "soft_error"),
    "sockets": (*_UNKNOWN, "pacing_rate", "pacing_capped", "nonagle", "ecn_mode", "ecn_fail"),
}
"""Fields that recordings of 0.1.0 and before lack, by their record: they are played with zeros, but for _UNKNOWN."""

WIDENED = ("timer_us", "last_sent_us", "last_received_us")
"""Times of SOCKET that have 32 bits in those, of which the two greatest numbers are no times (``widened``)."""

ADDED_TABLES = ("namespace_counters", "used_ports", "host_counters", "addresses")
"""Tables that those lack: they are played without rows."""


@dataclass(frozen=True)
class Layout:
    """The tables of a frame, each with its dtype, in the order in which they stand there."""

    aligned: Tables
    """Those in which row i belongs to the socket of row i: each row is compared with that of the same cookie."""
    by_position: Tables
    """Those in which a row is compared with that at the same place."""
    fresh: Tables
    """Those of which each row is told once: it is compared with nothing."""

    @property
    def tables(self) -> Tables:
        """All tables."""
        return (*self.aligned, *self.by_position, *self.fresh)

    @property
    def checksum(self) -> str:
        """A checksum of the tables' fields and of the byte order."""
        described = [(name, np.lib.format.dtype_to_descr(dtype)) for name, dtype in self.tables]
        told = json.dumps([sys.byteorder, described], separators=(",", ":"))
        return f"{zlib.crc32(told.encode()):08x}"


NOW = Layout(
    aligned=(("sockets", SOCKET), ("events", EVENTS), ("owners", OWNED)),
    by_position=(
        ("counters", COUNTERS),
        ("seen", SEEN),
        ("story", HAPPENING),
        ("namespace_counters", NETNS),
        ("used_ports", USED_PORTS),
        ("host_counters", HOST),
        ("addresses", ADDRESS),
    ),
    fresh=(("closed", FINAL), ("closed_owners", OWNED), ("half_open", SOCKET)),
)
"""What is written."""


def _before(dtype: np.dtype[Any], record: str) -> np.dtype[np.void]:
    """Return the fields of a record as they were before ADDED and WIDENED."""
    added = ADDED.get(record, ())
    kept = [(name, np.dtype("u4") if name in WIDENED else dtype[name]) for name in dtype.names or ()]
    return np.dtype([(name, kind) for name, kind in kept if name not in added], align=True)


@cache
def before_additions() -> Layout:
    """Return the layout of recordings that lack ADDED and ADDED_TABLES, and have WIDENED in 32 bits."""
    sockets, events = _before(SOCKET, "sockets"), _before(EVENTS, "events")
    final = np.dtype([("socket", sockets), ("events", events), ("ending", FINAL["ending"])], align=True)
    changed: dict[str, np.dtype[Any]] = {"sockets": sockets, "half_open": sockets, "events": events, "closed": final}

    def older(tables: Tables) -> Tables:
        return tuple((name, changed.get(name, dtype)) for name, dtype in tables if name not in ADDED_TABLES)

    return Layout(older(NOW.aligned), older(NOW.by_position), older(NOW.fresh))


def of_checksum(checksum: Any) -> Layout | None:
    """Return the layout that has this checksum; None for one that is not known."""
    return next((layout for layout in (NOW, before_additions()) if layout.checksum == checksum), None)


def converted(records: Records, dtype: np.dtype[Any]) -> Records:
    """Return records with the fields of ``dtype``, by name: what they lack is not known, what it lacks is left out."""
    if records.dtype == dtype:
        return records
    found = np.zeros(records.shape, dtype)
    for name in dtype.names or ():
        kind = dtype[name]
        if name in (records.dtype.names or ()):
            found[name] = converted(records[name], kind) if kind.names else widened(records[name], kind)
        elif name in _UNKNOWN:
            found[name] = unknown_of(kind)
    return found


def widened(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return times of WIDENED that have 32 bits in 64: of the two greatest, UNKNOWN_U64 and TOO_LONG are made.

    Cut to 32 bits again, all are what they were. What need not be widened is returned as it is.
    """
    if dtype != np.dtype("u8") or values.dtype != np.dtype("u4"):
        return values
    found: NDArray[Any] = values.astype("u8")
    found[values >= UNKNOWN_U32 - 1] |= np.uint64(UNKNOWN_U64 - UNKNOWN_U32)
    return found


def in_layout(snapshot: Snapshot, layout: Layout) -> Snapshot:
    """Return a snapshot with the records of a layout, by the names of their fields."""
    tables: dict[str, Any] = {
        name: converted(rows, dtype) for name, dtype in layout.tables if (rows := getattr(snapshot, name)) is not None
    }
    return replace(snapshot, **tables)
