"""Read the columns' values from whole arrays: a reader takes Rows and Flows and returns one value per row.

Numbers are float64 with NaN for null; names are bytes with b"" for null; endpoints are bytes that sort by address.
Identities (cookie, netns, inode) are uint64 with 0 for null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import rules, verdict
from tcptop_ops.model.addresses import are_mapped, halves
from tcptop_ops.model.arrays import device_keys, gather
from tcptop_ops.model.endings import end_names
from tcptop_ops.model.enums import STATE_NAMES, Direction, Origin, OwnerKind, State, Timer
from tcptop_ops.model.flows import Flows, Rows, rto_events
from tcptop_ops.model.listeners import among
from tcptop_ops.model.processes import process_keys
from tcptop_ops.model.records import INFINITE_SSTHRESH, UNKNOWN_U32, unknown_of
from tcptop_ops.model.services import service_of
from tcptop_ops.tracking import baseline
from tcptop_ops.views.known_values import floats, listens, never_answered, uncounted, unless

LONGEST_NAME = 512
"""Maximum length of a name in bytes: numpy makes every row as wide as the longest one."""

WAS = b"was "
"""What stands before the name of a process that no longer has the socket."""

Values = NDArray[Any]
"""One value per row: float64, bytes (``S``) or uint64."""

ColumnReader = Callable[[Rows, Flows], Values]


def socket(name: str, null: int | None = None) -> ColumnReader:
    """Return a reader of a SOCKET field as float64; NaN where it equals ``null``, if that is given.

    NaN, too, where the final record of a connection was lost: its family is 0 then, as all else.
    """

    def socket(rows: Rows, _: Flows) -> Values:
        values = floats(rows.sockets[name]) if null is None else unless(rows.sockets[name], null)
        if rows.endings is not None:
            values[rows.sockets["family"] == 0] = np.nan
        return values

    return socket


def connected(name: str, null: int | None = None) -> ColumnReader:
    """Return a reader of a SOCKET field as float64, with NaN for listeners, which use the field for something else."""
    read = socket(name, null)

    def connected(rows: Rows, flows: Flows) -> Values:
        values = read(rows, flows)
        values[listens(rows)] = np.nan
        return values

    return connected


def listening(name: str) -> ColumnReader:
    """Return a reader of a SOCKET field as float64, with NaN for rows that don't listen."""
    read = socket(name)

    def listening(rows: Rows, flows: Flows) -> Values:
        values = read(rows, flows)
        values[~listens(rows)] = np.nan
        return values

    return listening


def rate(name: str) -> ColumnReader:
    """Return a reader of a rate (a field of RATES); NaN for listeners and in the first tick, which has no rates."""

    def rate(rows: Rows, flows: Flows) -> Values:
        values = rows.rates[name].copy()
        values[listens(rows)] = np.nan
        return values if flows.seconds > 0 else np.full(len(rows), np.nan)

    return rate


def syn_recv(rows: Rows, flows: Flows) -> Values:
    """Return the handshakes that wait for the last ACK at each listener's address; NaN for rows that don't listen."""
    listens = rows.sockets["state"] == State.LISTEN
    values = np.full(len(rows), np.nan)
    listeners = among(flows.live.sockets)
    waits_at = listeners.of(flows.snapshot.half_open)
    counts = np.bincount(waits_at[waits_at >= 0], minlength=len(listeners) + 1)
    values[listens] = counts[listeners.groups_of(gather(rows.sockets, listens))]
    return values


def win(name: str) -> ColumnReader:
    """Return a reader of a counter's increase within the recent window; NaN for listeners."""

    def win(rows: Rows, _: Flows) -> Values:
        values = floats(rows.rates["win"][name])
        values[listens(rows)] = np.nan
        return values

    return win


def since_mark(name: str) -> ColumnReader:
    """Return a reader of the increase of a value (``mark.MARKED``) since the mark; NaN where there is none."""
    return lambda rows, flows: baseline.since(flows.mark, rows, name)


def retrans_pct(rows: Rows, _: Flows) -> Values:
    """Return retransmitted segments as a percentage of the data segments sent in the window.

    NaN below 20 of them, and for listeners.
    """
    sent = floats(rows.rates["win"]["data_segs_out"])
    sent[(sent < 20) | listens(rows)] = np.nan
    share: Values = np.minimum(100.0 * floats(rows.rates["win"]["retrans_segs"]) / sent, 100.0)
    return share


def share(part: str, whole: str | None) -> ColumnReader:
    """Return a reader of a time within the window as a percentage, at most 100.

    ``part`` and ``whole`` are counters in microseconds; ``whole`` None is the window's own length. NaN for listeners
    and where the whole is 0.
    """

    def share(rows: Rows, _: Flows) -> Values:
        win = rows.rates["win"]
        total = floats(rows.rates["win_s"]) * 1e6 if whole is None else floats(win[whole])
        total[(total <= 0) | listens(rows)] = np.nan
        return np.minimum(100.0 * floats(win[part]) / total, 100.0)

    return share


def delivery(rows: Rows, _: Flows) -> Values:
    """Return the delivery rate in bytes/s, as tcp_compute_delivery_rate() (net/ipv4/tcp.c); NaN before a sample."""
    interval = unless(rows.sockets["rate_interval_us"], 0)
    rate: Values = floats(rows.sockets["rate_delivered"]) * rows.sockets["mss"] * 1e6 / interval
    return rate


def age(rows: Rows, flows: Flows) -> Values:
    """Return the age in seconds, up to the end for closed rows; NaN where the connection's start was not seen."""
    until = flows.snapshot.now_ns if rows.endings is None else rows.endings["end_ns"]
    age = (until - floats(rows.events["first_ns"])) / 1e9
    age[rows.events["origin"] != Origin.NEW] = np.nan
    return np.maximum(age, 0.0)


def idle(rows: Rows, _: Flows) -> Values:
    """Return seconds since data was last sent or received; NaN for listeners, in SYN-SENT, and if not known.

    Up to its close, for a closed row.
    """
    values = np.fmin(socket("last_sent_us")(rows, _), socket("last_received_us")(rows, _)) / 1e6
    values[listens(rows) | never_answered(rows)] = np.nan  # no data has been sent in these states
    return values


def closed_s(rows: Rows, flows: Flows) -> Values:
    """Return seconds since the connection closed; NaN for live rows."""
    if rows.endings is None:
        return np.full(len(rows), np.nan)
    return (flows.snapshot.now_ns - floats(rows.endings["end_ns"])) / 1e9


def score(rows: Rows, _: Flows) -> Values:
    """Return the score, 0 to 100; NaN where there is no verdict yet."""
    return floats(rows.rates["score"])


def cause(rows: Rows, _: Flows) -> Values:
    """Return the name of the cause (``diagnosis.CAUSES``) as bytes."""
    names: Values = rules.NAMES[rows.rates["cause"]]
    return names


def blame(rows: Rows, _: Flows) -> Values:
    """Return who is to blame for the cause (``cause.Blame``) as bytes; b"" for a verdict that is no fault."""
    told: Values = rules.blames(rows.rates["cause"], rows.rates["reset_by"])
    return told


def least_rtt(rows: Rows, _: Flows) -> Values:
    """Return the least round trip as far as seen, us; NaN where none was measured, and for a listener."""
    values = unless(rows.rates["least_rtt_us"], 0)  # tcp_update_rtt_min() has no 0
    values[listens(rows)] = np.nan
    return values


def pacing(rows: Rows, _: Flows) -> Values:
    """Return the pacing rate, bytes a second; NaN where there is none, or it is not known, and for a listener."""
    values = unless(rows.sockets["pacing_rate"], 0)
    values[listens(rows)] = np.nan
    return values


def limit(rows: Rows, _: Flows) -> Values:
    """Return the name of what limits the connection (``diagnosis.LIMITS``) as bytes; b"" for nothing."""
    names: Values = verdict.LIMIT_NAMES[rows.rates["limit"]]
    return names


def stall_ms(rows: Rows, _: Flows) -> Values:
    """Return milliseconds lost to timeouts and zero windows so far; NaN for listeners."""
    values = rows.rates["stall_us"] / 1e3
    untold = uncounted(rows) & (rows.sockets["total_rto_ms"] == UNKNOWN_U32)
    values[listens(rows) | untold] = np.nan
    return values


def connect_ms(rows: Rows, _: Flows) -> Values:
    """Return milliseconds from connect() to established, or to the failure; NaN where that was not seen."""
    return unless(rows.events["connect_us"], 0) / 1e3


def last_rtt(rows: Rows, _: Flows) -> Values:
    """Return the newest RTT sample in microseconds; NaN before the first.

    It is that of the RACK state (tcp_rack_advance()); before the first one, and where sock_diag listed the socket, that
    of RTT_CB.
    """
    rack = rows.sockets["last_rtt_us"]
    return unless(np.where((rack == 0) | (rack == UNKNOWN_U32), rows.events["last_rtt_us"], rack), 0)


def ssthresh(rows: Rows, flows: Flows) -> Values:
    """Return the slow-start threshold in segments; NaN for listeners and while it is infinite."""
    values = connected("ssthresh")(rows, flows)
    values[values >= INFINITE_SSTHRESH] = np.nan
    return values


def rto_total(rows: Rows, _: Flows) -> Values:
    """Return the retransmission timeouts in total; NaN for listeners, and where nobody counted them."""
    values = floats(rto_events(rows.sockets, rows.events))
    values[listens(rows) | uncounted(rows)] = np.nan
    return values


def rto_win(rows: Rows, flows: Flows) -> Values:
    """Return the retransmission timeouts within the window; NaN for listeners, and where nobody counted them."""
    values = win("rto_events")(rows, flows)
    values[uncounted(rows)] = np.nan
    return values


def rttvar(rows: Rows, flows: Flows) -> Values:
    """Return the mean deviation of the RTT in microseconds; NaN before the first sample.

    Until then it is a fourth of the first timeout, from which tcp_rtt_estimator() begins.
    """
    values = connected("rttvar_us")(rows, flows)
    values[rows.sockets["srtt_us"] == 0] = np.nan
    return values


def snd_wnd(rows: Rows, flows: Flows) -> Values:
    """Return the window that the peer offers, in bytes; NaN for listeners, and before the peer has answered."""
    values = connected("snd_wnd")(rows, flows)
    values[never_answered(rows)] = np.nan
    return values


_ENDPOINT = np.dtype(
    [("addr", "u1", (16,)), ("port", ">u2"), ("scope", ">u4"), ("device", "S15"), ("end", "u1")]  # IFNAMSIZ is 16
)


def endpoint(side: str) -> ColumnReader:
    """Return a reader of the endpoint on ``side`` ("l" or "r") as bytes that sort by address first.

    Layout: 16 bytes of address (IPv4-mapped), 2 of port, 4 of scope (interface index), 15 of device name, and a byte 1:
    numpy strips trailing zeros from ``S`` values.
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
    """Return the remote endpoint; for a listener, its local one."""
    remote, local = endpoint("r")(rows, flows), endpoint("l")(rows, flows)
    return np.where(rows.sockets["state"] == State.LISTEN, local, remote)


def family(rows: Rows, _: Flows) -> Values:
    """Return the IP version of the packets, 4.0 or 6.0; an IPv4-mapped address counts as 4; NaN if not known."""
    here, there = (halves(rows.sockets[side]) for side in ("laddr", "raddr"))
    values = np.where(are_mapped(*here) | are_mapped(*there), 4.0, 6.0)
    values[rows.sockets["family"] == 0] = np.nan
    return values


def _labels(names: dict[int, str], size: int) -> NDArray[np.bytes_]:
    table = np.zeros(size, "S12")
    for number, name in names.items():
        table[int(number)] = name.encode()
    return table


_STATES = _labels(STATE_NAMES, 16)
_DIRECTIONS = _labels({Direction.OUT: "out", Direction.IN: "in", Direction.LISTEN: "listen"}, 4)
_ORIGINS = _labels({Origin.LISTED: "listed", Origin.NEW: "new", Origin.ADOPTED: "adopted"}, 3)
_OWNERS = _labels({kind: kind.name.lower() for kind in OwnerKind if kind}, len(OwnerKind))
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
    """Return the TCP state as ss names it, as bytes; b"" for an unknown one."""
    return np.take(_STATES, rows.sockets["state"] & 15)


def direction(rows: Rows, _: Flows) -> Values:
    """Return ``out``, ``in`` or ``listen`` as bytes; b"" where it is not known who opened the connection."""
    listens = rows.sockets["state"] == State.LISTEN
    return np.take(_DIRECTIONS, np.where(listens, Direction.LISTEN, rows.events["direction"] & 3))


def origin(rows: Rows, _: Flows) -> Values:
    """Return ``new``, ``adopted`` or ``listed`` as bytes (``snapshot.Origin``)."""
    names: Values = _ORIGINS[np.minimum(rows.events["origin"], 2)]
    return names


def timer(rows: Rows, _: Flows) -> Values:
    """Return the name of the socket's pending timer as bytes; b"" for none."""
    names: Values = _TIMERS[np.minimum(rows.sockets["timer"], len(_TIMERS) - 1)]
    return names


def owner(rows: Rows, _: Flows) -> Values:
    """Return how the process is known (``snapshot.OwnerKind``) as bytes; b"" where it is not."""
    names: Values = _OWNERS[np.minimum(rows.owners["how"], len(_OWNERS) - 1)]
    return names


def process(rows: Rows, _: Flows) -> Values:
    """Return the name of the process as bytes: "was NAME" where it held the socket once and nobody does now."""
    names: Values = rows.owners["name"]
    former = np.flatnonzero((rows.owners["how"] == OwnerKind.FORMER) & (names != b""))
    if len(former):
        names = names.astype(f"S{names.dtype.itemsize + len(WAS)}")
        names[former] = np.char.add(WAS, names[former])
    return names


def end(rows: Rows, _: Flows) -> Values:
    """Return how each connection ended (``endings.ENDS``) as bytes; b"" for live rows."""
    return np.zeros(len(rows), "S12") if rows.endings is None else end_names(rows.sockets, rows.events, rows.endings)


def _named(ids: NDArray[np.generic], names: Mapping[int, str]) -> Values:
    """Return the name of each number as bytes, truncated to LONGEST_NAME; b"" where it has none.

    Names are looked up once per distinct number.
    """
    unique, inverse = np.unique(ids, return_inverse=True)
    table = [names.get(int(number), "").encode("utf-8", "surrogateescape")[:LONGEST_NAME] for number in unique]
    return np.array(table or [b""], "S")[inverse] if len(ids) else np.zeros(0, "S1")


def user(rows: Rows, flows: Flows) -> Values:
    """Return the name of the user that created the socket, as bytes; b"" where the uid has no name."""
    return _named(rows.sockets["uid"], flows.snapshot.users)


def command(rows: Rows, flows: Flows) -> Values:
    """Return what each process runs (``host.command_lines``) as bytes; b"" where it is not known."""
    return _named(process_keys(rows.owners), flows.snapshot.commands)


def cgroup(rows: Rows, flows: Flows) -> Values:
    """Return the path of the socket's cgroup as bytes; b"" where it is not known."""
    return _named(cgroup_ids(rows), flows.snapshot.cgroups)


def service(rows: Rows, flows: Flows) -> Values:
    """Return the service, container or pod of the socket's cgroup as bytes (see ``services``)."""
    ids = cgroup_ids(rows)
    paths = flows.snapshot.cgroups
    return _named(ids, {number: service_of(paths.get(number, "")) for number in np.unique(ids).tolist()})


def cgroup_ids(rows: Rows) -> NDArray[np.uint64]:
    """Return the id of the socket's cgroup; failing that, of the task that created the socket; 0 if unknown."""
    own: NDArray[np.uint64] = rows.sockets["cgroup_id"]
    return np.where(own == 0, rows.events["cgroup_id"], own)


def unsigned(part: str, name: str) -> ColumnReader:
    """Return a reader of a 64-bit identity as uint64, exact where float64 would not be; 0 is null.

    ``part`` is the array of Rows that has the field, such as "sockets".
    """

    def unsigned(rows: Rows, _: Flows) -> Values:
        values = getattr(rows, part)[name]
        found: Values = values.astype(np.uint64)
        found[values == unknown_of(values.dtype)] = 0
        return found

    return unsigned
