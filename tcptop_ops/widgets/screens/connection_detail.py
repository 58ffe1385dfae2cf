"""Draw the page of one connection: verdict, graphs, story, stalls, related connections, options and every column."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tcptop_ops import text
from tcptop_ops.dns.name_book import NOBODY, NameBook
from tcptop_ops.explain import connection_facts, listener_facts
from tcptop_ops.model.enums import Origin, OwnerKind
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import HAPPENING, UNKNOWN_U32, Records
from tcptop_ops.tracking.history import Series
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.widgets.base import timeline_lines
from tcptop_ops.widgets.base.charts import ChartCharacters, graph, greatest, time_axis
from tcptop_ops.widgets.base.key_bindings import listed
from tcptop_ops.widgets.base.line_widget import LEVEL_ROLES, Span, Spans, flow, piece
from tcptop_ops.widgets.base.modal import Dialog
from tcptop_ops.widgets.base.row_text import NO_THRESHOLDS, RowText, Thresholds, who
from tcptop_ops.widgets.base.scroll_page import GAP, ScrollPage, beside, heading, labelled, wrapped
from tcptop_ops.widgets.panels.key_bar import KeyBar

WIDE = 120
"""Width from which graphs and texts are side by side, in characters."""

ROOMY, TALL = 64, 40
"""Width from which there is room for two graphs side by side, and height from which graphs are higher."""

HAPPENINGS_SHOWN = 14
LABEL = 14
NAME, VALUE = 21, 10
"""Width of a field's name, and of a value short enough to have its description beside it, in characters."""

GROUPS: tuple[tuple[str, str, str], ...] = (
    ("WHO", "cookie", "uid"),
    ("HEALTH", "score", "connect_ms"),
    ("TIME", "srtt_us", "closed_s"),
    ("LOSS", "retrans_segs", "ce_in_pct"),
    ("WINDOW", "cwnd", "drops"),
    ("FLOW", "bytes_acked", "sndbuf_limited_pct"),
)
"""Sections of the list of columns: title, first and last column (in the order of COLUMNS)."""

ReadSeries = Callable[[int, int, float], Series]
"""A function that returns the graphs' data: of a cookie, a number of ticks, and the latest time.

The time is CLOCK_MONOTONIC in seconds.
"""

Somaxconn = Callable[[int], int | None]
"""A function that returns net.core.somaxconn of a network namespace (inode number); None if it is not known."""


class Detail(ScrollPage):
    """The page of one connection, found by its cookie in each tick. Once it is gone, the page keeps its last state."""

    def __init__(
        self, cookie: int, series: ReadSeries, somaxconn: Somaxconn, drawn: ChartCharacters, thresholds: Thresholds
    ) -> None:
        """Take the connection's cookie, sources of further data, characters of graphs, and the user's thresholds."""
        super().__init__(id="detail")
        self._thresholds = thresholds
        self._cookie, self._series, self._somaxconn, self._drawn = cookie, series, somaxconn, drawn
        self._row: RowText | None = None
        self._gone_s: float | None = None
        self._story: Records = np.zeros(0, HAPPENING)
        self._story_ns = 0
        self._is_watched = False
        self._names = NOBODY

    @property
    def row(self) -> RowText | None:
        """The row that is shown; None before the first ``show``, and if the connection was never found."""
        return self._row

    def turn_to(self, cookie: int) -> None:
        """Show another connection from the next ``show`` on."""
        self._cookie, self._row, self._gone_s, self._story = cookie, None, None, np.zeros(0, HAPPENING)
        self.scroll_to_top()

    def show(self, flows: Flows) -> None:
        """Update the page from a tick."""
        snapshot = flows.snapshot
        found = RowText.of_cookie(flows, self._cookie, self._thresholds)
        if found is not None:
            self._row, self._gone_s = found, None
        elif self._row is not None:
            self._gone_s = (snapshot.now_ns - self._row.flows.snapshot.now_ns) / 1e9
        if snapshot.watched == self._cookie and len(snapshot.story):
            self._story = snapshot.story
        self._story_ns = snapshot.now_ns
        self._is_watched = snapshot.watched == self._cookie
        self.redraw()

    def name_by(self, names: NameBook) -> None:
        """Show these names of its ends from now on."""
        self._names = names
        self.redraw()

    def make_page(self, width: int, height: int) -> list[Spans]:
        """Build all lines of the page; it is in two columns from WIDE characters on."""
        row = self._row
        if row is None:
            return [(Span("this connection is gone", "dim"),)]
        lines = [*self._who(row, width), *self._verdict(row, width)]
        if row.listens:
            return [*lines, *self._door(row, width), *_kin(row, width), *_fields(row, width)]
        if width < WIDE:
            tall = 6 if height >= TALL else 5
            lines += self._graphs(row, width, tall, 2 if width >= ROOMY else 1)
            for section in (self._told(row, width), self._stalls(row, width), _kin(row, width), _options(row, width)):
                lines += section
            return lines + _fields(row, width)
        half = (width - 2 * GAP) // 2
        tall = max((height - len(lines) - 2) // 4, 5) if height < TALL else 8
        left = self._graphs(row, half, tall, 1)
        right: list[Spans] = []
        for section in (self._told(row, half), self._stalls(row, half), _kin(row, half), _options(row, half)):
            right += section
        return [*lines, *beside(left, right, half + GAP), *_fields(row, width)]

    def _who(self, row: RowText, width: int) -> list[Spans]:
        lines = flow(who(row, width >= ROOMY, self._names), width, 1)
        rest = [
            piece(f"{label} {shown}", "dim", rank)
            for rank, (label, name) in enumerate(
                (
                    ("user", "user"),
                    ("service", "service"),
                    ("netns", "netns"),
                    ("origin", "origin"),
                    ("cgroup", "cgroup"),
                )
            )
            if (shown := text.shorten(row.shown(name), 40)) not in (text.UNKNOWN, text.DASH)
        ]
        if self._gone_s is not None:
            rest.insert(0, piece(f"no longer listed since {text.duration(self._gone_s)}: as it was last", "warn"))
        lines += flow(rest, width, 1) if rest else []
        end = connection_facts.other_end(row.rows, row.flows)
        if end is not None:
            lines += labelled(end.label, f"{end.words} (b: go there)", width, LABEL)
        return lines

    def _verdict(self, row: RowText, width: int) -> list[Spans]:
        score, cause = row.shown("score"), row.cause
        lines: list[Spans] = [heading("VERDICT", width, f"score {score}")]
        words = ", ".join(row.evidence())
        lines += labelled(cause.name, words or cause.means, width, max(len(cause.name) + 2, LABEL))
        lines[1] = (Span(lines[1][0].text, row.cause_role if cause.rule else "title"), *lines[1][1:])
        if cause.rule is not None:
            lines += labelled("  means", cause.means, width, LABEL)
            lines += labelled("  what to do", cause.remedy, width, LABEL)
        return lines

    def _graphs(self, row: RowText, width: int, tall: int, across: int) -> list[Spans]:
        until = row.flows.snapshot.now_ns / 1e9
        each = (width - GAP * (across - 1)) // across
        series = self._series(self._cookie, each, until)
        retrans = series.retrans.tolist()
        received = greatest(series.rx.tolist()) > greatest([0.0, *series.tx.tolist()])
        flow_title, flow_values = ("received", series.rx) if received else ("sent", series.tx)
        drawn = [
            graph("srtt", series.srtt_us.tolist(), _us, (each, tall), self._drawn),
            graph("cwnd, segments", series.cwnd.tolist(), text.si, (each, tall), self._drawn),
            graph(
                "retransmits a second",
                retrans,
                text.si,
                (each, tall),
                self._drawn,
                "warn" if greatest(retrans) > 0 else "graph",
            ),
            graph(f"{flow_title}, bytes a second", flow_values.tolist(), text.si, (each, tall), self._drawn),
        ]
        span = f"{series.ago_s[0]:.0f} s, a tick a character" if len(series) else "from the next tick on"
        lines = [heading("GRAPHS", width, span)]
        for at in range(0, len(drawn), across):
            lines += beside(drawn[at], drawn[at + 1], each) if across == 2 else drawn[at]
        axis = time_axis(series.ago_s.tolist(), each)
        return [*lines, *(beside([axis], [axis], each) if across == 2 else [axis])]

    def _told(self, row: RowText, width: int) -> list[Spans]:
        is_listed = int(row.rows.events["origin"][0]) == Origin.LISTED
        why_none = (
            timeline_lines.LISTED
            if is_listed
            else timeline_lines.NOTHING
            if self._is_watched
            else timeline_lines.UNASKED
        )
        return [
            heading("STORY", width, "seconds"),
            *timeline_lines.draw(self._story, self._story_ns, width, HAPPENINGS_SHOWN, why_none),
        ]

    def _stalls(self, row: RowText, width: int) -> list[Spans]:
        ledger = connection_facts.stalls(row.rows, row.flows, self._story)
        share = "" if math.isnan(ledger.share_pct) else f"{text.percent(ledger.share_pct)} % of its life"
        parts = (
            ("timeouts", ledger.timeouts_us),
            ("SYN retries", ledger.syn_us),
            ("zero window", ledger.zero_window_us),
        )
        lines = [heading("STOOD STILL", width, share)]
        lines.append(
            tuple(
                span
                for label, value in parts
                for span in (Span(f"{label} ", "dim"), Span(f"{_us(value)}   ", "warn" if value else "dim"))
            )
        )
        if ledger.probes:
            lines.append((Span("tail-loss probes ", "dim"), Span(f"{ledger.probes}, two round trips each at least")))
        return lines

    def _door(self, row: RowText, width: int) -> list[Spans]:
        door = listener_facts.accept_queue(row.rows, row.flows, OwnerKind.LISTENER)
        full = f", over its limit for {text.duration(door.full_s)}" if door.full_s else ""
        in_all = "" if door.drops == UNKNOWN_U32 else f", {text.count(door.drops)} in all"
        sources = ", ".join(row.top_sources())
        dropped = f"{text.si(door.drops_per_s)}/s within {door.win_s:.0f} s{in_all}"
        known = self._somaxconn(int(row.rows.sockets["netns"][0]))
        told = (
            ("queue", f"{door.queue} of {door.limit}{full}", "bad" if door.full_s else "plain"),
            ("limit", listener_facts.binds(door.limit, known), "plain"),
            ("dropped", dropped, "bad" if door.drops_win else "plain"),
            ("handshakes", f"{text.si(door.opened_per_s)}/s completed and still listed", "plain"),
            ("waiting", f"{door.waiting} connections that no process holds yet", "warn" if door.waiting else "plain"),
            ("open", f"{door.inside} connections that came in here", "plain"),
            ("SYN-RECV", f"{door.syn_recv}{f', from {sources}' if sources else ''}", "plain"),
        )
        lines = [heading("QUEUE", width)]
        for label, words, role in told:
            lines += labelled(label, words, width, LABEL, role)
        return lines


def _us(value: float) -> str:
    return text.duration(value / 1e6)


def _kin(row: RowText, width: int) -> list[Spans]:
    lines = [heading("SHARED FATE", width)]
    for one in connection_facts.related(row.rows, row.flows):
        causes = ", ".join(f"{count} {name}" for name, count in one.causes) or "none of them bad"
        words = f"{one.count} flows {one.what}: {causes}"
        lines += wrapped(words, width, "plain" if one.causes else "dim")
    return lines if len(lines) > 1 else [*lines, (Span("no other flow to this prefix, or of this process", "dim"),)]


def _options(row: RowText, width: int) -> list[Spans]:
    words = connection_facts.options(row.rows, row.flows)
    pieces = [piece(f"{name}: {value}", "dim" if value == "no" else "plain") for name, value in words]
    rows = flow(pieces, width, len(pieces))
    lines = [line for line in rows if line]
    return [heading("NEGOTIATED", width), *(lines or [(Span("nothing yet: no peer has answered", "dim"),)])]


def _fields(row: RowText, width: int) -> list[Spans]:
    """List every column with its description; in two columns if there is room."""
    across = 2 if width >= WIDE else 1
    each = (width - GAP * (across - 1)) // across
    lines: list[Spans] = []
    for title, first, last in GROUPS:
        columns = COLUMNS[COLUMNS.index(find(first)) : COLUMNS.index(find(last)) + 1]
        lines.append(heading(title, width))
        middle = (len(columns) + 1) // 2 if across == 2 else len(columns)
        left, right = (
            [line for one in part for line in _field(row, one, each)] for part in (columns[:middle], columns[middle:])
        )
        lines += beside(left, right, each) if across == 2 else left
    return lines


def _field(row: RowText, column: Column, width: int) -> list[Spans]:
    """Return a column's name, value and description, wrapped to the width."""
    value, level = text.shorten(row.shown(column.id), max(width - NAME, 1)), row.level(column.id)
    lead = (
        Span(text.shorten(column.alias or column.id, NAME - 1).ljust(NAME), "dim"),
        Span(value.ljust(VALUE), LEVEL_ROLES[level] if level > 0 else "plain"),
    )
    if width < ROOMY:
        return [lead, *wrapped(column.help, width, "dim", 2)]
    if len(value) < VALUE:
        means = wrapped(column.help, width - NAME - VALUE, "dim") or [()]
        return [(*lead, *means[0]), *((Span(" " * (NAME + VALUE)), *line) for line in means[1:])]
    if len(value) + NAME + 2 + len(column.help) <= width:
        return [(*lead, Span(f"  {column.help}", "dim"))]
    return [lead, *((Span(" " * (NAME + VALUE)), *line) for line in wrapped(column.help, width - NAME - VALUE, "dim"))]


class DetailScreen(Dialog[None]):
    """The screen of the page and its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss(None)", "Back", id="detail.close"),
        Binding("j,down", "scroll(1)", "Down", id="detail.down"),
        Binding("k,up", "scroll(-1)", "Up", id="detail.up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="detail.page_down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="detail.page_up"),
        Binding("home", "top", "To the top", show=False, id="detail.top"),
        Binding("e", "app.explain_cause", "Explain", id="detail.explain"),
        Binding("b", "app.other_end", "Other end", id="detail.other_end"),
        Binding("o", "app.operators", "Operators", id="detail.operators"),
        Binding("y", "app.elsewhere", "Filters for other tools", id="detail.elsewhere"),
        Binding("n", "app.names", "Names", show=False, id="detail.names"),
        Binding("space", "app.pause", "Pause", id="detail.pause"),
        Binding("question_mark,f1", "app.help", "Help", id="detail.help"),
    ]

    def __init__(
        self,
        flows: Flows,
        cookie: int,
        series: ReadSeries,
        somaxconn: Somaxconn,
        drawn: ChartCharacters,
        thresholds: Thresholds = NO_THRESHOLDS,
    ) -> None:
        """Take the tick to show first; the rest is passed to ``Detail``."""
        super().__init__()
        self._flows = flows
        self._page = Detail(cookie, series, somaxconn, drawn, thresholds)

    def compose(self) -> ComposeResult:
        """Yield the page and the key bar."""
        yield self._page
        yield KeyBar()

    def on_mount(self) -> None:
        """Show the first tick and the keys."""
        self._page.show(self._flows)
        self.query_one(KeyBar).show(listed(self.active_bindings))

    def show(self, flows: Flows) -> None:
        """Update the page from a tick."""
        self._page.show(flows)

    def turn_to(self, cookie: int, flows: Flows) -> None:
        """Show another connection from now on, beginning with this tick."""
        self._page.turn_to(cookie)
        self._page.show(flows)

    def name_by(self, names: NameBook) -> None:
        """Show these names from now on."""
        self._page.name_by(names)

    @property
    def row(self) -> RowText | None:
        """The row that is shown, or None."""
        return self._page.row

    def action_scroll(self, lines: int) -> None:
        """Scroll down by this many lines; up if negative."""
        self._page.scroll_lines(lines)

    def action_page(self, pages: int) -> None:
        """Scroll down by this many screens; up if negative."""
        self._page.scroll_lines(pages * max(self._page.size.height - 1, 1))

    def action_top(self) -> None:
        """Scroll to the first line."""
        self._page.scroll_to_top()
