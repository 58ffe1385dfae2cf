"""In which listener's queue an attempt waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import Direction, State, Timer
from tcptop_ops.model.flows import Flows, row_of
from tcptop_ops.model.namespace_addresses import ADDRESS
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.queued_at import listeners_of
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, packed, records, snapshot

V4, V6 = 2, 10
FULL: dict[str, Any] = {"recv_q": 4, "send_q": 3}


def attempt(cookie: int, to: str, netns: int = 1, port: int = 80, **more: Any) -> dict[str, Any]:
    here = "10.0.0.1" if ":" not in to else "2001:db8::1"
    told: dict[str, Any] = {"state": State.SYN_SENT, "retransmits": 2, "retrans_segs": 2, "netns": netns}
    told |= {"family": V6 if ":" in to else V4, "srtt_us": 0}
    return flow(cookie, local=(here, 40000 + cookie), peer=(to, port), **told | more)


def door(cookie: int, at: str = "0.0.0.0", netns: int = 2, port: int = 80, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"state": State.LISTEN, "netns": netns, "direction": Direction.LISTEN}
    told |= {"family": V6 if ":" in at else V4, "srtt_us": 0, **FULL, "pid": 700 + cookie}
    return flow(cookie, local=(at, port), peer=("0.0.0.0", 0), **told | more)


def addresses(*told: tuple[str, int, int]) -> Records:
    """ADDRESS rows: address, namespace, device."""
    rows = np.zeros(len(told), ADDRESS)
    for at, (address, netns, ifindex) in enumerate(told):
        rows[at] = (packed(address), netns, ifindex)
    return rows


def found(flows: list[dict[str, Any]], known: Records, half_open: Records | None = None) -> list[int]:
    """The cookie of the listener of each row, 0: none."""
    half_open = np.zeros(0, SOCKET) if half_open is None else half_open
    made = snapshot(0, flows, addresses=known, half_open=half_open)
    at = listeners_of(made, np.flatnonzero(made.sockets["state"] == State.SYN_SENT))
    cookies: list[int] = np.where(at >= 0, made.sockets["cookie"][at], 0).tolist()
    return cookies


IN_2 = (("10.0.0.2", 2, 5), ("2001:db8::2", 2, 5))


@pytest.mark.parametrize(
    ("client", "doors", "known", "expected"),
    [
        (attempt(1, "10.0.0.2"), [door(9)], IN_2, 9),
        (attempt(1, "10.0.0.2"), [door(9, "10.0.0.2")], (), 9),
        (attempt(1, "10.0.0.2"), [door(8), door(9, "10.0.0.2")], IN_2, 9),
        (attempt(1, "10.0.0.2"), [door(9, "10.0.0.3")], IN_2, 0),
        (attempt(1, "10.0.0.2"), [door(9, port=81)], IN_2, 0),
        (attempt(1, "10.0.0.2"), [door(9)], (), 0),
        (attempt(1, "10.0.0.2", retransmits=0), [door(9)], IN_2, 0),
        # IPv6, and a socket for both
        (attempt(1, "2001:db8::2"), [door(9, "::"), door(8)], IN_2, 9),
        (attempt(1, "10.0.0.2"), [door(9, "::")], IN_2, 9),
        (attempt(1, "10.0.0.2"), [door(9), door(8, "::")], IN_2, 9),
        (attempt(1, "10.0.0.2"), [door(9, "10.0.0.2", family=V6)], IN_2, 9),
        # loopback, and other own addresses, are one's own whoever else has them
        (attempt(1, "127.0.0.1"), [door(8), door(9, netns=1)], (), 9),
        (attempt(1, "::1"), [door(8, "::"), door(9, "::", netns=1)], (), 9),
        (attempt(1, "127.0.0.1"), [door(8)], (), 0),
        (attempt(1, "10.0.0.2"), [door(8), door(9, netns=1)], (*IN_2, ("10.0.0.2", 1, 3)), 9),
        (attempt(1, "10.0.0.2"), [door(8)], (*IN_2, ("10.0.0.2", 1, 3)), 0),
        # two other namespaces may be meant
        (attempt(1, "10.0.0.2"), [door(8), door(9, netns=3)], (*IN_2, ("10.0.0.2", 3, 3)), 0),
        # bound to a device
        (attempt(1, "10.0.0.2"), [door(8), door(9, ifindex=5)], IN_2, 9),
        (attempt(1, "10.0.0.2"), [door(9), door(8, ifindex=6)], IN_2, 9),
        (attempt(1, "127.0.0.1"), [door(8, netns=1, ifindex=5), door(9, netns=1)], (), 9),
        # SO_REUSEPORT: any other would have answered
        (attempt(1, "10.0.0.2"), [door(7, recv_q=0), door(9), door(8, recv_q=1)], IN_2, 9),
    ],
)
def test_the_listener(
    client: dict[str, Any], doors: list[dict[str, Any]], known: tuple[tuple[str, int, int], ...], expected: int
) -> None:
    assert found([client, *doors], addresses(*known)) == [expected, *[0] * len(doors)]


def test_whose_handshake_is_under_way() -> None:
    """Its SYN was taken: what is lost is the answer."""
    through = flow(5, local=("10.0.0.2", 80), peer=("10.0.0.1", 40001), netns=2, state=State.SYN_RECV)
    rows = [attempt(1, "10.0.0.2"), attempt(2, "10.0.0.2"), door(9)]
    assert found(rows, addresses(*IN_2), records([through])[0]) == [0, 9, 0]


class World:
    """Ticks a second apart, with what is told of them."""

    def __init__(self) -> None:
        self.tracker, self.memory, self.seconds = Tracker(), FindingsMemory(), 0

    def tick(self, rows: list[dict[str, Any]], **rest: Any) -> Flows:
        made: Snapshot = snapshot(self.seconds, rows, addresses=addresses(*IN_2), **rest)
        self.seconds += 1
        return self.memory.complete(self.tracker.update(made))


def told(flows: Flows, row: int) -> tuple[str, str]:
    one = row_of(flows, row)
    return CAUSES[int(one.rates["cause"][0])].name, evidence.sentence(one, flows)


def test_what_is_said_of_both_ends() -> None:
    world = World()
    rows = [attempt(cookie, "10.0.0.2", name=b"curl", timer=Timer.RETRANSMIT, timer_us=1e6) for cookie in (1, 2, 3)]
    rows.append(door(9, name=b"nginx"))
    for _ in range(5):
        flows = world.tick(rows)
    cause, words = told(flows, 0)
    assert cause == "accept-queue"
    assert words == "waits in the accept queue of nginx 709: 4 of 3, 3 SYNs unanswered, next in 1.00s"
    (finding,) = flows.findings
    assert (finding.rows, finding.blame) == (4, "app")
    assert finding.text == "the accept queue of nginx, port 80, is full: 3 attempts of curl on this host wait for it"
    # One gives up: it waited there to its end.
    final = finals(rows[:1], BOOT_NS + 5_000_000_000, from_state=State.SYN_SENT)
    flows = world.tick(rows[1:], closed=final)
    cause, words = told(flows, 3)
    assert cause == "accept-queue"
    assert "waited in the accept queue of nginx 709" in words
    (finding,) = flows.findings
    assert "2 attempts of curl on this host wait for it, 1 attempt of curl on this host gave up" in finding.text
    # The others are established: nothing is left of it.
    flows = world.tick(
        [one | {"state": State.ESTABLISHED, "retransmits": 0} for one in rows[1:3]] + [door(9, recv_q=0)]
    )
    assert told(flows, 0)[0] in ("idle", "syn-lost")


def test_any_of_several_that_are_full() -> None:
    """Which of them the kernel chose is not known."""
    world = World()
    for _ in range(5):
        flows = world.tick([attempt(1, "10.0.0.2"), door(8), door(9), door(7, recv_q=1)])
    assert told(flows, 0)[1].startswith("waits in the accept queue of one of 2 listeners on port 80: 4 of 3, ")


def test_a_queue_with_room_does_not_hold_anyone() -> None:
    world = World()
    for _ in range(5):
        flows = world.tick([attempt(1, "10.0.0.2"), door(9, recv_q=0)])
    assert told(flows, 0)[0] == "syn-unanswered"
    assert flows.live.rates["listener"].tolist() == [0, 0]
