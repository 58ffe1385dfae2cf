"""Causes of a listener."""

from __future__ import annotations

import numpy as np

from tcptop_ops.diagnosis.case import Case, Floats
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, times, within
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State


def _accept_queue(case: Case) -> tuple[Mask, Floats]:
    sockets, listens = case.sockets, case.is_in(State.LISTEN)
    full = listens & (sockets["recv_q"] > sockets["send_q"])
    # Drops prove nothing while the queue is short: a reset for a connection that is gone is counted as a drop of the
    # listener, too (tcp_rcv_state_process()).
    filled = 2 * np.maximum(sockets["recv_q"], case.memory["recv_q"]).astype("u8") >= sockets["send_q"]
    dropped = listens & ((case.win["drops"] >= 3) & filled | full & (case.win["drops"] > 0))
    return dropped | full, np.where(dropped, 95.0, 60.0)


def _accept_queue_evidence(row: Row) -> list[str]:
    queue = f"queue {row.socket('recv_q')} of {row.socket('send_q')}"
    if row.socket("recv_q") > row.socket("send_q"):
        queue += f", full for {row.rates['state_s']:.0f} s"
    dropped = row.grown("drops")
    return [f"{times(dropped, 'handshake')} dropped {within(row)}"] * bool(dropped) + [queue]


ACCEPT_QUEUE = Cause(
    name="accept-queue",
    phase="listening",
    blame="app",
    means="connections arrive faster than the process accepts them",
    told_by="a listener whose queue is longer than its limit, or at least half full while three "
    "handshakes were dropped",
    severity="95 with drops, else 60",
    threshold="3 handshakes dropped in W and the queue at least half full now or a tick ago, or one "
    "while it is longer than its limit",
    remedy="accept faster (more workers), or raise both the backlog of listen() and net.core.somaxconn",
    source="tcp_v4_syn_recv_sock(), sk_acceptq_is_full() of include/net/sock.h",
    of_many="have a full accept queue",
    related=(
        "backlog",
        "backlog_max",
        "drops",
    ),
    rule=_accept_queue,
    evidence=_accept_queue_evidence,
)
