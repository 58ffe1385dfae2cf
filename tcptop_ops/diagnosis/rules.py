"""THE list of causes, in their order; each is an entry in the file of its phase."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import connecting, ending, host_causes, listening, path_mtu, peer, ports, receiving, sending
from tcptop_ops.diagnosis.cause import Cause

LINGERING_SCORE = 30.0
"""Score from which a closed row stays listed for longer (``lingering.BAD_CLOSED_S``)."""

RULES: tuple[Cause, ...] = (
    listening.ACCEPT_QUEUE,
    listening.SYN_QUEUE,
    ending.RESET,
    connecting.REFUSED,
    connecting.REJECTED,
    connecting.UNREACHABLE,
    connecting.SYN_UNANSWERED,
    sending.LOCAL_DROP,
    receiving.RECEIVE_BUFFER,
    peer.PEER_NOT_READING,
    path_mtu.MTU,
    peer.DEAD_PEER,
    sending.RTO_STALL,
    sending.REORDERING,
    sending.SPURIOUS,
    sending.TAIL_LOSS,
    sending.LOSS,
    receiving.INBOUND_LOSS,
    sending.BUFFERBLOAT,
    ending.NOT_CLOSED,  # says more than that the socket is not read
    receiving.NOT_READING,
    connecting.SYN_LOST,
)
"""The faults in order of precedence: the first that matches a row names its cause."""

CAUSES: tuple[Cause, ...] = (
    Cause(
        name="unknown",
        means="not enough was seen yet to say anything",
        told_by="a row's first tick",
        remedy="wait a tick",
    ),
    *RULES,
    Cause(
        name="idle",
        means="nothing was sent or received within the window",
        told_by="no data either way",
        related=("idle_s",),
    ),
    Cause(name="healthy", means="none of the rules matches", told_by=""),
)
"""All verdicts; rows hold indices into them (``cause``)."""

OF_NAMESPACES: tuple[Cause, ...] = (ports.PORTS_USED_UP, *host_causes.OF_HOST)
"""What a finding tells of a network namespace, or of the host: no row has it."""

UNKNOWN, IDLE, HEALTHY = 0, len(RULES) + 1, len(RULES) + 2
"""Indices into CAUSES of the verdicts that are no faults."""

SYN_UNANSWERED = RULES.index(connecting.SYN_UNANSWERED) + 1
"""Index into CAUSES of what an attempt that was given up becomes if others fail as it did."""

RESET = RULES.index(ending.RESET) + 1
"""Index into CAUSES of a connection that was reset."""

OF_LISTENER = np.array([cause.name in ("accept-queue", "syn-queue") for cause in CAUSES])
"""Whether each of CAUSES is that of a listener, and of the attempts that wait for it."""

NAMES = np.array([cause.name.encode() for cause in CAUSES], "S16")
"""Names of CAUSES, to be indexed by an array of causes."""

BLAME_NAMES = np.array([(cause.blame or "").encode() for cause in CAUSES], "S8")
"""Who is to blame for each of CAUSES, to be indexed by an array of causes; empty for a verdict that is no fault."""

RESET_BLAME = np.array([b"", b"app", b"host", b"", b"", b"", b"network"], "S8")
"""Who is to blame for a reset, to be indexed by an array of ResetBy; empty: as BLAME_NAMES say."""


def blames(causes: NDArray[np.uint8], reset_by: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return who is to blame for each of these verdicts, empty for one that is no fault. ``reset_by``: ResetBy."""
    names, by_whom = BLAME_NAMES[causes], RESET_BLAME[reset_by]
    known = (causes == RESET) & (by_whom != b"")
    return np.where(known, by_whom, names)


def find(name: str) -> Cause | None:
    """Return the cause of this name, None if there is none."""
    return next((cause for cause in (*CAUSES, *OF_NAMESPACES) if cause.name == name), None)
