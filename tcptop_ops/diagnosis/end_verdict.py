"""The verdict on a connection that has ended, by ONE table: its phase, how it ended, and its last verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import Case, Floats
from tcptop_ops.diagnosis.ending import UNANSWERED, WITH_DATA, only_farewells, reset_severity, shut_window
from tcptop_ops.diagnosis.rules import CAUSES, HEALTHY, IDLE
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import Direction, ResetBy, State
from tcptop_ops.model.records import Records

DEFAULT = ""
"""In a line of the table: any last verdict that the line does not name."""

AS_FOUND = "as found"
"""In the table: what the rules find in the final figures, or what it was, whichever scores higher."""

AS_WAS = "as it was"
"""In the table: what it was while it lived."""


class Phase(IntEnum):
    """How far a connection had come when it ended."""

    CONNECTING = 0  # never established
    ESTABLISHED = 1
    HALF_CLOSED = 2  # one side had closed: FIN-WAIT of a socket that its process still has, CLOSE-WAIT
    CLOSING = 3  # both sides had closed, or the own process no longer has the socket
    LISTENING = 4  # it was a listener, which may close with connections in its queue


class Error(IntEnum):
    """How a connection ended, as far as it matters for the verdict."""

    NONE = 0  # in order, or by a reset with which nothing was lost
    UNSEEN = 1  # the source can't tell
    RESET = 2
    TIMED_OUT = 3
    SHUT_WINDOW = 4  # timed out while the peer's window was shut
    NO_WAY = 5  # an ICMP error, or no route any more


_BY_RESET = {DEFAULT: "reset", "not-closed": AS_WAS, "local-drop": AS_WAS}
_TIMED_OUT = {DEFAULT: "dead-peer", "peer-not-reading": AS_WAS, "local-drop": AS_WAS, "mtu": AS_WAS}
_SHUT_WINDOW = {DEFAULT: "peer-not-reading", "local-drop": AS_WAS, "dead-peer": AS_WAS}
_NO_WAY = {DEFAULT: "dead-peer", "local-drop": AS_WAS, "mtu": AS_WAS}

TABLE: dict[tuple[Phase, Error], dict[str, str]] = {
    **{(Phase.CONNECTING, error): {DEFAULT: AS_FOUND, "accept-queue": AS_WAS, "syn-queue": AS_WAS} for error in Error},
    **{(Phase.LISTENING, error): {DEFAULT: AS_WAS} for error in Error},
    **{
        (phase, error): line
        for phase in (Phase.ESTABLISHED, Phase.HALF_CLOSED, Phase.CLOSING)
        for error, line in (
            (Error.NONE, {DEFAULT: AS_FOUND}),
            (Error.UNSEEN, {DEFAULT: AS_FOUND}),
            (Error.RESET, _BY_RESET),
            (Error.TIMED_OUT, _TIMED_OUT),
            (Error.SHUT_WINDOW, _SHUT_WINDOW),
            (Error.NO_WAY, _NO_WAY),
        )
    },
}
"""The verdict by phase, error, and the last verdict while it lived: the name of a cause, AS_FOUND or AS_WAS.

What a row was while it lived, it stays, unless its end tells more.
"""

_FOUND, _WAS = 254, 255


def _compiled() -> NDArray[np.uint8]:
    """Return TABLE as an array by phase, error and index of the last verdict: indices into CAUSES, _FOUND or _WAS."""
    number = {cause.name: at for at, cause in enumerate(CAUSES)} | {AS_FOUND: _FOUND, AS_WAS: _WAS}
    table = np.zeros((len(Phase), len(Error), len(CAUSES)), np.uint8)
    for (phase, error), line in TABLE.items():
        table[phase, error] = number[line[DEFAULT]]
        for last, told in line.items():
            if last:
                table[phase, error, number[last]] = number[told]
    return table


_TABLE = _compiled()
_RESET, _DEAD_PEER, _PEER_NOT_READING = (
    next(at for at, cause in enumerate(CAUSES) if cause.name == name)
    for name in ("reset", "dead-peer", "peer-not-reading")
)
_SEVERITY = np.zeros(len(CAUSES))
_SEVERITY[[_DEAD_PEER, _PEER_NOT_READING]] = 95.0, 50.0

_OF_STANDING = np.array([cause.phase in ("sending", "receiving") and cause.name != "local-drop" for cause in CAUSES])
"""Whether each of CAUSES can be that of an established connection only."""


def phases(sockets: Records, events: Records, endings: Records) -> NDArray[np.uint8]:
    """Return how far each closed connection had come, as Phase. TCP Fast Open establishes in SYN-RECV."""
    met, start = events["states"], endings["from_state"]
    never = ~ends.was_established(met) & (events["direction"] != Direction.IN)
    done = (start == State.LAST_ACK) | (start == State.CLOSING)
    fin_wait = (start == State.FIN_WAIT1) | (start == State.FIN_WAIT2)
    return np.select(
        [
            start == State.LISTEN,
            never | (start == State.SYN_SENT),
            done | fin_wait & (sockets["inode"] == 0),
            fin_wait | (start == State.CLOSE_WAIT),
        ],
        [Phase.LISTENING, Phase.CONNECTING, Phase.CLOSING, Phase.HALF_CLOSED],
        default=Phase.ESTABLISHED,
    ).astype(np.uint8)


def severity_of_reset(sockets: Records, events: Records, by_whom: NDArray[np.uint8]) -> Floats:
    """Return how severe a reset is, as ``reset_severity`` does, in the light of the other end's row: ResetBy.

    An accepted connection at rest has lost something all the same where the peer ended with data unread. It has not
    where it only listened, and the peer's process closed after all was acknowledged; nor where that left no more than a
    farewell unread.
    """
    severity = reset_severity(sockets, events, by_whom == ResetBy.BETWEEN)
    came_in = (events["direction"] == Direction.IN) & (sockets["inode"] != 0)
    ours = by_whom == ResetBy.US
    cut = came_in & (by_whom == ResetBy.PEER) & ~only_farewells(sockets, events, ours)
    cut |= came_in & (by_whom == ResetBy.BETWEEN)
    left = came_in & (by_whom == ResetBy.DONE_PEER) & (severity < WITH_DATA) & (sockets["bytes_sent"] == 0)
    unheard = ends.outstanding(sockets, events)
    short = (unheard > 0) & (unheard <= ends.FAREWELL) & (sockets["bytes_sent"] > unheard)
    parted = came_in & np.isin(by_whom, (ResetBy.PEER, ResetBy.DONE_PEER)) & short & (ends.unread(sockets, events) == 0)
    aborted = (by_whom == ResetBy.HOST) & (severity == 0)
    severity = np.where(cut | aborted, np.maximum(severity, UNANSWERED), severity)
    return np.where(left | parted, 0.0, severity)


def errors(case: Case, severity: Floats) -> NDArray[np.uint8]:
    """Return how each connection ended, as Error. ``severity``: of a reset (``severity_of_reset``)."""
    timed_out = case.ended == ends.TIMED_OUT
    return np.select(
        [
            case.ended == ends.UNSEEN,
            (case.ended == ends.RESET) & (severity > 0),
            timed_out & shut_window(case.sockets, case.events),
            timed_out,
            case.ended == ends.UNREACHABLE,
        ],
        [Error.UNSEEN, Error.RESET, Error.SHUT_WINDOW, Error.TIMED_OUT, Error.NO_WAY],
        default=Error.NONE,
    ).astype(np.uint8)


@dataclass(frozen=True)
class Verdicts:
    """What is said of rows. The arrays are aligned."""

    cause: NDArray[np.uint8]  # index into CAUSES
    score: Floats
    kept: Mask  # the cause is that of an earlier tick


def decide(case: Case, endings: Records, by_whom: NDArray[np.uint8], found: Verdicts) -> Verdicts:
    """Return the verdicts on closed rows.

    ``case.memory`` holds the last verdict while they lived; ``by_whom``: ResetBy; ``found``: what the rules find in
    the final figures, or the last verdict, whichever scores higher.
    """
    severity = severity_of_reset(case.sockets, case.events, by_whom)
    last, last_score = case.memory["cause"], case.memory["score"].astype(np.float64)
    was_fault = last_score > 0
    phase = phases(case.sockets, case.events, endings)
    told = _TABLE[phase, errors(case, severity), np.where(was_fault, last, HEALTHY)]
    # What only an established connection can have is no cause of one that never was, nor a reset that lost nothing.
    wrong = (phase == Phase.CONNECTING) & _OF_STANDING[found.cause]
    wrong |= (told == _FOUND) & (found.cause == _RESET)
    told = np.where((told == _FOUND) & wrong, _WAS, told)
    by_table = told < _FOUND
    quiet = ((case.win["data_segs_out"] | case.win["data_segs_in"]) == 0) & (phase != Phase.LISTENING)
    none = np.where(quiet, np.uint8(IDLE), np.uint8(HEALTHY))
    cause = np.select([by_table, (told == _WAS) & was_fault, told == _WAS], [told, last, none], default=found.cause)
    decided = np.where(cause == _RESET, severity, _SEVERITY[cause])
    decided = np.maximum(decided, np.where(cause == last, last_score, 0.0))
    score = np.select([by_table, (told == _WAS) & was_fault, told == _WAS], [decided, last_score, 0.0], found.score)
    kept = np.where(told == _FOUND, found.kept, was_fault & (cause == last))
    return Verdicts(cause.astype(np.uint8), score, kept)
