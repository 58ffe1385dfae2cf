"""Describe the selected group in a few lines: its title, how many connections are bad and why, sums, the worst."""

from __future__ import annotations

from tcptop_ops import text
from tcptop_ops.dns.name_book import NameBook
from tcptop_ops.model.flows import row_of
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.group_census import Census, census
from tcptop_ops.views.groups import Groups
from tcptop_ops.views.view import View
from tcptop_ops.widgets.base.line_widget import LEVEL_ROLES, Piece, Span, Spans, flow, join, piece
from tcptop_ops.widgets.base.row_text import RowText

FIGURES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("srtt", ("srtt_us",), "", " mean"),
    ("retr", ("retrans_win", "retrans_segs"), " of ", ""),
    ("share", ("retrans_pct",), "", "%"),
    ("RTOs", ("rto_win", "rto_events"), " of ", ""),
    ("tx", ("tx_bytes_per_s",), "", "B/s"),
    ("rx", ("rx_bytes_per_s",), "", "B/s"),
    ("min", ("min_rtt_us",), "", ""),
    ("lost", ("lost",), "", ""),
    ("unacked", ("unacked",), "", ""),
    ("notsent", ("notsent",), "", "B"),
    ("stalled", ("stall_ms",), "", ""),
)
"""As ``story.FIGURES``, for the values of a group."""

LISTENING: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("queues", ("backlog", "backlog_max"), " of ", ""),
    ("SYN-RECV", ("syn_recv",), "", ""),
)
"""Further figures of a group that contains listeners."""

WORST_LINES = 2
"""Maximum number of bad connections that are listed."""

WITH_WORST = 7
"""Height from which bad connections are listed, the rule included."""


class _Group:
    """One group, read column by column."""

    def __init__(self, view: View, groups: Groups, number: int) -> None:
        self.groups, self.number = groups, number
        self._view = view
        self.census = census(groups, number, WORST_LINES)

    def level(self, name: str) -> int:
        column = find(name)
        return column.level_of_group(self._value(name), self._view.spec.thresholds.get(column.id))

    def shown(self, name: str) -> str:
        if name in self.groups.flows.snapshot.missing:
            return text.UNKNOWN
        return find(name).show_of_group(self._value(name))

    def _value(self, name: str) -> float | bytes:
        value: float | bytes = self.groups.column(find(name))[self.number].item()
        return value

    def figure(self, label: str, names: tuple[str, ...], between: str, unit: str, rank: int) -> Piece:
        spans = [Span(label + " ", "dim")]
        for i, name in enumerate(names):
            level = self.level(name)
            role = LEVEL_ROLES[level] if level > 0 else "plain"
            spans.append(Span(between * bool(i) + self.shown(name), role))
        known = spans[-1].text not in (text.DASH, text.UNKNOWN)
        return Piece((*spans, Span(unit, "dim")) if unit and known else tuple(spans), rank)


def lines(view: View, groups: Groups, number: int, size: tuple[int, int], names: NameBook) -> list[Spans]:
    """Return the lines about a group, at most as many as the height.

    ``size``: width and height, both without the rule.
    """
    width, height = size
    group = _Group(view, groups, number)
    found = flow(_who(group, view.spec.group), width, 1)
    if height > 1:
        found.append(join(_verdict(group, names), width, ""))
    worst = _worst(group, names, width) if height + 1 >= WITH_WORST else []
    return [*found, *flow(_figures(group), width, max(height - len(found) - len(worst), 0)), *worst][:height]


def _counted(count: int, what: str) -> str:
    plural = {"process": "processes", "remote address": "remote addresses"}.get(what, what + "s")
    return f"{count} {what if count == 1 else plural}"


def _who(group: _Group, key: str) -> list[Piece]:
    told = group.census
    connected = told.connections - told.listeners
    pieces = [piece(group.groups.title(group.number), "title")]
    pieces += [piece(_counted(connected, "connection"), rank=1)] * (connected > 0)
    pieces += [piece(_counted(told.listeners, "listener"), rank=2)] * (told.listeners > 0)
    pieces += [piece(f"{told.closed} closed", rank=3)] * (told.closed > 0)
    pieces += [piece(_counted(told.processes, "process"), "dim", 4)] * (key != "process" and told.processes > 0)
    return pieces + [piece(_counted(told.remotes, "remote address"), "dim", 5)] * (key != "remote" and told.remotes > 0)


def _verdict(group: _Group, names: NameBook) -> list[Piece]:
    told = group.census
    if not told.bad:
        cause = group.shown("cause")
        all_of_it = "nothing bad here" if told.connections == 1 else f"none of the {told.connections} is bad"
        return [Piece((Span(cause, "dim"), Span(f": {all_of_it}", "dim")))]
    causes = ", ".join(f"{count} {name}" for name, count in told.causes)
    lead = Span(f"{told.bad} of {told.connections} bad", LEVEL_ROLES[max(group.level("score"), 0)])
    return [Piece((lead, Span(f": {causes}"))), piece(f"; the worst: {_named(group, told, 0, names)}", "dim", 1)]


def _named(group: _Group, told: Census, place: int, names: NameBook) -> str:
    row = RowText(row_of(group.groups.flows, told.worst[place]), group.groups.flows)
    whom = row.shown("process")
    return f"{whom} {row.end('local', names)}" if row.listens else f"{whom} -> {row.end('peer', names)}"


def _worst(group: _Group, names: NameBook, width: int) -> list[Spans]:
    """Return a line for each of the worst connections: score, cause, process and peer."""
    found = []
    for place, number in enumerate(group.census.worst):
        row = RowText(row_of(group.groups.flows, number), group.groups.flows)
        lead = Span(f"{row.shown('score'):>3} {row.shown('cause')}", row.cause_role)
        retransmits = piece(f"retr {row.shown('retrans_win')}", "dim", 1)
        found.append(join([Piece((lead,)), piece(_named(group, group.census, place, names)), retransmits], width, "  "))
    return found


def _figures(group: _Group) -> list[Piece]:
    told = group.census
    listening = LISTENING if told.listeners else ()
    wanted = (*listening, *(FIGURES if told.listeners < told.connections else ()))
    return [group.figure(*one, rank) for rank, one in enumerate(wanted)]
