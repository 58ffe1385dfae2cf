"""The selected connection in a few lines: who it is, then its figures."""

from __future__ import annotations

from tcptop_ops import format as text
from tcptop_ops.columns import find
from tcptop_ops.view import View
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
)


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
        if view is None or position is None:
            return [_rule("", width)]
        place = f"{position + 1} of {len(view)}, by {view.spec.sort.title.split()[0]}"
        if not view.spec.show_closed:
            place += ", closed hidden"
        who = flow(_who(view, position, width >= ROOMY), width, 1)
        return [_rule(place, width), *who, *flow(_figures(view, position), width, max(height - 2, 0))]


ROOMY = 64
"""Columns from which the local address is told too."""

WHO = ("process", "pid", "local", "peer", "direction", "age_s", "cc", "end")


def _rule(place: str, width: int) -> Spans:
    right = f" {place} --" if place else ""
    return (Span("-" * max(width - len(right), 0) + right, "dim"),)


def _value(view: View, position: int, name: str) -> tuple[str, int]:
    column = find(name)
    value = view.values(column, position, position + 1)[0]
    return column.show(value), column.level(value)


def _who(view: View, position: int, roomy: bool) -> list[Piece]:
    shown = {name: _value(view, position, name)[0] for name in WHO}
    state = view.values(find("state"), position, position + 1)[0].decode()
    owner = shown["process"] if shown["pid"] == text.DASH else f"{shown['process']} {shown['pid']}"
    pieces = [piece(owner, "title", 1)]
    if state == "LISTEN":
        return [*pieces, piece(shown["local"]), piece(state, rank=1)]
    here = (Span(shown["local"]),) if roomy else ()
    pieces.append(Piece((*here, Span(" -> " if roomy else "-> ", "dim"), Span(shown["peer"]))))
    if view.is_closed(position):
        ago, _ = _value(view, position, "closed_s")
        pieces.append(piece(f"{'closed' if shown['end'] == text.DASH else shown['end']} {ago} ago", "warn", 1))
    else:
        pieces.append(piece(state, rank=1))
    if shown["direction"] != text.DASH:
        pieces.append(piece(shown["direction"], rank=4))
    if shown["age_s"] != text.DASH:
        pieces.append(Piece((Span("age ", "dim"), Span(shown["age_s"])), 2))
    if shown["cc"] != text.DASH:
        pieces.append(piece(shown["cc"], rank=3))
    return pieces


def _figures(view: View, position: int) -> list[Piece]:
    listens = view.values(find("state"), position, position + 1)[0] == b"LISTEN"
    pieces = []
    for rank, (label, names, between, unit) in enumerate(LISTENER_FIGURES if listens else FIGURES):
        spans = [Span(label + " ", "dim")]
        for i, name in enumerate(names):
            shown, level = _value(view, position, name)
            spans.append(Span(between * bool(i) + shown, LEVEL_ROLES[level] if level > 0 else "plain"))
        known = spans[-1].text not in (text.DASH, text.UNKNOWN)
        pieces.append(Piece((*spans, Span(unit, "dim")) if unit and known else tuple(spans), rank))
    return pieces
