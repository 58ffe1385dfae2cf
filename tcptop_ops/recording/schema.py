"""The SQLite schema of a recording: what is written, and what a reader asks for before it reads.

``tick`` has a row a tick with its frame (``codec``); ``flow`` a row a connection, as it was last written; ``event``
what happened to connections. The views are for people's own queries: docs/recordings.md tells of them.
"""

from __future__ import annotations

from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find

RECORDING_SCHEMA = 1
"""The version of all this; a file with a higher one is of a newer program."""

APPLICATION_ID = 0x74637074
"""``tcpt``, in the header of the file (PRAGMA application_id)."""

PAGE = 4096
"""Bytes of a page of the file."""

ROW_BYTES = 500
"""Of a row of ``flow``, about."""

FLOW_COLUMNS: tuple[Column, ...] = tuple(
    find(name)
    for name in (
        *("netns", "laddr", "lport", "raddr", "rport", "direction", "origin", "pid", "process", "user", "service"),
        *("state", "end", "score", "cause", "stall_ms", "connect_ms", "srtt_us", "min_rtt_us", "retrans_segs"),
        *("rto_events", "bytes_acked", "bytes_received", "cc"),
    )
)
"""Columns of a connection in ``flow``: they mean what they mean in --json."""

TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE tick (
    tick INTEGER PRIMARY KEY, time REAL, is_key INTEGER, interval_s REAL, sockets INTEGER, opened INTEGER,
    closed INTEGER, time_wait INTEGER, syn_recv INTEGER, bad INTEGER, score REAL, retrans_segs INTEGER,
    rto_events INTEGER, tx_bytes_per_s REAL, rx_bytes_per_s REAL, untracked INTEGER, frame BLOB
);
CREATE TABLE flow (
    flow INTEGER PRIMARY KEY, cookie INTEGER, first_time REAL, last_time REAL, last_tick INTEGER, is_open INTEGER,
    {", ".join(column.id for column in FLOW_COLUMNS)}
);
CREATE TABLE event (tick INTEGER, flow INTEGER, kind TEXT, count INTEGER, detail TEXT);
CREATE VIEW ticks AS SELECT tick, strftime('%Y-%m-%dT%H:%M:%fZ', time, 'unixepoch') AS time, interval_s, sockets,
    opened, closed, time_wait, syn_recv, bad, score, retrans_segs, rto_events, tx_bytes_per_s, rx_bytes_per_s, untracked
    FROM tick;
CREATE VIEW flows AS SELECT flow, cookie, strftime('%Y-%m-%dT%H:%M:%fZ', first_time, 'unixepoch') AS first_seen,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_time, 'unixepoch') AS last_seen, is_open,
    {", ".join(column.id for column in FLOW_COLUMNS)} FROM flow;
CREATE VIEW events AS SELECT event.tick, strftime('%Y-%m-%dT%H:%M:%fZ', tick.time, 'unixepoch') AS time, event.kind,
    event.count, event.detail, event.flow, flow.process, flow.laddr, flow.lport, flow.raddr, flow.rport
    FROM event LEFT JOIN tick USING (tick) LEFT JOIN flow USING (flow);
"""
"""Statements, separated by semicolons."""

PUT_FLOW = f"INSERT OR REPLACE INTO flow VALUES ({', '.join('?' * (6 + len(FLOW_COLUMNS)))})"
PUT_TICK = f"INSERT INTO tick VALUES ({', '.join('?' * 17)})"
