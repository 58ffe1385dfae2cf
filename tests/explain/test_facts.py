"""What the detail screen tells of a row beside its columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.explain import connection_facts, listener_facts, operator_facts
from tcptop_ops.explain.connection_facts import RelatedFlows, Stalls
from tcptop_ops.model.enums import Direction, EcnMode, Happening, Origin, OwnerKind, State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import COUNTERS, HAPPENING, SEEN, Records
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, records, snapshot

NO_STORY = np.zeros(0, HAPPENING)


def ticked(*rounds: list[dict[str, Any]], **last: Any) -> Flows:
    tracker = Tracker()
    for at, flows in enumerate(rounds):
        found = tracker.update(snapshot(at, flows, **(last if at == len(rounds) - 1 else {})))
    return found


def row(flows: Flows, cookie: int = 1) -> Rows:
    return flows.live.take(flows.live.sockets["cookie"] == cookie)


def negotiated(**fields: Any) -> dict[str, str]:
    flows = ticked([flow(1, **fields)])
    return dict(connection_facts.options(row(flows), flows))


def test_options_that_were_negotiated() -> None:
    everything = connection_facts.TIMESTAMPS | connection_facts.SACK | connection_facts.WSCALE | connection_facts.ECN
    assert negotiated(options=everything, ecn_mode=EcnMode.CLASSIC, wscale=7 | 10 << 4, rcv_mss=536) == {
        "MSS": "1448 out, 536 in",
        "window scale": "ours 10, the peer's 7",
        "SACK": "yes",
        "timestamps": "yes",
        "ECN": "yes, RFC 3168",
        "fast open": "no",
        "MPTCP": "no",
    }
    assert set(negotiated(options=0, mss=524).values()) == {"524 out", "no"}
    assert negotiated(options=connection_facts.SYN_DATA)["fast open"] == "data in the SYN was taken"
    assert negotiated(mptcp=1)["MPTCP"] == "a subflow"


def waits(**fields: Any) -> dict[str, Any]:
    """Two seconds waited in ten of life, three tail-loss probes."""
    return flow(1, rto_wait_us=2_000_000, retrans=(0, 0, 3, 0), first_ns=BOOT_NS - 9_000_000_000, **fields)


def ledger(*rounds: list[dict[str, Any]], story: Records = NO_STORY) -> Stalls:
    flows = ticked(*rounds)
    return connection_facts.stalls(row(flows), flows, story)


def test_the_ledger_of_stalls() -> None:
    found = ledger([waits()], [waits()])
    assert found == Stalls(2_000_000, 0, 0, 10_000_000, 3)
    assert found.share_pct == 20.0


def test_what_was_waited_for_syns_is_told_by_the_state_or_by_the_story() -> None:
    assert ledger([waits(state=State.SYN_SENT)]).syn_us == 2_000_000
    story = np.zeros(2, HAPPENING)
    story["kind"], story["b"] = [Happening.RTO, Happening.ESTABLISHED], [1_000_000, 0]
    found = ledger([waits()], story=story)
    assert (found.syn_us, found.timeouts_us) == (1_000_000, 1_000_000)


def test_time_at_a_shut_window_counts() -> None:
    shut = {"notsent": 5000, "snd_wnd": 0, "unacked": 0}
    found = ledger([flow(1, **shut)], [flow(1, **shut)], [flow(1, **shut)])
    assert found.zero_window_us == 3_000_000 - 1_000_000
    assert found.timeouts_us == 0


def test_an_age_that_is_not_known_has_no_share() -> None:
    assert np.isnan(ledger([flow(1, first_ns=0)]).share_pct)


def test_a_closed_row_has_lived_until_its_end() -> None:
    gone = flow(1, rto_wait_us=1_000_000, states=1 << State.ESTABLISHED)
    flows = ticked([flow(1)], [], closed=finals([gone], BOOT_NS + 500_000_000))
    found = connection_facts.stalls(flows.closed, flows, NO_STORY)
    assert found.life_us == 500_000
    assert found.share_pct == 100.0


def lossy(cookie: int, tick: int, lost: int, **fields: Any) -> dict[str, Any]:
    return flow(cookie, retrans_segs=lost * tick, data_segs_out=1000 * tick, **fields)


def test_kin_share_a_prefix_a_process_or_a_listener() -> None:
    def world(tick: int) -> list[dict[str, Any]]:
        return [
            lossy(1, tick, 50, peer=("10.2.0.1", 443), pid=7, name=b"nginx"),
            lossy(2, tick, 60, peer=("10.2.0.9", 443), pid=8),
            lossy(3, tick, 0, peer=("10.3.0.1", 443), pid=7),
            lossy(4, tick, 0, peer=("10.4.0.1", 443), pid=9),
        ]

    flows = ticked(world(0), world(1))
    assert connection_facts.related(row(flows), flows) == [
        RelatedFlows("to 10.2.0.0/24", 2, (("loss", 2),), "host = 10.2.0.0/24"),
        RelatedFlows("of nginx 7", 2, (("loss", 1),), "pid = 7"),
    ]
    assert connection_facts.related(row(flows, 4), flows) == []


def test_kin_that_came_in_and_ipv6() -> None:
    came: dict[str, Any] = {"direction": Direction.IN, "local": ("2001:db8::1", 80), "family": 10, "pid": 0}
    flows = ticked([flow(1, peer=("2001:db8:5::1", 5), **came), flow(2, peer=("2001:db8:6::2", 6), **came)])
    (found,) = connection_facts.related(row(flows), flows)
    assert (found.what, found.count) == ("that came in on port 80", 2)
    near = ticked([flow(1, peer=("2001:db8:5::1", 5), **came), flow(2, peer=("2001:db8:5::2", 6), **came)])
    assert connection_facts.related(row(near), near)[0].what == "to 2001:db8:5::/64"


def test_a_listener_that_is_too_slow() -> None:
    here: dict[str, Any] = {"local": ("10.0.0.1", 80), "netns": 7}

    def world(tick: int) -> list[dict[str, Any]]:
        listener = flow(
            1,
            state=State.LISTEN,
            direction=Direction.LISTEN,
            peer=("0.0.0.0", 0),
            recv_q=5,
            send_q=4,
            drops=40 * tick,
            **here,
        )
        inside = [
            flow(c, direction=Direction.IN, first_ns=BOOT_NS + tick * 10**9, how=OwnerKind.LISTENER, **here)
            for c in (2, 3)
        ]
        return [listener, *inside, flow(4, direction=Direction.IN, origin=Origin.ADOPTED, **here), flow(5)]

    half_open, _, _ = records([flow(9, peer=("10.9.9.9", 5), **here)] * 3)
    flows = ticked(world(0), world(1), world(2), half_open=half_open)
    door = listener_facts.accept_queue(row(flows), flows, OwnerKind.LISTENER)
    assert (door.queue, door.limit, door.full_s) == (5, 4, 2.0)
    assert (door.waiting, door.inside, door.syn_recv) == (2, 3, 3)
    assert (door.drops, door.drops_win) == (80, 80)
    assert door.drops_per_s == 80 / door.win_s
    assert door.opened_per_s == 2 / door.win_s


def test_which_of_the_two_makes_the_limit() -> None:
    assert listener_facts.binds(128, 4096) == "limit = min(listen() 128, somaxconn 4096): the process asked for so few"
    assert listener_facts.binds(4096, 4096).startswith("limit = somaxconn 4096: raise net.core.somaxconn")
    assert "from when somaxconn was more" in listener_facts.binds(8192, 4096)
    assert "not known" in listener_facts.binds(128, None)


def test_quantiles_of_samples_by_powers_of_two() -> None:
    buckets = np.zeros(32, "u8")
    assert operator_facts.quantile_us(buckets, 0.5) is None
    assert operator_facts.spread(buckets) == ""
    buckets[[14, 20]] = (99, 1)
    assert operator_facts.quantile_us(buckets, 0.5) == (1 << 14, 1 << 15)
    assert operator_facts.quantile_us(buckets, 0.99) == (1 << 14, 1 << 15)
    assert operator_facts.quantile_us(buckets, 1.0) == (1 << 20, 1 << 21)
    assert operator_facts.spread(buckets) == "p50 16ms to 33ms  p99 16ms to 33ms"


def test_what_the_operators_tell_of_the_host() -> None:
    counters, seen = np.zeros((), COUNTERS), np.zeros(2, SEEN)
    counters["calls"][[1, 5]], counters["requests"][1] = (12, 9), 10
    seen["rtt"][0, 10] = 5
    gone = flow(3, states=1 << State.ESTABLISHED)
    flows = ticked(
        [],
        [
            flow(
                1,
                name=b"curl",
                connect_us=20_000,
                states=1 << State.ESTABLISHED,
                retrans=(1, 2, 3, 4),
                options=connection_facts.ECN,
            ),
            flow(2, name=b"sshd", state=State.LISTEN, direction=Direction.LISTEN, peer=("0.0.0.0", 0)),
        ],
        counters=counters,
        seen=seen,
        closed=finals([gone], BOOT_NS + 900_000_000, error=104, from_state=State.ESTABLISHED),
    )
    told = {number: " | ".join(operator_facts.about(number, flows)) for number in range(1, 16)}
    assert told[1] == "10 of the calls came for request sockets"
    assert told[3] == "within 20 s, still listed: curl 1, nginx 1"
    assert told[4] == "time to connect of 1 listed: p50 20ms, p99 20ms"
    assert told[5] == "9 handshakes completed, 10 SYNs admitted"
    assert told[6] == "ECN granted on 1 of the listed"
    assert told[9] == "segments by class: timeout 1, recovery 2, tail-loss probe 3, other 4"
    assert told[10] == "how those ended that are still listed: reset 1"
    assert told[11] == "1 listen now | by process: sshd 1"
    assert told[12] == "host: p50 1.0ms to 2.0ms  p99 1.0ms to 2.0ms"
    assert told[15] == ""


def test_an_empty_host_has_little_to_tell() -> None:
    flows = ticked([])
    assert all(isinstance(operator_facts.about(number, flows), list) for number in range(1, 16))
