"""The arrays that hold the rates of the live rows: used again, and brought up to date where a row has changed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import gather, scatter
from tcptop_ops.model.flows import RATES
from tcptop_ops.model.records import Records

MOST_ARRAYS = 3
"""Arrays that are used in turn: of this tick, of the last, and one that is still looked at."""

ROOM = 9 / 8
"""A new array is by so much larger than it has to be."""

Indices = NDArray[np.intp]


@dataclass
class _Turn:
    """An array, and what it lacks of the last tick: the rows at these indices; everything where ``is_old``."""

    records: Records
    missed: list[Indices] = field(default_factory=list)
    is_old: bool = True


class RatesInTurn:
    """RATES of the live rows of one tick after the other.

    A tick's array is written again only when nobody holds it or a part of it any more, which the reference count of the
    array tells (numpy counts on it, too, in ``ndarray.resize``); else another is made.
    """

    def __init__(self) -> None:
        """Begin without arrays."""
        self._turns: list[_Turn] = []  # that of the last tick is the last
        self._count = 0

    def zeros(self, count: int) -> Records:
        """Return the rows of a tick of which all are worked out, as zeros."""
        turn = self._next(count)
        for one in self._turns:
            one.is_old, one.missed = one is not turn, []
        self._count = count
        rows: Records = turn.records[:count]
        rows.view(np.uint8)[:] = 0
        return rows

    def as_before(self, count: int, before: Indices | None, worked_out: Indices) -> Records:
        """Return the rows of a tick as they were at the last, but for those that are worked out, which the caller sets.

        ``before``: where each row was at the last tick, any index where it was not there; None: all are where they
        were. ``worked_out``: indices of the rows that the caller sets.
        """
        last = self._turns[-1].records[: self._count]
        turn = self._next(count)
        rows = turn.records[:count]
        if before is not None:
            _opaque(last).take(before, out=_opaque(rows), mode="clip")
        elif turn.is_old:
            _opaque(rows)[:] = _opaque(last)
        elif turn.missed:
            missed = np.concatenate(turn.missed)
            scatter(rows, missed, gather(last, missed))
        turn.is_old, turn.missed = False, []
        for one in self._turns[:-1]:
            if before is not None:
                one.is_old = True
            elif not one.is_old:
                one.missed.append(worked_out)
                one.is_old = sum(map(len, one.missed)) > count // 2
            one.missed = [] if one.is_old else one.missed
        self._count = count
        return rows

    def _next(self, count: int) -> _Turn:
        """Return the array for the next tick, which becomes the last of ``_turns``."""
        free = [turn for turn in self._turns[:-1] if _is_free(turn) and count <= len(turn.records) <= 4 * count + 1024]
        if free:
            turn = free[-1]
            self._turns = [one for one in self._turns if one is not turn]
        else:
            turn = _Turn(np.zeros(int(count * ROOM) + 64, RATES))
            self._turns = [one for one in self._turns[:-1] if not _is_free(one)] + self._turns[-1:]
            self._turns = self._turns[1 - MOST_ARRAYS :]
        self._turns.append(turn)
        return turn


def _is_free(turn: _Turn) -> bool:
    """Whether nobody else holds the array of this turn, or a view of it, which holds the array."""
    return sys.getrefcount(turn.records) <= 2


def _opaque(records: Records) -> Records:
    opaque: Records = records.view(f"V{records.dtype.itemsize}")
    return opaque
