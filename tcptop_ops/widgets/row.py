"""One row in words: who it is, and what is wrong with it. For the story and for the detail screen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tcptop_ops import evidence
from tcptop_ops import format as text
from tcptop_ops.columns import find
from tcptop_ops.diagnosis import CAUSES, Cause
from tcptop_ops.namebook import NOBODY, Key, NameBook, keys, shower
from tcptop_ops.tracker import Flows, Rows
from tcptop_ops.view import View, row_at, top_sources
from tcptop_ops.widgets.lines import LEVEL_ROLES, Piece, Span, piece

Thresholds = Mapping[str, tuple[float, float]]
NO_THRESHOLDS: Thresholds = MappingProxyType({})
LONGEST_END = 28
"""Characters of an end that has a name: two of them, and the process, are one line of 80."""


class Row:
    """One row (Rows of length 1), read column by column. ``thresholds``: as of ``Spec``."""

    def __init__(self, rows: Rows, flows: Flows, thresholds: Thresholds = NO_THRESHOLDS) -> None:
        self.rows, self.flows, self._thresholds = rows, flows, thresholds
        self.closed = rows.endings is not None
        self.state = self.value("state").decode()

    @classmethod
    def of(cls, view: View, position: int) -> Row:
        """The row at this position."""
        return cls(row_at(view, position), view.flows, view.spec.thresholds)

    @classmethod
    def of_cookie(cls, flows: Flows, cookie: int, thresholds: Thresholds = NO_THRESHOLDS) -> Row | None:
        """The row of a connection; the live one first, where a closed one had the same cookie; of those the last."""
        for rows in (flows.live, flows.closed):
            at = np.flatnonzero(rows.sockets["cookie"] == cookie)[-1:]
            if len(at):
                return cls(rows.take(at), flows, thresholds)
        return None

    @property
    def cookie(self) -> int:
        """The kernel's number of it."""
        return int(self.rows.sockets["cookie"][0])

    @property
    def listens(self) -> bool:
        """Whether it is a listener."""
        return bool(self.state == "LISTEN")

    def value(self, name: str) -> Any:
        """The raw value."""
        return find(name).read(self.rows, self.flows).tolist()[0]

    def top_sources(self) -> list[str]:
        """Of a listener: whose handshakes are not done."""
        return [f"{text.address(packed)} x{count}" for packed, count in top_sources(self.flows, self.rows)]

    def shown(self, name: str) -> str:
        """As text."""
        if name in self.flows.snapshot.missing:
            return text.UNKNOWN
        return find(name).show(self.value(name))

    def end(self, name: str, names: NameBook) -> str:
        """``local`` or ``peer`` as text, with the names that are known: no longer than a line has room for."""
        shown, numbers = shower(find(name), names)(self.value(name)), self.shown(name)
        return numbers if shown == numbers else text.shorten_middle(shown, LONGEST_END)

    def name_keys(self) -> list[Key]:
        """Whose names its ends could show."""
        return [key for name in ("local", "peer") for key in keys(find(name), self.value(name))]

    def level(self, name: str) -> int:
        """As of ``Column.level``."""
        column = find(name)
        return column.level(self.value(name), self._thresholds.get(column.id))

    def span(self, name: str, before: str) -> Span:
        """As text behind other text; coloured where it is bad."""
        level = self.level(name)
        return Span(before + self.shown(name), LEVEL_ROLES[level] if level > 0 else "plain")

    @property
    def cause(self) -> Cause:
        """The verdict."""
        return CAUSES[int(self.rows.rates["cause"][0])]

    @property
    def cause_role(self) -> str:
        """The look of the verdict: coloured where the score is."""
        return LEVEL_ROLES[max(self.level("score"), -1)]

    def evidence(self) -> list[str]:
        """What speaks for it, the most telling first."""
        return evidence.of(self.rows, self.flows)


def who(row: Row, roomy: bool, names: NameBook = NOBODY) -> list[Piece]:
    """Whose it is, from where to where, how it stands. ``roomy``: the local address too."""
    pid = row.shown("pid")
    pieces = [piece(row.shown("process") + ("" if pid in (text.DASH, text.UNKNOWN) else f" {pid}"), "title", 1)]
    if row.listens:
        return [*pieces, piece(row.end("local", names)), piece(row.state, rank=1)]
    here = (Span(row.end("local", names)),) if roomy else ()
    pieces.append(Piece((*here, Span(" -> " if roomy else "-> ", "dim"), Span(row.end("peer", names)))))
    pieces.append(_end(row) if row.closed else piece(row.state, rank=1))
    if row.shown("owner") == "listener":
        pieces.append(piece("not accepted yet", "warn", 2))
    for name, label, rank in (("direction", "", 4), ("age_s", "age ", 2), ("cc", "", 3)):
        value = row.shown(name)
        if value not in (text.DASH, text.UNKNOWN):
            pieces.append(Piece((Span(label, "dim"), Span(value)) if label else (Span(value),), rank))
    return pieces


def _end(row: Row) -> Piece:
    end = row.shown("end")
    return piece(f"{'closed' if end == text.DASH else end} {row.shown('closed_s')} ago", "warn", 1)


def verdict(row: Row, binding: str = "") -> list[Piece]:
    """The cause and its evidence; then what to do about it. ``binding``: of a listener, what makes its limit."""
    cause, told = row.cause, row.evidence()
    lead = Span(cause.name, row.cause_role)
    if cause.rule is None:
        words = told or [cause.means]
        return [Piece((lead, Span(f": {words[0]}", "dim"))), *(piece(f", {more}", "dim", 1) for more in words[1:])]
    first = told[0] if told else cause.means
    pieces = [Piece((lead, Span(f": {first}"))), *(piece(f", {more}", rank=1 + i) for i, more in enumerate(told[1:]))]
    if binding and cause.name == "accept-queue":
        pieces.append(piece(f"; {binding}", "dim", 8))
    return [*pieces, piece(f"; {cause.remedy}", "dim", 9)]
