"""Which listener dropped what at a full queue: its own drops beside what its namespace counted, tick by tick."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.listener_drops import ListenerDrops, spread
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, flow, records, snapshot

W = 20.0
NET = 7


def listener(cookie: int, port: int = 80, backlog: int = 8, **told: Any) -> dict[str, Any]:
    """One that was there before. ``queue``: how many wait for accept()."""
    fields = {"state": State.LISTEN, "send_q": backlog, "netns": NET, "origin": Origin.LISTED, "first_ns": 0}
    local, nobody = ("0.0.0.0", port), ("0.0.0.0", 0)
    return flow(cookie, **(fields | {"local": local, "peer": nobody, "recv_q": told.pop("queue", 0)} | told))


def half_open(number: int, port: int = 80) -> Records:
    """So many handshakes that wait at a port."""
    return records([flow(900 + n, netns=NET, local=("10.0.0.1", port)) for n in range(number)])[0]


def at(seconds: float, listeners: list[dict[str, Any]], waiting: Records | None = None, **counted: Any) -> Snapshot:
    """A snapshot. ``counted``: fields of NETNS, of the namespace of the listeners."""
    counters = np.zeros(1, NETNS)
    counters["netns"], counters["syncookies"] = NET, 1
    for name, value in counted.items():
        counters[name] = value
    rest = {} if waiting is None else {"half_open": waiting}
    return snapshot(seconds, listeners, namespace_counters=counters, **rest)


def told(drops: ListenerDrops, moments: list[Snapshot]) -> Records:
    """What is told after the last of these moments."""
    for moment in moments:
        found = drops.update(moment, moment.now_ns / 1e9)
    return found


def test_drops_count_as_far_as_the_namespace_counted_them() -> None:
    """Ten of the listener's thirty are the namespace's; the others are stray resets."""
    first = at(0, [listener(1, drops=500)], listen_overflows=900, listen_drops=900)
    burst = at(1, [listener(1, drops=530)], listen_overflows=910, listen_drops=910)
    found = told(ListenerDrops(W), [first, burst])
    assert found["overflows"].tolist() == [10]
    assert found["syn_drops"].tolist() == [0]
    assert found["counted"].tolist() == [1]


def test_stray_resets_are_nothing() -> None:
    first = at(0, [listener(1)], listen_overflows=900, listen_drops=900)
    strays = at(1, [listener(1, drops=100, queue=8)], listen_overflows=900, listen_drops=900)
    assert told(ListenerDrops(W), [first, strays])["overflows"].tolist() == [0]


def test_what_was_dropped_before_the_start_is_not_told() -> None:
    once = at(0, [listener(1, drops=500)], listen_overflows=500, listen_drops=500)
    again = at(1, [listener(1, drops=500)], listen_overflows=500, listen_drops=500)
    assert told(ListenerDrops(W), [once, again])["overflows"].tolist() == [0]


def test_a_listener_that_began_since_the_last_tick_had_no_drops_before() -> None:
    """Also in a namespace that was never read before; one whose beginning was not seen may have had them long ago."""
    born = {"origin": Origin.NEW, "first_ns": BOOT_NS + 500_000_000}
    new = at(1, [listener(1, drops=20, **born), listener(2, 81, drops=40)], listen_overflows=60, listen_drops=60)
    found = told(ListenerDrops(W), [snapshot(0, []), new])
    assert found["overflows"].tolist() == [20, 0]


def test_counts_that_came_before_the_listener_s_own_wait_for_these() -> None:
    """The counters are read after the sockets: an overflow in between shows in the listener's drops a tick later."""
    moments = [
        at(0, [listener(1)]),
        at(1, [listener(1)], listen_overflows=5, listen_drops=5),
        at(2, [listener(1, drops=5)], listen_overflows=5, listen_drops=5),
    ]
    assert told(ListenerDrops(W), moments)["overflows"].tolist() == [5]


def test_they_do_not_wait_for_longer_than_a_tick() -> None:
    """Stray resets two ticks later are not put down to them."""
    moments = [at(second, [listener(1)], listen_overflows=5, listen_drops=5) for second in (1, 2)]
    moments = [at(0, [listener(1)]), *moments, at(3, [listener(1, drops=9)], listen_overflows=5, listen_drops=5)]
    assert told(ListenerDrops(W), moments)["overflows"].tolist() == [0]


@pytest.mark.parametrize(
    ("grown", "told_of"),
    [
        ((60, 8), (50, 0)),  # one of them with a few stray resets
        ((0, 50), (0, 50)),
        ((60, 60), (25, 25)),  # alike: both
        ((45, 8), (45, 0)),  # five more were counted between the readings
        ((15, 8), (0, 0)),  # most are of a listener that is not seen
    ],
)
def test_of_several_listeners_those_that_dropped_most(grown: tuple[int, int], told_of: tuple[int, int]) -> None:
    moments = [
        at(0, [listener(1), listener(2, 81)]),
        at(1, [listener(1, drops=grown[0]), listener(2, 81, drops=grown[1])], listen_overflows=50, listen_drops=50),
    ]
    assert tuple(told(ListenerDrops(W), moments)["overflows"]) == told_of


def test_a_queue_that_was_seen_filling_up_comes_first() -> None:
    moments = [
        at(0, [listener(1), listener(2, 81)]),
        at(1, [listener(1, drops=30), listener(2, 81, drops=30, queue=6)], listen_overflows=30, listen_drops=30),
    ]
    assert told(ListenerDrops(W), moments)["overflows"].tolist() == [0, 30]


def test_syns_dropped_for_a_full_backlog() -> None:
    moments = [
        at(0, [listener(1)]),
        at(1, [listener(1, drops=21)], half_open(9), req_q_full_drop=12, listen_drops=12),
    ]
    found = told(ListenerDrops(W), moments)
    assert (found["syn_drops"].tolist(), found["overflows"].tolist()) == ([12], [0])
    assert found["half_open"].tolist() == [9]


def test_both_queues_in_one_namespace() -> None:
    moments = [
        at(0, [listener(1), listener(2, 81)]),
        at(
            1,
            [listener(1, drops=30, queue=9), listener(2, 81, drops=40)],
            half_open(9, 81),
            req_q_full_drop=40,
            listen_drops=70,
            listen_overflows=30,
        ),
    ]
    found = told(ListenerDrops(W), moments)
    assert (found["overflows"].tolist(), found["syn_drops"].tolist()) == ([30, 0], [0, 40])


def test_the_last_quarter_of_the_host_s_backlog_is_kept_for_known_peers() -> None:
    """Without cookies those SYNs are dropped with no other counter than ListenDrops."""
    limits: dict[str, Any] = {"syncookies": 0, "syn_backlog": 128}
    crowd, few = half_open(97), half_open(3)
    for waiting, dropped in ((crowd, [20]), (few, [0])):
        moments = [
            at(0, [listener(1, backlog=1000)], **limits),
            at(1, [listener(1, backlog=1000, drops=20)], waiting, listen_drops=20, **limits),
        ]
        assert told(ListenerDrops(W), moments)["syn_drops"].tolist() == dropped


def test_cookies_are_of_the_listener_whose_backlog_is_full() -> None:
    def cookies(waiting: Records | None, *listeners: dict[str, Any], **counted: int) -> list[int]:
        start: dict[str, Any] = {name: value for name, value in counted.items() if name == "syncookies"}
        moments = [
            at(0, list(listeners), **start),
            at(1, list(listeners), waiting, req_q_full_do_cookies=50, syncookies_sent=50, **counted),
        ]
        found: list[int] = told(ListenerDrops(W), moments)["cookies"].tolist()
        return found

    assert cookies(half_open(9, 81), listener(1), listener(2, 81)) == [0, 50]
    assert cookies(None, listener(1)) == [50], "there is but one"
    assert cookies(None, listener(1), listener(2, 81)) == [0, 0], "it can't be told whose they are"
    assert cookies(None, listener(1), syncookies=2) == [0], "each SYN is answered so"
    assert cookies(half_open(18), listener(1), listener(2)) == [25, 25], "a group that shares the port"


def test_the_last_drop_is_remembered_for_those_who_tell_of_it_while_it_fades() -> None:
    drops = ListenerDrops(W)
    moments = [at(0, [listener(1)])]
    for second, count in ((1, 10), (2, 10), (5, 30)):
        moments.append(at(second, [listener(1, drops=count)], listen_overflows=count, listen_drops=count))
    found = told(drops, moments)
    assert (found["overflows"].tolist(), found["overflows_since"].tolist()) == ([30], [30])
    found = told(drops, [at(24, [listener(1, drops=30)], listen_overflows=30, listen_drops=30)])
    assert (found["overflows"].tolist(), found["overflows_since"].tolist()) == ([20], [30])
    assert found["overflows_s"].tolist() == [BOOT_NS / 1e9 + 5]
    found = told(drops, [at(60, [listener(1, drops=30)], listen_overflows=30, listen_drops=30)])
    assert (found["overflows"].tolist(), found["overflows_since"].tolist()) == ([0], [30])
    found = told(drops, [at(61, [listener(1, drops=31)], listen_overflows=31, listen_drops=31)])
    assert (found["overflows"].tolist(), found["overflows_since"].tolist()) == ([1], [1])


def test_a_listener_that_is_gone_is_told_of_for_as_long_as_its_row_is_listed() -> None:
    drops = ListenerDrops(W)
    told(drops, [at(0, [listener(1)]), at(1, [listener(1, drops=9)], listen_overflows=9, listen_drops=9)])
    assert told(drops, [snapshot(70, [])])["overflows_since"].tolist() == [9]
    assert len(told(drops, [snapshot(200, [])])) == 0


def test_namespaces_that_are_not_read_are_not_known() -> None:
    drops = ListenerDrops(W)
    told(drops, [at(0, [listener(1)], listen_drops=1)])
    assert told(drops, [snapshot(10, [listener(1, drops=5)])])["counted"].tolist() == [1]
    assert told(drops, [snapshot(21, [listener(1, drops=7)])])["counted"].tolist() == [0]


def test_drops_wait_for_the_next_reading_of_their_namespace() -> None:
    """Of very many namespaces not all are read at each tick."""
    moments = [
        at(0, [listener(1)]),
        snapshot(1, [listener(1, drops=10)]),
        at(2, [listener(1, drops=10)], listen_overflows=10, listen_drops=10),
    ]
    assert told(ListenerDrops(W), moments)["overflows"].tolist() == [10]


def test_a_number_given_to_a_new_namespace_begins_at_zero() -> None:
    moments = [
        at(0, [listener(1)], listen_drops=500, listen_overflows=500),
        at(1, [listener(2, drops=4)], listen_drops=4, listen_overflows=4),
    ]
    assert told(ListenerDrops(W), moments)["overflows"].tolist() == [4]


def test_a_burst_fades_and_says_that_it_is_over() -> None:
    """By the tracker, whose verdict and evidence go on as long as the score fades."""
    tracker = Tracker(W)
    tracker.update(at(0, [listener(1)]))
    scores, words = {}, {}
    for second in range(1, 70):
        flows = tracker.update(at(second, [listener(1, drops=52)], listen_overflows=52, listen_drops=52))
        scores[second], words[second] = float(flows.live.rates["score"][0]), evidence.sentence(flows.live, flows)
        assert (CAUSES[int(flows.live.rates["cause"][0])].name == "accept-queue") == (scores[second] > 0)
    assert [scores[1], scores[20]] == [95, 95]
    assert 5 < scores[60] < scores[30] < 95
    assert scores[69] == 0
    assert words[1] == "52 handshakes dropped in 1 s, the queue is empty now, limit 8"
    assert words[20] == "52 handshakes dropped in 20 s, the last 19 s ago, the queue is empty now, limit 8"
    assert words[30] == "over: 52 handshakes dropped, the last 29 s ago"
    assert words[69] == ""


def test_a_finding_says_that_a_burst_is_over() -> None:
    tracker, told = Tracker(W), {}
    tracker.update(at(0, [listener(1)]))
    for second in range(1, 12):
        flows = tracker.update(at(second, [listener(1, drops=52)], listen_overflows=52, listen_drops=52))
        [told[second]] = findings(flows)
    assert told[2].text == "the accept queue of nginx, port 80, is full: 52 dropped in 2 s"
    assert told[11].text == "the accept queue of nginx, port 80, was full: 52 dropped in 11 s"


def test_a_share_is_never_larger_than_the_listener_s_own_drops() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        room, likely = rng.integers(0, 50, 6), rng.random(6) < 0.4
        count = int(rng.integers(0, 200))
        given = spread(count, room, likely)
        assert (given <= room).all()
        assert given.sum() < count + len(room)
