"""A Snapshot to bytes and back, exactly, bit for bit: what differs from the snapshot before. Pure.

A row is compared with that of the same cookie in the snapshot before. A row that is as was to be expected is not
written: the same bytes, but for the times that run by themselves (``RUNNING``). Of the others the differences are,
field by field, laid out byte by byte over all rows: what did not change is zeros, which compress to nothing.

A frame is a zlib stream of: the length of the head (u4), the head (JSON, the plain fields), then the tables. A frame
without a snapshot before it is a key frame.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.records import UNKNOWN_U32, Records, unknown_of
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording.layouts import NOW, Layout, in_layout

PLAIN = (
    *("time", "now_ns", "source", "callbacks_mode", "opened", "time_wait", "syn_recv", "namespaces", "missing"),
    *("notes", "watched", "poll_s", "program_ns", "program_calls"),
)
"""Fields of a snapshot that are JSON as they are, or nearly."""

NAMES = ("users", "cgroups", "devices", "namespace_names", "commands", "activities")
"""Fields that are told where they are not those of the snapshot before."""

LATER = frozenset({"namespace_names", "commands", "activities"})
"""Those of them that older recordings lack."""

RUNNING = ("last_sent_us", "last_received_us", "timer_us", "last_ack_received_us")
"""Times of SOCKET that grow or shrink by themselves, by the same amount in most rows."""

LONGEST_STEP = (1 << 31) - 1
"""By how much they may do so between two frames: a step has 32 bits, the greatest of which is its sign."""

LONGEST = 1 << 30
"""Bytes of a frame, unpacked."""

MOST_ROWS = 1 << 21
"""The most rows that a table of a frame may have."""

Matrix = NDArray[np.uint8]
Indices = NDArray[np.intp]


class Damaged(ValueError):
    """These bytes are no frame."""


# --- one table


@dataclass(frozen=True)
class Run:
    """Numbers of one size, one after the other, in each row of a matrix of bytes."""

    offset: int
    size: int
    count: int


def _leaves(dtype: np.dtype[Any], at: int = 0) -> list[Run]:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        each = [_leaves(base, at + i * base.itemsize) for i in range(int(np.prod(shape)))]
        return [leaf for leaves in each for leaf in leaves]
    if dtype.names:
        members = dict(dtype.fields or {}).values()
        return [leaf for member in members for leaf in _leaves(member[0], at + member[1])]
    return [Run(at, dtype.itemsize, 1)] if dtype.kind == "u" and dtype.itemsize > 1 else []


@lru_cache(32)
def runs(dtype: np.dtype[Any]) -> tuple[Run, ...]:
    """Return the numbers of a record that have more than one byte."""
    found: list[Run] = []
    for leaf in sorted(_leaves(dtype), key=lambda leaf: leaf.offset):
        last = found[-1] if found else None
        if last and last.size == leaf.size and last.offset + last.size * last.count == leaf.offset:
            found[-1] = Run(last.offset, last.size, last.count + 1)
        else:
            found.append(leaf)
    return tuple(found)


@lru_cache(32)
def _meaning(dtype: np.dtype[Any]) -> Matrix | None:
    """Return 255 for each byte of a record that belongs to a field, 0 for the others; None where all do."""
    blank, full = np.zeros(1, dtype), np.zeros(1, dtype)
    full.view(np.uint8)[:] = 255
    blank[:] = full  # numpy copies member by member: what lies between them stays as it was
    mask: Matrix = blank.view(np.uint8).copy()
    return None if mask.all() else mask


def bytes_of(rows: Records) -> Matrix:
    """Return one row of bytes a record. What lies between the fields is anything at all in memory, and 0 here."""
    flat = np.ascontiguousarray(rows).reshape(-1)
    matrix: Matrix = flat.view(np.uint8).reshape(len(flat), rows.dtype.itemsize)
    mask = _meaning(rows.dtype)
    return matrix if mask is None else matrix & mask


def _numbers(matrix: Matrix, run: Run) -> NDArray[Any]:
    """Return these numbers of each row, as a view of the matrix."""
    numbers: NDArray[Any] = matrix[:, run.offset : run.offset + run.size * run.count].view(f"u{run.size}")
    return numbers


def _minus(new: Matrix, base: Matrix, dtype: np.dtype[Any]) -> Matrix:
    less: Matrix = new - base
    for run in runs(dtype):
        _numbers(less, run)[:] = _numbers(new, run) - _numbers(base, run)
    return less


def _plus(base: Matrix, less: Matrix, dtype: np.dtype[Any]) -> Matrix:
    new: Matrix = base + less
    for run in runs(dtype):
        _numbers(new, run)[:] = _numbers(base, run) + _numbers(less, run)
    return new


class _FrameWriter:
    """Collects the pieces of a frame."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def number(self, value: int) -> None:
        self.pieces.append(value.to_bytes(4, "little"))

    def mask(self, mask: NDArray[np.bool_]) -> None:
        self.pieces.append(np.packbits(mask).tobytes())

    def matrix(self, matrix: Matrix) -> None:
        """Add the first byte of all rows, then the second, and so on; bytes that are zero in each row are left out."""
        used: NDArray[np.bool_] = np.logical_or.reduce(matrix, axis=0)
        self.mask(used)
        self.pieces.append(np.ascontiguousarray(matrix[:, used].T).tobytes())


class _FrameReader:
    """Reads the pieces of a frame. Every method raises Damaged where there is no such piece."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise Damaged("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, most: int = MOST_ROWS) -> int:
        value = int.from_bytes(self.take(4), "little")
        if value > most:
            raise Damaged("a number is too large")
        return value

    def mask(self, count: int) -> NDArray[np.bool_]:
        packed = np.frombuffer(self.take((count + 7) // 8), np.uint8)
        return np.unpackbits(packed, count=count).astype(np.bool_)

    def matrix(self, rows: int, width: int) -> Matrix:
        used = self.mask(width)
        planes = np.frombuffer(self.take(int(used.sum()) * rows), np.uint8).reshape(int(used.sum()), rows)
        matrix = np.zeros((rows, width), np.uint8)
        matrix[:, used] = planes.T
        return matrix

    def end(self) -> None:
        if self._at != len(self._data):
            raise Damaged("it goes on after its end")


def align(cookies: NDArray[np.uint64], before: NDArray[np.uint64]) -> Indices:
    """Return where each of these cookies was before; -1 where it was not."""
    if np.array_equal(cookies, before):
        return np.arange(len(cookies))
    order = np.argsort(before, kind="stable")
    at, found = find_sorted(before[order], cookies)
    where = np.full(len(cookies), -1)
    where[found] = order[at[found]]
    return where


def _base(old: Records | None, where: Indices, dtype: np.dtype[Any]) -> Matrix:
    """Return what the new rows are compared with: the bytes of an old one each, or zeros."""
    if old is None or not len(old):
        return np.zeros((len(where), dtype.itemsize), np.uint8)
    base = bytes_of(old)[where]
    base[where < 0] = 0
    return base


def _runs_on(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of these times run by themselves: 0 and the unknown stand."""
    runs_on: NDArray[np.bool_] = (numbers != 0) & (numbers != unknown_of(numbers.dtype))
    return runs_on


def running(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Return those of RUNNING that the SOCKET of a layout has; older ones lack the last."""
    return tuple(name for name in RUNNING if name in (dtype.names or ()))


def _steps(new: Records, base: Records) -> list[int]:
    """Return by how much each of RUNNING went on, in most rows; 0 where that is more than LONGEST_STEP."""
    steps = []
    for name in running(base.dtype):
        runs_on = _runs_on(base[name]) & _runs_on(new[name])
        grown, counts = np.unique((new[name] - base[name])[runs_on].astype("i8"), return_counts=True)
        step = int(grown[np.argmax(counts)]) if len(grown) else 0
        steps.append(step if abs(step) <= LONGEST_STEP else 0)
    return steps


def _signed(number: int) -> int:
    """Return the number from -2^31 on that has these 32 bits."""
    return (number ^ 1 << 31) - (1 << 31)


def _run_on(base: Records, steps: list[int]) -> None:
    for name, step in zip(running(base.dtype), steps, strict=True):
        runs_on = _runs_on(base[name])
        base[name][runs_on] += np.array(step, "i8").astype(base[name].dtype)


def _write_rows(out: _FrameWriter, new: Records, base: Matrix) -> None:
    matrix = bytes_of(new)
    changed = (matrix != base).any(axis=1)
    out.mask(changed)
    which = np.flatnonzero(changed)
    out.matrix(_minus(matrix[which], base[which], new.dtype))


def _read_rows(data: _FrameReader, base: Matrix, dtype: np.dtype[Any]) -> Records:
    which = np.flatnonzero(data.mask(len(base)))
    base[which] = _plus(base[which], data.matrix(len(which), dtype.itemsize), dtype)
    rows: Records = base.reshape(-1).view(dtype)
    return rows


def _as_records(base: Matrix, dtype: np.dtype[Any]) -> Records:
    records: Records = base.reshape(-1).view(dtype)
    return records


def _by_position(count: int, before: int) -> Indices:
    return np.where(np.arange(count) < before, np.arange(count), -1)


# --- the plain fields


def _plain(snapshot: Snapshot, before: Snapshot | None) -> dict[str, Any]:
    """Return the head of a frame."""
    head: dict[str, Any] = {name: getattr(snapshot, name) for name in PLAIN}
    head |= {"missing": sorted(snapshot.missing), "has_closed_owners": snapshot.closed_owners is not None}
    for name in NAMES:
        names = getattr(snapshot, name)
        if before is None or getattr(before, name) != names:
            head[name] = [[int(key), value] for key, value in names.items()]
    return head


_KINDS: dict[str, tuple[type, ...]] = {
    "time": (float, int),
    "poll_s": (float, int),
    "source": (str,),
    "callbacks_mode": (str,),
    "missing": (list,),
    "notes": (list,),
}


def _checked(head: Any) -> dict[str, Any]:
    """Return the plain fields of a head. Raises Damaged for what is not of their kind."""
    if not isinstance(head, dict):
        raise Damaged("its head is no object")
    plain: dict[str, Any] = {name: head.get(name) for name in PLAIN}
    for name, value in plain.items():
        if not isinstance(value, _KINDS.get(name, (int,))) or isinstance(value, bool):
            raise Damaged(f"{name} is {value!r}")
        if isinstance(value, list) and not all(isinstance(word, str) for word in value):
            raise Damaged(f"{name} is {value!r}")
        if isinstance(value, (int, float)) and not 0 <= value < 2**64:
            raise Damaged(f"{name} is {value!r}")
    return plain | {"missing": frozenset(plain["missing"]), "notes": tuple(plain["notes"])}


def _names(head: dict[str, Any], before: Snapshot | None) -> dict[str, Mapping[int, str]]:
    found: dict[str, Mapping[int, str]] = {}
    for name in NAMES:
        pairs = head.get(name, [] if name in LATER and before is None else None)
        if pairs is None and before is not None:
            found[name] = getattr(before, name)
            continue
        if not isinstance(pairs, list):
            raise Damaged(f"it has no {name}")
        found[name] = dict(_pair(pair) for pair in pairs)
    return found


def _pair(pair: Any) -> tuple[int, str]:
    if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int) and isinstance(pair[1], str)):
        raise Damaged(f"{pair!r} is no name")
    return pair[0], pair[1]


# --- frames


def encode(snapshot: Snapshot, before: Snapshot | None = None) -> bytes:
    """Return the frame of a snapshot. ``before``: what the last frame was made of; None makes a key frame."""
    out = _FrameWriter()
    head = json.dumps(_plain(snapshot, before), separators=(",", ":")).encode()
    out.number(len(head))
    out.pieces.append(head)
    cookies = snapshot.sockets["cookie"]
    where = align(cookies, np.zeros(0, "u8") if before is None else before.sockets["cookie"])
    out.number(len(where))
    follow = np.diff(where, prepend=-1).astype(np.int32) - 1
    out.matrix(follow.view(np.uint8).reshape(len(where), 4))
    for name, dtype in NOW.aligned:
        rows = getattr(snapshot, name)
        base = _base(None if before is None else getattr(before, name), where, dtype)
        if name == "sockets":
            steps = _steps(rows, _as_records(base, dtype))
            _run_on(_as_records(base, dtype), steps)
            for step in steps:
                out.number(step & UNKNOWN_U32)
        _write_rows(out, rows, base)
    for name, dtype in NOW.by_position:
        rows = np.asarray(getattr(snapshot, name), dtype).reshape(-1)
        old = None if before is None else np.asarray(getattr(before, name), dtype).reshape(-1)
        out.number(len(rows))
        _write_rows(out, rows, _base(old, _by_position(len(rows), 0 if old is None else len(old)), dtype))
    for name, dtype in NOW.fresh:
        rows = getattr(snapshot, name)
        rows = np.zeros(0, dtype) if rows is None else rows
        out.number(len(rows))
        _write_rows(out, rows, np.zeros((len(rows), dtype.itemsize), np.uint8))
    return zlib.compress(b"".join(out.pieces), 1)


def _unpacked(frame: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(frame, LONGEST)
    except zlib.error as error:
        raise Damaged(str(error)) from error
    if not stream.eof or stream.unused_data:
        raise Damaged("it is no whole stream")
    return data


def decode(frame: bytes, before: Snapshot | None = None, layout: Layout = NOW) -> Snapshot:
    """Return the snapshot of a frame. ``before``: that of the frame before it, None for a key frame. Raises Damaged.

    ``layout``: that of the recording; what it lacks of today's is zero.
    """
    before = in_layout(before, layout) if before is not None else None
    data = _FrameReader(_unpacked(frame))
    try:
        head = json.loads(data.take(data.number(LONGEST)))
    except ValueError as error:
        raise Damaged(f"its head is no JSON: {error}") from error
    plain: dict[str, Any] = _checked(head) | _names(head, before)
    where = _where(data, 0 if before is None else len(before.sockets))
    tables: dict[str, Any] = {}
    for name, dtype in layout.aligned:
        base = _base(None if before is None else getattr(before, name), where, dtype)
        if name == "sockets":
            _run_on(_as_records(base, dtype), [_signed(data.number(UNKNOWN_U32)) for _ in running(dtype)])
        tables[name] = _read_rows(data, base, dtype)
    for name, dtype in layout.by_position:
        old = None if before is None else getattr(before, name).reshape(-1)
        count = data.number()
        base = _base(old, _by_position(count, 0 if old is None else len(old)), dtype)
        tables[name] = _read_rows(data, base, dtype)
    for name, dtype in layout.fresh:
        count = data.number()
        tables[name] = _read_rows(data, np.zeros((count, dtype.itemsize), np.uint8), dtype)
    data.end()
    if len(tables["counters"]) != 1 or len(tables["seen"]) != 2:
        raise Damaged("it lacks counters")
    if not head.get("has_closed_owners"):
        tables["closed_owners"] = None
    elif len(tables["closed_owners"]) != len(tables["closed"]):
        raise Damaged("owners and ends differ in number")
    return in_layout(Snapshot(**plain, **tables | {"counters": tables["counters"].reshape(())}), NOW)


def _where(data: _FrameReader, before: int) -> Indices:
    count = data.number()
    follow = data.matrix(count, 4).reshape(-1).view(np.int32).astype(np.intp)
    where = np.cumsum(follow + 1) - 1
    if count and (where.min() < -1 or where.max() >= before):
        raise Damaged("a row has no row before it")
    return where
