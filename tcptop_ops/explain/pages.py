"""Make the page about a column, a cause, an operator or a figure of the host, for ``--explain`` and screen. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

from tcptop_ops.diagnosis import host_figures, rules
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.host_figures import FIGURES, Figure
from tcptop_ops.diagnosis.host_readings import NEAR, NEARING
from tcptop_ops.diagnosis.rules import CAUSES, RULES
from tcptop_ops.errors import Usage
from tcptop_ops.explain import operators
from tcptop_ops.explain.operators import OPERATORS, Operator
from tcptop_ops.views import column_lookup
from tcptop_ops.views.column import Column
from tcptop_ops.views.columns import COLUMNS

WIDTH = 80
LABEL = 12
"""Characters of a page's left column, which holds the labels."""

CAUSE_LABELS = ("told by", "to blame", "score", "what to do", "in the code", "order", "shared", "see also", "filter")
MORE_LABELS = ("kernel", "colours", "sort", "arguments", "asked by", "tells", "not seen", "counts", "on screen")
LABELS = frozenset((*CAUSE_LABELS, *MORE_LABELS, "in JSON"))

KERNEL_FIELDS = {
    "srtt_us": "tcpi_rtt",
    "rttvar_us": "tcpi_rttvar",
    "min_rtt_us": "tcpi_min_rtt",
    "pacing_bytes_per_s": "tcpi_pacing_rate",
    "last_rtt_us": "rack.rtt_us of struct tcp_sock",
    "rto_us": "tcpi_rto",
    "backoff": "tcpi_backoff",
    "retrans_segs": "tcpi_total_retrans",
    "retrans_win": "tcpi_total_retrans",
    "retrans_per_s": "tcpi_total_retrans",
    "retrans_pct": "tcpi_total_retrans and tcpi_data_segs_out",
    "rto_events": "tcpi_total_rto (since 6.7), else RTO_CB",
    "rto_win": "tcpi_total_rto (since 6.7), else RTO_CB",
    "lost": "tcpi_lost",
    "sacked": "tcpi_sacked",
    "dsack_dups": "tcpi_dsack_dups",
    "reord_seen": "tcpi_reord_seen",
    "ooo_in": "tcpi_rcv_ooopack",
    "ecn_mode": "tcpi_ecn_mode (since 7.2), else tcpi_options",
    "ce_pct": "tcpi_delivered_ce and tcpi_delivered",
    "ce_in_pct": "tcpi_received_ce (since 6.18) and tcpi_data_segs_in",
    "cwnd": "tcpi_snd_cwnd",
    "ssthresh": "tcpi_snd_ssthresh",
    "mss": "tcpi_snd_mss",
    "snd_wnd": "tcpi_snd_wnd",
    "rcv_wnd": "tcpi_rcv_wnd",
    "unacked": "tcpi_unacked",
    "notsent": "tcpi_notsent_bytes",
    "recv_q": "idiag_rqueue",
    "send_q": "idiag_wqueue",
    "cookie": "idiag_cookie",
    "inode": "idiag_inode",
    "bytes_acked": "tcpi_bytes_acked",
    "bytes_received": "tcpi_bytes_received",
    "tx_bytes_per_s": "tcpi_bytes_acked",
    "rx_bytes_per_s": "tcpi_bytes_received",
    "delivery_bytes_per_s": "tcpi_delivery_rate",
    "busy_pct": "tcpi_busy_time",
    "rwnd_limited_pct": "tcpi_rwnd_limited",
    "sndbuf_limited_pct": "tcpi_sndbuf_limited",
    "drops": "sk_drops",
    "cc": "icsk_ca_ops->name",
}
"""Where a column's value comes from, by id: struct tcp_info (include/uapi/linux/tcp.h), inet_diag, or the socket."""

MORE = {
    "score": "The severity of the rule that named the cause. It rises at once and halves in ten seconds, so that a"
    " fault does not flicker. The table is sorted by it. What merely limits a healthy flow (see limit) scores nothing.",
    "cause": "The first of the rules that matches, over the recent window. Each has a page of its own.",
    "blame": "network: the path. peer: the process at the other end. app: the own process. host: the configuration or"
    " load of this host. Each cause has one; a verdict that is no fault has none.",
    "limit": "peer: the peer's receive window. sndbuf: the own send buffer. cwnd: the congestion window, so the"
    " network. app: the application has no more to send. rwnd: the window that we offer is full. nagle: a small write"
    " waits for the acknowledgement of the one before, 40 ms where the peer delays it: set TCP_NODELAY, or write once."
    " pacing: SO_MAX_PACING_RATE, or the rate of BBR. None is a fault.",
    "stall_ms": "Waiting for retransmission timeouts, SYNs included, and at a shut window. Tail-loss probes are not in"
    " it.",
    "srtt_us": "An average in which the newest sample counts an eighth (RFC 6298). In SYN-SENT there is none yet.",
    "min_rtt_us": "What the path takes when no queue is full. srtt far above it, with data in flight, is a queue. The"
    " kernel forgets its minimum after net.ipv4.tcp_min_rtt_wlen, 300 s: here it is the least since the row was seen.",
    "pacing_bytes_per_s": "Kept where SO_MAX_PACING_RATE is set, by BBR, and by the queueing discipline fq; elsewhere"
    " it is only worked out. Null where there is no limit.",
    "last_rtt_us": "One sample: it jumps. srtt is the calm figure.",
    "rto_us": "srtt + max(4 rttvar, 200 ms) on Linux. After each timeout it doubles: see backoff.",
    "backoff": "The early retries of a SYN do not back off (net.ipv4.tcp_syn_linear_timeouts). Probes of a shut window"
    " do.",
    "retrans_win": "Segments, not calls: one call may send several. Tail-loss probes and SYNs count. x sorts by it.",
    "retrans_pct": "Null under 20 segments: a share of almost nothing says nothing. Half a percent hurts a long path.",
    "rto_win": "Each is a time in which nothing moved; the first costs 200 ms or more, each further one twice as much.",
    "dsack_dups": "A duplicate that the peer tells of (RFC 2883): what was sent again had arrived.",
    "reord_seen": "A segment was acknowledged after a later one, without having been sent again.",
    "ooo_in": "What a receiver sees of loss: the peer's retransmits are not counted on this side.",
    "ecn_mode": "ecn: RFC 3168, which reports one mark a round trip. accecn: accurate ECN (RFC 9768), which counts all"
    " of them. pending: the handshake asks for it. The detail tells what of accurate ECN has failed.",
    "ce_pct": "Of the connection's life. With RFC 3168 a receiver repeats a mark until the sender has slowed down: what"
    " arrived meanwhile counts as marked, so that the receiver's own share, ce_in_pct, is the exact one.",
    "ce_in_pct": "Of the connection's life: a router's queue was so long that it marked the segment rather than drop it"
    " (RFC 3168). That ECN-capable segments come says nothing of marks.",
    "cwnd": "How many segments may be in flight, as congestion control sees it.",
    "snd_wnd": "Smaller than a segment: the peer's process reads slowly or not at all, or it lacks memory.",
    "rcv_wnd": "Smaller than a segment: the local application reads slowly or not at all, or memory is lacking.",
    "drops": "Of a listener: handshakes that found the queue full. Of a connection: segments that found no room.",
    "backlog_max": "min(backlog of listen(), net.core.somaxconn). The queue takes one more than its limit.",
    "busy_pct": "Data was in flight. A share of the window of observation; the two limits are shares of this.",
    "owner": "holder: has the descriptor. caller: called connect() or listen(). closer: closed the accepted socket."
    " listener: listens where it came in, and has not accepted it. former: closed it or ended, and nobody has it now.",
    "command": "Of an interpreter, what it runs: of java -jar api.jar it is api.jar. Else the program and at most two"
    " words. Options and their values are left out: they may be secret.",
    "process": "Of several that hold it: who called listen() or connect(), else the oldest; of an accepted one the"
    " youngest, but for programs that were started later and have it by accident.",
    "origin": "Of an adopted one, time to connect and age are not known; its totals are the kernel's and complete.",
    "end": "closed, peer-closed, reset, timed-out, refused, unreachable, abandoned; unseen where nobody told.",
    "tx_bytes_per_s": "Goodput: payload that was acknowledged, without headers and retransmits. SI units, bytes.",
    "rx_bytes_per_s": "Goodput: payload in order, without headers and duplicates. SI units, bytes.",
    "connect_ms": "A round trip where nothing is lost. 1 s more for each SYN that had to be sent again.",
    "unacked": "In flight, or lost and not yet known to be.",
    "notsent": "The application wrote it; the window or congestion control holds it back.",
    "recv_q": "Bytes that wait to be read. The peer's FIN counts as one.",
    "cc": "The congestion control: net.ipv4.tcp_congestion_control, or the socket's own choice.",
}

BLAMED = {
    "network": "network: the path to the peer, or what stands on it",
    "peer": "peer: the process at the other end, or its host",
    "app": "app: the own process",
    "host": "host: the configuration or the load of this host",
}
"""The words of the column blame, explained."""


class ExplainedWord(NamedTuple):
    """A name that has a page, its kind (cause, column, operator or figure), and a short description."""

    name: str
    kind: str
    short: str


def words() -> list[ExplainedWord]:
    """Return every name that has a page: causes, columns, operators, figures of the host."""
    found = [ExplainedWord(cause.name, "cause", cause.means) for cause in (*CAUSES, *rules.OF_NAMESPACES)]
    found += [ExplainedWord(column.id, "column", column.help) for column in COLUMNS]
    found += [ExplainedWord(operator.name, "operator", operator.short) for operator in OPERATORS]
    return found + [ExplainedWord(figure.name, "figure", figure.means) for figure in FIGURES]


def page(word: str, width: int = WIDTH) -> str:
    """Return the page about a column (id, alias or title), a cause, an operator or a figure of the host.

    Raises Usage if ``word`` is none of these.
    """
    wanted = word.strip()
    cause = rules.find(wanted.lower())
    if cause is not None:
        return _text(_cause(cause), width)
    column = column_lookup.COLUMNS_BY_NAME.get(wanted.lower()) or _titled(wanted)
    if column is not None:
        return _text(_column(column), width)
    operator = operators.find(wanted)
    if operator is not None:
        return _text(_operator(operator), width)
    figure = host_figures.find(wanted.lower())
    if figure is not None:
        return _text(_figure(figure), width)
    raise Usage(f"nothing is known of {word!r}", _hint(wanted))


def _titled(word: str) -> Column | None:
    return next((column for column in COLUMNS if column.title.split()[0].lower() == word.lower()), None)


def _hint(word: str) -> str:
    known = [one.name for one in words()] + [column.alias for column in COLUMNS if column.alias]
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), lower, 1)
    if near:
        return f"did you mean {lower[near[0]]}?"
    return "a column, a cause, an operator or a figure of the host, for instance: srtt, rto-stall, RETRANS_CB"


Paragraph = tuple[str, str]
"""A label ("" for none) and its text."""


def _text(paragraphs: Iterator[Paragraph], width: int) -> str:
    lines: list[str] = []
    for label, content in paragraphs:
        if not content:
            continue
        if not label:
            lines += ["", *textwrap.wrap(content, width)] if lines else [content, "-" * min(len(content), width)]
            continue
        lines += textwrap.wrap(
            content,
            width,
            initial_indent=label.ljust(LABEL),
            subsequent_indent=" " * LABEL,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n"


def _cause(cause: Cause) -> Iterator[Paragraph]:
    yield "", f"{cause.name}, a cause"
    yield "", f"{cause.means[:1].upper()}{cause.means[1:]}."
    yield "", " "
    yield "told by", cause.told_by
    yield "to blame", BLAMED.get(cause.blame or "", "")
    yield "score", f"{cause.severity}{'; from: ' if cause.threshold else ''}{cause.threshold}"
    yield "what to do", cause.remedy
    yield "in the code", cause.source
    if cause in RULES:
        yield "order", f"rule {RULES.index(cause) + 1} of {len(RULES)}: the first that matches names the cause"
        yield "shared", "flows may share it: it is looked for by prefix, process and listener" if cause.network else ""
    yield "see also", " ".join(cause.related)
    yield "filter", f"cause = {cause.name}" if cause in CAUSES else ""


def _column(column: Column) -> Iterator[Paragraph]:
    title = column.title.split()[0]
    alias = f", alias {column.alias}" if column.alias else ""
    yield "", f"{column.id}{alias}: a column, {title} on the screen"
    yield "", f"{column.help[:1].upper()}{column.help[1:]}."
    yield "", MORE.get(column.id, "")
    yield "", " "
    yield "kernel", KERNEL_FIELDS.get(column.id, "")
    if column.severity is not None:
        warning, bad = (f"{value:g}" for value in column.severity)
        yield "colours", f"a warning from {warning}, bad from {bad}"
    yield "see also", " ".join(cause.name for cause in CAUSES if {column.id, column.alias} & set(cause.related))
    name = column.alias or column.id
    yield "sort", f"--sort {name}" + ("" if column.falling else ", the least first")
    yield "filter", _example(column, name)


def _example(column: Column, name: str) -> str:
    if column.id.endswith("_us"):
        return f"{name} > 20ms"
    if column.id.endswith("bytes_per_s"):
        return f"{name} > 1MB/s"
    return f"{name} > 0" if column.right else f"{name} ~ ..."


def _figure(figure: Figure) -> Iterator[Paragraph]:
    yield "", f"{figure.name}: a figure of the host"
    yield "", f"{figure.means[:1].upper()}{figure.means[1:]}."
    yield "", " "
    yield "tells", figure.tells
    yield "kernel", figure.source
    yield "counts", "since the first tick, over the network namespaces that are seen" if figure.is_counter else ""
    limited = f"a warning from {NEARING:.0%} of the limit, bad from {NEAR:.0%}"
    yield "colours", limited if figure.limit and figure.worst > 1 else ""
    yield "on screen", f"H, {figure.title}"
    yield "in JSON", f"host_counters.{figure.name}"


def _operator(operator: Operator) -> Iterator[Paragraph]:
    yield "", f"{operator.name}: operator {operator.number} of sock_ops"
    yield "", operator.when
    yield "", " "
    yield "arguments", operator.arguments
    yield "asked by", f"callback flag {operator.flag}" if operator.flag else "always called"
    yield "kernel", operator.path
    yield "tells", operator.tells
    yield "not seen", operator.unseen
    if operator.retires:
        yield (
            "counts",
            "its flag retires after a connection's first samples, but for the one that is looked at: the count then"
            " is not of all packets, and has a ~. --callbacks every counts all.",
        )
