"""The evidence for a row's diagnosis, in words and figures. Pure."""

from __future__ import annotations

from tcptop_ops import text
from tcptop_ops.diagnosis import verdict
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.ending import last_words
from tcptop_ops.diagnosis.evidence_row import Row
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows

_LIMITED = {
    "peer": "limited by the peer's window",
    "sndbuf": "limited by the send buffer",
    "cwnd": "limited by the congestion window",
    "app": "limited by the application: it has no more to send",
    "rwnd": "limited by the receive window of this end",
    "nagle": "limited by Nagle's algorithm: small writes wait for acknowledgements (TCP_NODELAY sends them at once)",
    "pacing": "limited by pacing",
}

_READS_SLOWLY = {
    "app": "limited by the local application, which reads more slowly than data come",
    "rwnd": "limited by the receive window: the local application reads more slowly than data come",
}
"""The same of a connection with bytes unread."""


def of(rows: Rows, flows: Flows) -> list[str]:
    """Return short phrases about the only row of ``rows``, the most telling first.

    Without a fault they name what limits its throughput; empty where nothing is known to.
    """
    row = Row(rows, flows)
    cause = CAUSES[int(row.rates["cause"])]
    if cause.evidence is not None:
        if row.rates["kept"]:
            return [*last_words(row), *_what_was(cause, rows, flows)]
        return last_words(row) or cause.evidence(row)
    limit = verdict.LIMITS[int(row.rates["limit"])]
    if not limit or row.socket("state") == State.LISTEN:
        return []
    if row.unread and limit in _READS_SLOWLY and not row.socket("notsent"):
        return [_READS_SLOWLY[limit], f"{text.si(row.unread)}B unread"]
    return [_LIMITED[limit] + _rate(row, limit)]


def _rate(row: Row, limit: str) -> str:
    """Return the rate of pacing and whose it is, empty for another limit."""
    if limit != "pacing":
        return ""
    whose = "SO_MAX_PACING_RATE" if row.socket("pacing_capped") else text.printable(bytes(row.sockets["cc"]))
    return f" to {text.si(row.socket('pacing_rate'))}B/s ({whose})"


def _what_was(cause: Cause, rows: Rows, flows: Flows) -> list[str]:
    """Say since when a cause is over, and what was said when its rule last matched."""
    was, rates = flows.was(rows), rows.rates[0]
    over = "before its end" if rows.endings is not None else f"over for {text.duration(float(rates['over_s']))}"
    if cause.phase == "listening" and rows.endings is None:
        over = "over"  # the evidence tells when the last one was dropped, which was before W was free of them
    if was is None or cause.evidence is None:
        return [f"{over}: {cause.means}"]
    first, *rest = cause.evidence(Row(was, flows, past=True))
    return [f"{over}: {first}", *rest]


def sentence(rows: Rows, flows: Flows) -> str:
    """Return the phrases of ``of`` as one line, for JSON."""
    return ", ".join(of(rows, flows))
