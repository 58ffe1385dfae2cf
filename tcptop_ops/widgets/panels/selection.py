"""Describe the selected row in a few lines below the table: what it is, its verdict, its figures, and their history.

Groups are described by ``group_story``.
"""

from __future__ import annotations

from tcptop_ops import text
from tcptop_ops.dns.name_book import NOBODY, NameBook
from tcptop_ops.tracking.history import Series
from tcptop_ops.views.view import View
from tcptop_ops.widgets.base.charts import BLOCKS, ChartCharacters, greatest, spark
from tcptop_ops.widgets.base.line_widget import LineWidget, Piece, Span, Spans, flow, join, piece
from tcptop_ops.widgets.base.row_text import RowText, other_end, verdict, who
from tcptop_ops.widgets.panels import group_selection
from tcptop_ops.widgets.table.cell_text import existing

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
"""Label, columns, separator, unit; the most important first. ``of`` separates the window's value from the total."""

LISTENER_FIGURES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("queue", ("backlog", "backlog_max"), " of ", ""),
    ("drops", ("drops",), "", ""),
    ("SYN-RECV", ("syn_recv",), "", ""),
)
"""As FIGURES, for listeners."""


ROOMY = 64
"""Width from which the local endpoint is shown too."""

FILTER = "filter: "
LEAST_FILTER = 16
"""Characters of the filter that have precedence over the position in the list."""

SPARK_LINES = 2
WITH_SPARKS = 7
"""Height from which there are sparklines."""

SPARKS = (("srtt", "srtt_us"), ("cwnd", "cwnd"), ("retr", "retrans_per_s"), ("tx", "tx_bytes_per_s"))
"""Label, and the column whose present value is shown behind the sparkline; two per line."""


class SelectionPanel(LineWidget):
    """A rule with the position in the list, the process and its endpoints, the verdict, and as many figures as fit."""

    def __init__(self, drawn: ChartCharacters = BLOCKS, *, id: str | None = None) -> None:
        """Take the characters of sparklines."""
        super().__init__(id=id)
        self._drawn = drawn
        self._view: View | None = None
        self._position: int | None = None
        self._series: Series | None = None
        self._binding = ""
        self._names = NOBODY

    def name_by(self, names: NameBook) -> None:
        """Show these names from now on."""
        self._names = names
        self.redraw()

    def show(self, view: View, position: int | None, series: Series | None = None, binding: str = "") -> None:
        """Show the row at this position of the view, None for nothing, with its history.

        ``binding``: what limits a listener's queue, see ``row.verdict``.
        """
        self._view, self._position, self._series, self._binding = view, position, series, binding
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return the lines; the rule is drawn even if nothing is selected."""
        view, position = self._view, self._position
        if view is None:
            return [(_line("", width),)]
        if position is None:
            return [_rule(view, (), width)]
        place = f"{position + 1} of {len(view)}"
        hidden = " and ".join(_hidden(view))
        grouped = f", grouped by {view.spec.group}" if view.groups is not None else ""
        full = f"{place}, by {view.spec.sort.title.split()[0]}{grouped}{f', {hidden} hidden' if hidden else ''}"
        rule = _rule(view, (full, place), width)
        number = view.group_at(position)
        if view.groups is not None and number is not None:
            return [rule, *group_selection.lines(view, view.groups, number, (width, height - 1), self._names)]
        row = RowText.of(view, position)
        both = [*who(row, width >= ROOMY, self._names), *other_end(row)]
        lines = [rule, *flow(both, width, 1)]
        left = height - len(lines)
        if left > 1 or row.cause.rule is not None:
            lines.append(join(verdict(row, self._binding), width, ""))
            left -= 1
        sparks = self._sparks(row, width) if height >= WITH_SPARKS and not row.listens else []
        return [*lines, *flow(_figures(row), width, max(left - len(sparks), 0)), *sparks][:height]

    def _sparks(self, row: RowText, width: int) -> list[Spans]:
        series = self._series
        if series is None:
            return []
        values = (series.srtt_us, series.cwnd, series.retrans, series.tx)
        room = max((width - 2) // 2 - 12, 1)
        pieces = []
        for (label, column), one in zip(SPARKS, values, strict=True):
            numbers = one.tolist()
            role = "warn" if label == "retr" and greatest(numbers) > 0 else "graph"
            shown = spark(numbers, min(room, 60), self._drawn).ljust(room)
            pieces.append((Span(f"{label:<5}", "dim"), Span(shown, role), Span(f" {row.shown(column):<6}")))
        return [(*pieces[at], Span("  "), *pieces[at + 1]) for at in range(0, 2 * SPARK_LINES, 2)]


def _rule(view: View, places: tuple[str, ...], width: int) -> Spans:
    """Return the rule: the filter, its count, and the position in the list.

    Of ``places``, long and short, it takes the first that leaves room for the filter, or none.
    """
    wanted = view.spec.filter
    if wanted is None:
        return (_line(places[0] if places else "", width),)
    written, count = text.printable(" ".join(wanted.text.split())), f"   {view.connections} of {existing(view)} "
    room = width - len(FILTER) - len(count)
    place = next((one for one in places if room - len(_end_of(one)) >= min(len(written), LEAST_FILTER)), "")
    shown = text.shorten(written, max(room - len(_end_of(place)), 0))
    return (Span(FILTER, "dim"), Span(shown, "title"), Span(count), _line(place, room - len(shown)))


def _hidden(view: View) -> list[str]:
    spec = view.spec
    return ["closed"] * (not spec.show_closed) + ["loopback"] * (not spec.show_loopback)


def _line(place: str, width: int) -> Span:
    return Span(_end_of(place).rjust(width, "-"), "dim")


def _end_of(place: str) -> str:
    return f"- {place} --" if place else "--"


def _figures(row: RowText) -> list[Piece]:
    pieces = []
    for rank, (label, names, between, unit) in enumerate(LISTENER_FIGURES if row.listens else FIGURES):
        spans = [Span(label + " ", "dim")]
        spans += [row.span(name, between * bool(i)) for i, name in enumerate(names)]
        known = spans[-1].text not in (text.DASH, text.UNKNOWN)
        pieces.append(Piece((*spans, Span(unit, "dim")) if unit and known else tuple(spans), rank))
    if row.listens:
        pieces += [piece(f"from {source}", rank=len(LISTENER_FIGURES)) for source in row.top_sources()]
    return pieces
