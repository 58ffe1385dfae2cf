"""Describe one row as text, for the story and for the detail screen: what it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.dns.name_book import NOBODY, NameBook, NameKey, keys, shower
from tcptop_ops.explain import connection_facts
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.processes import process_keys
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import View, row_at, top_sources
from tcptop_ops.widgets.base.line_widget import LEVEL_ROLES, Piece, Span, piece

Thresholds = Mapping[str, tuple[float, float]]
"""The user's thresholds (warning, bad), by column id."""

NO_THRESHOLDS: Thresholds = MappingProxyType({})
LONGEST_END = 28
"""Maximum width of an endpoint shown by name, so that two of them and the process fit into 80 characters."""


class RowText:
    """One row, read column by column."""

    def __init__(self, rows: Rows, flows: Flows, thresholds: Thresholds = NO_THRESHOLDS) -> None:
        """Take Rows of length 1, the Flows that they belong to, and the user's thresholds."""
        self.rows, self.flows, self._thresholds = rows, flows, thresholds
        self.closed = rows.endings is not None
        self.state = self.value("state").decode()

    @classmethod
    def of(cls, view: View, position: int) -> RowText:
        """Return the row at this position of a view. Raises ValueError for a group."""
        return cls(row_at(view, position), view.flows, view.spec.thresholds)

    @classmethod
    def of_cookie(cls, flows: Flows, cookie: int, thresholds: Thresholds = NO_THRESHOLDS) -> RowText | None:
        """Return the row of a connection, or None; live rows win over closed ones, later rows over earlier ones."""
        for rows in (flows.live, flows.closed):
            at = np.flatnonzero(rows.sockets["cookie"] == cookie)[-1:]
            if len(at):
                return cls(rows.take(at), flows, thresholds)
        return None

    @property
    def cookie(self) -> int:
        """The socket cookie: the kernel's number for the socket, never reused."""
        return int(self.rows.sockets["cookie"][0])

    @property
    def listens(self) -> bool:
        """Whether it is a listener."""
        return bool(self.state == "LISTEN")

    def value(self, name: str) -> Any:
        """Return a column's raw value; null is NaN, b"" or 0."""
        return find(name).read(self.rows, self.flows).tolist()[0]

    @property
    def activity(self) -> str:
        """What its process does, where that was looked at (``Snapshot.activities``); else empty."""
        return self.flows.snapshot.activities.get(int(process_keys(self.rows.owners)[0]), "")

    def top_sources(self) -> list[str]:
        """Return who has half-open connections to this listener, as ``address xcount``; empty for other rows."""
        return [f"{text.address(packed)} x{count}" for packed, count in top_sources(self.flows, self.rows)]

    def shown(self, name: str) -> str:
        """Format a column's value; ``?`` if the source can't provide the column."""
        if name in self.flows.snapshot.missing:
            return text.UNKNOWN
        return find(name).shower(self.flows)(self.value(name))

    def end(self, name: str, names: NameBook) -> str:
        """Format the endpoint ``local`` or ``peer`` with known names, shortened to LONGEST_END if it has any."""
        shown, numbers = shower(find(name), names)(self.value(name)), self.shown(name)
        return numbers if shown == numbers else text.shorten_middle(shown, LONGEST_END)

    def name_keys(self) -> list[NameKey]:
        """Return the keys whose names its endpoints could show."""
        return [key for name in ("local", "peer") for key in keys(find(name), self.value(name))]

    def level(self, name: str) -> int:
        """Return the severity of a column's value, as ``Column.level``."""
        column = find(name)
        return column.level(self.value(name), self._thresholds.get(column.id))

    def span(self, name: str, before: str) -> Span:
        """Format a column's value behind the text ``before``, coloured if it is a warning or bad."""
        level = self.level(name)
        return Span(before + self.shown(name), LEVEL_ROLES[level] if level > 0 else "plain")

    @property
    def cause(self) -> Cause:
        """The cause that the diagnosis found (``diagnosis.CAUSES``)."""
        return CAUSES[int(self.rows.rates["cause"][0])]

    @property
    def cause_role(self) -> str:
        """The style role of the cause, which follows from the score."""
        return LEVEL_ROLES[max(self.level("score"), -1)]

    def evidence(self) -> list[str]:
        """Return the evidence for the cause as phrases, the most important first."""
        return evidence.of(self.rows, self.flows)


def who(row: RowText, roomy: bool, names: NameBook = NOBODY) -> list[Piece]:
    """Return process, endpoints, state or end, and further facts. ``roomy``: include the local endpoint."""
    pid = row.shown("pid")
    pieces = [piece(row.shown("process") + ("" if pid in (text.DASH, text.UNKNOWN) else f" {pid}"), "title", 1)]
    if row.activity and not row.closed:
        pieces.append(piece(f"({row.activity})", "dim", 3))
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


def other_end(row: RowText) -> list[Piece]:
    """Return what is at the other end of a connection, where that is on this host; nothing where it is not."""
    end = connection_facts.other_end(row.rows, row.flows)
    if end is None:
        return []
    state = Span(f" {end.state}", "warn" if end.has_fault else "dim")
    return [Piece((Span(f"{end.label} ", "dim"), Span(end.process), state), 3)]


def _end(row: RowText) -> Piece:
    end = row.shown("end")
    return piece(f"{'closed' if end == text.DASH else end} {row.shown('closed_s')} ago", "warn", 1)


def verdict(row: RowText, binding: str = "") -> list[Piece]:
    """Return the cause, its evidence, and what to do about it.

    ``binding``: what limits a listener's queue, "" for none.
    """
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
