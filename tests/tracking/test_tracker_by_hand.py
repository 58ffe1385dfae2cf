"""Rates, windows, closed rows and totals with figures computed by hand."""

from __future__ import annotations

import math
from dataclasses import fields
from ipaddress import IPv6Address
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model import addresses
from tcptop_ops.model.addresses import is_loopback
from tcptop_ops.model.arrays import distinct, find_sorted, gather
from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import HAPPENING, OWNED, SOCKET
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.local_pairs import counts_once
from tcptop_ops.tracking.partners import partners_of
from tcptop_ops.tracking.slots import Slots
from tcptop_ops.tracking.totals import by_state
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, records, snapshot

SECOND = 1_000_000_000
OLD: dict[str, Any] = {"origin": Origin.ADOPTED}


def at(seconds: float) -> int:
    return BOOT_NS + int(seconds * SECOND)


def test_a_window_of_ten_seconds() -> None:
    """One retransmit a second: at any time ten of them lie within the window, once it has filled."""
    tracker = Tracker(window_s=10)
    told = [
        tracker.update(snapshot(second, [flow(1, retrans_segs=100 + second, **OLD)])).live.rates[0]
        for second in range(25)
    ]
    assert [int(rates["win"]["retrans_segs"]) for rates in told] == [*range(10), *[10] * 15]
    assert [float(rates["win_s"]) for rates in told] == [*range(10), *[10] * 15]
    assert [float(rates["retrans_per_s"]) for rates in told] == [0, *[1] * 24]


def test_the_window_forgets() -> None:
    tracker = Tracker(window_s=10)
    told = []
    for second in range(20):
        flows = tracker.update(snapshot(second, [flow(1, retrans_segs=7 if second >= 3 else 0, **OLD)]))
        told.append(int(flows.live.rates["win"]["retrans_segs"][0]))
    assert told == [0] * 3 + [7] * 10 + [0] * 7


@pytest.mark.parametrize("first_ns", [BOOT_NS, 0])
def test_syns_without_answer_are_lost_ones_once_it_is_established(first_ns: int) -> None:
    """However many: what was told of the attempt is not kept, while it lives and when it has closed."""
    again = {"retrans_segs": 3, "first_ns": first_ns, "direction": Direction.OUT if first_ns else 0}
    told = again | ({"syn_retrans": 3, "rto_events": 3} if first_ns else {})
    tries = flow(1, state=State.SYN_SENT, retransmits=3, states=1 << State.SYN_SENT, **told)
    stands = flow(
        1, states=1 << State.SYN_SENT | 1 << State.ESTABLISHED, connect_us=3_000_000 if first_ns else 0, **told
    )
    tracker = Tracker()
    for second in range(3):
        flows = tracker.update(snapshot(second, [tries]))
    assert CAUSES[flows.live.rates["cause"][0]].name == "syn-unanswered"
    for second in range(3, 6):
        flows = tracker.update(snapshot(second, [stands]))
        assert CAUSES[flows.live.rates["cause"][0]].name == "syn-lost"
        assert flows.live.rates["score"][0] <= 25
    ended = finals(
        [stands | {"state": State.CLOSE if first_ns else State.ESTABLISHED}], at(5.5), from_state=State.LAST_ACK
    )
    flows = tracker.update(snapshot(6, [], ended))
    assert CAUSES[flows.closed.rates["cause"][0]].name in ("syn-lost", "idle")
    assert flows.closed.rates["score"][0] <= 25


def test_frequent_ticks_share_the_samples() -> None:
    """A tick each tenth of a second in a window of ten: samples are a second apart, so W is right to a second."""
    tracker = Tracker(window_s=10)
    for tick in range(400):
        flows = tracker.update(snapshot(tick / 10, [flow(1, data_segs_out=tick, **OLD)]))
    window = float(flows.live.rates["win_s"][0])
    assert 9 <= window <= 10
    assert int(flows.live.rates["win"]["data_segs_out"][0]) == round(window * 10)


def test_a_tick_longer_than_the_window() -> None:
    tracker = Tracker(window_s=1)
    tracker.update(snapshot(0, [flow(1, retrans_segs=5, **OLD)]))
    rates = tracker.update(snapshot(60, [flow(1, retrans_segs=65, **OLD)])).live.rates[0]
    assert (int(rates["win"]["retrans_segs"]), float(rates["win_s"]), float(rates["retrans_per_s"])) == (60, 60, 1)


def test_the_first_tick_has_no_rates() -> None:
    flows = Tracker().update(snapshot(0, [flow(1, bytes_acked=10**9, retrans_segs=50, first_ns=at(-5))]))
    assert flows.seconds == 0
    assert flows.tick == 0
    assert not flows.live.rates["tx_bytes_per_s"].any()
    assert not flows.live.rates["win"]["retrans_segs"].any()
    assert math.isnan(flows.totals.retrans_pct)


def test_twice_the_same_instant() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, [flow(1)]))
    flows = tracker.update(snapshot(0, [flow(1, bytes_acked=100)]))
    assert flows.live.rates["tx_bytes_per_s"].tolist() == [0]


def test_bytes_that_fall_are_no_growth() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, [flow(1, bytes_acked=100, bytes_received=2**63)]))
    flows = tracker.update(snapshot(1, [flow(1, bytes_acked=99, bytes_received=2**63 + 4)]))
    assert flows.live.rates["tx_bytes_per_s"].tolist() == [0]
    assert flows.live.rates["rx_bytes_per_s"].tolist() == [4]


def test_freshness_counts_to_255() -> None:
    tracker = Tracker()
    told = [int(tracker.update(snapshot(tick, [flow(1)])).live.rates["fresh"][0]) for tick in range(300)]
    assert told == [*range(256), *[255] * 44]


def ended_at(seconds: float, **fields: Any) -> Any:
    return finals([flow(1, **fields)], at(seconds))


def test_the_last_tick_of_a_connection() -> None:
    tracker = Tracker(closed_s=5)
    tracker.update(snapshot(0, [flow(1, bytes_acked=1000, retrans_segs=1, **OLD)]))
    final = ended_at(1.5, bytes_acked=5000, retrans_segs=3, **OLD)
    flows = tracker.update(snapshot(2, [], final))
    assert flows.closed.rates["tx_bytes_per_s"].tolist() == [2000]
    assert flows.closed.rates["retrans_per_s"].tolist() == [1]
    assert (flows.totals.tx_bytes_per_s, flows.totals.retrans_segs, flows.totals.closed) == (2000, 2, 1)
    flows = tracker.update(snapshot(3, []))
    assert flows.closed.rates["tx_bytes_per_s"].tolist() == [0]
    assert flows.closed.rates["retrans_per_s"].tolist() == [0]
    assert flows.closed.rates["win"]["retrans_segs"].tolist() == [2]
    assert (flows.totals.tx_bytes_per_s, flows.totals.retrans_segs, flows.totals.closed) == (0, 0, 0)
    assert [len(tracker.update(snapshot(s, [])).closed) for s in (6.4, 6.6)] == [1, 0]


def test_a_life_between_two_ticks() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    flows = tracker.update(snapshot(4, [], ended_at(2, first_ns=at(1), bytes_acked=400, retrans_segs=4)))
    assert flows.closed.rates["tx_bytes_per_s"].tolist() == [100]
    assert flows.closed.rates["win"]["retrans_segs"].tolist() == [4]


def test_an_old_connection_that_was_never_met_adds_nothing() -> None:
    """Adopted and closed between two ticks: what it did before is no growth of this tick."""
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    flows = tracker.update(snapshot(1, [], ended_at(0.5, bytes_acked=10**10, retrans_segs=77, **OLD)))
    assert flows.closed.rates["tx_bytes_per_s"].tolist() == [0]
    assert flows.closed.rates["win"]["retrans_segs"].tolist() == [0]
    assert flows.totals.tx_bytes_per_s == 0


def test_a_lost_final_record_adds_nothing() -> None:
    """The ring was full: of the socket only the cookie is known, not that its counters are back at zero."""
    tracker = Tracker()
    tracker.update(snapshot(0, [flow(1, bytes_acked=10**6, retrans_segs=77, data_segs_out=900)]))
    final = ended_at(0.5)
    final["socket"] = 0
    final["socket"]["cookie"] = 1
    flows = tracker.update(snapshot(1, [], final))
    assert flows.closed.rates["retrans_per_s"].tolist() == [0]
    assert flows.closed.rates["win"]["retrans_segs"].tolist() == [0]
    assert (flows.totals.retrans_segs, flows.totals.tx_bytes_per_s) == (0, 0)


def test_a_socket_that_connects_again_keeps_its_cookie() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, [flow(1, retrans_segs=2, bytes_acked=600)]))
    again = flow(1, first_ns=at(0.7), retrans_segs=1, bytes_acked=50)
    flows = tracker.update(snapshot(1, [again], ended_at(0.5, retrans_segs=5, bytes_acked=700)))
    assert flows.closed.rates["tx_bytes_per_s"].tolist() == [100]
    assert flows.closed.rates["retrans_per_s"].tolist() == [3]
    assert flows.live.rates["tx_bytes_per_s"].tolist() == [50]
    assert flows.live.rates["retrans_per_s"].tolist() == [1]


def test_of_too_many_closed_rows_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcptop_ops.tracking.lingering.MAX_LINGERING", 5)
    tracker = Tracker()
    tracker.update(snapshot(0, [], finals([flow(c) for c in (1, 2, 3)], at(0))))
    flows = tracker.update(snapshot(1, [], finals([flow(c) for c in (4, 5, 6, 7)], at(1))))
    assert flows.closed.sockets["cookie"].tolist() == [3, 4, 5, 6, 7]
    flows = tracker.update(snapshot(2, [], finals([flow(c) for c in range(10, 20)], at(2))))
    assert flows.closed.sockets["cookie"].tolist() == [15, 16, 17, 18, 19]


def test_whose_a_closed_connection_was() -> None:
    final = ended_at(0, pid=77, name=b"curl")
    flows = Tracker().update(snapshot(0, [], final))
    assert (flows.closed.owners["pid"].tolist(), flows.closed.owners["name"].tolist()) == ([77], [b"curl"])
    owner = np.zeros(1, OWNED)
    owner["pid"] = 88
    flows = Tracker().update(snapshot(0, [], final, closed_owners=owner))
    assert flows.closed.owners["pid"].tolist() == [88]


PAIRS = [
    # one side, the other side, loopback, counts once on which
    (("127.0.0.1", 50000), ("127.0.0.1", 80), True, [True, False]),
    (("127.0.0.1", 50000), ("127.8.9.1", 80), True, [True, False]),
    (("127.0.0.1", 80), ("127.0.0.2", 80), True, [False, True]),
    (("::1", 50000), ("::1", 80), True, [True, False]),
    (("10.0.0.1", 50000), ("10.0.0.1", 80), True, [True, False]),
    (("2001:db8::1", 50000), ("2001:db8::1", 80), True, [True, False]),
    (("::ffff:127.0.0.1", 50000), ("127.0.0.1", 80), True, [True, False]),
    (("10.0.0.1", 50000), ("10.0.0.2", 80), False, [True, False]),
    (("10.0.0.127", 50000), ("127.0.0.1", 80), False, [True, False]),
    (("2001:db8::ffff:7f00:1", 80), ("2001:db8::ffff:7f00:2", 80), False, [False, True]),
]


@pytest.mark.parametrize(("one", "other", "loopback", "once"), PAIRS)
def test_a_pair_counts_once(one: tuple[str, int], other: tuple[str, int], loopback: bool, once: list[bool]) -> None:
    sockets, _, _ = records([flow(1, local=one, peer=other), flow(2, local=other, peer=one)])
    assert is_loopback(sockets).tolist() == [loopback] * 2
    paired = partners_of(sockets) >= 0
    assert counts_once(sockets, paired).tolist() == once
    assert counts_once(sockets, ~paired).tolist() == (once if loopback else [True, True])
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    pair = [flow(1, local=one, peer=other, bytes_acked=10), flow(2, local=other, peer=one, bytes_acked=10)]
    totals = tracker.update(snapshot(1, pair)).totals
    assert totals.tx_bytes_per_s == 10
    alone = tracker.update(snapshot(2, pair[:1], finals(pair[1:], BOOT_NS + 2_000_000_000)))
    assert alone.totals.tx_bytes_per_s == 0
    assert alone.closed.rates["paired"].tolist() == [1]


def test_a_pair_that_no_tick_saw_counts_once() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    ends = ("10.0.0.1", 50000), ("10.0.0.2", 80)
    pair = [
        flow(cookie, local=one, peer=other, bytes_acked=10, netns=cookie, first_ns=BOOT_NS + 500_000_000)
        for cookie, (one, other) in enumerate((ends, ends[::-1]), 1)
    ]
    both = tracker.update(snapshot(1, [], finals(pair, BOOT_NS + 700_000_000)))
    assert both.totals.tx_bytes_per_s == 10


def test_a_socket_connected_to_itself_counts() -> None:
    sockets, _, _ = records([flow(1, local=("127.0.0.1", 5), peer=("127.0.0.1", 5))])
    assert counts_once(sockets, partners_of(sockets) >= 0).tolist() == [True]


def test_a_listener_is_no_loopback_pair() -> None:
    sockets, _, _ = records([flow(1, local=("::", 80), peer=("::", 0), state=State.LISTEN)])
    assert is_loopback(sockets).tolist() == [False]


def test_states_are_counted_with_those_that_have_no_row() -> None:
    states = [State.ESTABLISHED, State.ESTABLISHED, State.LISTEN, State.SYN_RECV, State.CLOSE]
    made = snapshot(0, [flow(i, state=state) for i, state in enumerate(states)], time_wait=7, syn_recv=2)
    assert by_state(made, made.sockets["state"]) == {
        "ESTAB": 2,
        "LISTEN": 1,
        "SYN-RECV": 3,
        "UNCONN": 1,
        "TIME-WAIT": 7,
    }
    assert by_state(snapshot(0, []), np.zeros(0, "u1")) == {}


COOKIES = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 30), unique=True)


@given(st.lists(COOKIES, max_size=6).flatmap(lambda lists: st.lists(st.sampled_from(lists or [[]]), max_size=10)))
def test_slots_are_kept_and_never_shared(history: list[list[int]]) -> None:
    slots = Slots()
    before: dict[int, int] = {}
    for cookies in history:
        ordered = np.array(cookies, "u8")
        new = slots.assign(ordered)
        order, given_ = slots.order, slots.of_rows
        assert ordered[order].tolist() == sorted(cookies)
        now = dict(zip(cookies, given_.tolist(), strict=True))
        assert len(set(now.values())) == len(now)
        assert all(0 <= slot < slots.capacity for slot in now.values())
        assert {c: now[c] for c in now.keys() & before.keys()} == {c: before[c] for c in now.keys() & before.keys()}
        assert set(ordered[new].tolist()) == now.keys() - before.keys()
        asked = np.array([*cookies, 31, 2**63], "u8")
        found, known = slots.find(asked)
        wanted = [now.get(c) for c in asked.tolist()]
        assert [int(s) if k else None for s, k in zip(found, known, strict=True)] == wanted
        before = now


@given(st.lists(st.integers(0, 9), max_size=20))
def test_gathering_is_indexing(which: list[int]) -> None:
    sockets, _, _ = records([flow(i, cwnd=i * 7, cc=b"c%d" % i) for i in range(10)])
    index = np.array(which, np.intp)
    for rows in (sockets, sockets[::2].repeat(2), sockets[::-1]):
        assert np.array_equal(gather(rows, index), rows[index])
    mask = np.isin(np.arange(10), which)
    assert np.array_equal(gather(sockets, mask), sockets[mask])
    assert gather(np.zeros(0, SOCKET), np.zeros(0, np.intp)).dtype == SOCKET


def test_many_sockets_come_and_go() -> None:
    """The arrays grow, and rows stay with their cookies."""
    tracker = Tracker()
    flows: Flows | None = None
    rng = np.random.default_rng(1)
    for tick in range(4):
        cookies = rng.permutation(3000)[: 500 + 800 * tick]
        made = snapshot(tick, [flow(0)] * len(cookies))
        made.sockets["cookie"] = cookies
        made.sockets["bytes_acked"] = cookies.astype("u8") * tick
        made.events["origin"] = Origin.ADOPTED
        before = set() if flows is None else set(flows.live.sockets["cookie"].tolist())
        flows = tracker.update(made)
        wanted = [int(c) if int(c) in before else 0 for c in cookies]
        assert flows.live.rates["tx_bytes_per_s"].tolist() == wanted


def test_a_socket_that_one_snapshot_missed_tells_nothing_twice() -> None:
    tracker = Tracker(window_s=20)
    tracker.update(snapshot(0, []))
    life = flow(1, first_ns=BOOT_NS + 500_000_000, bytes_acked=1000, retrans_segs=2)
    tracker.update(snapshot(1, [life]))
    tracker.update(snapshot(2, []))
    rates = tracker.update(snapshot(3, [life])).live.rates
    assert (rates["tx_bytes_per_s"][0], rates["retrans_per_s"][0]) == (0, 0)
    assert rates["win"]["retrans_segs"][0] == 2, "its whole life lies within the window"


@given(st.lists(st.integers(0, 3)))
def test_distinct(values: list[int]) -> None:
    assert distinct(np.array(values, "u4")).tolist() == sorted(set(values))


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_finding_among_sorted_values(values: list[int], wanted: list[int]) -> None:
    """A value that is there is found at its first place; a position is never beyond the end."""
    values.sort()
    positions, found = find_sorted(np.array(values, "u8"), np.array(wanted, "u8"))
    assert found.tolist() == [value in values for value in wanted]
    assert positions[found].tolist() == [values.index(value) for value in wanted if value in values]
    assert all(0 <= place < max(1, len(values)) for place in positions.tolist())


@pytest.mark.parametrize(
    ("address", "mapped", "link_local", "unspecified"),
    [
        ("::", False, False, True),
        ("::ffff:0.0.0.0", True, False, True),
        ("::ffff:10.0.0.1", True, False, False),
        ("::fffe:10.0.0.1", False, False, False),
        ("1::ffff:10.0.0.1", False, False, False),
        ("fe80::1", False, True, False),
        ("febf::1", False, True, False),
        ("fec0::1", False, False, False),
        ("ff80::1", False, False, False),
        ("fe7f::1", False, False, False),
        ("::1", False, False, False),
    ],
)
def test_kinds_of_addresses(address: str, mapped: bool, link_local: bool, unspecified: bool) -> None:
    """One address and a whole array of them are judged alike."""
    packed = IPv6Address(address).packed
    wanted = (mapped, link_local, unspecified)
    assert (addresses.is_mapped(packed), addresses.is_link_local(packed), addresses.is_unspecified(packed)) == wanted
    high, low = addresses.halves(np.frombuffer(packed * 2, "u1").reshape(2, 16))
    assert addresses.are_mapped(high, low).tolist() == [mapped] * 2
    assert addresses.are_link_local(high).tolist() == [link_local] * 2
    assert addresses.are_unspecified(high, low).tolist() == [unspecified] * 2


def test_a_copy_shares_nothing() -> None:
    shot = snapshot(0, [flow(1), flow(2)], story=np.ones(3, HAPPENING), users={0: "root"})
    flows = Tracker().update(shot)
    kept = flows.copy()
    for one in fields(Snapshot):
        old, new = getattr(shot, one.name), getattr(kept.snapshot, one.name)
        if isinstance(old, np.ndarray):
            assert (new.dtype, new.shape, new.tobytes()) == (old.dtype, old.shape, old.tobytes()), one.name
            assert not np.shares_memory(old, new)
        else:
            assert old == new
            assert old is not new or not isinstance(old, dict)
    assert kept.live.sockets is kept.snapshot.sockets
    assert np.array_equal(kept.live.rates, flows.live.rates)
    assert kept.snapshot.closed_owners is None


def test_after_a_peak_slots_are_packed() -> None:
    """What is remembered of the rows that stay is the same in fewer slots; arrays are small again."""
    many = [flow(cookie, segs_in=cookie, data_segs_out=0) for cookie in range(1, 9001)]
    tracker, growing = Tracker(20.0), 0
    for tick in range(40):
        stays = many[5::20] if tick > 2 else many
        growing += 3
        for one in stays:
            one["data_segs_out"] = growing + one["cookie"]
        if tick > 2:  # sockets come and go
            stays = [*stays, flow(100_000 + tick)]
        flows = tracker.update(snapshot(tick, stays))
        if tick > 22:
            assert flows.live.rates["win"]["data_segs_out"][:-1].tolist() == [60 - tick % 2 * 3] * (len(stays) - 1)
            assert flows.live.rates["fresh"][:-1].tolist() == [tick] * (len(stays) - 1)
    assert len(tracker._known) < 1100
