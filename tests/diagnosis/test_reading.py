"""Who reads, from tick to tick, and what the other end's row tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis import evidence, reading
from tcptop_ops.diagnosis.case import Case, Everyone
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.diagnosis.verdict import LIMITS, judge
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.namespace_counters import NET_OF
from tcptop_ops.model.pairs import Pairs
from tcptop_ops.model.processes import process_keys
from tcptop_ops.tracking.tracker import Tracker
from tests.support.cases import MET, STUCK, case
from tests.support.fakes import flow, snapshot

HELD: dict[str, Any] = {"states": MET, "inode": 9, "rcv_wnd": 65535, "last_received_us": 10_000}


def ticks(*told: dict[str, Any], every_s: float = 1.0, does: str = "", **base: Any) -> list[Flows]:
    """One connection, tick by tick; ``does``: what its process does."""
    tracker, found = Tracker(), []
    for number, fields in enumerate(told):
        shot = snapshot(number * every_s, [flow(1, **HELD | base | fields)])
        activities = {int(key): does for key in process_keys(shot.owners)} if does else {}
        found.append(tracker.update(replace(shot, activities=activities)))
    return found


def names(flows: list[Flows]) -> list[str]:
    return [CAUSES[int(each.live.rates["cause"][0])].name for each in flows]


def limited(flows: Flows) -> str:
    return LIMITS[int(flows.live.rates["limit"][0])]


def waiting(received: int, queue: int) -> dict[str, Any]:
    return {"bytes_received": received, "recv_q": queue}


def test_300_bytes_that_nobody_reads() -> None:
    told = ticks(waiting(5000, 0), *[waiting(5300, 300)] * 8)
    assert names(told) == [*["idle"] * 7, "not-reading", "not-reading"]
    assert evidence.sentence(told[-1].live, told[-1]) == "300B unread, none read for 7.00s"


def test_a_process_that_takes_a_few_bytes_in_parts_is_slow() -> None:
    """The kernel tells when the last of them came, not when some were taken."""
    told = ticks(*[waiting(5300, 300 - 10 * (at // 2)) | {"last_received_us": 60_000_000} for at in range(12)])
    assert set(names(told)[1:]) == {"idle"}


def test_a_process_that_is_stopped_is_named_sooner() -> None:
    for does in ("stopped", "frozen", "zombie"):
        told = ticks(waiting(5000, 0), *[waiting(5300, 300)] * 4, does=does)
        assert names(told) == [*["idle"] * 3, "not-reading", "not-reading"]
        assert evidence.sentence(told[-1].live, told[-1]) == f"300B unread, none read for 3.00s, nginx 1000 is {does}"
    assert names(ticks(*[waiting(5300, 300)] * 4, does="sleeping in ep_poll"))[-1] == "idle"


@pytest.mark.parametrize(("step", "every"), [(1000, 1), (100, 1), (10_000, 2), (10_000, 5)])
def test_who_takes_something_now_and_then_is_slow(step: int, every: int) -> None:
    """Its buffer is full, and the peer's data come as it reads: every second, or every fifth."""
    told = ticks(*[waiting(100_000 + step * (n // every), 100_000) | {"rcv_wnd": 0} for n in range(22)])
    assert set(names(told)) == {"idle"}
    assert {limited(each) for each in told} <= {"rwnd", ""}
    assert limited(told[every * 3]) == "rwnd"


def test_who_lags_behind_with_an_open_window_is_limited_by_himself() -> None:
    told = ticks(*[waiting(10_000 + 1000 * n, 3000) for n in range(4)])
    assert [limited(each) for each in told] == ["", "app", "app", "app"]
    assert evidence.sentence(told[-1].live, told[-1]).startswith("limited by the local application")


def test_bytes_that_came_between_two_ticks_have_not_waited_since_the_last_that_did() -> None:
    told = ticks(waiting(300, 300), *[waiting(300, 0)] * 20, waiting(600, 300))
    assert names(told)[-1] == "idle"


def test_a_window_that_is_shut_with_nothing_unread() -> None:
    shut = {"rcv_wnd": 0, "rcv_mss": 1448, "rcvbuf": 131_072, "rmem": 0, "bytes_received": 9}
    told = ticks({}, shut, shut, shut, shut)
    assert names(told) == [*["idle"] * 3, "receive-buffer", "receive-buffer"]
    assert limited(told[-1]) == ""
    for fine in ({"rcv_wnd": 576, "rcvbuf": 2304}, {"state": State.LISTEN, "send_q": 9}, {"recv_q": 9}):
        assert names(ticks(*[shut | fine] * 4))[-1] != "receive-buffer"
    opened = ticks(shut, shut, {}, shut, shut)
    assert names(opened)[-1] == "idle"


def both(receiver: dict[str, Any], sender: dict[str, Any], net: dict[str, int] | None = None) -> list[str]:
    """The causes of two ends of one connection."""
    ends = [case(**receiver), case(**sender)]
    sockets, events, win, win_s, memory, ended = (
        np.concatenate([getattr(one, part) for one in ends])
        for part in ("sockets", "events", "win", "win_s", "memory", "ended")
    )
    for name in ("data_segs_out", "data_segs_in"):
        sockets[name] = win[name]  # what W counts, the life has, too
    pairs = Pairs(np.array([1, 0], np.intp), np.full(2, -1, np.intp))
    net_of = np.zeros(1, NET_OF)
    for name, value in (net or {}).items():
        net_of["net"][name] = value
    everyone = Everyone(sockets, events, win, win_s, memory)
    made = Case(sockets, events, win, win_s, memory, 1000.0, ended, net_of, ends[0].listened, pairs, everyone)
    return [CAUSES[number].name for number in judge(made)[0].tolist()]


UNREAD = {"recv_q": 60_000, "bytes_received": 90_000, "inode": 9, "was_taken_s": 990.0, "rcv_wnd": 0}
SHUT = STUCK | {"snd_wnd": 0, "backoff": 9, "last_sent_us": 99_000_000}


def test_the_other_end_tells_whether_the_peer_reads() -> None:
    assert both(UNREAD, SHUT) == ["not-reading", "peer-not-reading"]
    assert both(UNREAD | {"was_taken_s": 998.0}, SHUT) == ["healthy", "healthy"]  # it is slow
    assert both(UNREAD | {"recv_q": 300, "rcv_wnd": 65535}, {}) == ["not-reading", "peer-not-reading"]
    assert both({}, SHUT) == ["healthy", "healthy"]


def test_a_path_that_is_cut_is_told_before_a_peer_that_does_not_read() -> None:
    unanswered = SHUT | {"probes": 3, "rto_us": 204_000, "last_ack_received_us": 60_000_000}
    assert both(UNREAD, unanswered) == ["not-reading", "dead-peer"]


def test_what_is_dropped_for_lack_of_memory_is_no_loss_of_the_network() -> None:
    poor = {"drops": 500, "rmem": 0, "rcvbuf": 131_072, "ooo_in": 300, "inode": 9, "data_segs_in": 1600}
    lossy = {"retrans_segs": 600, "data_segs_out": 1600}
    counted = {"known": 1, "prune_called": 40, "rcv_q_drop": 20}
    assert both(poor, lossy, counted) == ["receive-buffer", "receive-buffer"]
    assert both(poor | {"data_segs_in": 1000}, lossy) == ["inbound-loss", "loss"]
    assert both(poor | {"drops": 200, "data_segs_in": 1000}, lossy, counted) == [
        "receive-buffer",
        "loss",
    ]  # most were lost elsewhere
    full = poor | {"rmem": 131_072, "ooo_in": 0}
    assert both(full, {}, counted) == ["healthy", "healthy"]


def test_what_keeps_a_process_from_running() -> None:
    assert [
        word for word in ("stopped", "running", "in state D in x", "sleeping in y", "") if reading.cannot_run(word)
    ] == [
        "stopped",
    ]
