"""What is computed of a row for the rules: the wait for timeouts, the time lost, classes of retransmits."""

from __future__ import annotations

import numpy as np

from tcptop_ops.diagnosis.memory import first_memory, remember, waited_us
from tcptop_ops.model.enums import RetransClass, State
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.tracking.known import counted
from tcptop_ops.tracking.tracker import Tracker
from tests.support.cases import STUCK, case
from tests.support.fakes import BOOT_NS, flow, records, snapshot


def test_the_wait_for_timeouts_has_two_sources() -> None:
    """Events where there are some; else the kernel's sum, in milliseconds, where it has one."""
    told = [{"first_ns": 1, "rto_wait_us": 5}, {"total_rto_ms": 7}, {"total_rto_ms": UNKNOWN_U32}]
    made = [case(**one) for one in told]
    sockets, events = (np.concatenate([getattr(one, part) for one in made]) for part in ("sockets", "events"))
    sockets["total_rto_ms"][0] = 9
    events["rto_wait_us"][0] = 5
    assert waited_us(sockets, events).tolist() == [5, 7000, 0]


def test_time_at_a_shut_window_is_time_lost() -> None:
    tracker = Tracker()
    shut = flow(1, snd_wnd=0, rto_wait_us=250_000, first_ns=BOOT_NS - 10**10, **STUCK)
    for second in range(4):
        flows = tracker.update(snapshot(second, [shut]))
    assert int(flows.live.rates["stall_us"][0]) == 4_250_000 - 1_000_000


def test_syns_sent_again_are_known_though_no_poll_saw_it_wait() -> None:
    """No more than timeouts: one that lost data at once, and sent it again without a timeout, lost no SYN."""
    for timeouts, lost in ((1, 1), (0, 0), (UNKNOWN_U32, 0)):
        sockets, events, _ = records([flow(1, state=State.SYN_SENT, first_ns=0)])
        memory = first_memory(sockets, events, 1.0)
        sockets["state"], sockets["retrans_segs"], sockets["total_rto"] = State.ESTABLISHED, 1, timeouts
        for now_s in (2.0, 3.0):
            remember(memory, sockets, sockets["state"], events, now_s, 1.0)
            assert memory["syn_retrans"].tolist() == [lost]
            sockets["retrans_segs"], sockets["total_rto"] = 7, 7


def test_classes_of_retransmits() -> None:
    row = case()
    row.events["retrans"][0, RetransClass.PROBE] = 3
    assert counted(row.sockets, row.events, waited_us(row.sockets, row.events))["probe_segs"].tolist() == [3]
