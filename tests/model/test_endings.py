"""How a connection ended: every case by hand, and all of them for arbitrary bits."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.model.endings import ENDS, end_codes, end_names
from tcptop_ops.model.enums import ResetSeen, State
from tcptop_ops.model.records import UNKNOWN_U32
from tests.support.fakes import finals, flow, scrambled

OK, UNKNOWN = 0, UNKNOWN_U32
SYN_SENT = 1 << State.CLOSE | 1 << State.SYN_SENT
ESTABLISHED = 1 << State.ESTABLISHED | 1 << State.CLOSE
WE_CLOSED = ESTABLISHED | 1 << State.FIN_WAIT1 | 1 << State.FIN_WAIT2
PEER_CLOSED = ESTABLISHED | 1 << State.CLOSE_WAIT | 1 << State.LAST_ACK
BOTH_CLOSED = ESTABLISHED | 1 << State.FIN_WAIT1 | 1 << State.CLOSING

# error, state it left, states it went through, what else, the name
CASES: list[tuple[int, int, int, dict[str, int], str]] = [
    (OK, State.FIN_WAIT2, WE_CLOSED, {}, "closed"),
    (OK, State.CLOSING, BOTH_CLOSED, {}, "closed"),
    (OK, State.LAST_ACK, PEER_CLOSED, {}, "peer-closed"),
    (UNKNOWN, State.FIN_WAIT2, WE_CLOSED, {}, "closed"),
    (UNKNOWN, State.LAST_ACK, PEER_CLOSED, {}, "peer-closed"),
    (errno.ECONNRESET, State.ESTABLISHED, ESTABLISHED, {}, "reset"),
    (errno.EPIPE, State.CLOSE_WAIT, ESTABLISHED | 1 << State.CLOSE_WAIT, {}, "reset"),
    (errno.ECONNABORTED, State.ESTABLISHED, ESTABLISHED, {}, "reset"),
    (errno.ECONNRESET, State.FIN_WAIT2, WE_CLOSED, {}, "closed"),
    (errno.ECONNRESET, State.FIN_WAIT2, WE_CLOSED, {"inode": 9, "send_q": 1}, "reset"),  # half-closed
    (errno.ECONNRESET, State.FIN_WAIT1, WE_CLOSED, {"send_q": 1}, "closed"),  # but for its FIN all had arrived
    (errno.ECONNRESET, State.FIN_WAIT1, WE_CLOSED, {"send_q": 2}, "reset"),
    (errno.ECONNRESET, State.LAST_ACK, PEER_CLOSED, {"send_q": 1}, "peer-closed"),
    (errno.ECONNRESET, State.LAST_ACK, PEER_CLOSED, {"send_q": 2}, "reset"),
    (OK, State.CLOSE_WAIT, ESTABLISHED | 1 << State.CLOSE_WAIT, {"resets": ResetSeen.SENT}, "reset"),
    (OK, State.FIN_WAIT2, WE_CLOSED, {"resets": ResetSeen.SENT}, "reset"),
    (OK, State.ESTABLISHED, ESTABLISHED, {}, "reset"),
    (UNKNOWN, State.ESTABLISHED, ESTABLISHED, {}, "reset"),
    (UNKNOWN, State.UNSEEN, ESTABLISHED, {}, "unseen"),
    (UNKNOWN, State.UNSEEN, 0, {"gave_up": 1}, "unseen"),
    (errno.ETIMEDOUT, State.ESTABLISHED, ESTABLISHED, {}, "timed-out"),
    (errno.ETIMEDOUT, State.SYN_SENT, SYN_SENT, {}, "timed-out"),
    (errno.ETIMEDOUT, State.FIN_WAIT1, WE_CLOSED, {}, "timed-out"),
    (UNKNOWN, State.ESTABLISHED, ESTABLISHED, {"gave_up": 1}, "timed-out"),
    (UNKNOWN, State.SYN_SENT, SYN_SENT, {"gave_up": 1}, "timed-out"),
    (OK, State.LAST_ACK, PEER_CLOSED, {"gave_up": 1}, "peer-closed"),
    (errno.ECONNREFUSED, State.SYN_SENT, SYN_SENT, {"segs_in": 1}, "refused"),
    (errno.ECONNREFUSED, State.SYN_SENT, SYN_SENT, {}, "refused"),
    (errno.ECONNRESET, State.SYN_SENT, SYN_SENT, {}, "refused"),
    (UNKNOWN, State.SYN_SENT, SYN_SENT, {"segs_in": 1}, "refused"),
    (UNKNOWN, State.SYN_SENT, SYN_SENT, {"segs_in": 1, "gave_up": 1}, "refused"),
    (OK, State.SYN_SENT, SYN_SENT, {"segs_in": 1}, "abandoned"),
    (OK, State.SYN_SENT, SYN_SENT, {}, "abandoned"),
    (UNKNOWN, State.SYN_SENT, SYN_SENT, {}, "abandoned"),
    (errno.EHOSTUNREACH, State.SYN_SENT, SYN_SENT, {}, "unreachable"),
    (errno.ENETUNREACH, State.SYN_SENT, SYN_SENT, {}, "unreachable"),
    (errno.EPERM, State.SYN_SENT, SYN_SENT, {}, "unreachable"),
    (errno.EACCES, State.SYN_SENT, SYN_SENT, {}, "unreachable"),
    (errno.EHOSTUNREACH, State.ESTABLISHED, ESTABLISHED, {}, "unreachable"),
    (errno.ENOPROTOOPT, State.SYN_SENT, SYN_SENT, {}, "unreachable"),
    (OK, State.SYN_SENT, SYN_SENT, {"told": errno.EHOSTUNREACH}, "unreachable"),
    (OK, State.SYN_SENT, SYN_SENT, {"told": errno.ECONNREFUSED}, "refused"),
    (UNKNOWN, State.SYN_SENT, SYN_SENT, {"told": errno.ENOPROTOOPT}, "unreachable"),
    (errno.ETIMEDOUT, State.SYN_SENT, SYN_SENT, {"told": errno.EHOSTUNREACH}, "timed-out"),
    (OK, State.LAST_ACK, PEER_CLOSED, {"told": errno.EHOSTUNREACH}, "peer-closed"),
    (OK, State.LISTEN, 1 << State.CLOSE, {}, ""),
    (UNKNOWN, State.LISTEN, 1 << State.CLOSE, {}, ""),
    (UNKNOWN, State.ESTABLISHED, 0, {}, ""),  # polled only: no state change was seen
    (UNKNOWN, State.SYN_SENT, 0, {"segs_in": 1}, ""),
    (UNKNOWN, 0, 1 << State.CLOSE, {}, ""),  # its final record was lost: the map's row alone
    (UNKNOWN, 0, ESTABLISHED, {}, ""),
    (UNKNOWN, 0, WE_CLOSED, {}, "closed"),
    (UNKNOWN, 0, PEER_CLOSED, {}, "peer-closed"),
    (UNKNOWN, 0, ESTABLISHED, {"gave_up": 1}, "timed-out"),
]


def told_to(rest: dict[str, int]) -> dict[str, int]:
    """The fields of EVENTS: ``told`` is its error."""
    return {"error" if name == "told" else name: value for name, value in rest.items()}


def end(error: int, from_state: int, states: int, **rest: Any) -> str:
    final = finals([flow(1, states=states, **told_to(rest))], 1, error=error, from_state=from_state)
    return bytes(end_names(final["socket"], final["events"], final["ending"])[0]).decode()


@pytest.mark.parametrize(("error", "start", "states", "rest", "name"), CASES)
def test_each_case(error: int, start: int, states: int, rest: dict[str, int], name: str) -> None:
    assert end(error, start, states, **rest) == name


def test_rows_are_judged_one_by_one() -> None:
    parts = [finals([flow(1, states=s, **told_to(rest))], 1, error=e, from_state=f) for e, f, s, rest, _ in CASES]
    final = np.concatenate(parts)
    names = [bytes(name).decode() for name in end_names(final["socket"], final["events"], final["ending"])]
    assert names == [case[-1] for case in CASES]


def test_every_name_occurs() -> None:
    assert {case[-1] for case in CASES} == set(ENDS)


@given(st.integers(0, 2**32))
def test_any_bits_have_a_name(seed: int) -> None:
    final = scrambled(4, seed).closed
    codes = end_codes(final["socket"], final["events"], final["ending"])
    assert codes.dtype == np.uint8
    assert codes.max() < len(ENDS)
    listened = final["ending"]["from_state"] == State.LISTEN
    assert not codes[listened].any()


def test_no_rows() -> None:
    final = finals([], 1)
    assert len(end_names(final["socket"], final["events"], final["ending"])) == 0
