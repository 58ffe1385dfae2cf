"""What is told of connection attempts: rejected, unanswered, given up, kept back, late; and what is no fault.

Both sources of state, both families. A twin looks like a fault and is none: no row of it may score.
"""

from __future__ import annotations

import errno
import itertools
import select
import socket
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.model.flows import Flows
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.views import view
from tests.live.faults_connecting import DIALLER
from tests.live.watch import Watch
from tests.support.lab import End, Lab, Link, Traffic
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run
from tests.support.packet_drops import BlackHole, FirstSyns, Reject

pytestmark = pytest.mark.halved


PORT, DOOR = 7317, 7318
TCP_USER_TIMEOUT, TCP_SYNCNT = 18, 7
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
SOURCES = pytest.mark.parametrize("reader", ["descriptors", "sock_diag"], ids=["descriptors", "polled"])


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


def address(end: End, family: int) -> str:
    return end.ipv4 if family == socket.AF_INET else end.ipv6


def opened(lab: Lab, cgroup: Path, ns: str, family: int) -> socket.socket:
    """A socket of a namespace and of the cgroup that is watched; whoever connects it is this process."""
    with lab.inside(cgroup):
        return in_netns(ns, lambda: socket.socket(family, socket.SOCK_STREAM))


def tries(
    lab: Lab, cgroup: Path, link: Link, family: int, port: int = PORT, *, timeout: float | None = 5.0, **options: int
) -> tuple[int, int]:
    """One blocking connect() to the far end: its local port, and the errno; 0 where it stands."""
    with closing(opened(lab, cgroup, link.a.ns, family)) as near:
        for name, value in options.items():
            near.setsockopt(socket.IPPROTO_TCP, {"user_timeout": TCP_USER_TIMEOUT, "syncnt": TCP_SYNCNT}[name], value)
        near.bind((address(link.a, family), 0))
        near.settimeout(timeout)
        lport = near.getsockname()[1]
        try:
            near.connect((address(link.b, family), port))
        except TimeoutError as error:
            return lport, error.errno or -1
        except OSError as error:
            return lport, error.errno or 0
        return lport, 0


def dialler(lab: Lab, cgroup: Path, link: Link, *words: object) -> Traffic:
    argv = [sys.executable, "-I", str(DIALLER), *map(str, words)]
    return Traffic(lab.popen(link.a.ns, argv, cgroup=cgroup))


def door(lab: Lab, link: Link, family: int) -> socket.socket:
    """A listener of the far end, not watched."""
    made = in_netns(link.b.ns, lambda: socket.socket(family, socket.SOCK_STREAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address(link.b, family), DOOR))
    made.listen(128)
    return made


KINDS = {
    socket.AF_INET: [
        ("icmp type port-unreachable", errno.ECONNREFUSED, "refused", "connection refused by ICMP"),
        ("icmp type host-unreachable", errno.EHOSTUNREACH, "unreachable", "no route to host, told by ICMP"),
        ("icmp type admin-prohibited", errno.EHOSTUNREACH, "unreachable", "prohibited by a firewall"),
        ("icmp type net-unreachable", errno.ENETUNREACH, "unreachable", "network is unreachable, told by ICMP"),
        ("icmp type prot-unreachable", errno.ENOPROTOOPT, "unreachable", "protocol not available, told by ICMP"),
    ],
    socket.AF_INET6: [
        ("icmpv6 type port-unreachable", errno.ECONNREFUSED, "refused", "connection refused by ICMP"),
        ("icmpv6 type addr-unreachable", errno.EHOSTUNREACH, "unreachable", "no route to host, told by ICMP"),
        ("icmpv6 type admin-prohibited", errno.EACCES, "unreachable", "permission denied, told by ICMP"),
        ("icmpv6 type no-route", errno.ENETUNREACH, "unreachable", "network is unreachable, told by ICMP"),
    ],
}
REJECTED = [(family, *kind) for family, kinds in KINDS.items() for kind in kinds]


@pytest.mark.parametrize("timeout", [None, 5.0], ids=["blocking", "non-blocking"])
@pytest.mark.parametrize(("family", "kind", "code", "end", "words"), REJECTED, ids=str)
def test_an_attempt_that_the_far_end_rejects(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int, kind: str, code: int, end: str, words: str,
    timeout: float | None,
) -> None:  # fmt: skip
    Reject(link.b.ns, PORT, kind)
    lport, error = tries(lab, cgroup, link, family, timeout=timeout)
    assert error == code
    row = watch.closed(lport)
    assert (row["cause"], row["end"], row["blame"]) == ("rejected", end, "network")
    assert row["score"] >= 30
    assert words in row["evidence"]
    assert "reset" not in row["evidence"]


@FAMILIES
@pytest.mark.parametrize("hook", ["output", "input"])
def test_one_that_is_never_asked_for_its_error(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int, hook: str
) -> None:
    """The application gives up: what the ICMP message said is told all the same."""
    Reject(link.a.ns if hook == "output" else link.b.ns, PORT, "icmpx type admin-prohibited", hook)
    with closing(opened(lab, cgroup, link.a.ns, family)) as near:
        near.setblocking(False)
        with suppress(BlockingIOError, OSError):
            near.connect((address(link.b, family), PORT))
        lport = near.getsockname()[1]
        select.select([], [near], [], 0.3)
    row = watch.closed(lport)
    assert (row["cause"], row["end"]) == ("rejected", "unreachable")


@FAMILIES
def test_a_reset_is_no_icmp(lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int) -> None:
    lport, error = tries(lab, cgroup, link, family)
    assert error == errno.ECONNREFUSED
    row = watch.closed(lport)
    assert (row["cause"], row["end"], row["blame"]) == ("refused", "refused", "peer")
    assert "answered by a reset" in row["evidence"]


@SOURCES
@FAMILIES
def test_a_hung_attempt_keeps_its_cause_after_its_end(lab: Lab, cgroup: Path, family: int, reader: str) -> None:
    link = lab.link("near", "far")
    hole = BlackHole(link.b.ns, PORT)
    with Watch(cgroup, reader=reader) as watch, closing(opened(lab, cgroup, link.a.ns, family)) as near:
        near.bind((address(link.a, family), 0))
        lport = near.getsockname()[1]
        near.setblocking(False)
        with suppress(BlockingIOError):
            near.connect((address(link.b, family), PORT))

        def named() -> bool:
            return bool(watch.open(lport)["cause"] == "syn-unanswered")

        wait_until(named, what="the cause")
        near.close()
        row = watch.closed(lport)
        sent = hole.dropped()
    assert (row["cause"], row["end"]) == ("syn-unanswered", "abandoned")
    assert row["evidence"].startswith(f"{sent} SYNs unanswered, gave up after ")
    assert row["stall_ms"] <= row["connect_ms"] + 1


@pytest.mark.parametrize(("option", "value"), [("syncnt", 1), ("user_timeout", 1500)])
def test_the_timeout_that_gives_up_is_no_syn(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, option: str, value: int
) -> None:
    hole = BlackHole(link.b.ns, PORT)
    lport, error = tries(lab, cgroup, link, socket.AF_INET, timeout=None, **{option: value})
    assert error == errno.ETIMEDOUT
    row = watch.closed(lport)
    assert (row["cause"], row["end"]) == ("syn-unanswered", "timed-out")
    assert row["evidence"].startswith(f"{hole.dropped()} SYNs unanswered")
    assert row["stall_ms"] <= row["connect_ms"] + 1


@SOURCES
@FAMILIES
def test_a_syn_that_the_own_rules_drop(lab: Lab, cgroup: Path, family: int, reader: str) -> None:
    link = lab.link("near", "far")
    drop = lab.own_drop(link.a)
    with Watch(cgroup, reader=reader) as watch, closing(opened(lab, cgroup, link.a.ns, family)) as near:
        near.bind((address(link.a, family), 0))
        lport = near.getsockname()[1]
        near.setblocking(False)
        with suppress(BlockingIOError):
            near.connect((address(link.b, family), PORT))
        wait_until(lambda: watch.open(lport)["cause"] == "local-drop", what="the cause")
        near.close()
        row = watch.closed(lport)
    assert (row["cause"], row["blame"]) == ("local-drop", "host")
    assert row["evidence"].startswith(f"{drop.dropped()} SYNs could not be sent")


def test_a_missing_neighbour_is_no_drop(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    run(["ip", "-n", link.a.ns, "neighbour", "del", link.b.ipv4, "dev", link.a.device])
    run(["ip", "-n", link.b.ns, "link", "set", link.b.device, "down"])
    run(["ip", "-n", link.b.ns, "link", "set", link.b.device, "arp", "off", "up"])
    lport, error = tries(lab, cgroup, link, socket.AF_INET, timeout=None)
    assert error == errno.EHOSTUNREACH
    assert watch.closed(lport)["cause"] == "unreachable"


@pytest.mark.parametrize("lost", [1, 2])
@FAMILIES
def test_a_syn_that_was_lost(lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int, lost: int) -> None:
    FirstSyns(link.b.ns, DOOR, lost)
    with closing(door(lab, link, family)) as far:
        near = opened(lab, cgroup, link.a.ns, family)
        with closing(near):
            near.connect(far.getsockname())
            peer, _ = far.accept()
            with peer:
                for _ in range(20):
                    near.send(b"hello")
                    peer.recv(5)
                row = watch.open(near.getsockname()[1])
                assert (row["cause"], row["blame"]) == ("syn-lost", "network")
                assert 0 < row["score"] <= 30
                word = "a SYN was lost" if lost == 1 else f"{lost} SYNs were lost"
                assert row["evidence"].endswith(word)
                assert row["evidence"].startswith("connecting took ")
                assert lost * 1000 <= row["connect_ms"] < lost * 1000 + 900
                assert row["stall_ms"] <= row["connect_ms"] + 1
        assert watch.closed(row["lport"])["cause"] == "syn-lost"


def listed(flows: Flows, port: int) -> list[dict[str, Any]]:
    return [row for row in connections(view.make(flows, view.Spec())) if row["rport"] == port]


def watched(watch: Watch, tries: Traffic, *, at_least: int = 8) -> list[dict[str, Any]]:
    """Tick while a dialler is at work; all rows of the last tick."""
    for _ in range(at_least):
        tries.expect("tried")
        watch.tick()
    tries.expect("done")
    return listed(watch.tick(), PORT)


@FAMILIES
@pytest.mark.parametrize("after", [0.1, 0.4])
def test_attempts_that_are_given_up_are_an_outage(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int, after: float
) -> None:
    BlackHole(link.b.ns, PORT)
    words = ("give-up", address(link.b, family), PORT, "--after", after, "--count", 9)
    rows = watched(watch, dialler(lab, cgroup, link, *words))
    assert len(rows) == 9
    assert {(row["cause"], row["end"]) for row in rows} == {("syn-unanswered", "abandoned")}
    assert min(row["score"] for row in rows) >= 30


@pytest.mark.parametrize("stagger", [0.0, 0.1, 0.25])
@pytest.mark.parametrize(
    ("loser", "winner"), list(itertools.product([socket.AF_INET, socket.AF_INET6], repeat=2)), ids=lambda f: f.name
)
def test_losers_of_a_race_are_nothing(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, loser: int, winner: int, stagger: float
) -> None:
    BlackHole(link.b.ns, PORT)
    with closing(door(lab, link, winner)):
        words = ("race", address(link.b, loser), PORT, "--winner", address(link.b, winner), DOOR, "--stagger", stagger)
        rows = watched(watch, dialler(lab, cgroup, link, *words))
    assert len(rows) == 8
    assert [row for row in rows if row["score"]] == []


def test_a_proxy_with_one_good_upstream(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    BlackHole(link.b.ns, PORT)
    with closing(door(lab, link, socket.AF_INET)) as far:
        far.listen(1024)
        words = ("proxy", link.b.ipv4, PORT, "--winner", link.b.ipv4, DOOR, "--every", 0.05, "--count", 20)
        rows = watched(watch, dialler(lab, cgroup, link, *words), at_least=20)
    assert {row["cause"] for row in rows} == {"syn-unanswered"}


def test_a_scan_of_ports_that_do_not_answer(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    """One attempt each, and refusals beside them."""
    for port in range(PORT, PORT + 4):
        BlackHole(link.b.ns, port)
    for port in range(PORT - 4, PORT + 4):
        tries(lab, cgroup, link, socket.AF_INET, port, timeout=0.2)
    flows = watch.tick()
    causes: Callable[[int], set[str]] = lambda port: {row["cause"] for row in listed(flows, port)}  # noqa: E731
    assert set().union(*map(causes, range(PORT, PORT + 4))) == {"idle"}
    assert set().union(*map(causes, range(PORT - 4, PORT))) == {"refused"}


@FAMILIES
def test_a_socket_that_is_connected_to_itself(lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int) -> None:
    with closing(opened(lab, cgroup, link.a.ns, family)) as near:
        near.bind((address(link.a, family), 0))
        near.connect(near.getsockname())
        row = watch.open(near.getsockname()[1])
    assert (row["direction"], row["origin"], row["state"]) == ("out", "new", "ESTAB")
    assert row["connect_ms"] is not None


def test_a_simultaneous_open(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    """Both SYNs are on their way before either arrives: the first of each is lost."""
    FirstSyns(link.b.ns, PORT)
    FirstSyns(link.a.ns, PORT)
    ends = [opened(lab, cgroup, end.ns, socket.AF_INET) for end in (link.a, link.b)]
    with closing(ends[0]), closing(ends[1]):
        for one, end in zip(ends, (link.a, link.b), strict=True):
            one.bind((end.ipv4, PORT))
            one.setblocking(False)
        for one, peer in zip(ends, (link.b, link.a), strict=True):
            with suppress(BlockingIOError):
                one.connect((peer.ipv4, PORT))
        for one in ends:
            assert select.select([], [one], [], 5)[1]
        rows = [row for row in listed(watch.tick(), PORT) if row["state"] == "ESTAB"]
    assert len(rows) == 2
    assert {(row["direction"], row["origin"]) for row in rows} == {("out", "new")}


@SOURCES
def test_fast_open_has_a_row_in_syn_recv(lab: Lab, cgroup: Path, reader: str) -> None:
    """The client's last ACK never comes: the accepted socket stays in SYN-RECV."""
    link = lab.link("near", "far")
    for ns in (link.a.ns, link.b.ns):
        run(["sh", "-c", "echo 0x603 > /proc/sys/net/ipv4/tcp_fastopen"], ns=ns)  # no cookies
    with Watch(cgroup, reader=reader) as watch, closing(opened(lab, cgroup, link.b.ns, socket.AF_INET)) as far:
        far.bind((link.b.ipv4, DOOR))
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        far.listen()
        near = in_netns(link.a.ns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with closing(near):
            lab.loss(link.a, 100)  # its SYN-ACK does not arrive, and so no ACK comes
            near.setblocking(False)
            with suppress(BlockingIOError):
                near.sendto(b"early", socket.MSG_FASTOPEN, far.getsockname())
            peer, _ = far.accept()
            with closing(peer):
                rows = [row for row in connections(view.make(watch.tick(), view.Spec())) if row["lport"] == DOOR]
    assert [row["direction"] for row in rows if row["state"] == "SYN-RECV"] == ["in"]
