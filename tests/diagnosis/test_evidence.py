"""The evidence in words: whatever a row says, each cause has some, and it is text that may be shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.rules import CAUSES, RULES
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import flow, scrambled, snapshot

NUMBER = {cause.name: number for number, cause in enumerate(CAUSES)}


def of(cause: str, win: dict[str, int] | None = None, **fields: object) -> str:
    flows: Flows = Tracker().update(snapshot(0, [flow(1, **fields)]))
    rates = flows.live.rates
    rates["cause"], rates["win_s"] = NUMBER[cause], 20.0
    for name, value in (win or {}).items():
        rates["win"][name] = value
    return evidence.sentence(flows.live, flows)


@pytest.mark.parametrize(
    ("cause", "win", "fields", "words"),
    [
        ("loss", {"retrans_segs": 31, "data_segs_out": 1000}, {}, "31 retransmits in 20 s, 3.1 % of 1000 segments"),
        (
            "accept-queue",
            {"drops": 1},
            {"state": State.LISTEN, "recv_q": 4, "send_q": 9},
            "1 handshake dropped in 20 s",
        ),
        (
            "syn-unanswered",
            {},
            {"state": State.SYN_SENT, "retransmits": 2, "retrans_segs": 2, "timer_us": 2_100_000},
            "3 SYNs unanswered, ",
        ),
        ("dead-peer", {}, {"retransmits": 4, "unacked": 7}, "sent 5 times, nothing came back, 7 segments in flight"),
        ("rto-stall", {"rto_events": 2, "rto_wait_us": 5_000_000}, {}, "2 timeouts in 20 s, 25 % of it stood still"),
        ("not-reading", {}, {"recv_q": 65_000, "rcv_wnd": 0}, "65kB unread, window offered: 0 bytes"),
    ],
)
def test_words(cause: str, win: dict[str, int], fields: dict[str, object], words: str) -> None:
    assert of(cause, win, **fields).startswith(words)


@given(st.integers(0, 2**32 - 1))
def test_any_row_of_any_cause_has_words(seed: int) -> None:
    made = scrambled(len(CAUSES), seed, 0)
    made.sockets["cookie"] = np.arange(len(CAUSES))
    flows = Tracker().update(made)
    flows.live.rates["cause"] = np.arange(len(CAUSES))
    for row in range(len(CAUSES)):
        rows = flows.live.take(np.array([row]))
        said = evidence.sentence(rows, flows)
        assert said.isprintable()
        assert said or CAUSES[row] not in RULES
