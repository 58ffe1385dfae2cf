"""A listener whose accept queue or SYN backlog was full says so, however short that was; others beside it do not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.host.descriptors import PolledOwners
from tcptop_ops.host.namespaces import widest
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view
from tests.live.queues import RST, SYN, Doors, doors
from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import wait_until

pytestmark = pytest.mark.halved


FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class Rows:
    """What a source tells of listeners, tick by tick."""

    def __init__(self, source: Any) -> None:
        self._source, self._tracker = source, Tracker(window_s=20, closed_s=60)
        self._tracker.update(source.poll())

    def of(self, *doors_: socket.socket) -> list[dict[str, Any]]:
        """The rows of these listeners, of a new tick."""
        rows = connections(view.make(self._tracker.update(self._source.poll()), view.Spec()))
        by_cookie = {row["cookie"]: row for row in rows if row["state"] == "LISTEN"}
        return [by_cookie[cookie(door)] for door in doors_]

    def closed(self, number: int) -> dict[str, Any]:
        """The closed row of the listener with this cookie, of a new tick."""
        rows = connections(view.make(self._tracker.update(self._source.poll()), view.Spec()))
        return next(row for row in rows if row["cookie"] == number and row["closed_s"] is not None)


def cookie(door: socket.socket) -> int:
    """SO_COOKIE, asm-generic/socket.h."""
    return int.from_bytes(door.getsockopt(socket.SOL_SOCKET, 57, 8), "little")


@pytest.fixture(params=["sockops", "sockdiag"])
def source(request: pytest.FixtureRequest, cgroup: Path) -> Iterator[Any]:
    if request.param == "sockops":
        with Watch(cgroup) as watch:
            yield watch.source
        return
    reach = widest()
    polled = SockDiagSource(EveryNamespace(reach), PolledOwners(reach.descriptors, reach.hidden_descriptors), reach)
    yield polled
    polled.close()


@pytest.fixture(params=list(FAMILIES.values()), ids=list(FAMILIES))
def made(request: pytest.FixtureRequest, lab: Lab, cgroup: Path) -> Iterator[Doors]:
    with doors(lab, cgroup, request.param) as found:
        yield found


def is_well(row: dict[str, Any]) -> bool:
    return bool(row["cause"] == "healthy" and row["score"] == 0)


@pytest.mark.parametrize("backlog", [1, 8, 128])
def test_a_burst_that_is_over_before_the_tick(made: Doors, source: Any, backlog: int) -> None:
    """The queue is empty at both ticks; six are dropped in between, and another listener is left alone."""
    door, other = made.listen(backlog), made.listen(backlog)
    rows = Rows(source)
    assert [is_well(row) for row in rows.of(door, other)] == [True, True]
    clients = made.dial(door, backlog + 1 + 6)
    assert made.counted("ListenOverflows") == 6
    assert made.accept(door) == backlog + 1
    for client in clients:
        client.close()
    made.accept(other)
    told, quiet = rows.of(door, other)
    assert (told["cause"], told["score"], told["blame"]) == ("accept-queue", 95, "app")
    assert told["evidence"].startswith("6 handshakes dropped in ")
    assert told["evidence"].endswith(f"the queue is empty now, limit {backlog}")
    assert told["drops"] == 6
    assert is_well(quiet)


def test_a_single_drop_is_told(made: Doors, source: Any) -> None:
    door = made.listen(2)
    rows = Rows(source)
    made.dial(door, 4)
    [told] = rows.of(door)
    assert (told["cause"], told["score"]) == ("accept-queue", 70)
    assert told["evidence"].startswith("1 handshake dropped in ")
    assert ", queue 3 of 2, full for " in told["evidence"]


def test_of_a_group_at_one_port_the_queue_that_overflows(made: Doors, source: Any) -> None:
    """SO_REUSEPORT: the kernel spreads the connections, and one of two does not accept."""
    busy = made.listen(4)
    hung = made.listen(4, busy.getsockname()[1])
    rows = Rows(source)
    for _ in range(40):
        made.dial(busy, 1)
        made.accept(busy)
    dropped = made.counted("ListenOverflows")
    assert dropped > 3
    accepts, hangs = rows.of(busy, hung)
    assert is_well(accepts)
    assert (hangs["cause"], hangs["drops"]) == ("accept-queue", dropped)
    assert hangs["evidence"].startswith(f"{dropped} handshakes dropped")


@pytest.mark.parametrize("cookies", [0, 1])
def test_a_full_syn_backlog(made: Doors, source: Any, cookies: int) -> None:
    """Another listener of the namespace is left alone, and so is what overflows its accept queue there."""
    made.sysctl("ipv4/tcp_syncookies", cookies)
    door, quiet, hung = made.listen(4), made.listen(4), made.listen(1)
    made.swallow_answers(door.getsockname()[1])
    rows = Rows(source)
    made.dial(door, 5 + 7)
    made.dial(hung, 2 + 3)
    flooded, well, full = rows.of(door, quiet, hung)
    what, score = ("7 cookies sent in ", 40) if cookies else ("7 SYNs dropped in ", 90)
    assert (flooded["cause"], flooded["score"], flooded["blame"]) == ("syn-queue", score, "host")
    assert flooded["evidence"].startswith(f"SYN backlog full: {what}")
    assert flooded["evidence"].endswith(", 5 in SYN-RECV now, limit 4")
    assert flooded["syn_recv"] == 5
    assert is_well(well)
    assert full["cause"] == "accept-queue"
    assert full["evidence"].startswith("3 handshakes dropped in ")


def test_the_limit_of_the_host_is_reached_before_the_listener_s(made: Doors, source: Any) -> None:
    """Without cookies, three quarters of tcp_max_syn_backlog; only ListenDrops counts what is dropped then."""
    made.sysctl("ipv4/tcp_syncookies", 0)
    made.sysctl("ipv4/tcp_max_syn_backlog", 16)
    door = made.listen(100)
    made.swallow_answers(door.getsockname()[1])
    rows = Rows(source)
    made.dial(door, 30)
    dropped = made.counted("ListenDrops")
    assert dropped > 3
    [told] = rows.of(door)
    assert told["cause"] == "syn-queue"
    assert told["evidence"].startswith(f"SYN backlog full: {dropped} SYNs dropped in ")


def test_cookies_that_are_always_sent_are_no_fault(made: Doors, source: Any) -> None:
    made.sysctl("ipv4/tcp_syncookies", 2)
    door = made.listen(64)
    rows = Rows(source)
    made.dial(door, 20)
    assert made.counted("SyncookiesSent") == 20
    assert made.accept(door) == 20
    assert is_well(rows.of(door)[0])


def test_what_fits_is_no_fault(made: Doors, source: Any) -> None:
    """To the last place of the queue, again and again, and what is accepted late."""
    door = made.listen(8)
    rows = Rows(source)
    for _ in range(3):
        made.dial(door, 9)
        assert is_well(rows.of(door)[0])
        assert made.accept(door) == 9
        assert is_well(rows.of(door)[0])
    assert made.counted("ListenDrops") == 0


@pytest.mark.parametrize("flags", [RST, SYN], ids=["stray resets", "half-open scan"])
def test_drops_of_other_kinds_are_no_fault(made: Doors, source: Any, flags: int) -> None:
    """The kernel counts them as the listener's, though nobody was turned away; even while another's queue overflows."""
    door, other = made.listen(8), made.listen(2)
    rows = Rows(source)
    made.packets(door, flags, 40)
    [told] = rows.of(door)
    assert is_well(told)
    assert told["drops"] == 40, "else this proves nothing"
    made.packets(door, flags, 4)
    made.dial(other, 3 + 50)
    told, full = rows.of(door, other)
    assert is_well(told)
    assert full["evidence"].startswith("50 handshakes dropped in ")


def test_a_listener_that_closes_with_connections_in_its_queue_has_no_fault(made: Doors, source: Any) -> None:
    door = made.listen(8)
    rows, number = Rows(source), cookie(door)
    made.dial(door, 6)
    assert is_well(rows.of(door)[0])
    door.close()
    told = rows.closed(number)
    assert told["cause"] in ("healthy", "idle")
    assert told["score"] == 0


def test_a_burst_over_a_long_way_fills_both_queues(lab: Lab, cgroup: Path, source: Any) -> None:
    """All SYNs are there before the first ACK: most are answered by cookies, whose ACKs find the accept queue full."""
    with doors(lab, cgroup, link=lab.slow_path("near", "far", delay_ms=30)) as made:
        door, quiet = made.listen(8), made.listen(8)
        rows = Rows(source)
        made.dial(door, 40)
        wait_until(lambda: made.counted("ListenOverflows") >= 9, what="ACKs that find the queue full")
        told, well = rows.of(door, quiet)
    assert told["cause"] == "accept-queue"
    assert int(told["evidence"].split()[0]) >= 9
    assert is_well(well)
