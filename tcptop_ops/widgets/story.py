"""The selected connection in a few lines: who it is, then its figures."""

from __future__ import annotations

from typing import Any

from tcptop_ops import format as text
from tcptop_ops.columns import find
from tcptop_ops.view import View, row_at, top_sources
from tcptop_ops.widgets.cells import existing
from tcptop_ops.widgets.lines import LEVEL_ROLES, Lines, Piece, Span, Spans, flow, piece

FIGURES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("srtt", ("srtt_us", "rttvar_us"), "/", ""),
    ("retr", ("retrans_win", "retrans_segs"), " of ", ""),
    ("rto", ("rto_us", "backoff"), " x", ""),
    ("cwnd", ("cwnd", "ssthresh"), "/", ""),
    ("lost", ("lost",), "", ""),
    ("unacked", ("unacked",), "", ""),
    ("RTOs", ("rto_win", "rto_events"), " of ", ""),
    ("min", ("min_rtt_us",), "", ""),
    ("tx", ("tx_bytes_per_s",), "", "B/s"),
    ("rx", ("rx_bytes_per_s",), "", "B/s"),
    ("busy", ("busy_pct",), "", "%"),
    ("rwnd-limited", ("rwnd_limited_pct",), "", "%"),
    ("sndbuf-limited", ("sndbuf_limited_pct",), "", "%"),
)
"""Label, columns, what stands between them, unit; the most telling first. ``of``: within the window, of the total."""

LISTENER_FIGURES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("queue", ("backlog", "backlog_max"), " of ", ""),
    ("drops", ("drops",), "", ""),
    ("SYN-RECV", ("syn_recv",), "", ""),
)

ROOMY = 64
"""Width from which the local address is told too."""

FILTER = "filter: "
LEAST_FILTER = 16
"""Characters of a filter that are worth more than the place in the list."""


class Story(Lines):
    """A rule with the place in the list, the line who, and the figures in what is left of the height."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: View | None = None
        self._position: int | None = None

    def show(self, view: View, position: int | None) -> None:
        """Show the row at this position; none: an empty place."""
        self._view, self._position = view, position
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """The rule is there even when nothing is selected."""
        view, position = self._view, self._position
        if view is None:
            return [(_line("", width),)]
        if position is None:
            return [_rule(view, (), width)]
        place = f"{position + 1} of {len(view)}"
        full = f"{place}, by {view.spec.sort.title.split()[0]}{'' if view.spec.show_closed else ', closed hidden'}"
        row = _Row(view, position)
        who = flow(_who(row, width >= ROOMY), width, 1)
        return [_rule(view, (full, place), width), *who, *flow(_figures(row), width, max(height - 2, 0))]


def _rule(view: View, places: tuple[str, ...], width: int) -> Spans:
    """The place in the list, and the filter before it; the shorter place, or none, where the filter needs the room."""
    wanted = view.spec.filter
    if wanted is None:
        return (_line(places[0] if places else "", width),)
    written, count = text.printable(" ".join(wanted.text.split())), f"   {len(view)} of {existing(view)} "
    room = width - len(FILTER) - len(count)
    place = next((one for one in places if room - len(_end_of(one)) >= min(len(written), LEAST_FILTER)), "")
    shown = text.shorten(written, max(room - len(_end_of(place)), 0))
    return (Span(FILTER, "dim"), Span(shown, "title"), Span(count), _line(place, room - len(shown)))


def _line(place: str, width: int) -> Span:
    return Span(_end_of(place).rjust(width, "-"), "dim")


def _end_of(place: str) -> str:
    return f"- {place} --" if place else "--"


class _Row:
    """One row of a view, read column by column."""

    def __init__(self, view: View, position: int) -> None:
        self._flows = view.flows
        self._rows = row_at(view, position)
        self.closed = view.is_closed(position)
        self.state = self.value("state").decode()

    def value(self, name: str) -> Any:
        """The raw value."""
        return find(name).read(self._rows, self._flows).tolist()[0]

    def top_sources(self) -> list[str]:
        """Of a listener: whose handshakes are not done."""
        return [f"{text.address(packed)} x{count}" for packed, count in top_sources(self._flows, self._rows)]

    def shown(self, name: str) -> str:
        """As text."""
        return find(name).show(self.value(name))

    def span(self, name: str, before: str) -> Span:
        """As text behind other text; coloured where it is bad."""
        column, value = find(name), self.value(name)
        level = column.level(value)
        return Span(before + column.show(value), LEVEL_ROLES[level] if level > 0 else "plain")


def _who(row: _Row, roomy: bool) -> list[Piece]:
    pid = row.shown("pid")
    pieces = [piece(row.shown("process") + ("" if pid == text.DASH else f" {pid}"), "title", 1)]
    if row.state == "LISTEN":
        return [*pieces, piece(row.shown("local")), piece(row.state, rank=1)]
    here = (Span(row.shown("local")),) if roomy else ()
    pieces.append(Piece((*here, Span(" -> " if roomy else "-> ", "dim"), Span(row.shown("peer")))))
    pieces.append(_end(row) if row.closed else piece(row.state, rank=1))
    if row.shown("owner") == "listener":
        pieces.append(piece("not accepted yet", "warn", 2))
    for name, label, rank in (("direction", "", 4), ("age_s", "age ", 2), ("cc", "", 3)):
        value = row.shown(name)
        if value != text.DASH:
            pieces.append(Piece((Span(label, "dim"), Span(value)) if label else (Span(value),), rank))
    return pieces


def _end(row: _Row) -> Piece:
    end = row.shown("end")
    return piece(f"{'closed' if end == text.DASH else end} {row.shown('closed_s')} ago", "warn", 1)


def _figures(row: _Row) -> list[Piece]:
    pieces = []
    for rank, (label, names, between, unit) in enumerate(LISTENER_FIGURES if row.state == "LISTEN" else FIGURES):
        spans = [Span(label + " ", "dim")]
        spans += [row.span(name, between * bool(i)) for i, name in enumerate(names)]
        known = spans[-1].text not in (text.DASH, text.UNKNOWN)
        pieces.append(Piece((*spans, Span(unit, "dim")) if unit and known else tuple(spans), rank))
    if row.state == "LISTEN":
        pieces += [piece(f"from {source}", rank=len(LISTENER_FIGURES)) for source in row.top_sources()]
    return pieces
