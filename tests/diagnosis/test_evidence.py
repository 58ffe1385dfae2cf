"""The evidence in words: whatever a row says, each cause has some, and it is text that may be shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.rules import CAUSES, RULES
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.listener_drops import LISTENED
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
            "loss",
            {"retrans_segs": 31, "data_segs_out": 1000},
            {"rto_us": 200_000, "options": 5},
            "31 retransmits in 20 s, 3.1 % of 1000 segments,"
            " SACK was not agreed: loss and reordering can't be told apart",
        ),
        (
            "loss",
            {"retrans_segs": 31, "data_segs_out": 1000},
            {"rto_us": 200_000, "options": 2},
            "31 retransmits in 20 s, 3.1 % of 1000 segments",
        ),
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
        (
            "peer-not-reading",
            {},
            {"states": 1 << State.FIN_WAIT1, "notsent": 1, "snd_wnd": 0, "backoff": 2},
            "the FIN waits for a window of 0 bytes, 2 window probes",
        ),
        (
            "local-drop",
            {},
            {"states": 1 << State.FIN_WAIT1, "notsent": 1, "probes": 2},
            "the FIN waits, 2 probes in vain",
        ),
        ("local-drop", {}, {"states": 1 << State.LAST_ACK, "notsent": 8, "probes": 2}, "7B wait, 2 probes in vain"),
        (
            "not-reading",
            {},
            {
                "recv_q": 65_000,
                "bytes_received": 65_000,
                "rcv_wnd": 0,
                "rcv_mss": 536,
                "inode": 9,
                "last_received_us": 14_000_000,
            },
            "65kB unread, none read for 14s, window offered: 0 bytes",
        ),
        (
            "not-reading",
            {},
            {"recv_q": 1, "bytes_received": 1, "last_received_us": 14_000_000},
            "1B unread, which may be urgent data, not accepted for 14s",
        ),
    ],
)
def test_words(cause: str, win: dict[str, int], fields: dict[str, object], words: str) -> None:
    assert of(cause, win, **fields).startswith(words)


def listener(listened: dict[str, float], cause: str = "accept-queue", **fields: object) -> str:
    """Of one whose namespace is counted; times are seconds ago."""
    flows: Flows = Tracker().update(snapshot(100, [flow(1, state=State.LISTEN, **fields)]))
    told = np.zeros(1, LISTENED)
    told["cookie"], told["counted"] = 1, 1
    for name, value in listened.items():
        told[name] = flows.snapshot.now_ns / 1e9 - value if name.endswith("_s") else value
    flows.live.rates["cause"], flows.live.rates["win_s"] = NUMBER[cause], 20.0
    return evidence.sentence(flows.live, replace(flows, listened=told))


def test_a_burst_of_now_and_one_that_is_over() -> None:
    dropped = {"overflows": 52, "overflows_since": 80, "overflows_s": 1.0}
    assert listener(dropped, recv_q=3, send_q=8) == "52 handshakes dropped in 20 s, queue 3 of 8 now"
    dropped["overflows_s"] = 12.0
    over = listener(dropped, send_q=8)
    assert over == "52 handshakes dropped in 20 s, the last 12 s ago, the queue is empty now, limit 8"
    dropped |= {"overflows": 0, "overflows_s": 31.0}
    assert listener(dropped, recv_q=3, send_q=8) == "80 handshakes dropped, the last 31 s ago, queue 3 of 8 now"


def test_stray_resets_are_no_evidence_where_the_namespace_is_counted() -> None:
    assert listener({}, recv_q=9, send_q=8, drops=70) == "queue 9 of 8, full for 0 s"


def test_a_syn_backlog_that_is_full_and_one_that_was() -> None:
    told = {"syn_drops": 12, "syn_drops_since": 12, "syn_drops_s": 1.0, "half_open": 9}
    full = listener(told, "syn-queue", send_q=8)
    assert full == "SYN backlog full: 12 SYNs dropped in 20 s, 9 in SYN-RECV now, limit 8"
    cookies = {"cookies": 92, "cookies_since": 92, "cookies_s": 6.0}
    was = listener(cookies, "syn-queue", send_q=8)
    assert was == "SYN backlog was full: 92 cookies sent in 20 s, the last 6 s ago, 0 in SYN-RECV now, limit 8"


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
