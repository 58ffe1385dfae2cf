"""THE table of columns: what each is called, means, reads, and how it prints. The screen and every output use it.

A column reads one value a row, over whole arrays: numbers as float64 with NaN for null, names as bytes (empty for
null), endpoints as bytes that sort like the address. ``show`` makes the text of one cell, ``plain`` the JSON value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import format as text
from tcptop_ops.endings import end_names
from tcptop_ops.errors import Usage
from tcptop_ops.snapshot import INFINITE_SSTHRESH, STATE_NAMES, UNKNOWN_U32, Direction, Origin, State
from tcptop_ops.tracker import Flows, Rows, rto_events

Values = NDArray[Any]
Reader = Callable[[Rows, Flows], Values]

SHORT_STATES = {
    "ESTAB": "ESTAB",
    "SYN-SENT": "SYN-S",
    "SYN-RECV": "SYN-R",
    "FIN-WAIT-1": "FIN-1",
    "FIN-WAIT-2": "FIN-2",
    "TIME-WAIT": "TIM-W",
    "UNCONN": "CLOSD",
    "CLOSE-WAIT": "CLS-W",
    "LAST-ACK": "LST-A",
    "LISTEN": "LISTN",
    "CLOSING": "CLSNG",
}


@dataclass(frozen=True)
class Column:
    """One column. ``width``: characters on the screen; ``falling``: sorting starts with the greatest."""

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
    severity: tuple[float, float] | None = None  # from where a value is a warning, and bad

    def level(self, value: Any) -> int:
        """0 nothing, 1 a warning, 2 bad, -1 zero or null: to be dimmed."""
        if isinstance(value, bytes):
            return 0 if value else -1
        if math.isnan(value) or value == 0:
            return -1
        if self.severity is None:
            return 0
        return int(value >= self.severity[0]) + int(value >= self.severity[1])


def _null_or(convert: Callable[[float], Any]) -> Callable[[Any], Any]:
    return lambda value: None if math.isnan(value) else convert(value)


def _whole(value: float) -> int:
    return int(value)


def _rounded(value: float) -> float:
    return round(float(value), 3)


def _decoded(value: bytes) -> str | None:
    return value.decode("utf-8", "replace") or None


def _floats(values: Values) -> NDArray[np.float64]:
    return values.astype(np.float64)


def _unless(values: Values, null: int) -> NDArray[np.float64]:
    found = _floats(values)
    found[values == null] = np.nan
    return found


def _socket(name: str, null: int | None = None) -> Reader:
    if null is None:
        return lambda rows, _: _floats(rows.sockets[name])
    return lambda rows, _: _unless(rows.sockets[name], null)


def _connected(name: str, null: int | None = None) -> Reader:
    """A field that means nothing for a listener."""
    read = _socket(name, null)

    def connected(rows: Rows, flows: Flows) -> Values:
        values = read(rows, flows)
        values[rows.sockets["state"] == State.LISTEN] = np.nan
        return values

    return connected


def _listening(name: str) -> Reader:
    """A field that only a listener has."""
    read = _socket(name)

    def listening(rows: Rows, flows: Flows) -> Values:
        values = read(rows, flows)
        values[rows.sockets["state"] != State.LISTEN] = np.nan
        return values

    return listening


def _rate(name: str) -> Reader:
    def rate(rows: Rows, flows: Flows) -> Values:
        values = rows.rates[name].copy()
        values[rows.sockets["state"] == State.LISTEN] = np.nan
        return values if flows.seconds > 0 else np.full(len(rows), np.nan)

    return rate


def _win(name: str) -> Reader:
    def win(rows: Rows, _: Flows) -> Values:
        values = _floats(rows.rates["win"][name])
        values[rows.sockets["state"] == State.LISTEN] = np.nan
        return values

    return win


def _retrans_pct(rows: Rows, _: Flows) -> Values:
    sent = _floats(rows.rates["win"]["data_segs_out"])
    sent[sent < 20] = np.nan
    share: Values = 100.0 * rows.rates["win"]["retrans_segs"] / sent
    return share


def _share(part: str, whole: str | None) -> Reader:
    """A time within W as a percentage of ``whole`` in W, or of W itself. Null where there is nothing to divide by."""

    def share(rows: Rows, _: Flows) -> Values:
        win = rows.rates["win"]
        total = _floats(rows.rates["win_s"]) * 1e6 if whole is None else _floats(win[whole])
        total[(total <= 0) | (rows.sockets["state"] == State.LISTEN)] = np.nan
        return np.minimum(100.0 * win[part] / total, 100.0)

    return share


def _delivery(rows: Rows, _: Flows) -> Values:
    """tcp_compute_delivery_rate(), net/ipv4/tcp.c."""
    interval = _unless(rows.sockets["rate_interval_us"], 0)
    rate: Values = _floats(rows.sockets["rate_delivered"]) * rows.sockets["mss"] * 1e6 / interval
    return rate


def _age(rows: Rows, flows: Flows) -> Values:
    """Known only where the birth was seen; a closed row's age stands still."""
    until = flows.snapshot.now_ns if rows.endings is None else rows.endings["end_ns"]
    age = (until - _floats(rows.events["first_ns"])) / 1e9
    age[rows.events["origin"] != Origin.NEW] = np.nan
    return np.maximum(age, 0.0)


def _idle(rows: Rows, _: Flows) -> Values:
    sent, received = rows.sockets["last_sent_us"], rows.sockets["last_received_us"]
    idle = np.minimum(sent, received) / 1e6
    unknown = ((sent == UNKNOWN_U32) & (received == UNKNOWN_U32)) | (rows.sockets["state"] == State.LISTEN)
    return np.where(unknown, np.nan, idle)


def _closed_s(rows: Rows, flows: Flows) -> Values:
    if rows.endings is None:
        return np.full(len(rows), np.nan)
    return (flows.snapshot.now_ns - _floats(rows.endings["end_ns"])) / 1e9


def _connect_ms(rows: Rows, _: Flows) -> Values:
    return _unless(rows.events["connect_us"], 0) / 1e3


def _last_rtt(rows: Rows, _: Flows) -> Values:
    """The RACK state's newest sample (tcp_rack_advance); before the first, that of RTT_CB."""
    rack = rows.sockets["last_rtt_us"]
    return _unless(np.where(rack == 0, rows.events["last_rtt_us"], rack), 0)


def _ssthresh(rows: Rows, flows: Flows) -> Values:
    values = _connected("ssthresh")(rows, flows)
    values[values >= INFINITE_SSTHRESH] = np.nan
    return values


def _rto_total(rows: Rows, _: Flows) -> Values:
    values = _floats(rto_events(rows.sockets, rows.events))
    values[rows.sockets["state"] == State.LISTEN] = np.nan
    return values


def _endpoint(side: str) -> Reader:
    """Address, port and scope as bytes that sort by address first: 16 + 2 + 4 bytes, big endian."""

    def endpoint(rows: Rows, _: Flows) -> Values:
        packed = np.zeros(len(rows), [("addr", "u1", (16,)), ("port", ">u2"), ("scope", ">u4"), ("end", "u1")])
        packed["addr"] = rows.sockets[side + "addr"]
        packed["port"] = rows.sockets[side + "port"]
        packed["scope"] = rows.sockets["ifindex"]
        packed["end"] = 1
        return np.ascontiguousarray(packed).view("S23")

    return endpoint


def _peer(rows: Rows, flows: Flows) -> Values:
    """The other end; of a listener, its own."""
    remote, local = _endpoint("r")(rows, flows), _endpoint("l")(rows, flows)
    return np.where(rows.sockets["state"] == State.LISTEN, local, remote)


def _show_address(packed: bytes) -> str:
    scope = int.from_bytes(packed[18:22], "big")
    addr = packed[:16]
    local = addr[0] == 0xFE and addr[1] & 0xC0 == 0x80
    return text.address(addr, str(scope) if scope and local else "")


def _show_endpoint(packed: bytes) -> str:
    return text.endpoint(_show_address(packed), int.from_bytes(packed[16:18], "big"))


def _plain_address(packed: bytes) -> str:
    shown = _show_address(packed)
    if shown != "*":
        return shown
    return "0.0.0.0" if packed[10:12] == b"\xff\xff" else "::"


def _plain_endpoint(packed: bytes) -> str:
    return text.endpoint(_plain_address(packed), int.from_bytes(packed[16:18], "big"))


def _family(rows: Rows, _: Flows) -> Values:
    """4 or 6: what the packets are; IPv4-mapped is 4."""
    raddr, laddr = rows.sockets["raddr"], rows.sockets["laddr"]
    mapped = ((raddr[:, 10] == 0xFF) & (raddr[:, 11] == 0xFF)) | ((laddr[:, 10] == 0xFF) & (laddr[:, 11] == 0xFF))
    high = raddr[:, :10].any(axis=1) | laddr[:, :10].any(axis=1)
    return np.where(mapped & ~high, 4.0, 6.0)


def _labels(names: dict[int, str], size: int) -> NDArray[np.bytes_]:
    table = np.zeros(size, "S12")
    for number, name in names.items():
        table[int(number)] = name.encode()
    return table


_STATES = _labels(STATE_NAMES, 16)
_DIRECTIONS = _labels({Direction.OUT: "out", Direction.IN: "in", Direction.LISTEN: "listen"}, 4)
_ORIGINS = _labels({Origin.LISTED: "listed", Origin.NEW: "new", Origin.ADOPTED: "adopted"}, 3)
_TIMERS = _labels({1: "retransmit", 2: "keepalive", 3: "time-wait", 4: "persist", 5: "probe", 6: "reorder"}, 7)


def _state(rows: Rows, _: Flows) -> Values:
    return np.take(_STATES, rows.sockets["state"] & 15)


def _direction(rows: Rows, _: Flows) -> Values:
    listens = rows.sockets["state"] == State.LISTEN
    return np.take(_DIRECTIONS, np.where(listens, Direction.LISTEN, rows.events["direction"] & 3))


def _origin(rows: Rows, _: Flows) -> Values:
    names: Values = _ORIGINS[np.minimum(rows.events["origin"], 2)]
    return names


def _timer(rows: Rows, _: Flows) -> Values:
    names: Values = _TIMERS[np.minimum(rows.sockets["timer"], 6)]
    return names


def _end(rows: Rows, _: Flows) -> Values:
    return np.zeros(len(rows), "S12") if rows.endings is None else end_names(rows.sockets, rows.events, rows.endings)


def _named(ids: NDArray[np.generic], names: Mapping[int, str]) -> Values:
    """The name of each number, as bytes; empty where it has none. One look-up for each number that occurs."""
    unique, inverse = np.unique(ids, return_inverse=True)
    table = [names.get(int(number), "").encode("utf-8", "surrogateescape") for number in unique]
    return np.array(table or [b""], "S")[inverse] if len(ids) else np.zeros(0, "S1")


def _user(rows: Rows, flows: Flows) -> Values:
    return _named(rows.sockets["uid"], flows.snapshot.users)


def _cgroup(rows: Rows, flows: Flows) -> Values:
    """The socket's own cgroup; where the kernel does not tell, that of the task which made it."""
    own = rows.sockets["cgroup_id"]
    return _named(np.where(own == 0, rows.events["cgroup_id"], own), flows.snapshot.cgroups)


def _unsigned(part: str, name: str) -> Reader:
    """A 64-bit identity, kept exact; 0 for null."""
    return lambda rows, _: getattr(rows, part)[name].astype(np.uint64)


def _show_id(value: int) -> str:
    return str(value) if value else text.DASH


def _show_state(name: bytes) -> str:
    return SHORT_STATES.get(name.decode(), text.DASH)


def _show_name(name: bytes) -> str:
    return text.printable(name) or text.UNKNOWN


def _show_word(name: bytes) -> str:
    return text.printable(name) or text.DASH


def _show_exact(value: float) -> str:
    """A number that is a name: never rounded."""
    return f"{value:.0f}"


def _dashed(show: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda value: text.DASH if math.isnan(value) else show(value)


def _us(value: float) -> str:
    return text.duration(value / 1e6)


def _ms(value: float) -> str:
    return text.duration(value / 1e3)


def _number(id: str, title: str, width: int, help: str, read: Reader, **rest: Any) -> Column:
    show = rest.pop("show", text.count)
    plain = rest.pop("plain", _whole)
    return Column(id, title, width, help, read, _dashed(show), _null_or(plain), **rest)


def _word(id: str, title: str, width: int, help: str, read: Reader, **rest: Any) -> Column:
    show = rest.pop("show", _show_word)
    plain = rest.pop("plain", _decoded)
    return Column(id, title, width, help, read, show, plain, right=False, falling=False, **rest)


def _identity(id: str, title: str, width: int, help: str, part: str, name: str) -> Column:
    return Column(id, title, width, help, _unsigned(part, name), _show_id, lambda v: int(v) or None)


COLUMNS: tuple[Column, ...] = (
    _identity("cookie", "COOKIE", 8, "the kernel's number for this socket, never used twice", "sockets", "cookie"),
    _identity("netns", "NETNS", 10, "inode number of the network namespace", "sockets", "netns"),
    _identity("inode", "INODE", 8, "inode number of the socket's descriptor", "sockets", "inode"),
    _number("family", "IP", 2, "4 or 6: what the packets are; an IPv4-mapped address is 4", _family),
    _word("laddr", "LADDR", 15, "local address", _endpoint("l"), show=_show_address, plain=_plain_address),
    _number("lport", "LPORT", 5, "local port", _socket("lport")),
    _word("raddr", "RADDR", 15, "remote address", _endpoint("r"), show=_show_address, plain=_plain_address),
    _number("rport", "RPORT", 5, "remote port", _socket("rport", 0)),
    _word("local", "LOCAL", 21, "local address and port", _endpoint("l"), show=_show_endpoint, plain=_plain_endpoint),
    _word(
        "peer", "PEER (LISTN: local)", 22, "remote address and port", _peer, show=_show_endpoint, plain=_plain_endpoint
    ),
    _word("state", "STATE", 5, "TCP state, as ss names it", _state, show=_show_state),
    _word("direction", "DIR", 6, "who opened it: out, in, listen", _direction),
    _word(
        "origin",
        "ORIGIN",
        7,
        "new: its whole life was seen; adopted: open before the start; listed: polled only",
        _origin,
    ),
    _number(
        "pid",
        "PID",
        7,
        "process that holds the socket",
        lambda r, _: _unless(r.owners["pid"], 0),
        show=_show_exact,
    ),
    _word("process", "PROCESS", 9, "name of that process", lambda r, _: r.owners["name"], show=_show_name),
    _word("user", "USER", 8, "user that made the socket", _user, show=_show_name),
    _word("cgroup", "CGROUP", 24, "control group of the socket", _cgroup, show=_show_name),
    _number("uid", "UID", 10, "user that made the socket", _socket("uid", UNKNOWN_U32), show=_show_exact),
    _word("end", "END", 11, "how it ended", _end),
    _number(
        "connect_ms",
        "CONN",
        5,
        "from connect() to established or to its failure",
        _connect_ms,
        show=_ms,
        plain=_rounded,
    ),
    _number("srtt_us", "SRTT", 5, "smoothed round-trip time", _connected("srtt_us", 0), alias="srtt", show=_us),
    _number("rttvar_us", "RTTVR", 5, "mean deviation of the round-trip time", _connected("rttvar_us"), show=_us),
    _number(
        "min_rtt_us",
        "MINRT",
        5,
        "least round-trip time of the last minutes",
        _connected("min_rtt_us", UNKNOWN_U32),
        show=_us,
    ),
    _number("last_rtt_us", "RTT", 5, "newest sample of the round-trip time", _last_rtt, alias="rtt", show=_us),
    _number("rto_us", "RTO-T", 5, "retransmission timeout in force", _connected("rto_us"), show=_us),
    _number("backoff", "BACK", 4, "how often the timeout was doubled", _connected("backoff"), severity=(1, 3)),
    _word("timer", "TIMER", 10, "what the socket's timer waits for", _timer),
    _number(
        "age_s", "AGE", 5, "since its birth, where that was seen", _age, alias="age", show=text.duration, plain=_rounded
    ),
    _number(
        "idle_s",
        "IDLE",
        5,
        "since data was last sent or received",
        _idle,
        alias="idle",
        show=text.duration,
        plain=_rounded,
    ),
    _number("closed_s", "CLOSD", 5, "since it closed", _closed_s, show=text.duration, plain=_rounded),
    _number("retrans_segs", "RETRT", 5, "segments sent again, in all", _connected("retrans_segs")),
    _number(
        "retrans_win",
        "RETR",
        5,
        "segments sent again within the window",
        _win("retrans_segs"),
        alias="retr",
        severity=(3, 20),
    ),
    _number(
        "retrans_per_s",
        "RETR/S",
        6,
        "segments sent again a second, now",
        _rate("retrans_per_s"),
        show=text.si,
        plain=_rounded,
    ),
    _number(
        "retrans_pct",
        "RETR%",
        5,
        "share of the data segments of the window that were sent again",
        _retrans_pct,
        alias="retr%",
        show=text.percent,
        plain=_rounded,
        severity=(0.5, 2.0),
    ),
    _number("rto_events", "RTOT", 5, "retransmission timeouts, in all", _rto_total),
    _number(
        "rto_win",
        "RTO",
        3,
        "retransmission timeouts within the window",
        _win("rto_events"),
        alias="rto",
        severity=(1, 3),
    ),
    _number("lost", "LOST", 4, "segments held to be lost, now", _connected("lost"), severity=(1, 20)),
    _number("sacked", "SACK", 4, "segments acknowledged out of order, now", _connected("sacked")),
    _number("dsack_dups", "DSACK", 5, "segments that the peer says it had already", _connected("dsack_dups")),
    _number("reord_seen", "REORD", 5, "times that reordering was noticed", _connected("reord_seen")),
    _number("ooo_in", "OOO", 5, "segments received out of order", _connected("ooo_in")),
    _number("cwnd", "CWND", 5, "congestion window, segments", _connected("cwnd")),
    _number("ssthresh", "SSTHR", 5, "slow-start threshold, segments", _ssthresh),
    _number("mss", "MSS", 5, "maximum segment size, bytes", _connected("mss")),
    _number("snd_wnd", "SNDWN", 5, "window that the peer offers, bytes", _connected("snd_wnd"), show=text.si),
    _number("rcv_wnd", "RCVWN", 5, "window that we offer, bytes", _connected("rcv_wnd"), show=text.si),
    _number("unacked", "UNACK", 5, "segments sent and not acknowledged", _connected("unacked")),
    _number("notsent", "NOTSN", 5, "bytes written and not sent", _connected("notsent"), show=text.si),
    _number(
        "recv_q",
        "RECVQ",
        5,
        "bytes received and not read; of a listener, not yet accepted",
        _socket("recv_q"),
        show=text.si,
    ),
    _number(
        "send_q",
        "SENDQ",
        5,
        "bytes not acknowledged; of a listener, its queue's limit",
        _socket("send_q"),
        show=text.si,
    ),
    _word("cc", "CC", 8, "congestion control", lambda r, _: r.sockets["cc"]),
    _number("backlog", "BKLOG", 5, "of a listener: connections not yet accepted", _listening("recv_q")),
    _number("backlog_max", "BKMAX", 5, "of a listener: how many may wait", _listening("send_q")),
    _number(
        "drops",
        "DROPS",
        5,
        "segments or handshakes that this socket dropped",
        _socket("drops", UNKNOWN_U32),
        severity=(1, 100),
    ),
    _number("bytes_acked", "ACKED", 6, "bytes sent and acknowledged", _connected("bytes_acked"), show=text.si),
    _number("bytes_received", "RECVD", 6, "bytes received", _connected("bytes_received"), show=text.si),
    _number(
        "tx_bytes_per_s",
        "TX/s",
        6,
        "bytes a second acknowledged, now",
        _rate("tx_bytes_per_s"),
        alias="tx",
        show=text.si,
    ),
    _number(
        "rx_bytes_per_s", "RX/s", 6, "bytes a second received, now", _rate("rx_bytes_per_s"), alias="rx", show=text.si
    ),
    _number(
        "delivery_bytes_per_s",
        "DELIV",
        6,
        "the kernel's newest sample of the rate",
        _delivery,
        alias="delivery",
        show=text.si,
    ),
    _number(
        "busy_pct",
        "BUSY%",
        5,
        "share of the window with data in flight",
        _share("busy_us", None),
        show=text.percent,
        plain=_rounded,
    ),
    _number(
        "rwnd_limited_pct",
        "RWND%",
        5,
        "share of the busy time that waited for the peer's window",
        _share("rwnd_limited_us", "busy_us"),
        show=text.percent,
        plain=_rounded,
    ),
    _number(
        "sndbuf_limited_pct",
        "SBUF%",
        5,
        "share of the busy time that waited for the send buffer",
        _share("sndbuf_limited_us", "busy_us"),
        show=text.percent,
        plain=_rounded,
    ),
)

BY_NAME: dict[str, Column] = {column.id: column for column in COLUMNS} | {c.alias: c for c in COLUMNS if c.alias}

DEFAULT = ("process", "peer", "state", "srtt_us", "retrans_win", "retrans_pct", "rto_win")
"""What 80 columns hold; wider screens add ``WIDER`` in this order for as long as there is room."""

WIDER = (
    "pid",
    "lport",
    "cwnd",
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

DEFAULT_SORT = "retrans_win"


def find(name: str) -> Column:
    """The column of this id or alias. Raises Usage."""
    column = BY_NAME.get(name)
    if column is None:
        near = get_close_matches(name, BY_NAME, 1)
        raise Usage(
            f"no column {name!r}", f"did you mean {near[0]}?" if near else f"columns: {' '.join(c.id for c in COLUMNS)}"
        )
    return column


def parse_list(spec: str, default: Iterable[str] = DEFAULT) -> tuple[Column, ...]:
    """``--columns``: ids or aliases; "all"; "+id" and "-id" change the default set. Raises Usage."""
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise Usage("no columns given", "for instance: --columns process,peer,srtt")
    if names == ["all"]:
        return COLUMNS
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
    """``--sort COLUMN[:asc|:desc]``: the column, and whether the greatest comes first. Raises Usage."""
    name, _, way = spec.partition(":")
    column = find(name)
    if way not in ("", "asc", "desc"):
        raise Usage(f"no order {way!r}", "asc or desc")
    return column, column.falling if not way else way == "desc"
