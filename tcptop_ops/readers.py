"""What each column reads: one value a row, over whole arrays.

Numbers are float64 with NaN for null; names bytes, empty for null; endpoints bytes that sort like the address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import diagnosis, mark
from tcptop_ops.endings import end_names
from tcptop_ops.services import service_of
from tcptop_ops.snapshot import (
    INFINITE_SSTHRESH,
    STATE_NAMES,
    UNKNOWN_U32,
    Direction,
    Origin,
    State,
    Timer,
    bound_to,
    device_keys,
)
from tcptop_ops.tracker import Flows, Rows, rto_events

LONGEST_NAME = 512
"""Bytes: one cgroup with a path of 4096 would make all rows as long."""

Values = NDArray[Any]
Reader = Callable[[Rows, Flows], Values]


def floats(values: Values) -> NDArray[np.float64]:
    return values.astype(np.float64)


def unless(values: Values, null: int) -> NDArray[np.float64]:
    found = floats(values)
    found[values == null] = np.nan
    return found


def socket(name: str, null: int | None = None) -> Reader:
    if null is None:
        return lambda rows, _: floats(rows.sockets[name])
    return lambda rows, _: unless(rows.sockets[name], null)


def connected(name: str, null: int | None = None) -> Reader:
    """A field that means nothing for a listener."""
    read = socket(name, null)

    def connected(rows: Rows, flows: Flows) -> Values:
        values = read(rows, flows)
        values[rows.sockets["state"] == State.LISTEN] = np.nan
        return values

    return connected


def listening(name: str) -> Reader:
    """A field that only a listener has."""
    read = socket(name)

    def listening(rows: Rows, flows: Flows) -> Values:
        values = read(rows, flows)
        values[rows.sockets["state"] != State.LISTEN] = np.nan
        return values

    return listening


def rate(name: str) -> Reader:
    def rate(rows: Rows, flows: Flows) -> Values:
        values = rows.rates[name].copy()
        values[rows.sockets["state"] == State.LISTEN] = np.nan
        return values if flows.seconds > 0 else np.full(len(rows), np.nan)

    return rate


def syn_recv(rows: Rows, flows: Flows) -> Values:
    """Of a listener: handshakes that wait for the last ACK, to its port in its namespace."""
    listens = rows.sockets["state"] == State.LISTEN
    values = np.full(len(rows), np.nan)
    ports, counts = np.unique(bound_to(flows.snapshot.half_open), return_counts=True)
    wanted = bound_to(rows.sockets)[listens]
    found = np.zeros(len(wanted))
    if len(ports):
        at = np.minimum(np.searchsorted(ports, wanted), len(ports) - 1)
        found = np.where(ports[at] == wanted, counts[at], 0.0)
    values[listens] = found
    return values


def win(name: str) -> Reader:
    def win(rows: Rows, _: Flows) -> Values:
        values = floats(rows.rates["win"][name])
        values[rows.sockets["state"] == State.LISTEN] = np.nan
        return values

    return win


def since_mark(name: str) -> Reader:
    return lambda rows, flows: mark.since(flows.mark, rows, name)


def retrans_pct(rows: Rows, _: Flows) -> Values:
    sent = floats(rows.rates["win"]["data_segs_out"])
    sent[sent < 20] = np.nan
    share: Values = 100.0 * rows.rates["win"]["retrans_segs"] / sent
    return share


def share(part: str, whole: str | None) -> Reader:
    """A time within W as a percentage of ``whole`` in W, or of W itself. Null where there is nothing to divide by."""

    def share(rows: Rows, _: Flows) -> Values:
        win = rows.rates["win"]
        total = floats(rows.rates["win_s"]) * 1e6 if whole is None else floats(win[whole])
        total[(total <= 0) | (rows.sockets["state"] == State.LISTEN)] = np.nan
        return np.minimum(100.0 * win[part] / total, 100.0)

    return share


def delivery(rows: Rows, _: Flows) -> Values:
    """tcp_compute_delivery_rate(), net/ipv4/tcp.c."""
    interval = unless(rows.sockets["rate_interval_us"], 0)
    rate: Values = floats(rows.sockets["rate_delivered"]) * rows.sockets["mss"] * 1e6 / interval
    return rate


def age(rows: Rows, flows: Flows) -> Values:
    """Known only where the birth was seen; a closed row's age stands still."""
    until = flows.snapshot.now_ns if rows.endings is None else rows.endings["end_ns"]
    age = (until - floats(rows.events["first_ns"])) / 1e9
    age[rows.events["origin"] != Origin.NEW] = np.nan
    return np.maximum(age, 0.0)


def idle(rows: Rows, _: Flows) -> Values:
    sent, received = rows.sockets["last_sent_us"], rows.sockets["last_received_us"]
    idle = np.minimum(sent, received) / 1e6
    unknown = (sent == UNKNOWN_U32) & (received == UNKNOWN_U32)
    unknown |= np.isin(rows.sockets["state"], (State.LISTEN, State.SYN_SENT))  # nothing was sent yet
    return np.where(unknown, np.nan, idle)


def closed_s(rows: Rows, flows: Flows) -> Values:
    if rows.endings is None:
        return np.full(len(rows), np.nan)
    return (flows.snapshot.now_ns - floats(rows.endings["end_ns"])) / 1e9


def score(rows: Rows, _: Flows) -> Values:
    return floats(rows.rates["score"])


def cause(rows: Rows, _: Flows) -> Values:
    names: Values = diagnosis.NAMES[rows.rates["cause"]]
    return names


def limit(rows: Rows, _: Flows) -> Values:
    names: Values = diagnosis.LIMIT_NAMES[rows.rates["limit"]]
    return names


def stall_ms(rows: Rows, _: Flows) -> Values:
    values = rows.rates["stall_us"] / 1e3
    values[rows.sockets["state"] == State.LISTEN] = np.nan
    return values


def connect_ms(rows: Rows, _: Flows) -> Values:
    return unless(rows.events["connect_us"], 0) / 1e3


def last_rtt(rows: Rows, _: Flows) -> Values:
    """The RACK state's newest sample (tcp_rack_advance); before the first, that of RTT_CB."""
    rack = rows.sockets["last_rtt_us"]
    return unless(np.where(rack == 0, rows.events["last_rtt_us"], rack), 0)


def ssthresh(rows: Rows, flows: Flows) -> Values:
    values = connected("ssthresh")(rows, flows)
    values[values >= INFINITE_SSTHRESH] = np.nan
    return values


def rto_total(rows: Rows, _: Flows) -> Values:
    values = floats(rto_events(rows.sockets, rows.events))
    values[rows.sockets["state"] == State.LISTEN] = np.nan
    return values


_ENDPOINT = np.dtype(
    [("addr", "u1", (16,)), ("port", ">u2"), ("scope", ">u4"), ("device", "S15"), ("end", "u1")]  # IFNAMSIZ is 16
)


def endpoint(side: str) -> Reader:
    """Address, port, and the device that a link-local one belongs to, as bytes that sort by address first.

    The last byte is never zero: numpy drops those at the end.
    """

    def endpoint(rows: Rows, flows: Flows) -> Values:
        packed = np.zeros(len(rows), _ENDPOINT)
        packed["addr"] = rows.sockets[side + "addr"]
        packed["port"] = rows.sockets[side + "port"]
        packed["scope"] = rows.sockets["ifindex"]
        if flows.snapshot.devices:
            packed["device"] = _named(device_keys(rows.sockets), flows.snapshot.devices).astype("S15")
        packed["end"] = 1
        return packed.view(f"S{_ENDPOINT.itemsize}")

    return endpoint


def peer(rows: Rows, flows: Flows) -> Values:
    """The other end; of a listener, its own."""
    remote, local = endpoint("r")(rows, flows), endpoint("l")(rows, flows)
    return np.where(rows.sockets["state"] == State.LISTEN, local, remote)


def family(rows: Rows, _: Flows) -> Values:
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
_OWNERS = _labels({1: "holder", 2: "caller", 3: "closer", 4: "listener"}, 5)
_TIMERS = _labels(
    {
        Timer.RETRANSMIT: "retransmit",
        Timer.KEEPALIVE: "keepalive",
        Timer.TIME_WAIT: "time-wait",
        Timer.PERSIST: "persist",
        Timer.LOSS_PROBE: "probe",
        Timer.REORDER: "reorder",
        Timer.DELACK: "delack",
    },
    9,
)


def state(rows: Rows, _: Flows) -> Values:
    return np.take(_STATES, rows.sockets["state"] & 15)


def direction(rows: Rows, _: Flows) -> Values:
    listens = rows.sockets["state"] == State.LISTEN
    return np.take(_DIRECTIONS, np.where(listens, Direction.LISTEN, rows.events["direction"] & 3))


def origin(rows: Rows, _: Flows) -> Values:
    names: Values = _ORIGINS[np.minimum(rows.events["origin"], 2)]
    return names


def timer(rows: Rows, _: Flows) -> Values:
    names: Values = _TIMERS[np.minimum(rows.sockets["timer"], len(_TIMERS) - 1)]
    return names


def owner(rows: Rows, _: Flows) -> Values:
    names: Values = _OWNERS[np.minimum(rows.owners["how"], 4)]
    return names


def end(rows: Rows, _: Flows) -> Values:
    return np.zeros(len(rows), "S12") if rows.endings is None else end_names(rows.sockets, rows.events, rows.endings)


def _named(ids: NDArray[np.generic], names: Mapping[int, str]) -> Values:
    """The name of each number, as bytes; empty where it has none. One look-up for each number that occurs."""
    unique, inverse = np.unique(ids, return_inverse=True)
    table = [names.get(int(number), "").encode("utf-8", "surrogateescape")[:LONGEST_NAME] for number in unique]
    return np.array(table or [b""], "S")[inverse] if len(ids) else np.zeros(0, "S1")


def user(rows: Rows, flows: Flows) -> Values:
    return _named(rows.sockets["uid"], flows.snapshot.users)


def cgroup(rows: Rows, flows: Flows) -> Values:
    """The socket's own cgroup; where the kernel does not tell, that of the task which made it."""
    return _named(cgroup_ids(rows), flows.snapshot.cgroups)


def service(rows: Rows, flows: Flows) -> Values:
    ids = cgroup_ids(rows)
    paths = flows.snapshot.cgroups
    return _named(ids, {number: service_of(paths.get(number, "")) for number in np.unique(ids).tolist()})


def cgroup_ids(rows: Rows) -> NDArray[np.uint64]:
    """Of the socket's own cgroup, else of that of the task which made it."""
    own: NDArray[np.uint64] = rows.sockets["cgroup_id"]
    return np.where(own == 0, rows.events["cgroup_id"], own)


def unsigned(part: str, name: str) -> Reader:
    """A 64-bit identity, kept exact; 0 for null."""
    return lambda rows, _: getattr(rows, part)[name].astype(np.uint64)
