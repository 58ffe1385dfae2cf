"""Writes a recording: every tick in a SQLite file, to be replayed, and for people's own queries.

A tick is one transaction in WAL mode: a process that is killed loses none that was whole. The exact snapshot is a blob,
a frame of ``codec``. Beside it stand plain columns (``schema``): a row a tick; a row a connection, as it was last
written; and what happened to connections.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.findings.bad_rows import BAD_SCORE
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.errors import Failed
from tcptop_ops.model.endings import ENDS, end_codes
from tcptop_ops.model.enums import STATE_NAMES, Origin, State
from tcptop_ops.model.flows import RATES, Flows, Rows, owners_from_events, rto_events
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording import codec, layouts
from tcptop_ops.recording.key_frames import KeyFramePolicy
from tcptop_ops.recording.schema import (
    APPLICATION_ID,
    FLOW_COLUMNS,
    PAGE,
    PUT_FLOW,
    PUT_TICK,
    RECORDING_SCHEMA,
    ROW_BYTES,
    TABLES,
)
from tcptop_ops.text import storable

ROWS_A_TICK, LEAST_ROWS_A_TICK = 500, 100
"""Rows of ``flow`` that are brought up to date in a tick; and those of them to which nothing happened, at least."""

CHANGED_ROWS_A_TICK = 1000
"""Rows to which something happened, at most; the others wait for their turn."""

CAUSE_NAMES = {code: cause.name for code, cause in enumerate(CAUSES)}
_FAULTS = np.array([cause.rule is not None for cause in CAUSES])


def _sql(value: Any) -> Any:
    """Return what SQLite can hold: its whole numbers have 63 bits, its text is UTF-8."""
    if isinstance(value, str):
        return storable(value)
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _signed(cookie: int) -> int:
    return cookie - 2**64 if cookie >= 2**63 else cookie


class _Connections:
    """Which connection of the file each row of the last snapshot is: three arrays, a row of each for each.

    ``numbers``: its number in the file. ``since``: when it was first seen, seconds since the epoch. ``is_outdated``:
    whether its row of ``flow`` is.
    """

    def __init__(self) -> None:
        self.numbers = np.zeros(0, np.int64)
        self.since = np.zeros(0)
        self.is_outdated = np.zeros(0, np.bool_)
        self._next = 1

    def number(self, known: NDArray[np.bool_], where: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the numbers of rows that were at ``where`` in the last snapshot; new ones for those not known."""
        numbers = np.zeros(len(known), np.int64)
        numbers[known] = self.numbers[where[known]]
        fresh = int(len(known) - known.sum())
        numbers[~known] = np.arange(self._next, self._next + fresh)
        self._next += fresh
        return numbers

    def first_seen(self, known: NDArray[np.bool_], where: NDArray[np.intp], now: float) -> NDArray[np.float64]:
        """Return when these rows were first seen: now, where they are not known."""
        since = np.full(len(known), now)
        since[known] = self.since[where[known]]
        return since


class Writer:
    """Writes ticks to a new file, in one thread."""

    def __init__(self, path: str, host: HostDescription, size: int | None = None) -> None:
        """Make the file. Raises Failed where that can't be.

        ``size``: the file and its log stay below so many bytes, the oldest ticks go; None: it grows.
        """
        self._path = path
        self._size = size
        self._before: Flows | None = None
        self._connections = _Connections()
        self._tick = 0
        self._key_frames = KeyFramePolicy(None if size is None else size // 8)
        _make_private(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=32)
        except sqlite3.Error as error:
            raise _cannot(path, error) from error
        try:
            self._prepare(host)
        except sqlite3.Error as error:
            self._db.close()
            raise _cannot(path, error) from error

    def _prepare(self, host: HostDescription) -> None:
        run = self._db.execute
        run(f"PRAGMA page_size = {PAGE}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")  # after a power cut the last ticks may be missing; after a kill none
        log = 1000 * PAGE if self._size is None else min(1000 * PAGE, self._size // 8)
        run(f"PRAGMA wal_autocheckpoint = {max(16, log // PAGE)}")
        run(f"PRAGMA journal_size_limit = {log}")
        run("BEGIN IMMEDIATE")
        run(f"PRAGMA application_id = {APPLICATION_ID}")
        run(f"PRAGMA user_version = {RECORDING_SCHEMA}")
        for statement in TABLES.strip().rstrip(";").split(";"):
            run(statement)
        known = {
            "schema": RECORDING_SCHEMA,
            "layout": layouts.NOW.checksum,
            **{k: storable(v) for k, v in vars(host).items()},
        }
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", known.items())
        run("COMMIT")

    def write(self, flows: Flows) -> None:
        """Write one tick, whole or not at all. Its arrays must stay as they are until the next one is written.

        Raises sqlite3.Error where it can't be written.
        """
        is_key = self._key_frames.is_due
        frame = codec.encode(flows.snapshot, None if is_key or self._before is None else self._before.snapshot)
        if self._size is not None and len(frame) > self._size // 8:
            raise sqlite3.OperationalError(f"a tick takes {len(frame)} bytes, too much for --record-size")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._put_tick(flows, frame, is_key)
            self._put_connections(flows)
            self._drop_oldest()
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._before = flows
        self._tick += 1
        self._key_frames.add(len(frame), is_key)

    def _put_tick(self, flows: Flows, frame: bytes, is_key: bool) -> None:
        snapshot, totals = flows.snapshot, flows.totals
        row = (
            *(self._tick, snapshot.time, is_key, flows.seconds, len(snapshot.sockets), totals.opened, totals.closed),
            *(snapshot.time_wait, snapshot.syn_recv, *_bad(flows), totals.retrans_segs, totals.rto_events),
            *(totals.tx_bytes_per_s, totals.rx_bytes_per_s, int(snapshot.counters["untracked"]), frame),
        )
        self._db.execute(PUT_TICK, [_sql(value) for value in row])

    def _put_connections(self, flows: Flows) -> None:
        """Write what happened to connections, and bring their rows up to date, as many as a tick may take."""
        snapshot, before, last = flows.snapshot, self._before, self._connections
        cookies = snapshot.sockets["cookie"]
        last_cookies = cookies[:0] if before is None else before.snapshot.sockets["cookie"]
        where = codec.align(cookies, last_cookies)
        known = _is_same_life(snapshot.events, None if before is None else before.snapshot.events, where)
        self._put_ended(flows, last_cookies)
        numbers = last.number(known, where)
        since = last.first_seen(known, where, snapshot.time)
        gone = np.setdiff1d(last.numbers, numbers)
        self._db.executemany(
            "UPDATE flow SET is_open = 0, last_tick = ? WHERE flow = ?", [(self._tick, n) for n in gone.tolist()]
        )
        happened = ~known
        is_outdated = np.ones(len(numbers), np.bool_)
        if before is not None:
            old = before.live.take(where[known])
            happened[known] |= self._put_happenings(flows.live.take(known), old, numbers[known])
            untold = ~known
            untold[known] = before.snapshot.events["first_ns"][where[known]] == 0
            self._put_births(snapshot.events, before.snapshot, numbers, untold)
            is_outdated[known] = last.is_outdated[where[known]] | _moved(flows.live.take(known), old)
        last.numbers, last.since, last.is_outdated = numbers, since, is_outdated | happened
        self._put_flows(flows, flows.live, self._to_put(happened))

    def _to_put(self, happened: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the rows that are brought up to date now: those to which something happened, and some of the others.

        The others take turns, by their place: each tick begins where the one before ended, or near that.
        """
        is_outdated = self._connections.is_outdated
        first = np.flatnonzero(happened)[:CHANGED_ROWS_A_TICK]
        rest = np.setdiff1d(np.flatnonzero(is_outdated), first, assume_unique=True)
        begin = int(np.searchsorted(rest, (self._tick * ROWS_A_TICK) % max(1, len(is_outdated))))
        turn = np.roll(rest, -begin)
        return np.concatenate([first, turn[: max(LEAST_ROWS_A_TICK, ROWS_A_TICK - len(first))]])

    def _put_flows(self, flows: Flows, rows: Rows, which: NDArray[np.intp]) -> None:
        connections = self._connections
        connections.is_outdated[which] = False
        self._put_rows(flows, rows.take(which), connections.numbers[which], connections.since[which], True)

    def _put_rows(
        self, flows: Flows, rows: Rows, numbers: NDArray[np.int64], since: NDArray[np.float64], is_open: bool
    ) -> None:
        if not len(rows):
            return
        missing = flows.snapshot.missing
        cells: list[list[Any]] = [numbers.tolist(), [_signed(c) for c in rows.sockets["cookie"].tolist()]]
        cells += [since.tolist(), *([value] * len(rows) for value in (flows.snapshot.time, self._tick, int(is_open)))]
        cells += [
            [None] * len(rows)
            if column.id in missing
            else [_sql(column.plain(value)) for value in column.read(rows, flows).tolist()]
            for column in FLOW_COLUMNS
        ]
        self._db.executemany(PUT_FLOW, zip(*cells, strict=True))

    def _put_ended(self, flows: Flows, last_cookies: NDArray[np.uint64]) -> None:
        """Write the connections that closed in this tick."""
        ended = just_ended(flows)
        if not len(ended):
            return
        before = self._before
        where = codec.align(ended.sockets["cookie"], last_cookies)
        known = _is_same_life(ended.events, None if before is None else before.snapshot.events, where)
        numbers = self._connections.number(known, where)
        since = self._connections.first_seen(known, where, flows.snapshot.time)
        if before is not None:  # of those whose final record was lost, what was known last stands
            blank = known & (ended.sockets["family"] == 0)
            ended.sockets[blank] = before.snapshot.sockets[where[blank]]
            ended.sockets["state"][blank] = State.CLOSE
        self._put_rows(flows, ended, numbers, since, False)
        if before is not None:
            self._put_births(ended.events, before.snapshot, numbers, ~known)
        assert ended.endings is not None
        codes = end_codes(ended.sockets, ended.events, ended.endings).tolist()
        self._put_events("closed", numbers, np.ones(len(ended), np.int64), [ENDS[code] for code in codes])

    def _put_births(
        self, events: Records, before: Snapshot, numbers: NDArray[np.int64], untold: NDArray[np.bool_]
    ) -> None:
        """Write which of these connections opened: of those that were ``untold`` by the snapshot before.

        One that was born while that snapshot was taken may be in it or not, so what counts is when its poll began.
        Those that are older were open before they were first seen.
        """
        begun_ns = before.now_ns - int(before.poll_s * 1e9)
        born = numbers[untold & (events["origin"] == Origin.NEW) & (events["first_ns"].astype(np.int64) >= begun_ns)]
        self._put_events("opened", born, np.ones(len(born), np.int64), [None] * len(born))

    def _put_happenings(self, now: Rows, old: Rows, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Write what happened to connections that were there before. Return to which of them something did."""
        happened = np.zeros(len(numbers), np.bool_)
        counts = (
            ("retrans", _grown(now.sockets["retrans_segs"], old.sockets["retrans_segs"])),
            ("rto", _grown(rto_events(now.sockets, now.events), rto_events(old.sockets, old.events))),
        )
        for kind, grown in counts:
            at = np.flatnonzero(grown)
            self._put_events(kind, numbers[at], grown[at], [None] * len(at))
            happened[at] = True
        state, cause = now.sockets["state"], now.rates["cause"]
        faulty = (cause != old.rates["cause"]) & _FAULTS[cause]
        for kind, names, mask, codes in (
            ("state", STATE_NAMES, state != old.sockets["state"], state),
            ("cause", CAUSE_NAMES, faulty, cause),
        ):
            at = np.flatnonzero(mask)
            told = [names.get(code) for code in codes[at].tolist()]
            self._put_events(kind, numbers[at], np.ones(len(at), np.int64), told)
            happened[at] = True
        return happened

    def _put_events(
        self, kind: str, numbers: NDArray[np.int64], counts: NDArray[np.int64], details: list[str | None]
    ) -> None:
        rows = zip(numbers.tolist(), counts.tolist(), details, strict=True)
        self._db.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?)", [(self._tick, n, kind, c, d) for n, c, d in rows]
        )

    # --- the limit of the size

    def _drop_oldest(self) -> None:
        """Drop the ticks before the second key frame, as long as much of the limit is used. The log needs room too.

        Raises OperationalError where what has to stay is too much.
        """
        while self._size is not None and (used := self._used()) > self._size * 3 // 8:
            found = self._db.execute("SELECT tick FROM tick WHERE is_key ORDER BY tick LIMIT 1 OFFSET 1").fetchone()
            if found is None and used > self._size * 5 // 8:
                count = len(self._connections.numbers)
                raise sqlite3.OperationalError(f"{count} connections do not fit into --record-size")
            if found is None:
                return
            for table in ("tick", "event"):
                self._db.execute(f"DELETE FROM {table} WHERE tick < ?", found)
            self._db.execute("DELETE FROM flow WHERE NOT is_open AND last_tick < ?", found)

    def _used(self) -> int:
        [pages], [free] = (self._db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count"))
        return int(pages - free) * PAGE

    def close(self) -> None:
        """Bring the rows of open connections up to date, and leave one file, with no log beside it.

        May be called twice. What can't be written then is left out.
        """
        with closing(self._db), suppress(sqlite3.Error):
            if self._before is not None:
                self._tick -= 1
                self._db.execute("BEGIN IMMEDIATE")
                outdated = np.flatnonzero(self._connections.is_outdated)
                most = len(outdated) if self._size is None else self._size // 8 // ROW_BYTES
                self._put_flows(self._before, self._before.live, outdated[:most])
                self._db.execute("COMMIT")
                self._before = None
            self._db.execute("PRAGMA journal_mode = DELETE")


def _bad(flows: Flows) -> tuple[int, float]:
    """Return how many of the connections that are listed are bad, and the sum of their scores."""
    scores = np.concatenate([rows.rates["score"] for rows in (flows.live, flows.closed)])
    bad = scores[scores >= BAD_SCORE]
    return len(bad), float(bad.sum())


def _cannot(path: str, error: Exception) -> Failed:
    return Failed(f"cannot record to {path}: {error}", "choose another file, where this user may write")


def _make_private(path: str) -> None:
    """Create the file, for its owner alone; one that is there already is somebody's. Raises Failed."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise Failed(f"cannot record to {path}: it exists already", "choose another name, or remove it") from None
    except OSError as error:
        who = _user()
        hint = f"the program gave up root: {who} must be allowed to write there" if who else "choose another file"
        raise Failed(f"cannot record to {path}: {error.strerror}", hint) from error


def _user() -> str:
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") and os.geteuid() != 0 else ""


def _is_same_life(now: Records, before: Records | None, where: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which rows are the connection that was at ``where`` before.

    A refused socket that connects again keeps its cookie, and is another connection.
    """
    known: NDArray[np.bool_] = where >= 0
    if before is not None and known.any():
        one, other = now["first_ns"][known], before["first_ns"][where[known]]
        known[known] = (one == other) | (other == 0) | (one == 0)
    return known


def _moved(now: Rows, old: Rows) -> NDArray[np.bool_]:
    """Return for which rows a plain column may have another value."""
    moved: NDArray[np.bool_] = now.rates["cause"] != old.rates["cause"]
    for name in ("bytes_acked", "bytes_received", "srtt_us", "min_rtt_us"):
        moved |= now.sockets[name] != old.sockets[name]
    moved |= now.owners["pid"] != old.owners["pid"]
    return moved


def _grown(now: NDArray[Any], old: NDArray[Any]) -> NDArray[np.int64]:
    return np.maximum(now.astype(np.int64) - old.astype(np.int64), 0)


def just_ended(flows: Flows) -> Rows:
    """Return the rows that closed in this tick; with a verdict where they are among those that are still shown."""
    final = flows.snapshot.closed
    count = len(final)
    shown = flows.closed
    if count and len(shown) >= count:
        tail = shown.take(np.arange(len(shown) - count, len(shown)))
        if np.array_equal(tail.sockets["cookie"], final["socket"]["cookie"]):
            return tail
    sockets, events = final["socket"].copy(), final["events"].copy()
    owners = flows.snapshot.closed_owners
    owners = owners_from_events(events) if owners is None else owners
    return Rows(sockets, events, owners, np.zeros(count, RATES), final["ending"].copy())
