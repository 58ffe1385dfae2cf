"""Draw the summary of the host above the table: sockets, retransmissions, throughput and warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tcptop_ops import text
from tcptop_ops.model.enums import SHORT_STATES
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.usage import OwnCost
from tcptop_ops.widgets.base.line_widget import LineWidget, Piece, Span, Spans, join, piece, width_of

BAR = Span(" | ", "dim")
BAR_WIDTH = len(BAR.text)
LEAST_NOTE = 20
"""Minimum room for a note, in characters; with less it is left out."""

LAST = 100
"""More than the rank of any piece."""


@dataclass(frozen=True)
class HeaderStatus:
    """What the app knows in addition to the flows."""

    host: str = ""
    delay_s: float = 1.0
    own: OwnCost | None = None
    terminal_per_s: float = float("nan")  # bytes per second written to the terminal
    program_ns_per_s: float = float("nan")  # time that the kernel spends in the BPF program
    program_calls_per_s: float = float("nan")
    own_shown: bool = False  # whether the line about this program's own cost is shown
    following: bool = False  # the cursor follows the row with the highest score
    behind_s: float | None = None  # seconds that the display is behind; None: not paused
    failure: str = ""  # error message of a source that has failed
    notice: str = ""  # why the last key had no effect
    findings: int = 0  # how many are told below the summary, where its third line would be
    replayed: str = ""  # description of the recording, shown in place of the delay


class Summary(LineWidget):
    """The lines above the table."""

    def __init__(self, status: HeaderStatus, *, id: str | None = None) -> None:
        """Take the status to show until the first tick."""
        super().__init__(id=id)
        self._flows: Flows | None = None
        self._status = status

    def show(self, flows: Flows | None, status: HeaderStatus) -> None:
        """Show these flows (None before the first tick) and this status."""
        self._flows, self._status = flows, status
        self.redraw()

    def make_lines(self, width: int, height: int) -> list[Spans]:
        """Return three lines, or two where findings follow; one if the height is less. Then the own cost, if wanted.

        Where findings follow, warnings and notes stand in the second line, beside the states or in their place.
        """
        flows, status = self._flows, self._status
        own = [_own(flows, status, width)] if status.own_shown else []
        if height - len(own) < 2:
            return [_one_line(flows, status, width), *own]
        if status.findings:
            return [_who(flows, status, width), _health(flows, width, status), *own]
        return [_who(flows, status, width), _health(flows, width), _news(flows, status, width), *own]


def seconds(value: float) -> str:
    """Format a delay as it is given on the command line: ``1s``, ``0.5s``."""
    return f"{value:g}s"


def _groups(groups: list[list[Piece]], width: int) -> Spans:
    """Join groups of pieces, with a bar between groups."""
    flat: list[Piece] = []
    for group in groups:
        first = True
        for one in group:
            lead = (BAR,) if first and flat else (Span(" "),) if flat else ()
            flat.append(Piece((*lead, *one.spans), one.rank))
            first = False
    return join(flat, width, "")


def _badges(flows: Flows, status: HeaderStatus) -> list[Piece]:
    found = []
    if status.behind_s is not None:
        behind = f" {status.behind_s:.0f}s behind" if status.behind_s >= 0.5 else ""
        found.append(piece(f" PAUSED{behind} ", "badge"))
    if flows.mark is not None:
        ago = (flows.snapshot.now_ns - flows.mark.at_ns) / 1e9
        found.append(piece(f" SINCE MARK {text.duration(ago)} ", "badge"))
    if status.following:
        found.append(piece(" FOLLOWING ", "badge"))
    return found


def _own(flows: Flows | None, status: HeaderStatus, width: int) -> Spans:
    """Return the line about this program's own cost: CPU, memory, terminal output and time in the kernel."""
    own = status.own
    if flows is None or own is None:
        return (Span("self: measured from the next tick on", "dim"),)
    told = [
        f"self: {text.percent(own.cpu_pct)}% CPU",
        f"poll {text.duration(flows.snapshot.poll_s)}",
        f"screen {text.percent(own.thread_pct)}%",
        f"{text.si(own.rss_bytes)}B memory",
        f"{text.si(status.terminal_per_s)}B/s to the terminal",
    ]
    calls, spent = status.program_calls_per_s, status.program_ns_per_s
    if not math.isnan(spent):
        each = f", {text.duration(spent / calls / 1e9)} each" if calls > 0 else ""
        told.append(f"in the kernel {text.duration(spent / 1e9)}/s: {text.si(calls)} calls/s{each}")
    return _groups([[piece(one, "dim", rank)] for rank, one in enumerate(told)], width)


def _source(flows: Flows, status: HeaderStatus) -> str:
    snapshot = flows.snapshot
    mode = f":{snapshot.callbacks_mode}" if snapshot.callbacks_mode else ""
    return f"{snapshot.source}{mode} {status.replayed or seconds(status.delay_s)}"


def _sockets(flows: Flows) -> Piece:
    count = flows.totals.connections
    return Piece((Span(str(count), "title"), Span(" socket" if count == 1 else " sockets")))


def _who(flows: Flows | None, status: HeaderStatus, width: int) -> Spans:
    host = [piece(text.shorten(text.printable(status.host), 24), "title", 3)] if status.host else []
    if flows is None:
        return _groups([host, [piece("starting ...", "dim")]], width)
    counts = [_sockets(flows)]
    if flows.snapshot.namespaces > 1:
        counts.append(piece(f"{flows.snapshot.namespaces} netns", rank=5))
    if flows.seconds > 0:
        opened, closed = (text.si(n / flows.seconds) for n in (flows.totals.opened, flows.totals.closed))
        counts.append(piece(f"+{opened} -{closed}/s", rank=2))
    me = [] if status.own is None else [piece(f"self {text.percent(status.own.cpu_pct)}%", "dim", 4)]
    if me and not math.isnan(status.terminal_per_s):
        me.append(piece(f"{text.si(status.terminal_per_s)}B/s", "dim", 6))
    return _groups([[*host, piece(_source(flows, status), rank=1)], counts, me, _badges(flows, status)], width)


def _retransmits(flows: Flows) -> list[Piece]:
    totals = flows.totals
    if flows.seconds <= 0:
        return [piece("retr -/s RTO -/s", "dim")]
    share = "" if math.isnan(totals.retrans_pct) else f" {text.percent(totals.retrans_pct)}%"
    quiet = "plain" if totals.retrans_per_s > 0 or totals.retrans_pct > 0 else "dim"
    return [
        piece(f"retr {text.si(totals.retrans_per_s)}/s{share}", quiet),
        piece(f"RTO {text.si(totals.rto_per_s)}/s", "dim" if totals.rto_per_s == 0 else "plain"),
    ]


def _health(flows: Flows | None, width: int, status: HeaderStatus | None = None) -> Spans:
    """Return the states and the retransmits. ``status``: with what the third line tells, as there is none."""
    if flows is None:
        return ()
    states = sorted(flows.totals.by_state.items(), key=lambda item: (item[0] != "ESTAB", item[0] != "LISTEN", item[0]))
    counts = [
        Piece((Span(SHORT_STATES.get(name, name) + " ", "dim"), Span(str(count))), 2 + rank)
        for rank, (name, count) in enumerate(states)
    ]
    window = piece(f"{flows.window_s:g}s win", "dim", 1)
    usual = [counts, [*_retransmits(flows), window]]
    if status is None:
        return _groups(usual, width)
    warnings = _warnings(flows, status)
    if warnings:
        usual = [[one._replace(rank=one.rank + LAST) for one in group] for group in usual]
    told = [[one] for one in warnings] + usual + [[_throughput(flows)._replace(rank=2 * LAST)]]
    room = width - sum(width_of(one.spans) + BAR_WIDTH for group in told for one in group)
    notes = _notes(flows, room) if room >= LEAST_NOTE else []
    return _groups([*told, notes], width)


def _warnings(flows: Flows, status: HeaderStatus) -> list[Piece]:
    found = []
    if status.failure:
        found.append(piece(f"! {text.printable(status.failure)}", "bad"))
        found.append(piece("(the last picture stays; q quits)", "bad", 6))
    untracked = int(flows.snapshot.counters["untracked"])
    if untracked:
        found.append(piece(f"! {text.count(untracked)} untracked, map full: --map-size", "bad", 1))
    if status.notice:
        found.insert(0, piece(text.printable(status.notice), "warn"))
    return found


def _throughput(flows: Flows) -> Piece:
    if flows.seconds <= 0:
        return piece("tx -  rx -", "dim", 2)
    tx, rx = flows.totals.tx_bytes_per_s, flows.totals.rx_bytes_per_s
    return Piece((Span("tx ", "dim"), Span(f"{text.si(tx)}B/s"), Span("  rx ", "dim"), Span(f"{text.si(rx)}B/s")), 2)


def _notes(flows: Flows, room: int) -> list[Piece]:
    """Return the first note of the source, shortened to the room, and the number of further ones."""
    notes = flows.snapshot.notes
    if not notes:
        return []
    more = f" (+{len(notes) - 1})" if len(notes) > 1 else ""
    return [piece(text.shorten(text.printable(notes[0]), max(room - len(more), 1)) + more, rank=3)]


def _news(flows: Flows | None, status: HeaderStatus, width: int) -> Spans:
    if flows is None:
        return ()
    if status.failure:
        return _groups([_warnings(flows, status)], width)
    told = [*_warnings(flows, status), _throughput(flows)]
    room = width - sum(width_of(one.spans) + BAR_WIDTH for one in told)
    notes = _notes(flows, room) if room >= LEAST_NOTE else []
    return _groups([[one] for one in told] + [notes], width)


def _one_line(flows: Flows | None, status: HeaderStatus, width: int) -> Spans:
    if flows is None:
        return _who(flows, status, width)
    warnings = [one if one.rank > 1 else one._replace(rank=0) for one in _warnings(flows, status)]
    retransmits = [one._replace(rank=1 + i) for i, one in enumerate(_retransmits(flows))]
    host = [piece(_source(flows, status), rank=4)]
    throughput = [_throughput(flows)._replace(rank=3)]
    found = []
    if status.findings:
        words = "! 1 finding" if status.findings == 1 else f"! {status.findings} findings"
        found = [Piece((Span(words, "bad", "screen.finding"), Span(" [f]", "dim", "screen.finding")))]
    told = [_badges(flows, status) + warnings, found, [_sockets(flows)], retransmits, throughput, host]
    return _groups(told, width)
