"""The table of verdicts at the end, cell by cell; what a reset has lost; what stays, and what is said of it."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.case import Case
from tcptop_ops.diagnosis.end_verdict import (
    AS_FOUND,
    AS_WAS,
    DEFAULT,
    TABLE,
    Error,
    Phase,
    Verdicts,
    decide,
    errors,
    phases,
    severity_of_reset,
)
from tcptop_ops.diagnosis.rules import CAUSES, RULES
from tcptop_ops.model import endings as ends
from tcptop_ops.model.enums import Direction, ResetBy, ResetSeen, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import ENDING
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view
from tests.support.cases import MET, STUCK, case
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

NUMBER = {cause.name: number for number, cause in enumerate(CAUSES)}
HALF = MET | 1 << State.FIN_WAIT1 | 1 << State.FIN_WAIT2
CLOSE_WAIT = MET | 1 << State.CLOSE_WAIT
CLOSED = CLOSE_WAIT | 1 << State.LAST_ACK
RST = {"ended": ends.RESET, "resets": ResetSeen.RECEIVED, "error": errno.ECONNRESET, "inode": 9, "send_q": 0}

PHASES: dict[Phase, tuple[State, int]] = {
    Phase.CONNECTING: (State.SYN_SENT, 1 << State.SYN_SENT | 1 << State.CLOSE),
    Phase.ESTABLISHED: (State.ESTABLISHED, MET),
    Phase.HALF_CLOSED: (State.FIN_WAIT2, HALF),
    Phase.LISTENING: (State.LISTEN, 1 << State.LISTEN | 1 << State.CLOSE),
    Phase.CLOSING: (State.LAST_ACK, CLOSE_WAIT | 1 << State.LAST_ACK),
}
ERRORS: dict[Error, dict[str, Any]] = {
    Error.NONE: {"ended": ends.CLOSED},
    Error.UNSEEN: {"ended": ends.UNSEEN},
    Error.RESET: RST | {"send_q": 500},
    Error.TIMED_OUT: {"ended": ends.TIMED_OUT, "send_q": 500},
    Error.SHUT_WINDOW: {"ended": ends.TIMED_OUT, "send_q": 500, "snd_wnd": 0},
    Error.NO_WAY: {"ended": ends.UNREACHABLE, "send_q": 500},
}


def ending_of(start: State) -> Any:
    made = np.zeros(1, ENDING)
    made["from_state"] = start
    return made


def decided(made: Case, start: State, last: str, score: float, found: str) -> tuple[str, float, bool]:
    made.memory["cause"], made.memory["score"] = NUMBER[last], score
    as_found = Verdicts(np.array([NUMBER[found]], np.uint8), np.array([33.0]), np.array([False]))
    told = decide(made, ending_of(start), np.array([ResetBy.UNKNOWN], np.uint8), as_found)
    return CAUSES[int(told.cause[0])].name, float(told.score[0]), bool(told.kept[0])


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(phase, error) for phase in Phase for error in Error}
    assert all(DEFAULT in line for line in TABLE.values())


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("error", Error)
@pytest.mark.parametrize("last", ["healthy", *(rule.name for rule in RULES)])
def test_each_cell(phase: Phase, error: Error, last: str) -> None:
    start, states = PHASES[phase]
    made = case(**ERRORS[error] | {"states": states, "inode": 9})
    severity = severity_of_reset(made.sockets, made.events, np.zeros(1, np.uint8))
    assert phases(made.sockets, made.events, ending_of(start))[0] == phase
    assert errors(made, severity)[0] == error
    line = TABLE[phase, error]
    wanted = line.get(last, line[DEFAULT])
    score = 44.0 if last != "healthy" else 0.0
    name, points, kept = decided(made, start, last, score, "unreachable")
    if wanted == AS_FOUND:
        assert (name, points, kept) == ("unreachable", 33.0, False)
    elif wanted == AS_WAS:
        assert (name, points, kept) == ((last, 44.0, True) if score else ("healthy", 0.0, False))
    else:
        assert name == wanted
        assert points >= 30
        assert kept == (last == wanted)


@pytest.mark.parametrize("last", ["syn-unanswered", "healthy"])
def test_timeouts_of_syns_are_no_stall(last: str) -> None:
    """Nor are SYNs that were sent again lost data."""
    made = case(ended=ends.ABANDONED, states=1 << State.SYN_SENT | 1 << State.CLOSE)
    for found in ("rto-stall", "loss"):
        told = decided(made, State.SYN_SENT, last, 90.0 if last != "healthy" else 0.0, found)
        assert told == (("syn-unanswered", 90.0, True) if last != "healthy" else ("healthy", 0.0, False))


OUT, IN = {"direction": Direction.OUT}, {"direction": Direction.IN}
REQUEST = {"bytes_sent": 9, "bytes_received": 99, "last_sent_us": 9_000_000, "last_received_us": 100}
ANSWERED = {"bytes_sent": 9, "bytes_received": 99, "last_sent_us": 100, "last_received_us": 9_000_000}
UPLOAD = {"bytes_received": 99, "last_received_us": 100, "last_sent_us": 9_000_000}
OWN = {"resets": ResetSeen.SENT, "error": 0}

BOTH = OUT | {"states": CLOSE_WAIT, "recv_q": 32, "send_q": 31, "bytes_sent": 331, "bytes_received": 5032}
SAID = IN | {"states": HALF, "inode": 0, "send_q": 32, "bytes_sent": 5031, "bytes_received": 331}

LOST: list[tuple[float, dict[str, Any], ResetBy]] = [
    (40, OUT, ResetBy.UNKNOWN),
    (40, OUT | {"states": HALF, "send_q": 1}, ResetBy.UNKNOWN),
    (40, OUT | {"states": CLOSE_WAIT}, ResetBy.UNKNOWN),
    (40, OUT, ResetBy.DONE_PEER),
    (50, OUT | {"send_q": 1}, ResetBy.BETWEEN),
    (0, OUT | {"states": CLOSE_WAIT, "send_q": 1, "bytes_received": 1}, ResetBy.UNKNOWN),
    (50, OUT | {"states": CLOSE_WAIT, "send_q": 1, "bytes_received": 100}, ResetBy.UNKNOWN),
    (0, OUT | {"states": HALF, "send_q": 1, "inode": 0}, ResetBy.UNKNOWN),
    (50, OUT | {"states": HALF, "send_q": 2, "inode": 0}, ResetBy.UNKNOWN),
    (0, IN, ResetBy.UNKNOWN),
    (0, IN | ANSWERED, ResetBy.DONE_PEER),
    (0, IN | UPLOAD, ResetBy.UNKNOWN),
    (0, IN | UPLOAD | {"recv_q": 9}, ResetBy.DONE_PEER),
    (30, IN | ANSWERED, ResetBy.PEER),
    (30, IN | ANSWERED, ResetBy.BETWEEN),
    (30, IN | REQUEST, ResetBy.UNKNOWN),
    (30, IN | UPLOAD | {"states": CLOSE_WAIT}, ResetBy.UNKNOWN),
    (0, IN | ANSWERED | {"states": CLOSE_WAIT}, ResetBy.UNKNOWN),
    (0, IN | ANSWERED | {"states": HALF, "send_q": 1}, ResetBy.UNKNOWN),
    (50, IN | ANSWERED | {"send_q": 9}, ResetBy.DONE_PEER),  # the whole answer
    (0, IN | ANSWERED | {"send_q": 7}, ResetBy.DONE_PEER),
    (50, IN | ANSWERED | {"send_q": 700, "bytes_sent": 900}, ResetBy.DONE_PEER),
    (0, IN | REQUEST | {"inode": 0}, ResetBy.UNKNOWN),  # never accepted
    (0, IN | REQUEST | OWN | {"inode": 0, "recv_q": 9}, ResetBy.US),  # its listener closed
    (0, OUT | OWN, ResetBy.US),
    (30, OUT | OWN | {"recv_q": 9}, ResetBy.US),
    (30, IN | OWN | {"recv_q": 9}, ResetBy.US),
    (0, IN | OWN | {"recv_q": 1, "states": CLOSE_WAIT}, ResetBy.US),  # the peer's FIN
    (30, IN | OWN | {"recv_q": 2, "states": CLOSE_WAIT}, ResetBy.US),
    (50, IN | OWN | {"send_q": 9}, ResetBy.US),
    (30, IN | OWN | {"resets": ResetSeen.SENT, "error": errno.ECONNABORTED}, ResetBy.HOST),
    # A close_notify that is not read, or not acknowledged, by a process that has closed, or closes.
    (0, OUT | OWN | {"recv_q": 31, "bytes_received": 5031}, ResetBy.US),
    (0, OUT | OWN | {"recv_q": 32, "bytes_received": 5032, "states": CLOSE_WAIT}, ResetBy.US),
    (30, OUT | OWN | {"recv_q": 31, "bytes_received": 31}, ResetBy.US),  # the whole answer
    (30, OUT | OWN | {"recv_q": 900, "bytes_received": 5900}, ResetBy.US),
    (0, IN | OWN | {"recv_q": 32, "bytes_received": 332, "states": CLOSE_WAIT}, ResetBy.US),
    (30, IN | OWN | {"recv_q": 31, "bytes_received": 331}, ResetBy.US),  # the next request
    (0, IN | {"send_q": 31, "bytes_sent": 5031, "bytes_received": 300, "states": CLOSE_WAIT}, ResetBy.DONE_PEER),
    (0, IN | {"send_q": 31, "bytes_sent": 5031, "bytes_received": 300, "states": CLOSE_WAIT}, ResetBy.PEER),
    (50, IN | {"send_q": 31, "bytes_sent": 5031, "bytes_received": 300, "states": CLOSE_WAIT}, ResetBy.BETWEEN),
    (50, OUT | {"send_q": 32, "bytes_sent": 331, "bytes_received": 5000, "states": CLOSED}, ResetBy.BETWEEN),
    (50, IN | {"send_q": 31, "bytes_sent": 31, "bytes_received": 300, "states": CLOSE_WAIT}, ResetBy.DONE_PEER),
    (50, IN | {"send_q": 31, "bytes_sent": 5031, "bytes_received": 300}, ResetBy.UNKNOWN),
    (0, OUT | {"send_q": 32, "bytes_sent": 331, "bytes_received": 5000, "states": CLOSED}, ResetBy.DONE_PEER),
    (50, OUT | {"send_q": 31, "bytes_sent": 331, "bytes_received": 5000, "states": CLOSE_WAIT}, ResetBy.DONE_PEER),
    # The close_notify of each side meets a process that has closed.
    (0, BOTH, ResetBy.PEER),
    (0, BOTH | OWN, ResetBy.US),
    (50, BOTH, ResetBy.BETWEEN),
    (50, BOTH | {"recv_q": 900}, ResetBy.PEER),
    (50, BOTH | {"send_q": 900, "bytes_sent": 1200}, ResetBy.PEER),
    (0, SAID, ResetBy.PEER),  # who left it unread sent a reset in place of a FIN
    (50, SAID, ResetBy.BETWEEN),
    (50, SAID | {"inode": 9}, ResetBy.UNKNOWN),  # half-closed: it waits for more
    (0, SAID | {"inode": 9, "states": MET, "send_q": 31}, ResetBy.PEER),  # before it could close
    (50, SAID | {"inode": 9, "states": MET, "send_q": 31}, ResetBy.UNKNOWN),
    (50, SAID | {"bytes_sent": 31}, ResetBy.PEER),  # the whole answer
    (50, SAID | {"send_q": 900}, ResetBy.PEER),
]


@pytest.mark.parametrize(("severity", "told", "by"), LOST)
def test_what_a_reset_has_lost(severity: float, told: dict[str, Any], by: ResetBy) -> None:
    made = case(**RST | told)
    assert severity_of_reset(made.sockets, made.events, np.array([by], np.uint8)).tolist() == [severity]


def rows(flows: Flows) -> list[dict[str, Any]]:
    return connections(view.make(flows, view.Spec()))


def lived(*ticks: dict[str, Any], end: dict[str, Any] | None = None, **ending: Any) -> dict[str, Any]:
    """What is told of one connection after so many ticks of a second, and its end, if it has one."""
    tracker = Tracker()
    for number, told in enumerate(ticks):
        flows = tracker.update(snapshot(number, [flow(1, states=MET, inode=9) | told]))
    if end is not None:
        at = BOOT_NS + int((len(ticks) - 0.5) * 1e9)
        final = finals([flow(1, states=MET, inode=9) | end], at, **{"from_state": State.ESTABLISHED} | ending)
        flows = tracker.update(snapshot(len(ticks), [], final))
    [row] = rows(flows)
    return row


SHUT = STUCK | {"snd_wnd": 0, "backoff": 3, "last_sent_us": 9_000_000}


def test_a_cause_that_is_over_says_so_with_the_figures_of_then() -> None:
    row = lived({}, SHUT, {}, {})
    assert (row["cause"], row["evidence"]) == (
        "peer-not-reading",
        "over for 2.00s: 5.0kB wait for a window of 0 bytes, 3 window probes, nothing could be sent for 9.00s, "
        "the peer offers no window: its application does not read, or it lacks buffer memory",
    )


def test_a_cause_that_goes_on_does_not() -> None:
    assert lived({}, SHUT, SHUT)["evidence"].startswith("5.0kB wait")


def test_given_up_at_a_shut_window() -> None:
    gone = {"snd_wnd": 0, "notsent": 5000, "send_q": 5000, "probes": 4}
    row = lived({}, SHUT, end=gone, error=errno.ETIMEDOUT)
    assert (row["cause"], row["end"], row["blame"]) == ("peer-not-reading", "timed-out", "peer")
    assert row["evidence"].startswith(
        "given up while the peer's window was shut, 4 window probes unanswered, 5.0kB not acknowledged, "
        "before its end: 5.0kB wait for a window of 0 bytes"
    )


@pytest.mark.parametrize(
    ("end", "error", "cause", "words"),
    [
        ({"probes": 2, "snd_wnd": 9}, errno.ETIMEDOUT, "dead-peer", "given up, 2 keepalive probes unanswered"),
        (
            {"retransmits": 3, "send_q": 700, "snd_wnd": 9},
            errno.ETIMEDOUT,
            "dead-peer",
            "given up: sent 4 times, nothing came back, 700B not acknowledged",
        ),
        (
            {"retransmits": 3, "send_q": 700, "snd_wnd": 9},
            errno.EHOSTUNREACH,
            "dead-peer",
            "ended by ICMP or a missing route: no route to host, given up: sent 4 times, nothing came back, "
            "700B not acknowledged",
        ),
        (
            {"resets": ResetSeen.RECEIVED, "send_q": 700, "error": errno.ECONNRESET},
            errno.ECONNRESET,
            "reset",
            "reset by the peer, or something between, while 700B were unacknowledged",
        ),
        ({"resets": ResetSeen.SENT, "recv_q": 70}, 0, "reset", "reset by its own process, 70B unread"),
    ],
)
def test_ends_without_a_cause_before(end: dict[str, Any], error: int, cause: str, words: str) -> None:
    row = lived({}, {}, end=end, error=error)
    assert (row["cause"], row["evidence"]) == (cause, words)
    assert row["score"] >= 30


def test_who_is_to_blame_for_a_reset() -> None:
    received = {"resets": ResetSeen.RECEIVED, "send_q": 700, "error": errno.ECONNRESET}
    assert lived({}, end=received, error=errno.ECONNRESET)["blame"] == "peer"
    assert lived({}, end={"resets": ResetSeen.SENT, "recv_q": 7})["blame"] == "app"
    assert lived({}, end={"resets": ResetSeen.SENT, "recv_q": 7}, error=errno.ECONNABORTED)["blame"] == "host"


def test_no_more_time_is_lost_than_has_passed() -> None:
    waited = {"rto_wait_us": 9_000_000, "rto_events": 4}
    assert lived({}, waited)["stall_ms"] == 1000
    assert lived({}, {}, end=waited)["stall_ms"] == 1500
