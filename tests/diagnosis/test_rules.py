"""The rules and limits, each at, above and below its thresholds on rows computed by hand."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.case import Case
from tcptop_ops.diagnosis.rules import CAUSES, RULES
from tcptop_ops.diagnosis.verdict import LIMITS, judge, limits
from tcptop_ops.model import endings
from tcptop_ops.model.enums import Direction, ResetSeen, State, Timer
from tcptop_ops.model.flows import RATES
from tcptop_ops.model.namespace_counters import NET_OF
from tcptop_ops.model.records import TOO_LONG, UNKNOWN_U32, UNKNOWN_U64, UNLIMITED_RATE
from tests.support.cases import SILENT, STUCK, case, verdict

LISTEN = {"state": State.LISTEN, "data_segs_out": 0, "data_segs_in": 0}
COUNTED_LISTEN = LISTEN | {"told_counted": 1}
SYN = {"state": State.SYN_SENT, "data_segs_out": 0, "data_segs_in": 0, "states": 1 << State.SYN_SENT}
GONE = SYN | {"state": State.CLOSE}
LATE = {"direction": Direction.OUT, "first_ns": 999_000_000_000, "connect_us": 1_000_000, "rto_events": 1}
QUEUED = {"min_rtt_us": 1000, "unacked": 10, "busy_us": 10_000_000, "delivered": 100, "segs_in": 50, "data_segs_in": 0}
UNREAD = {"recv_q": 100, "bytes_received": 1100, "inode": 9, "was_taken_s": 994.5}
WAITS = {"state": State.ESTABLISHED, "inode": 9}

FORGOTTEN = {
    "state": State.CLOSE_WAIT,
    "was_state_s": 940.0,
    "last_sent_us": 60_000_000,
    "recv_q": 1,  # the FIN
    "data_segs_in": 0,
    "data_segs_out": 0,
}
OUT_OF_ORDER = {"was_ooo_seconds": 3}
HOLE = SILENT | {
    "retransmits": 3,
    "send_q": 17_376,
    "unacked": 12,
    "was_acked_size": 5,
    "was_lately": 1,
}
RECEIVED = {
    "ended": endings.RESET,
    "resets": ResetSeen.RECEIVED,
    "error": errno.ECONNRESET,
    "inode": 9,
    "direction": Direction.OUT,
}
CLOSED_BY_RESET = RECEIVED | {"resets": ResetSeen.SENT, "error": 0}

SHUT = STUCK | {"snd_wnd": 0, "backoff": 1, "last_sent_us": 5_500_000}
UNPROBED = SHUT | {"backoff": 3, "rto_us": 204_000, "probes": 3, "last_ack_received_us": 1_000_000}

BY_HAND: list[tuple[str, float, dict[str, Any]]] = [
    # accept-queue: longer than its limit, or three dropped while it was half full
    ("healthy", 0, LISTEN | {"recv_q": 128, "send_q": 128}),
    ("accept-queue", 60, LISTEN | {"recv_q": 129, "send_q": 128}),
    ("healthy", 0, LISTEN | {"drops": 2}),
    ("healthy", 0, LISTEN | {"drops": 30, "recv_q": 63, "send_q": 128}),
    ("accept-queue", 95, LISTEN | {"drops": 3, "recv_q": 64, "send_q": 128}),
    ("accept-queue", 95, LISTEN | {"drops": 1, "recv_q": 129, "send_q": 128}),
    ("healthy", 0, {"drops": 100}),
    # accept-queue where the counters of its namespace are known: what was dropped at a full queue, however short it is
    ("healthy", 0, COUNTED_LISTEN | {"drops": 30, "recv_q": 64, "send_q": 128}),
    ("accept-queue", 70, COUNTED_LISTEN | {"drops": 30, "send_q": 128, "told_overflows": 1}),
    ("accept-queue", 95, COUNTED_LISTEN | {"drops": 30, "send_q": 128, "told_overflows": 3}),
    ("healthy", 0, COUNTED_LISTEN | {"recv_q": 129, "send_q": 128, "was_state_s": 997.1}),
    ("accept-queue", 60, COUNTED_LISTEN | {"recv_q": 129, "send_q": 128, "was_state_s": 997.0}),
    ("accept-queue", 70, COUNTED_LISTEN | {"told_overflows": 2, "told_syn_drops": 9, "told_cookies": 9}),
    ("healthy", 0, {"told_counted": 1, "told_overflows": 9, "state": State.CLOSE, "ended": endings.CLOSED}),
    # syn-queue
    ("syn-queue", 60, COUNTED_LISTEN | {"drops": 2, "told_syn_drops": 2}),
    ("syn-queue", 90, COUNTED_LISTEN | {"drops": 3, "told_syn_drops": 3}),
    ("syn-queue", 40, COUNTED_LISTEN | {"told_cookies": 1}),
    ("healthy", 0, COUNTED_LISTEN | {"told_half_open": 9, "send_q": 8, "drops": 9}),
    ("syn-queue", 90, LISTEN | {"told_half_open": 9, "send_q": 8, "drops": 3}),
    ("healthy", 0, LISTEN | {"told_half_open": 8, "send_q": 8, "drops": 3}),
    # refused
    ("refused", 60, {"ended": endings.REFUSED, "segs_in": 1}),
    ("refused", 60, {"ended": endings.REFUSED, "resets": ResetSeen.RECEIVED}),
    # rejected: an error, and no segment came
    ("rejected", 60, GONE | {"ended": endings.REFUSED}),
    ("rejected", 60, GONE | {"ended": endings.UNREACHABLE}),
    ("rejected", 60, GONE | {"ended": endings.UNREACHABLE, "rto_events": 2, "retrans_segs": 2}),
    ("unreachable", 90, GONE | {"ended": endings.UNREACHABLE, "rto_events": 2}),
    ("rejected", 60, SYN | {"error": errno.EACCES}),
    ("idle", 0, SYN | {"error": errno.ETIMEDOUT}),
    ("healthy", 0, {"ended": endings.ABANDONED}),
    # reset: what is lost decides; see test_end_verdict.py
    ("reset", 40, RECEIVED),
    ("reset", 50, RECEIVED | {"send_q": 1}),
    ("reset", 50, RECEIVED | {"send_q": 1, "direction": Direction.IN}),
    ("healthy", 0, RECEIVED | {"direction": Direction.IN}),
    ("healthy", 0, RECEIVED | {"states": 1 << State.SYN_SENT}),
    ("healthy", 0, CLOSED_BY_RESET),
    ("reset", 30, CLOSED_BY_RESET | {"recv_q": 1}),
    ("reset", 50, CLOSED_BY_RESET | {"send_q": 1}),
    # unreachable: timeouts, and no SYN could follow
    ("unreachable", 90, SYN | {"rto_events": 2, "retransmits": 2}),
    ("unreachable", 90, SYN | {"rto_events": 3, "retransmits": 3, "retrans_segs": 1}),
    ("syn-unanswered", 70, SYN | {"rto_events": 2, "retransmits": 2, "retrans_segs": 1}),
    ("unreachable", 90, {"ended": endings.UNREACHABLE}),
    # syn-unanswered
    ("idle", 0, SYN),
    ("syn-unanswered", 60, SYN | {"retransmits": 1, "rto_events": 1, "retrans_segs": 1}),
    ("syn-unanswered", 100, SYN | {"retransmits": 6, "rto_events": 6, "retrans_segs": 6}),
    ("syn-unanswered", 90, GONE | {"ended": endings.TIMED_OUT, "rto_events": 5, "retrans_segs": 4}),
    ("syn-unanswered", 60, GONE | {"ended": endings.ABANDONED, "rto_events": 1, "retrans_segs": 1}),
    ("idle", 0, GONE | {"ended": endings.ABANDONED}),
    # local-drop: probes in vain through an open window, or retransmits that could not be sent
    ("healthy", 0, STUCK | {"snd_wnd": 1448, "probes": 1}),
    ("local-drop", 90, STUCK | {"snd_wnd": 1448, "probes": 2}),
    ("healthy", 0, STUCK | {"snd_wnd": 1447, "probes": 2}),
    ("healthy", 0, {"unacked": 3, "retransmits": 1, "retrans_failed": 1}),
    ("local-drop", 90, {"unacked": 3, "retransmits": 2, "retrans_failed": 2}),
    ("healthy", 0, {"unacked": 3, "retransmits": 2, "retrans_failed": 3, "was_failed": 2, "was_heard": 2}),
    ("local-drop", 90, SYN | {"retransmits": 1, "retrans_segs": 1, "retrans_failed": 1, "rto_events": 1}),
    ("local-drop", 90, GONE | {"ended": endings.ABANDONED, "retrans_segs": 3, "retrans_failed": 3, "rto_events": 3}),
    ("local-drop", 90, GONE | {"ended": endings.TIMED_OUT, "retrans_segs": 6, "retrans_failed": 6, "rto_events": 7}),
    ("syn-unanswered", 80, SYN | {"retransmits": 3, "retrans_segs": 3, "retrans_failed": 1, "syn_retrans": 2}),
    # peer-not-reading
    ("healthy", 0, STUCK | {"snd_wnd": 1447}),
    ("peer-not-reading", 50, SHUT | {"snd_wnd": 1447}),
    ("healthy", 0, SHUT | {"snd_wnd": 1448}),
    ("healthy", 0, SHUT | {"backoff": 0}),
    ("healthy", 0, SHUT | {"last_sent_us": 5_499_999}),  # it takes something now and then
    ("healthy", 0, SHUT | {"unacked": 1}),
    ("peer-not-reading", 50, SHUT | {"probes": 2, "last_ack_received_us": 900_000}),
    # mtu: nothing of that size was acknowledged, and smaller ones pass, or passed until shortly before
    ("mtu", 90, HOLE),
    ("healthy", 0, HOLE | {"retransmits": 2, "was_heard": 2}),
    ("dead-peer", 95, HOLE | {"was_acked_size": 724}),
    ("mtu", 90, HOLE | {"was_acked_size": 723}),
    ("dead-peer", 95, HOLE | {"was_lately": 0}),
    ("dead-peer", 95, HOLE | {"was_acked_size": 1, "bytes_received": 0}),
    ("mtu", 90, HOLE | {"was_acked_size": 1, "bytes_received": 1}),
    ("dead-peer", 95, HOLE | {"unacked": 1, "send_q": 1447}),
    ("mtu", 90, HOLE | {"unacked": 1, "send_q": 1448}),
    ("mtu", 90, HOLE | {"unacked": 2, "send_q": 2000}),
    ("dead-peer", 95, HOLE | {"unacked": 9, "send_q": 4000}),
    ("mtu", 90, HOLE | {"was_lately": 0, "sacked": 1}),
    ("mtu", 90, HOLE | {"was_lately": 0, "was_passing_s": 0.91}),
    ("dead-peer", 95, HOLE | {"was_lately": 0, "was_passing_s": 0.89}),
    ("dead-peer", 95, HOLE | {"was_lately": 0, "was_passing_s": 0.91, "srtt_us": 228_000}),
    ("mtu", 90, HOLE | {"was_lately": 0, "was_passing_s": 1.0, "unacked": 1, "send_q": 512, "was_acked_size": 255}),
    ("dead-peer", 95, HOLE | {"was_lately": 0, "was_passing_s": 1.0, "unacked": 1, "send_q": 511}),
    ("mtu", 90, HOLE | {"was_acked_size": 1448, "retransmits": 4, "was_passing_s": 2.0}),
    ("healthy", 0, HOLE | {"was_acked_size": 1448, "was_heard": 3, "was_passing_s": 2.0}),
    ("healthy", 0, HOLE | {"was_acked_size": 1448, "retransmits": 4, "was_heard": 4, "was_passing_s": 1.9}),
    ("mtu", 20, {"was_lowered_s": 990.0, "was_mss_before": 1448, "mss": 1024, "retrans_segs": 1}),
    ("healthy", 0, {"was_lowered_s": 990.0, "was_mss_before": 1448, "mss": 1024}),
    # dead-peer
    ("healthy", 0, SILENT | {"retransmits": 2}),
    ("dead-peer", 95, SILENT | {"retransmits": 3, "was_heard": 2}),
    ("healthy", 0, SILENT | {"retransmits": 3, "was_heard": 3}),
    ("healthy", 0, {"probes": 1, "timer": Timer.KEEPALIVE}),
    ("dead-peer", 95, {"probes": 2, "timer": Timer.KEEPALIVE}),
    ("healthy", 0, {"probes": 2, "timer": Timer.NONE}),
    ("dead-peer", 95, {"ended": endings.TIMED_OUT}),
    ("dead-peer", 95, UNPROBED),
    ("peer-not-reading", 50, UNPROBED | {"probes": 2, "timer": Timer.PERSIST, "timer_us": 700_001}),
    ("dead-peer", 95, UNPROBED | {"probes": 2, "timer": Timer.PERSIST, "timer_us": 600_000}),
    ("peer-not-reading", 50, UNPROBED | {"last_ack_received_us": 999_999}),
    ("dead-peer", 95, UNPROBED | {"probes": 1, "timer": Timer.PERSIST, "backoff": 6, "timer_us": 8_056_000}),
    ("peer-not-reading", 50, UNPROBED | {"probes": 1, "timer": Timer.PERSIST, "backoff": 6, "timer_us": 8_056_001}),
    # rto-stall: 5 % of W
    ("healthy", 0, {"rto_events": 1, "rto_wait_us": 999_999}),
    ("rto-stall", 57.5, {"rto_events": 1, "rto_wait_us": 1_000_000}),
    ("rto-stall", 100, {"rto_events": 9, "rto_wait_us": 15_000_000}),
    ("healthy", 0, {"rto_events": 0, "rto_wait_us": 5_000_000}),
    ("rto-stall", 80, {"rto_events": 1, "rto_wait_us": 200_000, "win_s": 0.5}),  # W counts as a second at least
    # reordering, spurious: ten, 2 %, half of them duplicates
    ("reordering", 20, {"retrans_segs": 20, "dsack_dups": 10, "reord_seen": 3}),
    ("spurious", 20, {"retrans_segs": 20, "dsack_dups": 10, "reord_seen": 2}),
    ("loss", 12 * 1000 / 1050, {"retrans_segs": 20, "dsack_dups": 9, "reord_seen": 3}),
    # and not in the first moments of a flow, of which they may be all
    ("healthy", 0, {"retrans_segs": 90, "dsack_dups": 80, "reord_seen": 1, "win_s": 2.9}),
    ("spurious", 20, {"retrans_segs": 90, "dsack_dups": 80, "reord_seen": 1, "win_s": 3.0}),
    ("loss", 90, {"retrans_segs": 90, "dsack_dups": 10, "reord_seen": 1, "win_s": 1.0}),
    ("healthy", 0, {"retrans_segs": 19, "dsack_dups": 19, "reord_seen": 3, "data_segs_out": 10_000}),
    ("healthy", 0, {"retrans_segs": 9, "dsack_dups": 9, "reord_seen": 3, "data_segs_out": 200}),
    # tail-loss, loss: three, and half a percent
    ("healthy", 0, {"retrans_segs": 2, "data_segs_out": 10}),
    ("loss", 12 * 200 / 60, {"retrans_segs": 3, "data_segs_out": 10}),
    ("tail-loss", 12 * 200 / 60, {"retrans_segs": 3, "probe_segs": 3, "data_segs_out": 10}),
    ("loss", 12 * 200 / 60, {"retrans_segs": 3, "probe_segs": 2, "data_segs_out": 10}),
    ("loss", 6, {"retrans_segs": 6, "data_segs_out": 950}),
    ("healthy", 0, {"retrans_segs": 6, "data_segs_out": 951}),
    ("loss", 6, {"retrans_segs": 16, "dsack_dups": 10, "data_segs_out": 950}),  # what had arrived was not lost
    ("healthy", 0, {"retrans_segs": 16, "dsack_dups": 11, "data_segs_out": 950}),
    ("healthy", 0, {"retrans_segs": 8030, "retrans_calls": 200, "dsack_dups": 7800, "data_segs_out": 1_100_000}),
    ("loss", 90, {"retrans_segs": 1000}),
    ("healthy", 0, {"retrans_segs": 80, "retrans_calls": 2}),  # two packets of 40 segments
    ("loss", 12 * 4000 / 1050, {"retrans_segs": 60, "retrans_calls": 3}),
    # inbound-loss of a sender elsewhere: 3 %, less two large packets or a tenth, in three seconds
    ("healthy", 0, OUT_OF_ORDER | {"ooo_in": 119, "data_segs_in": 1000}),
    ("inbound-loss", 12, OUT_OF_ORDER | {"ooo_in": 120, "data_segs_in": 1000}),
    ("healthy", 0, {"ooo_in": 120, "data_segs_in": 1000, "was_ooo_seconds": 2}),
    ("healthy", 0, OUT_OF_ORDER | {"ooo_in": 120, "data_segs_in": 1000, "was_paired": 1}),
    ("inbound-loss", 16, OUT_OF_ORDER | {"ooo_in": 130, "data_segs_in": 1000}),
    ("inbound-loss", 12, OUT_OF_ORDER | {"ooo_in": 390, "data_segs_in": 10_000}),
    ("healthy", 0, OUT_OF_ORDER | {"ooo_in": 4, "data_segs_in": 4}),
    ("inbound-loss", 60, OUT_OF_ORDER | {"ooo_in": 5, "data_segs_in": 5}),
    ("inbound-loss", 60, OUT_OF_ORDER | {"ooo_in": 5, "data_segs_in": 5, "ended": 2}),
    # the end of a connection whose other end was here: what both counted while it lived was told then
    ("healthy", 0, {"retrans_segs": 20, "ended": endings.CLOSED, "was_paired": 1}),
    ("loss", 90, {"retrans_segs": 200, "ended": endings.CLOSED}),
    # bufferbloat: 50 ms, ten in flight, half of W
    ("bufferbloat", 10 + 50 / 30, QUEUED | {"srtt_us": 51_000}),
    ("bufferbloat", 60, QUEUED | {"srtt_us": 9_001_000}),
    ("healthy", 0, QUEUED | {"srtt_us": 50_999}),
    ("healthy", 0, QUEUED | {"srtt_us": 2_000_000, "delivered": 99}),  # the handshake's own time may be in it
    ("healthy", 0, QUEUED | {"srtt_us": 2_000_000, "segs_in": 49}),  # so may it in the few samples since
    ("healthy", 0, QUEUED | {"srtt_us": 2_000_000, "segs_in": 1999, "data_segs_in": 1950}),
    ("bufferbloat", 60, QUEUED | {"srtt_us": 2_000_000, "segs_in": 2000, "data_segs_in": 2000}),
    ("bufferbloat", 10 + 50 / 30, QUEUED | {"srtt_us": 51_000, "min_rtt_us": 40_000, "was_min_rtt_us": 1000}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "unacked": 9}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "busy_us": 9_999_999}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "app_limited": 1}),
    ("healthy", 0, QUEUED | {"srtt_us": 51_000, "min_rtt_us": UNKNOWN_U32}),
    # not-reading: nothing was taken for 5.5 s, or 2 s where the process cannot run
    ("not-reading", 27.5, UNREAD),
    ("not-reading", 50, UNREAD | {"was_taken_s": 980.0}),
    ("healthy", 0, UNREAD | {"was_taken_s": 994.6}),
    ("not-reading", 60, UNREAD | {"was_taken_s": 998.0, "was_held": 1}),
    ("healthy", 0, UNREAD | {"was_taken_s": 998.1, "was_held": 1}),
    (
        "not-reading",
        30,
        WAITS | {"recv_q": 9, "bytes_received": 9, "was_taken_s": 1000.0, "last_received_us": 6_000_000},
    ),
    ("healthy", 0, WAITS | {"recv_q": 9, "bytes_received": 9, "was_taken_s": 1000.0, "last_received_us": 5_000_000}),
    ("not-reading", 35, UNREAD | {"was_taken_s": 997.5, "last_received_us": 7_000_000}),  # a few bytes, all or none
    ("healthy", 0, UNREAD | {"was_taken_s": 997.6, "last_received_us": 7_000_000}),
    ("healthy", 0, UNREAD | {"was_taken_s": 997.5, "last_received_us": 7_000_000, "was_in_parts": 1}),
    ("healthy", 0, UNREAD | {"was_taken_s": 997.5, "last_received_us": 7_000_000, "recv_q": 5000}),
    ("healthy", 0, UNREAD | {"was_taken_s": 997.5, "last_received_us": 7_000_000, "rcv_wnd": 99}),
    ("healthy", 0, UNREAD | {"was_taken_s": 997.5, "last_received_us": UNKNOWN_U64}),
    ("healthy", 0, UNREAD | {"state": State.CLOSE_WAIT, "recv_q": 1}),  # its FIN alone
    ("healthy", 0, UNREAD | {"state": State.CLOSE_WAIT, "recv_q": 101}),  # and a farewell
    ("not-reading", 27.5, UNREAD | {"state": State.CLOSE_WAIT, "recv_q": 102}),
    ("healthy", 0, UNREAD | {"state": State.FIN_WAIT2, "inode": 0}),
    ("not-reading", 27.5, UNREAD | {"inode": 0}),  # not accepted
    # receive-buffer
    ("receive-buffer", 60, {"was_no_window_s": 998.0}),
    ("healthy", 0, {"was_no_window_s": 998.1}),
    ("healthy", 0, {"was_no_window_s": 998.0, "state": State.CLOSE_WAIT}),
    # not-closed
    ("not-closed", 20, FORGOTTEN),
    ("idle", 0, FORGOTTEN | {"was_state_s": 940.1}),
    ("idle", 0, FORGOTTEN | {"last_sent_us": 59_999_999}),
    ("not-closed", 20, FORGOTTEN | {"last_sent_us": TOO_LONG}),
    ("not-closed", 20, FORGOTTEN | {"last_sent_us": UNKNOWN_U64}),
    ("idle", 0, FORGOTTEN | {"send_q": 1}),  # it has sent, or waits to
    ("not-closed", 20, FORGOTTEN | {"recv_q": 101, "was_taken_s": 1000.0}),  # a close_notify of TLS
    ("not-closed", 50, FORGOTTEN | {"recv_q": 102, "was_taken_s": 940.0}),
    # of a few bytes the kernel tells for how long they have waited
    ("not-closed", 50, FORGOTTEN | {"recv_q": 301, "was_taken_s": 997.5, "last_received_us": 60_000_000}),
    ("not-reading", 50, FORGOTTEN | {"recv_q": 102, "bytes_received": 900, "was_taken_s": 940.1}),
    (
        "idle",
        0,
        FORGOTTEN | {"recv_q": 102, "bytes_received": 900, "was_taken_s": 995.0},
    ),  # it still reads what is left
    # syn-lost: 15 and 5 a SYN, halved every ten seconds
    ("syn-lost", 20, LATE | {"syn_retrans": 1}),
    ("syn-lost", 25, LATE | {"syn_retrans": 3}),
    ("syn-lost", 10, LATE | {"syn_retrans": 1, "first_ns": 989_000_000_000}),
    ("healthy", 0, LATE | {"syn_retrans": 1, "first_ns": 978_000_000_000}),
    ("healthy", 0, LATE),
    ("syn-lost", 20, {"was_syn_retrans": 1}),  # only polled
    ("healthy", 0, LATE | {"syn_retrans": 3, "retrans_segs": 5, "retrans_calls": 5, "first_ns": 970_000_000_000}),
    # nothing
    ("healthy", 0, {}),
    ("idle", 0, {"data_segs_in": 0, "data_segs_out": 0}),
    ("healthy", 0, {"data_segs_in": 1, "data_segs_out": 0}),
]


@pytest.mark.parametrize(("name", "severity", "told"), BY_HAND)
def test_rules_at_their_thresholds(name: str, severity: float, told: dict[str, Any]) -> None:
    assert verdict(case(**told)) == (name, round(severity, 6))


def test_each_rule_is_among_them() -> None:
    assert {name for name, _, _ in BY_HAND} >= {rule.name for rule in RULES}


def test_several_rows_at_once_are_judged_as_each_alone() -> None:
    cases = [case(**told) for _, _, told in BY_HAND]
    sockets, events, win, win_s, memory, ended = (
        np.concatenate([getattr(one, part) for one in cases])
        for part in ("sockets", "events", "win", "win_s", "memory", "ended")
    )
    sockets["cookie"] = np.arange(1, len(cases) + 1)
    listened = np.concatenate([one.listened for one in cases])
    listened["cookie"] = sockets["cookie"]
    together = Case(sockets, events, win, win_s, memory, 1000.0, ended, listened=listened)
    cause, severity = judge(together)
    assert [(CAUSES[c].name, round(float(s), 6)) for c, s in zip(cause, severity, strict=True)] == [
        verdict(one) for one in cases
    ]


ALL_AT_ONCE: dict[str, dict[str, Any]] = {
    "local-drop": {"unacked": 3, "retransmits": 4, "retrans_failed": 4},
    "dead-peer": SILENT | {"retransmits": 4},
    "rto-stall": {"rto_events": 4, "rto_wait_us": 9_000_000},
    "reordering": {"retrans_segs": 50, "dsack_dups": 50, "reord_seen": 3},
    "spurious": {"retrans_segs": 50, "dsack_dups": 50},
    "tail-loss": {"retrans_segs": 50, "probe_segs": 50},
    "loss": {"retrans_segs": 50},
    "inbound-loss": {"ooo_in": 500} | OUT_OF_ORDER,
    "bufferbloat": QUEUED | {"srtt_us": 900_000},
    "not-closed": FORGOTTEN | {"unacked": 0},
    "not-reading": UNREAD | {"was_taken_s": 0.0, "recv_q": 200},
    "syn-lost": LATE | {"syn_retrans": 1},
}
"""Faults that can be had together, in the order of the rules."""


def test_the_first_rule_that_matches_names_the_cause() -> None:
    names = list(ALL_AT_ONCE)
    for at, name in enumerate(names):
        told: dict[str, Any] = {}
        for other in reversed(names[at:]):
            told |= ALL_AT_ONCE[other]
        assert verdict(case(**told))[0] == name
    assert names == [rule.name for rule in RULES if rule.name in names]


PACED = {
    "busy_us": 20_000_000,
    "pacing_rate": 1_000_000,
    "pacing_capped": 1,
    "notsent": 50_000,
    "send_q": 51_000,
    "unacked": 1,
    "cwnd": 10,
}
LIMITED: list[tuple[str, dict[str, Any], float]] = [
    ("", {"busy_us": 0}, 0),
    ("", {"busy_us": 1, "data_segs_out": 0}, 0),
    ("peer", {"busy_us": 20_000_000, "rwnd_limited_us": 10_000_000}, 0),
    ("cwnd", {"busy_us": 20_000_000, "rwnd_limited_us": 9_999_999}, 0),
    ("sndbuf", {"busy_us": 20_000_000, "sndbuf_limited_us": 10_000_000}, 0),
    ("app", {"busy_us": 9_999_999}, 0),
    ("cwnd", {"busy_us": 10_000_000}, 0),
    ("app", {"busy_us": 10_000_000, "app_limited": 1}, 0),
    ("rwnd", {"busy_us": 0, "recv_q": 70_000}, 1),
    ("", {"busy_us": 0, "recv_q": 70_000}, 0),
    ("", {"busy_us": 20_000_000, "state": State.LISTEN}, 0),
    # nagle: in two of the last eight ticks
    ("nagle", {"busy_us": 20_000_000, "was_nagle": 0b10000001}, 0),
    ("app", {"busy_us": 9_999_999, "was_nagle": 0b10000000}, 0),
    ("peer", {"busy_us": 20_000_000, "rwnd_limited_us": 10_000_000, "was_nagle": 255}, 0),
    # pacing: half of its rate, kept, and both windows have room
    ("pacing", PACED, 0),
    ("pacing", PACED | {"pacing_capped": 0, "cc": b"bbr"}, 0),
    ("cwnd", PACED | {"pacing_capped": 0, "cc": b"cubic"}, 0),
    ("cwnd", PACED | {"pacing_rate": 1_000_001}, 0),
    ("cwnd", PACED | {"pacing_rate": UNLIMITED_RATE}, 0),
    ("cwnd", PACED | {"unacked": 10}, 0),
    ("cwnd", PACED | {"snd_wnd": 2000}, 0),
    ("cwnd", PACED | {"notsent": 0, "send_q": 1000}, 0),
]


@pytest.mark.parametrize(("limit", "told", "rx"), LIMITED)
def test_what_merely_limits(limit: str, told: dict[str, Any], rx: float) -> None:
    made = case(**told)
    rates = np.zeros(1, RATES)
    rates["win"], rates["win_s"], rates["rx_bytes_per_s"], rates["tx_bytes_per_s"] = made.win, made.win_s, rx, 5e5
    found = limits(made, rates)
    assert LIMITS[int(found[0])] == limit


def test_of_polled_attempts_that_are_dropped_in_part_nobody_can_tell_which() -> None:
    """The namespace counted as many failed retransmits as all its attempts sent again, or fewer."""
    one = case(**SYN | {"first_ns": 0, "retransmits": 3, "retrans_segs": 3})
    parts: list[Any] = [one.sockets, one.events, one.win, one.win_s, one.memory, one.ended]
    sockets, events, win, win_s, memory, ended = [np.concatenate([part, part]) for part in parts]
    for failed, cause in ((3, "syn-unanswered"), (6, "local-drop")):
        net_of = np.zeros(1, NET_OF)
        net_of["net"]["retrans_fail"], net_of["net"]["known"] = failed, 1
        made = Case(sockets, events, win, win_s, memory, 1000.0, ended, net_of)
        assert {CAUSES[number].name for number in judge(made)[0].tolist()} == {cause}
