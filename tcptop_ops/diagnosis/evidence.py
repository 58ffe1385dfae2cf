"""The evidence for a row's diagnosis, in words and figures: a function per cause. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcptop_ops import text
from tcptop_ops.diagnosis import verdict
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model import endings
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows


class Row:
    """One row as plain Python values. ``end``: how a closed one ended (endings.ENDS); "" where live or not known.

    ``loss_pct``: retransmitted segments per 100 data segments sent in W.
    """

    def __init__(self, rows: Rows, flows: Flows) -> None:
        """Take the only row of ``rows``, which has length 1."""
        self.sockets, self.events, self.rates = rows.sockets[0], rows.events[0], rows.rates[0]
        self.win: Any = self.rates["win"]
        self.win_s = float(self.rates["win_s"])
        self.closed = rows.endings is not None
        self.end = (
            endings.ENDS[int(endings.end_codes(rows.sockets, rows.events, rows.endings)[0])]
            if rows.endings is not None
            else ""
        )
        self.loss_pct = 100.0 * int(self.win["retrans_segs"]) / max(int(self.win["data_segs_out"]), 1)

    def socket(self, name: str) -> int:
        """Return an integer field of SOCKET."""
        return int(self.sockets[name])

    def event(self, name: str) -> int:
        """Return an integer field of EVENTS."""
        return int(self.events[name])

    def grown(self, name: str) -> int:
        """Return how much a counter of COUNTED grew within W."""
        return int(self.win[name])


def us(value: float) -> str:
    """Format a time given in microseconds."""
    return text.duration(value / 1e6)


def within(row: Row) -> str:
    """Say ``in 20 s``: the length of W, or the part of it that the row has lived through."""
    return f"in {row.win_s:.0f} s"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _accept_queue(row: Row) -> list[str]:
    queue = f"queue {row.socket('recv_q')} of {row.socket('send_q')}"
    if row.socket("recv_q") > row.socket("send_q"):
        queue += f", full for {row.rates['state_s']:.0f} s"
    dropped = row.grown("drops")
    return [f"{_times(dropped, 'handshake')} dropped {within(row)}"] * bool(dropped) + [queue]


def _refused(row: Row) -> list[str]:
    return [f"answered by a reset after {us(row.event('connect_us'))}"]


def _unreachable(row: Row) -> list[str]:
    return [
        f"{_times(row.event('rto_events'), 'timeout')}, {_times(row.socket('retrans_segs'), 'SYN')} could be sent again"
    ]


def _next(row: Row) -> str:
    return f", next in {us(row.socket('timer_us'))}" if row.socket("timer_us") and not row.closed else ""


def _syn_unanswered(row: Row) -> list[str]:
    tries = max(row.event("rto_events"), row.socket("retrans_segs")) if row.closed else row.socket("retransmits")
    waited = f"gave up after {us(row.event('connect_us'))}" if row.closed else ""
    return [f"{_times(tries + 1, 'SYN')} unanswered{_next(row)}", *[waited] * bool(waited)]


def _local_drop(row: Row) -> list[str]:
    if row.socket("unacked"):
        waiting = f"{_times(row.socket('unacked'), 'segment')} in flight"
        return [f"{_times(row.event('retrans_failed'), 'retransmit')} could not be sent{_next(row)}", waiting]
    return [f"{text.si(row.socket('notsent'))}B wait, {_times(row.socket('probes'), 'probe')} in vain"]


def _peer_not_reading(row: Row) -> list[str]:
    return [
        f"{text.si(row.socket('notsent'))}B wait for a window of {row.socket('snd_wnd')} bytes",
        f"{_times(row.socket('backoff'), 'window probe')}{_next(row)}",
    ]


def _dead_peer(row: Row) -> list[str]:
    if row.closed:
        return [f"gave up: {_times(row.event('rto_events'), 'timeout')}, {us(row.event('rto_wait_us'))} waited"]
    if not row.socket("unacked"):
        return [f"{_times(row.socket('probes'), 'keepalive probe')} unanswered{_next(row)}"]
    return [
        f"sent {row.socket('retransmits') + 1} times, nothing came back{_next(row)}",
        f"{_times(row.socket('unacked'), 'segment')} in flight",
    ]


def _rto_stall(row: Row) -> list[str]:
    share = 100.0 * row.grown("rto_wait_us") / 1e6 / max(row.win_s, 1.0)
    found = [
        f"{_times(row.grown('rto_events'), 'timeout')} {within(row)}",
        f"{min(share, 100):.0f} % of it stood still",
    ]
    if row.socket("backoff"):
        found.append(f"back-off {row.socket('backoff')}")
    return found


def _needless(row: Row) -> list[str]:
    return [
        f"{row.grown('dsack_dups')} of {_times(row.grown('retrans_segs'), 'retransmit')} {within(row)} had arrived",
        *[f"reordering noticed {_times(row.grown('reord_seen'), 'time')}"] * bool(row.grown("reord_seen")),
    ]


def _loss(row: Row) -> list[str]:
    found = [f"{_times(row.grown('retrans_segs'), 'retransmit')} {within(row)}"]
    if row.grown("data_segs_out"):
        found.append(f"{text.percent(row.loss_pct)} % of {text.count(row.grown('data_segs_out'))} segments")
    if row.grown("dsack_dups"):
        found.append(f"{row.grown('dsack_dups')} had arrived")
    if row.grown("probe_segs"):
        found.append(f"{row.grown('probe_segs')} were tail-loss probes")
    return found


def _inbound_loss(row: Row) -> list[str]:
    share = 100.0 * row.grown("ooo_in") / max(row.grown("data_segs_in"), 1)
    came = f"{row.grown('ooo_in')} of {text.count(row.grown('data_segs_in'))} segments came out of order"
    return [f"{came} {within(row)}", f"{text.percent(share)} %"]


def _bufferbloat(row: Row) -> list[str]:
    return [
        f"round trip {us(row.socket('srtt_us'))}, at its least {us(row.socket('min_rtt_us'))}",
        f"{_times(row.socket('unacked'), 'segment')} in flight, {text.printable(bytes(row.sockets['cc']))}",
    ]


def _not_reading(row: Row) -> list[str]:
    return [f"{text.si(row.socket('recv_q'))}B unread, window offered: {row.socket('rcv_wnd')} bytes"]


def _not_closed(row: Row) -> list[str]:
    return [f"in CLOSE-WAIT for {text.duration(float(row.rates['state_s']))}"]


_WORDS: dict[str, Callable[[Row], list[str]]] = {
    "accept-queue": _accept_queue,
    "refused": _refused,
    "unreachable": _unreachable,
    "syn-unanswered": _syn_unanswered,
    "local-drop": _local_drop,
    "peer-not-reading": _peer_not_reading,
    "dead-peer": _dead_peer,
    "rto-stall": _rto_stall,
    "reordering": _needless,
    "spurious": _needless,
    "tail-loss": _loss,
    "loss": _loss,
    "inbound-loss": _inbound_loss,
    "bufferbloat": _bufferbloat,
    "not-reading": _not_reading,
    "not-closed": _not_closed,
}

_LIMITED = {
    "peer": "limited by the peer's window",
    "sndbuf": "limited by the send buffer",
    "cwnd": "limited by the congestion window",
    "app": "limited by the application: it has no more to send",
    "rwnd": "limited by the own receive window",
}


def of(rows: Rows, flows: Flows) -> list[str]:
    """Return short phrases about the only row of ``rows``, the most telling first.

    Without a fault they name what limits its throughput; empty where nothing is known to.
    """
    row = Row(rows, flows)
    cause = CAUSES[int(row.rates["cause"])]
    words = _WORDS.get(cause.name)
    if words is not None:
        return words(row)
    limit = verdict.LIMITS[int(row.rates["limit"])]
    return [_LIMITED[limit]] if limit and row.socket("state") != State.LISTEN else []


def sentence(rows: Rows, flows: Flows) -> str:
    """Return the phrases of ``of`` as one line, for JSON."""
    return ", ".join(of(rows, flows))
