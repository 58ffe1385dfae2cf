"""Figures and findings of the host on the real kernel: a namespace that is full beside one that is busy and healthy."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.diagnosis.host_readings import Reading, readings
from tcptop_ops.model.flows import Finding
from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import in_netns, run

pytestmark = pytest.mark.halved

BUCKETS = 2
TRACKED = (
    "nft 'add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i ct state new'"
)
LOST = (
    "nft 'add table inet d; add chain inet d i { type filter hook input priority 0; }; "
    "add chain inet d o { type filter hook output priority 0; }'"
)


def pair(lab: Lab, cgroup: Path, ns: str, door: socket.socket) -> tuple[socket.socket, socket.socket]:
    with lab.inside(cgroup):
        near = in_netns(ns, lambda: socket.socket(door.family, socket.SOCK_STREAM))
    near.connect(door.getsockname())
    return near, door.accept()[0]


def listening(lab: Lab, cgroup: Path, ns: str, family: socket.AddressFamily) -> socket.socket:
    with lab.inside(cgroup):
        door = in_netns(ns, lambda: socket.socket(family, socket.SOCK_STREAM))
    door.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    door.listen(64)
    return door


def told(watch: Watch) -> tuple[Finding, ...]:
    return findings(watch.tick())


def figures(watch: Watch) -> dict[str, Reading]:
    return {one.figure.name: one for one in readings(watch.flows)}


@pytest.mark.parametrize("polled", [False, True], ids=["sockops", "sockdiag"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_a_full_namespace_beside_a_busy_one(lab: Lab, cgroup: Path, polled: bool, family: socket.AddressFamily) -> None:
    full, busy = lab.namespace("full"), lab.namespace("busy")
    run(["sh", "-ec", f"echo {BUCKETS} >/proc/sys/net/ipv4/tcp_max_tw_buckets; {TRACKED}"], ns=full)
    with ExitStack() as stack:
        doors = {ns: stack.enter_context(listening(lab, cgroup, ns, family)) for ns in (full, busy)}
        watch = stack.enter_context(Watch(cgroup, polled=polled))
        inodes = {ns: (NETNS / ns).stat().st_ino for ns in doors}
        wait_until(lambda: set(inodes.values()) <= set(watch.tick().host.namespaces["netns"].tolist()))
        for ns in (full, busy) * 6:
            for one in pair(lab, cgroup, ns, doors[ns]):
                one.close()
        here = [one for one in told(watch) if one.key.endswith(f" {inodes[full]}")]
        assert [one.key for one in here] == [f"time-wait-full {inodes[full]}"]
        assert f"of {BUCKETS} are in it (net.ipv4.tcp_max_tw_buckets)" in here[0].text
        assert here[0].blame == "host"
        assert not [one for one in told(watch) if f" {inodes[busy]}" in one.key]
        found = figures(watch)
        assert found["time_wait"].limit == BUCKETS
        assert found["time_wait"].netns == found["time_wait_overflows"].netns == inodes[full]
        tracked = found["tracked_connections"]
        assert tracked.value is not None
        assert (tracked.value >= BUCKETS, tracked.netns, tracked.level) == (True, inodes[full], 0)
        assert tracked.limit == int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
        assert (found["segs_sent"].value or 0) > 0


@pytest.mark.parametrize("polled", [False, True], ids=["sockops", "sockdiag"])
def test_what_rows_tell_the_host_does_not_tell_again(lab: Lab, cgroup: Path, polled: bool) -> None:
    ns = lab.namespace("drops")
    run(["sh", "-ec", LOST], ns=ns)
    with ExitStack() as stack:
        door = stack.enter_context(listening(lab, cgroup, ns, socket.AF_INET))
        watch = stack.enter_context(Watch(cgroup, polled=polled))
        near = [stack.enter_context(one) for _ in range(6) for one in pair(lab, cgroup, ns, door)][::2]
        watch.tick()
        run(["nft", "add rule inet d i meta l4proto tcp drop"], ns=ns)
        for one in near:
            one.sendall(b"lost")
        run(["nft", "add rule inet d o meta l4proto tcp drop"], ns=ns)
        ticks: list[list[str]] = []

        def has_failed() -> bool:
            ticks.append([one.key for one in told(watch) if one.key.startswith("local-drop ")])
            return (figures(watch)["retransmits_failed"].value or 0) >= 4 * len(near) and bool(ticks[-1])

        wait_until(has_failed, timeout=10, what="retransmits that fail")
        assert max(map(len, ticks)) == 1
