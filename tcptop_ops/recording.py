"""A recording: every tick in a SQLite file, for replay (``replay``) and for people's own queries.

A tick is one transaction in WAL mode, so that whoever is killed loses none that was whole. The exact snapshot is a
blob (``frames``), a key frame now and then. Beside it stand plain columns: a row a tick; a row a connection, as it was
last written; and what happened to connections. Writing has a thread of its own: a slow disk must not hold up a poll.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from queue import Full, Queue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import frames
from tcptop_ops.columns import Column, find
from tcptop_ops.diagnosis import CAUSES
from tcptop_ops.endings import ENDS, end_codes
from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.fate import BAD_SCORE
from tcptop_ops.filters import Filter
from tcptop_ops.format import storable
from tcptop_ops.snapshot import STATE_NAMES, Origin, Records, Snapshot
from tcptop_ops.source import Noted, Source
from tcptop_ops.tracker import RATES, Flows, Rows, Tracker, owners_from_events, rto_events

SCHEMA = 1
APPLICATION_ID = 0x74637074
"""``tcpt``, in the header of the file (PRAGMA application_id)."""

KEY_EVERY = 60
"""Ticks from one key frame to the next at most."""

AT_ONCE, AT_LEAST = 500, 100
"""Rows of ``flow`` that are brought up to date in a tick; and those of them to which nothing happened, at least."""

HAPPENED_AT_ONCE = 1000
"""Rows to which something happened; what is more of them waits for its turn."""

QUEUED = 8
"""Ticks that may wait for the disk; more are left out, and told."""

PAGE = 4096
ROW_BYTES = 500
"""Of ``flow``, about."""

COLUMNS: tuple[Column, ...] = tuple(
    find(name)
    for name in (
        *("netns", "laddr", "lport", "raddr", "rport", "direction", "origin", "pid", "process", "user", "service"),
        *("state", "end", "score", "cause", "stall_ms", "connect_ms", "srtt_us", "min_rtt_us", "retrans_segs"),
        *("rto_events", "bytes_acked", "bytes_received", "cc"),
    )
)
"""Plain columns of a connection: they mean what they mean in --json."""

CAUSE_NAMES = {code: cause.name for code, cause in enumerate(CAUSES)}
_FAULTS = np.array([cause.rule is not None for cause in CAUSES])

_TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE tick (
    tick INTEGER PRIMARY KEY, time REAL, is_key INTEGER, interval_s REAL, sockets INTEGER, opened INTEGER,
    closed INTEGER, time_wait INTEGER, syn_recv INTEGER, bad INTEGER, score REAL, retrans_segs INTEGER,
    rto_events INTEGER, tx_bytes_per_s REAL, rx_bytes_per_s REAL, untracked INTEGER, frame BLOB
);
CREATE TABLE flow (
    flow INTEGER PRIMARY KEY, cookie INTEGER, first_time REAL, last_time REAL, last_tick INTEGER, is_open INTEGER,
    {", ".join(column.id for column in COLUMNS)}
);
CREATE TABLE event (tick INTEGER, flow INTEGER, kind TEXT, count INTEGER, detail TEXT);
CREATE VIEW ticks AS SELECT tick, strftime('%Y-%m-%dT%H:%M:%fZ', time, 'unixepoch') AS time, interval_s, sockets,
    opened, closed, time_wait, syn_recv, bad, score, retrans_segs, rto_events, tx_bytes_per_s, rx_bytes_per_s, untracked
    FROM tick;
CREATE VIEW flows AS SELECT flow, cookie, strftime('%Y-%m-%dT%H:%M:%fZ', first_time, 'unixepoch') AS first_seen,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_time, 'unixepoch') AS last_seen, is_open,
    {", ".join(column.id for column in COLUMNS)} FROM flow;
CREATE VIEW events AS SELECT event.tick, strftime('%Y-%m-%dT%H:%M:%fZ', tick.time, 'unixepoch') AS time, event.kind,
    event.count, event.detail, event.flow, flow.process, flow.laddr, flow.lport, flow.raddr, flow.rport
    FROM event LEFT JOIN tick USING (tick) LEFT JOIN flow USING (flow);
"""
_PUT_FLOW = f"INSERT OR REPLACE INTO flow VALUES ({', '.join('?' * (6 + len(COLUMNS)))})"
_PUT_TICK = f"INSERT INTO tick VALUES ({', '.join('?' * 17)})"


@dataclass(frozen=True)
class Wanted:
    """What to record. ``seconds``, ``size`` (bytes) and ``trigger``: None for no limit, and from the start."""

    path: str
    seconds: float | None = None
    size: int | None = None
    trigger: Filter | None = None


@dataclass(frozen=True)
class Host:
    """Where a recording was made, and by what."""

    host: str
    kernel: str
    program: str


def _sql(value: Any) -> Any:
    """What SQLite can hold: its whole numbers have 63 bits, its text is UTF-8."""
    if isinstance(value, str):
        return storable(value)
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _signed(cookie: int) -> int:
    return cookie - 2**64 if cookie >= 2**63 else cookie


class _Lives:
    """Which connection each row belongs to: its number in the file, when it was first seen, and what is not told yet.

    ``numbers``, ``since`` and ``dirty`` are aligned with the rows of the last snapshot.
    """

    def __init__(self) -> None:
        self.numbers = np.zeros(0, np.int64)
        self.since = np.zeros(0)
        self.dirty = np.zeros(0, np.bool_)
        self.next = 1

    def number(self, known: NDArray[np.bool_], where: NDArray[np.intp]) -> NDArray[np.int64]:
        """Of rows that were at ``where`` in the last snapshot, if they are known; new ones for the others."""
        numbers = np.zeros(len(known), np.int64)
        numbers[known] = self.numbers[where[known]]
        fresh = int(len(known) - known.sum())
        numbers[~known] = np.arange(self.next, self.next + fresh)
        self.next += fresh
        return numbers


class Writer:
    """Writes ticks, in one thread. Raises Failed where the file can't be made, sqlite3.Error where it can't be written.

    ``size``: the file and its log stay below; the oldest ticks go.
    """

    def __init__(self, path: str, host: Host, size: int | None = None) -> None:
        self._path = path
        self._size = size
        self._before: Flows | None = None
        self._lives = _Lives()
        self._tick = 0
        self._since_key = self._key_bytes = 0
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

    def _prepare(self, host: Host) -> None:
        run = self._db.execute
        run(f"PRAGMA page_size = {PAGE}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")  # after a power cut the last ticks may be missing; after a kill none
        log = 1000 * PAGE if self._size is None else min(1000 * PAGE, self._size // 8)
        run(f"PRAGMA wal_autocheckpoint = {max(16, log // PAGE)}")
        run(f"PRAGMA journal_size_limit = {log}")
        run("BEGIN IMMEDIATE")
        run(f"PRAGMA application_id = {APPLICATION_ID}")
        run(f"PRAGMA user_version = {SCHEMA}")
        for statement in _TABLES.strip().rstrip(";").split(";"):
            run(statement)
        known = {"schema": SCHEMA, "layout": frames.layout(), **{k: storable(v) for k, v in vars(host).items()}}
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", known.items())
        run("COMMIT")

    def write(self, flows: Flows) -> None:
        """One tick, whole or not at all. The arrays must stay as they are until the next one is written."""
        is_key = self._before is None or self._since_key >= KEY_EVERY or self._is_full_enough()
        frame = frames.encode(flows.snapshot, None if is_key or self._before is None else self._before.snapshot)
        if self._size is not None and len(frame) > self._size // 8:
            raise sqlite3.OperationalError(f"a tick takes {len(frame)} bytes, too much for --record-size")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._put(flows, frame, is_key)
            self._forget()
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._before = flows
        self._tick += 1
        self._since_key = 1 if is_key else self._since_key + 1
        self._key_bytes = len(frame) if is_key else self._key_bytes + len(frame)

    def _is_full_enough(self) -> bool:
        """What lies between two key frames goes as one: in a small file it must be little."""
        return self._size is not None and self._key_bytes > self._size // 8

    def _put(self, flows: Flows, frame: bytes, is_key: bool) -> None:
        snapshot, totals = flows.snapshot, flows.totals
        row = (
            *(self._tick, snapshot.time, is_key, flows.seconds, len(snapshot.sockets), totals.opened, totals.closed),
            *(snapshot.time_wait, snapshot.syn_recv, *_bad(flows), totals.retrans_segs, totals.rto_events),
            *(totals.tx_bytes_per_s, totals.rx_bytes_per_s, int(snapshot.counters["untracked"]), frame),
        )
        self._db.execute(_PUT_TICK, [_sql(value) for value in row])
        before, lives = self._before, self._lives
        cookies = snapshot.sockets["cookie"]
        last = cookies[:0] if before is None else before.snapshot.sockets["cookie"]
        where = frames.align(cookies, last)
        known = _same_life(snapshot.events, None if before is None else before.snapshot.events, where)
        self._put_ended(flows, last)
        numbers = lives.number(known, where)
        since = np.full(len(numbers), snapshot.time)
        since[known] = lives.since[where[known]]
        gone = np.setdiff1d(lives.numbers, numbers)
        self._db.executemany(
            "UPDATE flow SET is_open = 0, last_tick = ? WHERE flow = ?", [(self._tick, n) for n in gone.tolist()]
        )
        happened = ~known
        dirty = np.ones(len(numbers), np.bool_)
        if before is not None:
            old = before.live.take(where[known])
            happened[known] |= self._put_happenings(flows.live.take(known), old, numbers[known])
            self._put_births(snapshot, before.snapshot, numbers, ~known)
            dirty[known] = lives.dirty[where[known]] | _moved(flows.live.take(known), old)
        lives.numbers, lives.since, lives.dirty = numbers, since, dirty | happened
        first = np.flatnonzero(happened)[:HAPPENED_AT_ONCE]
        rest = np.setdiff1d(np.flatnonzero(lives.dirty), first, assume_unique=True)
        turn = np.roll(rest, -int(np.searchsorted(rest, (self._tick * AT_ONCE) % max(1, len(dirty)))))
        self._put_flows(flows, flows.live, np.concatenate([first, turn[: max(AT_LEAST, AT_ONCE - len(first))]]))

    def _put_flows(self, flows: Flows, rows: Rows, which: NDArray[np.intp]) -> None:
        self._lives.dirty[which] = False
        self._put_rows(flows, rows.take(which), self._lives.numbers[which], self._lives.since[which], True)

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
            for column in COLUMNS
        ]
        self._db.executemany(_PUT_FLOW, zip(*cells, strict=True))

    def _put_ended(self, flows: Flows, last: NDArray[np.uint64]) -> None:
        """The connections that closed in this tick."""
        ended = just_ended(flows)
        if not len(ended):
            return
        before = self._before
        where = frames.align(ended.sockets["cookie"], last)
        known = _same_life(ended.events, None if before is None else before.snapshot.events, where)
        numbers = self._lives.number(known, where)
        since = np.full(len(ended), flows.snapshot.time)
        since[known] = self._lives.since[where[known]]
        if before is not None:  # of those whose final record was lost, what was known last stands
            blank = known & (ended.sockets["family"] == 0)
            ended.sockets[blank] = before.snapshot.sockets[where[blank]]
            ended.sockets["state"][blank] = 7
        self._put_rows(flows, ended, numbers, since, False)
        assert ended.endings is not None
        codes = end_codes(ended.sockets, ended.events, ended.endings).tolist()
        self._put_events("closed", numbers, np.ones(len(ended), np.int64), [ENDS[code] for code in codes])

    def _put_births(
        self, snapshot: Snapshot, before: Snapshot, numbers: NDArray[np.int64], new: NDArray[np.bool_]
    ) -> None:
        """Those that opened, and were not met in the middle of their life."""
        events = snapshot.events
        born = numbers[new & (events["origin"] == Origin.NEW) & (events["first_ns"] >= before.now_ns)]
        self._put_events("opened", born, np.ones(len(born), np.int64), [None] * len(born))

    def _put_happenings(self, now: Rows, old: Rows, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """What happened to connections that were there before; to which."""
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

    # --- the ring

    def _forget(self) -> None:
        """As long as much of the limit is used: the ticks before the second key frame. The log needs room too.

        Raises OperationalError where what has to stay is too much.
        """
        while self._size is not None and (used := self._used()) > self._size * 3 // 8:
            found = self._db.execute("SELECT tick FROM tick WHERE is_key ORDER BY tick LIMIT 1 OFFSET 1").fetchone()
            if found is None and used > self._size * 5 // 8:
                raise sqlite3.OperationalError(f"{len(self._lives.numbers)} connections do not fit into --record-size")
            if found is None:
                return
            for table in ("tick", "event"):
                self._db.execute(f"DELETE FROM {table} WHERE tick < ?", found)
            self._db.execute("DELETE FROM flow WHERE NOT is_open AND last_tick < ?", found)

    def _used(self) -> int:
        [pages], [free] = (self._db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count"))
        return int(pages - free) * PAGE

    def close(self) -> None:
        """What was not told of the living yet; then the file is one file, without a log beside it. Twice is fine."""
        with closing(self._db), suppress(sqlite3.Error):
            if self._before is not None:
                self._tick -= 1
                self._db.execute("BEGIN IMMEDIATE")
                dirty = np.flatnonzero(self._lives.dirty)
                most = len(dirty) if self._size is None else self._size // 8 // ROW_BYTES
                self._put_flows(self._before, self._before.live, dirty[:most])
                self._db.execute("COMMIT")
                self._before = None
            self._db.execute("PRAGMA journal_mode = DELETE")


def _bad(flows: Flows) -> tuple[int, float]:
    """How many of the connections that are listed are bad, and the sum of their scores."""
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


def _same_life(now: Records, before: Records | None, where: NDArray[np.intp]) -> NDArray[np.bool_]:
    """A refused socket that connects again keeps its cookie, and begins another life."""
    known: NDArray[np.bool_] = where >= 0
    if before is not None and known.any():
        one, other = now["first_ns"][known], before["first_ns"][where[known]]
        known[known] = (one == other) | (other == 0) | (one == 0)
    return known


def _moved(now: Rows, old: Rows) -> NDArray[np.bool_]:
    """Whether a plain column of these rows may have another value."""
    moved: NDArray[np.bool_] = now.rates["cause"] != old.rates["cause"]
    for name in ("bytes_acked", "bytes_received", "srtt_us", "min_rtt_us"):
        moved |= now.sockets[name] != old.sockets[name]
    moved |= now.owners["pid"] != old.owners["pid"]
    return moved


def _grown(now: NDArray[Any], old: NDArray[Any]) -> NDArray[np.int64]:
    return np.maximum(now.astype(np.int64) - old.astype(np.int64), 0)


def just_ended(flows: Flows) -> Rows:
    """The rows that closed in this tick; with a verdict where they are among those that are still shown."""
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


# --- the thread


class Recorder:
    """Takes ticks from the poller's thread and writes them in its own. Whatever goes wrong ends it, with one note."""

    def __init__(self, wanted: Wanted, host: Host) -> None:
        self._wanted = wanted
        self._host = host
        self._queue: Queue[Flows | None] = Queue(QUEUED)
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._over = ""
        self._left_out = 0
        self._ended = False

    def open(self) -> None:
        """Make the file: called when root was given up. Raises Failed."""
        self._writer = Writer(self._wanted.path, self._host, self._wanted.size)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: how it ended, and what was left out."""
        missed = f"recording: the disk was too slow for {self._left_out} ticks" if self._left_out else ""
        return tuple(note for note in (self._over, missed) if note)

    def take(self, flows: Flows) -> Flows:
        """A tick, in the poller's thread: the same, with our notes."""
        if self._thread is not None and not self._ended and self._is_wanted(flows):
            try:
                self._queue.put_nowait(flows.copy())
            except Full:
                self._left_out += 1
        if not self.notes:
            return flows
        return replace(flows, snapshot=replace(flows.snapshot, notes=(*flows.snapshot.notes, *self.notes)))

    def _is_wanted(self, flows: Flows) -> bool:
        now = flows.snapshot.now_ns / 1e9
        if self._since is None:
            trigger = self._wanted.trigger
            if trigger is not None and not any(trigger.mask(rows, flows).any() for rows in (flows.live, flows.closed)):
                return False
            self._since = now
        if self._wanted.seconds is None or now - self._since <= self._wanted.seconds:
            return True
        self._end(f"recorded to {self._wanted.path}: its time is over")
        with suppress(Full):
            self._queue.put_nowait(None)
        return False

    def _end(self, note: str) -> None:
        self._over, self._ended = note, True

    def _run(self) -> None:
        assert self._writer is not None
        with closing(self._writer):
            while (flows := self._queue.get()) is not None:
                try:
                    self._writer.write(flows)
                except (sqlite3.Error, OSError, MemoryError) as error:
                    self._end(f"recording to {self._wanted.path} ended: {error}")
                    break
                except Exception as error:  # it must not end the monitor, nor end in silence
                    self._end(f"recording ended, a bug in tcptop-ops: {type(error).__name__}: {error}")
                    break

    def close(self) -> None:
        """Write what waits, and let go of the file. Twice is fine."""
        if self._thread is None:
            return
        while self._thread.is_alive():
            with suppress(Full):
                self._queue.put(None, timeout=0.1)
                break
        self._thread.join()
        self._thread = None


class Recorded(Noted):
    """A source whose snapshots are recorded: it opens and closes the recorder with itself."""

    def __init__(self, source: Source, recorder: Recorder) -> None:
        super().__init__(source, "")
        self._recorder = recorder
        try:
            recorder.open()
        except TcptopError:
            source.close()
            raise

    def poll(self) -> Snapshot:
        """See Source."""
        return self._source.poll()

    def close(self) -> None:
        """See Source."""
        try:
            super().close()
        finally:
            self._recorder.close()


class RecordedTracker(Tracker):
    """A tracker whose flows go to a recorder."""

    def __init__(self, window_s: float, closed_s: float, recorder: Recorder) -> None:
        super().__init__(window_s, closed_s)
        self._recorder = recorder

    def update(self, snapshot: Snapshot) -> Flows:
        """See Tracker."""
        return self._recorder.take(super().update(snapshot))
