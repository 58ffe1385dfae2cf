"""Findings of a tick: what its bad rows share, incident by incident."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from tcptop_ops.diagnosis.findings import expressions, words
from tcptop_ops.diagnosis.findings.bad_rows import Table, bad_rows
from tcptop_ops.diagnosis.findings.ends import Ends, ends_of
from tcptop_ops.diagnosis.findings.expressions import Expression
from tcptop_ops.diagnosis.findings.families import (
    FAMILIES,
    LISTENING,
    Family,
    families_of,
    is_attempts,
)
from tcptop_ops.diagnosis.findings.groups import Kind
from tcptop_ops.diagnosis.findings.host import of_host
from tcptop_ops.diagnosis.findings.listeners import stuck_listeners
from tcptop_ops.diagnosis.findings.search import Found, Search
from tcptop_ops.diagnosis.findings.world import moving, standing
from tcptop_ops.diagnosis.ports import used_up
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.flows import BadRows, Finding, Flows

MOST = 8
"""Most findings that are told."""

MOST_COOKIES = 64
"""Most rows that a filter lists one by one, where nothing shorter shows them alone."""

LONGEST_FILTER = 4096
"""Characters of the longest filter that the language takes."""


@dataclass(frozen=True)
class Narrowed:
    """The user's filter: what it lets through, and its text."""

    wanted: Mask  # over all rows, the live ones before the closed
    text: str


@dataclass(frozen=True)
class _Incident:
    """A finding that has no filter yet; the masks are over the bad rows."""

    text: str
    key: str
    which: Mask  # its rows
    expression: Expression
    blame: str  # network, peer, app or host
    gravity: float  # the scores of its rows, of both ends of a connection that of the first


def findings(flows: Flows, narrowed: Narrowed | None = None) -> tuple[Finding, ...]:
    """Return what the bad rows share, the gravest first, at most MOST. ``narrowed``: only of rows that match a filter.

    The cost grows with the number of bad rows; the others are looked at only where bad rows are to be compared.
    """
    bad = flows.bad if flows.bad is not None else bad_rows(flows)
    about = (flows, None if narrowed is None else narrowed.wanted, bad.told_since)
    without_rows = (*of_host(*about), *used_up(*about))
    if not len(bad.row):
        return without_rows
    table = Table(flows, bad.row)
    wanted = np.ones(len(table), np.bool_) if narrowed is None else narrowed.wanted[bad.row]
    incidents = list(_incidents(flows, table, wanted, narrowed))
    # In steps of a half, so that two of about the same gravity do not change places from tick to tick.
    chosen = sorted(incidents, key=lambda one: (-round(2 * math.log2(one.gravity)), one.key))[:MOST]
    return (*without_rows, *(_finding(table, bad, one, incidents, wanted, narrowed) for one in chosen))


def _incidents(flows: Flows, table: Table, wanted: Mask, narrowed: Narrowed | None) -> Iterator[_Incident]:
    """Yield all incidents, family by family of causes; the listeners first, since clients may wait for them."""
    left = wanted.copy()
    for stuck in stuck_listeners(table, wanted):
        which = stuck.listeners | stuck.clients
        left &= ~which
        one = table.take(stuck.listeners)
        waiting = table.take(stuck.clients)
        told = words.told_listener(one, waiting)
        gravity = float(table.score[which].sum())
        yield _Incident(told, stuck.key, which, stuck.expression, _blame(one), gravity)
    if narrowed is None:  # without their listener attempts are told only where a filter hides it
        left &= table.listener == 0
    else:
        left &= (table.listener == 0) | (table.row < len(flows.live))
    families = families_of(table)
    ends = ends_of(flows, table, families, left)
    left &= ~ends.is_second
    for number in np.unique(families[left]).tolist():
        family = FAMILIES[number]
        if family is not LISTENING:
            yield from _of_family(flows, table, family, families == number, left, ends, narrowed)


def _of_family(
    flows: Flows, table: Table, family: Family, is_member: Mask, left: Mask, ends: Ends, narrowed: Narrowed | None
) -> Iterator[_Incident]:
    rows = np.flatnonzero(is_member & left)
    if len(rows) < family.least:
        return
    is_member = is_member & ~ends.is_second
    compared = moving if family.contrast or is_attempts(family) else standing
    wanted = None if narrowed is None else narrowed.wanted
    world = partial(compared, flows, table.take(is_member), table.take(ends.is_second), wanted)
    search = Search(table.take(rows), family, world)
    for found in search.groups():
        which = np.zeros(len(table), np.bool_)
        which[rows[found.group.which]] = True
        one, seconds = table.take(which), ends.seconds_of(which)
        expression = expressions.of_group(found.group, one, table)
        if seconds.any():
            expression |= expressions.of_other_ends(found.group, one, table.take(seconds), table)
        yield _Incident(
            words.told(found, family, one),
            _key(family, found, one),
            which | seconds,
            expression,
            _blame(one),
            float(one.score.sum()),
        )


def _blame(rows: Table) -> str:
    """Return whose the fault of most of these rows is."""
    names, counts = np.unique(rows.blame, return_counts=True)
    return bytes(names[counts.argmax()]).decode()


def _key(family: Family, found: Found, rows: Table) -> str:
    """Return what stays the same of a finding from tick to tick.

    A prefix grows and shrinks with its rows: all of one network (/16, IPv6 /32) are the same finding.
    """
    prefix = found.group.prefix
    if found.kind is Kind.PREFIX and prefix is not None:
        high, low = int(prefix.high), int(prefix.low)
        return f"{family.name} net {low >> 16 & 0xFFFF:x}" if prefix.is_v4 else f"{family.name} net {high >> 32:x}"
    return f"{family.name} {found.kind.name} {found.group.key:x}"


def _finding(
    table: Table,
    bad: BadRows,
    incident: _Incident,
    incidents: list[_Incident],
    wanted: Mask,
    narrowed: Narrowed | None,
) -> Finding:
    since = min(float(bad.since[incident.which].min()), bad.told_since.get(incident.key, math.inf))
    return Finding(
        incident.text,
        _filter(table, bad, incident, incidents, wanted, narrowed),
        int(incident.which.sum()),
        incident.blame,
        since,
        incident.key,
    )


def _filter(
    table: Table,
    bad: BadRows,
    incident: _Incident,
    incidents: list[_Incident],
    wanted: Mask,
    narrowed: Narrowed | None,
) -> str:
    """Return the filter that shows the rows of an incident, with as few conditions as it takes to show no others."""
    parts = [incident.expression.text]
    extra = incident.expression.shows & ~incident.which
    if extra.any():
        causes = np.unique(table.cause[incident.which]).tolist()
        same = np.isin(table.cause, causes)
        if (extra & ~same).any():
            parts.append(expressions.any_of([f"cause = {CAUSES[number].name}" for number in causes]))
            extra &= same
    if narrowed is not None and (extra & ~wanted).any():
        parts.insert(0, f"({narrowed.text})")
        extra &= wanted
    for other in incidents:
        if (
            other is not incident
            and (extra & other.which).any()
            and not (incident.which & other.expression.shows).any()
        ):
            parts.append(f"not ({other.expression.text})")
            extra &= ~other.expression.shows
    cookies = np.unique(table.cookie[incident.which]).tolist()
    if extra.any() and len(cookies) <= MOST_COOKIES:
        parts = [expressions.any_of([f"cookie = {cookie}" for cookie in cookies])]
    parts.append(expressions.of_score(bad.has_older))
    told = " and ".join(parts)
    return told if len(told) <= LONGEST_FILTER else " and ".join([incident.expression.text, parts[-1]])
