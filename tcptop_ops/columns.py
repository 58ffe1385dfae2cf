"""Define the table of columns: id, title, meaning, how each is read and how it is formatted.

The screen and every output use this table alone. A column's ``read`` (see ``readers``) returns one value per row;
``show`` formats one value for a cell, ``plain`` converts it to a JSON value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

from tcptop_ops import readers as read
from tcptop_ops import text
from tcptop_ops.errors import Usage
from tcptop_ops.model.addresses import are_link_local, halves, is_link_local, is_mapped
from tcptop_ops.model.arrays import bound_to, gather
from tcptop_ops.model.enums import SHORT_STATES
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.readers import Reader, Values


@dataclass(frozen=True)
class Rule:
    """How the value of a group is computed from those of its connections; nulls are left out. See ``groups``.

    ``how`` is one of:

    - ``sum``, ``mean`` (every connection has the same weight), ``least``, ``greatest``
    - ``same``: the value that all have in common; null where they differ
    - ``worst``: the value of the connection with the highest score
    - ``share``: 100 * sum(``part``) / sum(``whole``), at most ``most``; null while the whole is less than ``enough``

    With ``same`` and ``sum``, ``part`` replaces the column's own reader if it is given; with ``sum``, only in groups of
    which at least one connection has a value of it.
    """

    how: Literal["sum", "mean", "least", "greatest", "same", "worst", "share"]
    part: Reader | None = None
    whole: Reader | None = None
    enough: float = 0.0
    most: float = math.inf


SUM, MEAN, LEAST, GREATEST = Rule("sum"), Rule("mean"), Rule("least"), Rule("greatest")


SAME, WORST = Rule("same"), Rule("worst")


@dataclass(frozen=True)
class Column:
    """One column of the table.

    ``width``: characters on the screen; ``falling``: whether sorting begins with the greatest value; ``alias``: a
    second name for filters and options; ``right``: whether cells are right-aligned, as those of numbers are.
    """

    id: str
    title: str
    width: int
    help: str
    read: Reader
    show: Callable[[Any], str]
    plain: Callable[[Any], Any]
    alias: str = ""
    right: bool = True
    falling: bool = True
    severity: tuple[float, float] | None = None  # thresholds: a warning from the first, bad from the second
    step: Callable[[Values], Values] | None = None  # rounds values for ``seen``; None: cells show values exactly
    screen_only: bool = False  # left out of outputs
    group: Rule = SAME

    def seen(self, values: Values) -> Values:
        """Round values to what a cell can show, so that rows are not sorted by differences that nobody sees.

        Only columns with a ``step`` function and float64 values are rounded; others are returned unchanged.
        """
        return values if self.step is None or values.dtype.kind != "f" else self.step(values)

    @property
    def is_number(self) -> bool:
        """Whether its values are quantities: words and identities (cookie, netns, inode) are not."""
        return self.right and self.show is not _show_id

    def level(self, value: Any, severity: tuple[float, float] | None = None) -> int:
        """Return the severity of a value: 0 none, 1 a warning, 2 bad, -1 zero or null (drawn dimmed).

        ``severity``: the user's thresholds (warning, bad), in place of the column's own.
        """
        if isinstance(value, bytes):
            return 0 if value else -1
        if math.isnan(value) or value == 0:
            return -1
        limits = severity or self.severity
        if limits is None:
            return 0
        return int(value >= limits[0]) + int(value >= limits[1])

    def show_of_group(self, value: Any) -> str:
        """Format a group's value; a dash where its connections have no value in common."""
        return text.DASH if value == b"" else self.show(value)

    def level_of_group(self, value: Any, severity: tuple[float, float] | None = None) -> int:
        """Return the severity of a group's value, as ``level``.

        A sum is never a warning: the thresholds are meant for one connection.
        """
        level = self.level(value, severity)
        return min(level, 0) if self.group.how == "sum" else level


def _null_or(convert: Callable[[float], Any]) -> Callable[[Any], Any]:
    return lambda value: None if math.isnan(value) else convert(value)


def _whole(value: float) -> int:
    return int(value)


def _rounded(value: float) -> float:
    return round(float(value), 3)


def _decoded(value: bytes) -> str | None:
    return value.decode("utf-8", "replace") or None


def _show_address(packed: bytes) -> str:
    if not packed:  # a group whose connections have different addresses
        return text.DASH
    scope = int.from_bytes(packed[18:22], "big")
    device = text.printable(packed[22:37].rstrip(b"\0")) or str(scope)
    addr = packed[:16]
    return text.address(addr, device if scope and is_link_local(addr) else "")


def _show_endpoint(packed: bytes) -> str:
    if not packed:
        return text.DASH
    return text.endpoint(_show_address(packed), int.from_bytes(packed[16:18], "big"))


def _plain_address(packed: bytes) -> str | None:
    if not packed:
        return None
    shown = _show_address(packed)
    if shown != "*":
        return shown
    return "0.0.0.0" if is_mapped(packed) else "::"


def _plain_endpoint(packed: bytes) -> str | None:
    address = _plain_address(packed)
    return None if address is None else text.endpoint(address, int.from_bytes(packed[16:18], "big"))


def _show_id(value: int) -> str:
    return str(value) if value else text.DASH


def _show_state(name: bytes) -> str:
    return SHORT_STATES.get(name.decode(), text.DASH)


def _show_name(name: bytes) -> str:
    return text.printable(name) or text.UNKNOWN


def _show_word(name: bytes) -> str:
    return text.printable(name) or text.DASH


def _show_exact(value: float) -> str:
    """Format a number that is an identifier: never rounded or abbreviated."""
    return f"{value:.0f}"


def _dashed(show: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda value: text.DASH if math.isnan(value) else show(value)


def _us(value: float) -> str:
    return text.duration(value / 1e6)


def _ms(value: float) -> str:
    return text.duration(value / 1e3)


def _signed(show: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: "-" + show(-value) if value < 0 else show(value)


def _seen_us(values: Values) -> Values:
    return text.seen_duration(values / 1e6)


def _seen_ms(values: Values) -> Values:
    return text.seen_duration(values / 1e3)


_STEPS: dict[Callable[[float], str], Callable[[Values], Values]] = {
    text.si: text.seen_si,
    text.duration: text.seen_duration,
    text.percent: text.seen_percent,
    _us: _seen_us,
    _ms: _seen_ms,
    _show_exact: np.rint,
}


def _number(id: str, title: str, width: int, help: str, read: Reader, **rest: Any) -> Column:
    show = rest.pop("show", text.count)
    plain = rest.pop("plain", _whole)
    return Column(id, title, width, help, read, _dashed(show), _null_or(plain), step=_STEPS.get(show), **rest)


def _word(id: str, title: str, width: int, help: str, read: Reader, **rest: Any) -> Column:
    show = rest.pop("show", _show_word)
    plain = rest.pop("plain", _decoded)
    return Column(id, title, width, help, read, show, plain, right=False, falling=False, **rest)


def _identity(id: str, title: str, width: int, help: str, part: str, name: str) -> Column:
    return Column(id, title, width, help, read.unsigned(part, name), _show_id, lambda v: int(v) or None)


def _of_connections(name: str) -> Rule:
    """Return the rule that sums a field which means something else for listeners.

    The listeners' values are summed only in a group that has no connection.
    """
    return Rule("sum", part=read.connected(name))


def _same_address(side: str) -> Rule:
    """Return the rule that compares addresses alone: what ``readers.endpoint`` packs has the port and the device too.

    The scope and the device are kept for link-local addresses only, which are ambiguous without them.
    """
    whole = read.endpoint(side)

    def address_alone(rows: Rows, flows: Flows) -> Values:
        packed = whole(rows, flows)
        parts = packed.view("u1").reshape(len(packed), packed.dtype.itemsize)
        parts[:, 16:18] = 0
        parts[~are_link_local(halves(parts[:, :16])[0]), 18:-1] = 0
        return packed

    return Rule("same", part=address_alone)


def _own_half_open(rows: Rows, flows: Flows) -> Values:
    """Return each listener's share of the handshakes at its port (float64, NaN for rows that don't listen).

    Listeners that share a port by SO_REUSEPORT all report the handshakes of the port; dividing by their number makes
    the sum over a group right.
    """
    values = read.syn_recv(rows, flows)
    listens = np.flatnonzero(~np.isnan(values))
    if len(listens):
        _, which, sharing = np.unique(bound_to(gather(rows.sockets, listens)), return_inverse=True, return_counts=True)
        values[listens] /= sharing[which]
    return values


def _observed_us(rows: Rows, _: Flows) -> Values:
    """Return the length of each row's window in microseconds: the denominator of shares of time."""
    window: Values = 1e6 * rows.rates["win_s"].astype(np.float64)
    return window


RETRANS_SHARE = Rule("share", part=read.win("retrans_segs"), whole=read.win("data_segs_out"), enough=20)


COLUMNS: tuple[Column, ...] = (
    _identity("cookie", "COOKIE", 8, "the kernel's number for this socket, never used twice", "sockets", "cookie"),
    _identity("netns", "NETNS", 10, "inode number of the network namespace", "sockets", "netns"),
    _identity("inode", "INODE", 8, "inode number of the socket's descriptor", "sockets", "inode"),
    _number("family", "IP", 2, "4 or 6: what the packets are; an IPv4-mapped address is 4", read.family),
    _word(
        "laddr",
        "LADDR",
        15,
        "local address",
        read.endpoint("l"),
        show=_show_address,
        plain=_plain_address,
        group=_same_address("l"),
    ),
    _number("lport", "LPORT", 5, "local port", read.socket("lport")),
    _word(
        "raddr",
        "RADDR",
        15,
        "remote address",
        read.endpoint("r"),
        show=_show_address,
        plain=_plain_address,
        group=_same_address("r"),
    ),
    _number("rport", "RPORT", 5, "remote port", read.socket("rport", 0)),
    _word(
        "local", "LOCAL", 21, "local address and port", read.endpoint("l"), show=_show_endpoint, plain=_plain_endpoint
    ),
    _word(
        "peer",
        "PEER (LISTN: local)",
        22,
        "remote address and port",
        read.peer,
        show=_show_endpoint,
        plain=_plain_endpoint,
    ),
    _word("state", "STATE", 5, "TCP state, as ss names it", read.state, show=_show_state),
    _word("direction", "DIR", 6, "who opened it: out, in, listen", read.direction),
    _word(
        "origin",
        "ORIGIN",
        7,
        "new: its whole life was seen; adopted: open before the start; listed: polled only",
        read.origin,
    ),
    _number(
        "pid",
        "PID",
        7,
        "process that holds the socket",
        lambda r, _: read.unless(r.owners["pid"], 0),
        show=_show_exact,
    ),
    _word("process", "PROCESS", 9, "name of that process", lambda r, _: r.owners["name"], show=_show_name),
    _word(
        "owner", "OWNER", 8, "how the process is known: holder, caller, closer, listener (not accepted yet)", read.owner
    ),
    _number(
        "holders",
        "HOLD",
        4,
        "processes that hold the socket",
        lambda r, _: read.unless(r.owners["holders"], 0),
        group=GREATEST,
    ),
    _word("user", "USER", 8, "user that made the socket", read.user, show=_show_name),
    _word("service", "SERVICE", 16, "service, container or pod, from the control group", read.service, show=_show_name),
    _word("cgroup", "CGROUP", 24, "control group of the socket", read.cgroup, show=_show_name),
    _number("uid", "UID", 10, "user that made the socket", read.socket("uid", UNKNOWN_U32), show=_show_exact),
    _number(
        "score",
        "SCR",
        3,
        "how bad it is, from 0 to 100",
        read.score,
        show=_show_exact,
        severity=(10, 50),
        group=GREATEST,
    ),
    _word("cause", "CAUSE", 14, "what is wrong with it: see --explain", read.cause, group=WORST),
    _word("limit", "LIMIT", 6, "what limits it, without being a fault: peer, sndbuf, cwnd, app, rwnd", read.limit),
    _number(
        "stall_ms",
        "STALL",
        5,
        "time lost to timeouts and shut windows, in all",
        read.stall_ms,
        show=_ms,
        plain=_rounded,
        group=SUM,
    ),
    _word("end", "END", 11, "how it ended", read.end),
    _number(
        "connect_ms",
        "CONN",
        5,
        "from connect() to established or to its failure",
        read.connect_ms,
        show=_ms,
        plain=_rounded,
        group=MEAN,
    ),
    _number(
        "srtt_us",
        "SRTT",
        5,
        "smoothed round-trip time",
        read.connected("srtt_us", 0),
        alias="srtt",
        show=_us,
        group=MEAN,
    ),
    _number(
        "rttvar_us",
        "RTTVR",
        5,
        "mean deviation of the round-trip time",
        read.connected("rttvar_us"),
        show=_us,
        group=MEAN,
    ),
    _number(
        "min_rtt_us",
        "MINRT",
        5,
        "least round-trip time of the last minutes",
        read.connected("min_rtt_us", UNKNOWN_U32),
        show=_us,
        group=LEAST,
    ),
    _number(
        "last_rtt_us",
        "RTT",
        5,
        "newest sample of the round-trip time",
        read.last_rtt,
        alias="rtt",
        show=_us,
        group=MEAN,
    ),
    _number("rto_us", "RTO-T", 5, "retransmission timeout in force", read.connected("rto_us"), show=_us, group=MEAN),
    _number(
        "backoff",
        "BACK",
        4,
        "how often the timeout was doubled",
        read.connected("backoff"),
        severity=(1, 3),
        group=GREATEST,
    ),
    _word("timer", "TIMER", 10, "what the socket's timer waits for", read.timer),
    _number(
        "age_s",
        "AGE",
        5,
        "since its birth, where that was seen",
        read.age,
        alias="age",
        show=text.duration,
        plain=_rounded,
        group=GREATEST,
    ),
    _number(
        "idle_s",
        "IDLE",
        5,
        "since data was last sent or received",
        read.idle,
        alias="idle",
        show=text.duration,
        plain=_rounded,
        group=LEAST,
    ),
    _number("closed_s", "CLOSD", 5, "since it closed", read.closed_s, show=text.duration, plain=_rounded, group=LEAST),
    _number("retrans_segs", "RETRT", 5, "segments sent again, in all", read.connected("retrans_segs"), group=SUM),
    _number(
        "retrans_win",
        "RETR",
        5,
        "segments sent again within the window",
        read.win("retrans_segs"),
        alias="retr",
        severity=(3, 20),
        group=SUM,
    ),
    _number(
        "retrans_per_s",
        "RETR/S",
        6,
        "segments sent again a second, now",
        read.rate("retrans_per_s"),
        show=text.si,
        plain=_rounded,
        group=SUM,
    ),
    _number(
        "retrans_pct",
        "RETR%",
        5,
        "share of the data segments of the window that were sent again",
        read.retrans_pct,
        alias="retr%",
        show=text.percent,
        plain=_rounded,
        severity=(0.5, 2.0),
        group=RETRANS_SHARE,
    ),
    _number("rto_events", "RTOT", 5, "retransmission timeouts, in all", read.rto_total, group=SUM),
    _number(
        "rto_win",
        "RTO",
        3,
        "retransmission timeouts within the window",
        read.win("rto_events"),
        alias="rto",
        severity=(1, 3),
        group=SUM,
    ),
    _number("lost", "LOST", 4, "segments held to be lost, now", read.connected("lost"), severity=(1, 20), group=SUM),
    _number("sacked", "SACK", 4, "segments acknowledged out of order, now", read.connected("sacked"), group=SUM),
    _number(
        "dsack_dups", "DSACK", 5, "segments that the peer says it had already", read.connected("dsack_dups"), group=SUM
    ),
    _number("reord_seen", "REORD", 5, "times that reordering was noticed", read.connected("reord_seen"), group=SUM),
    _number("ooo_in", "OOO", 5, "segments received out of order", read.connected("ooo_in"), group=SUM),
    _number("cwnd", "CWND", 5, "congestion window, segments", read.connected("cwnd"), group=MEAN),
    _number("ssthresh", "SSTHR", 5, "slow-start threshold, segments", read.ssthresh, group=MEAN),
    _number("mss", "MSS", 5, "maximum segment size, bytes", read.connected("mss"), group=LEAST),
    _number(
        "snd_wnd",
        "SNDWN",
        5,
        "window that the peer offers, bytes",
        read.connected("snd_wnd"),
        show=text.si,
        group=LEAST,
    ),
    _number("rcv_wnd", "RCVWN", 5, "window that we offer, bytes", read.connected("rcv_wnd"), show=text.si, group=LEAST),
    _number("unacked", "UNACK", 5, "segments sent and not acknowledged", read.connected("unacked"), group=SUM),
    _number("notsent", "NOTSN", 5, "bytes written and not sent", read.connected("notsent"), show=text.si, group=SUM),
    _number(
        "recv_q",
        "RECVQ",
        5,
        "bytes received and not read; of a listener, not yet accepted",
        read.socket("recv_q"),
        show=text.si,
        group=_of_connections("recv_q"),
    ),
    _number(
        "send_q",
        "SENDQ",
        5,
        "bytes not acknowledged; of a listener, its queue's limit",
        read.socket("send_q"),
        show=text.si,
        group=_of_connections("send_q"),
    ),
    _word("cc", "CC", 8, "congestion control", lambda r, _: r.sockets["cc"]),
    _number("backlog", "BKLOG", 5, "of a listener: connections not yet accepted", read.listening("recv_q"), group=SUM),
    _number("backlog_max", "BKMAX", 5, "of a listener: how many may wait", read.listening("send_q"), group=SUM),
    _number(
        "syn_recv",
        "SYN-R",
        5,
        "of a listener: handshakes not done yet",
        read.syn_recv,
        severity=(50, 200),
        group=Rule("sum", part=_own_half_open),
    ),
    _number(
        "drops",
        "DROPS",
        5,
        "segments or handshakes that this socket dropped",
        read.socket("drops", UNKNOWN_U32),
        severity=(1, 100),
        group=SUM,
    ),
    _number(
        "bytes_acked", "ACKED", 6, "bytes sent and acknowledged", read.connected("bytes_acked"), show=text.si, group=SUM
    ),
    _number("bytes_received", "RECVD", 6, "bytes received", read.connected("bytes_received"), show=text.si, group=SUM),
    _number(
        "tx_bytes_per_s",
        "TX/s",
        6,
        "bytes a second acknowledged, now",
        read.rate("tx_bytes_per_s"),
        alias="tx",
        show=text.si,
        group=SUM,
    ),
    _number(
        "rx_bytes_per_s",
        "RX/s",
        6,
        "bytes a second received, now",
        read.rate("rx_bytes_per_s"),
        alias="rx",
        show=text.si,
        group=SUM,
    ),
    _number(
        "delivery_bytes_per_s",
        "DELIV",
        6,
        "the kernel's newest sample of the rate",
        read.delivery,
        alias="delivery",
        show=text.si,
        group=MEAN,
    ),
    _number(
        "busy_pct",
        "BUSY%",
        5,
        "share of the window with data in flight",
        read.share("busy_us", None),
        show=text.percent,
        plain=_rounded,
        group=Rule("share", part=read.win("busy_us"), whole=_observed_us, most=100),
    ),
    _number(
        "rwnd_limited_pct",
        "RWND%",
        5,
        "share of the busy time that waited for the peer's window",
        read.share("rwnd_limited_us", "busy_us"),
        show=text.percent,
        plain=_rounded,
        group=Rule("share", part=read.win("rwnd_limited_us"), whole=read.win("busy_us"), most=100),
    ),
    _number(
        "sndbuf_limited_pct",
        "SBUF%",
        5,
        "share of the busy time that waited for the send buffer",
        read.share("sndbuf_limited_us", "busy_us"),
        show=text.percent,
        plain=_rounded,
        group=Rule("share", part=read.win("sndbuf_limited_us"), whole=read.win("busy_us"), most=100),
    ),
    _number(
        "mark_retrans",
        "+RETR",
        5,
        "segments sent again since the mark",
        read.since_mark("retrans_segs"),
        screen_only=True,
        group=SUM,
    ),
    _number(
        "mark_rto",
        "+RTO",
        4,
        "retransmission timeouts since the mark",
        read.since_mark("rto_events"),
        screen_only=True,
        group=SUM,
    ),
    _number(
        "mark_sent",
        "+SENT",
        6,
        "bytes acknowledged since the mark",
        read.since_mark("bytes_acked"),
        show=text.si,
        screen_only=True,
        group=SUM,
    ),
    _number(
        "mark_received",
        "+RECVD",
        6,
        "bytes received since the mark",
        read.since_mark("bytes_received"),
        show=text.si,
        screen_only=True,
        group=SUM,
    ),
    _number(
        "mark_srtt_us",
        "+SRTT",
        6,
        "by how much the smoothed round-trip time is longer than at the mark",
        read.since_mark("srtt_us"),
        show=_signed(_us),
        screen_only=True,
        group=MEAN,
    ),
    _number(
        "connections",
        "CONNS",
        5,
        "connections of the group; a connection is one",
        lambda rows, _: np.ones(len(rows)),
        screen_only=True,
        group=SUM,
    ),
)


OUTPUT: tuple[Column, ...] = tuple(column for column in COLUMNS if not column.screen_only)
"""The columns of --json, --csv and --batch: all but those that only the screen has."""


GROUP: Column = replace(COLUMNS[-1], id="group", title="GROUP", width=20, right=False, help="what is put together")
"""The first column of a table of groups: their titles. Its value is the number of connections."""


BY_NAME: dict[str, Column] = {column.id: column for column in COLUMNS} | {c.alias: c for c in COLUMNS if c.alias}
"""Columns by id and by alias."""


DEFAULT = ("score", "cause", "process", "peer", "state", "srtt_us", "retrans_win", "retrans_pct", "rto_win")
"""Ids of the columns that fit into 80 characters; wider screens add those of ``WIDER`` in order while there is room."""


WIDER = (
    "pid",
    "lport",
    "cwnd",
    "limit",
    "tx_bytes_per_s",
    "rx_bytes_per_s",
    "min_rtt_us",
    "age_s",
    "retrans_segs",
    "lost",
    "rto_events",
    "end",
    "send_q",
    "recv_q",
    "local",
)


SINCE_MARK = (
    "score",
    "cause",
    "process",
    "peer",
    "state",
    "mark_retrans",
    "mark_rto",
    "mark_sent",
    "mark_received",
    "mark_srtt_us",
)
"""Ids of the columns that replace the default set while there is a mark."""


DEFAULT_SORT = "score"


def find(name: str) -> Column:
    """Return the column with this id or alias. Raises Usage."""
    column = BY_NAME.get(name)
    if column is None:
        near = get_close_matches(name, BY_NAME, 1)
        raise Usage(
            f"no column {name!r}", f"did you mean {near[0]}?" if near else f"columns: {' '.join(c.id for c in COLUMNS)}"
        )
    return column


def parse_list(spec: str, default: Iterable[str] = DEFAULT) -> tuple[Column, ...]:
    """Parse ``--columns``: ids or aliases, "all", or changes of ``default`` as "+id" and "-id". Raises Usage."""
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise Usage("no columns given", "for instance: --columns process,peer,srtt")
    if names == ["all"]:
        return OUTPUT
    relative = all(name[0] in "+-" for name in names)
    if not relative and any(name[0] in "+-" for name in names):
        raise Usage("a list of columns is either names, or +name and -name", "for instance: --columns +cwnd,-rto")
    if not relative:
        return tuple(dict.fromkeys(find(name) for name in names))
    chosen = [find(name) for name in default]
    for name in names:
        column = find(name[1:])
        chosen = [c for c in chosen if c is not column] + ([column] if name[0] == "+" else [])
    if not chosen:
        raise Usage("no columns left", "for instance: --columns process,peer,srtt")
    return tuple(chosen)


def parse_sort(spec: str) -> tuple[Column, bool]:
    """Parse ``--sort COLUMN[:asc|:desc]``. Raises Usage.

    Return the column, and whether the greatest value comes first (without ``asc`` or ``desc``: as the column has it).
    """
    name, _, way = spec.partition(":")
    column = find(name)
    if way not in ("", "asc", "desc"):
        raise Usage(f"no order {way!r}", "asc or desc")
    return column, column.falling if not way else way == "desc"
