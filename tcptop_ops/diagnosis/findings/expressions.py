"""Filter expressions that show the rows of a finding, and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.findings.bad_rows import BAD_SCORE, RECENT_S, Table
from tcptop_ops.diagnosis.findings.groups import Group, Kind, Prefix, network_of
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.arrays import Mask

MOST_PIDS = 32
"""Most processes that are listed by their numbers."""


@dataclass(frozen=True)
class Expression:
    """A filter expression, and which rows of a table it shows."""

    text: str
    shows: Mask

    def __or__(self, other: Expression) -> Expression:
        """Return the expression for the rows that either shows."""
        return Expression(f"({self.text} or {other.text})", self.shows | other.shows)

    def __and__(self, other: Expression) -> Expression:
        """Return the expression for the rows that both show."""
        return Expression(f"{self.text} and {other.text}", self.shows & other.shows)


def of_group(group: Group, rows: Table, table: Table) -> Expression:
    """Return the expression for what these rows of the table share; ``rows`` are those of the group."""
    kind = group.kind
    if kind is Kind.PROCESS_TO_PLACE:
        return of_name(rows, table) & of_place(rows, table)
    if kind is Kind.PLACE:
        return of_place(rows, table)
    if kind is Kind.PROCESS_TO_NET:
        net = network_of(rows)
        return of_name(rows, table) & Expression(f"raddr = {written(net)}", net.holds(table))
    if kind is Kind.LISTENER:
        shows = table.came_in & (table.lport == rows.lport[0])
        return in_namespace(rows, table, Expression(f"direction = in and lport = {rows.lport[0]}", shows))
    if kind is Kind.PID:
        return Expression(f"pid = {rows.pid[0]}", table.pid == rows.pid[0])
    if kind is Kind.NAME:
        return of_name(rows, table)
    if group.prefix is not None:
        return Expression(f"raddr = {written(group.prefix)}", group.prefix.holds(table))
    return Expression(f"netns = {rows.netns[0]}", table.netns == rows.netns[0])


def of_other_ends(group: Group, rows: Table, seconds: Table, table: Table) -> Expression:
    """Return the expression for the other ends of a group's connections on this host.

    ``rows`` are the ends that make up the group, ``seconds`` the others. It may show more rows than these, never fewer.
    """
    prefix = network_of(rows) if group.kind is Kind.PROCESS_TO_NET else group.prefix
    if prefix is not None:
        return Expression(f"laddr = {written(prefix)}", prefix.covers(*table.local))
    if group.kind in (Kind.PROCESS_TO_PLACE, Kind.PLACE):
        (high, low), port = rows.remote, rows.rport[0]
        shows = (table.local[0] == high[0]) & (table.local[1] == low[0]) & (table.lport == port)
        return Expression(f"laddr = {address(high, low)} and lport = {port}", shows)
    if group.kind is Kind.LISTENER:
        return Expression(f"rport = {rows.lport[0]}", table.rport == rows.lport[0])
    pids = np.unique(seconds.pid)
    if len(pids) <= MOST_PIDS and pids[0]:
        return Expression(any_of([f"pid = {pid}" for pid in pids.tolist()]), np.isin(table.pid, pids))
    causes = np.unique(seconds.cause)
    told = any_of([f"cause = {CAUSES[number].name}" for number in causes.tolist()])
    return Expression(told, np.isin(table.cause, causes))


def of_place(rows: Table, table: Table) -> Expression:
    """Return the expression for the remote address and port of the first of these rows."""
    (high, low), port = rows.remote, rows.rport[0]
    shows = (table.remote[0] == high[0]) & (table.remote[1] == low[0]) & (table.rport == port)
    return Expression(f"raddr = {address(high, low)} and rport = {port}", shows)


def in_namespace(rows: Table, table: Table, expression: Expression) -> Expression:
    """Limit an expression to the namespace of the first of these rows, if that is known."""
    netns = rows.netns[0]
    return expression & Expression(f"netns = {netns}", table.netns == netns) if netns else expression


def of_name(rows: Table, table: Table) -> Expression:
    """Return the expression for the name that the processes of these rows have.

    A name that can't be written is left to the numbers of the processes.
    """
    name = bytes(rows.name[0]).decode("utf-8", "surrogateescape")
    if name.isprintable() and not re.search("[\ud800-\udfff]", name):
        return Expression(f"process = {quoted(name)}", table.name == rows.name[0])
    pids = np.unique(rows.pid)[:MOST_PIDS]
    return Expression(any_of([f"pid = {pid}" for pid in pids.tolist()]), np.isin(table.pid, pids) & (table.pid != 0))


def quoted(value: str) -> str:
    """Return a value as the filter language takes it: in quotes, where it is not a plain word."""
    if re.fullmatch(r"[\w.:/@+-]+", value, re.ASCII) and value.lower() not in ("and", "or", "not"):
        return value
    return '"' + re.sub(r"""(["'\\])""", r"\\\1", value) + '"'


def any_of(parts: list[str]) -> str:
    """Join expressions of which one has to match."""
    return parts[0] if len(parts) == 1 else "(" + " or ".join(parts) + ")"


def of_score(has_older: bool, least: float = BAD_SCORE) -> str:
    """Return the expression for the rows that are bad now; ``has_older``: some closed too long ago to be told."""
    return f"score >= {least:g}" + (f" and not closed_s > {RECENT_S:g}s" if has_older else "")


def address(high: np.ndarray, low: np.ndarray) -> str:
    """Return the first of these addresses as text."""
    return text.address(int(high[0]).to_bytes(8, "big") + int(low[0]).to_bytes(8, "big"))


def written(prefix: Prefix) -> str:
    """Return a prefix as text: an address, or an address and a length."""
    packed = int(prefix.high).to_bytes(8, "big") + int(prefix.low).to_bytes(8, "big")
    return text.address(packed) + ("" if prefix.is_address else f"/{prefix.length - 96 * prefix.is_v4}")
