"""The counters of namespaces, by both sources: what the kernel says, no more than is needed, and nothing kept alive."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf.attach import Options
from tcptop_ops.host.descriptors import PolledOwners
from tcptop_ops.host.namespace_counters import NamespaceCounters, parse_netstat
from tcptop_ops.host.namespaces import InProcessAccess, NamespaceAccess, widest
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records
from tcptop_ops.sources.base import Source
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.sources.sockops import SockOpsSource
from tests.support.fakes import flow, records
from tests.support.lab import Lab
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import in_netns, run

pytestmark = pytest.mark.halved


LINK = "/sys/class/net"
TCP_FASTOPEN_CONNECT = 30  # linux/tcp.h


def sockdiag(cgroup: Path) -> Source:
    reach = widest()
    return SockDiagSource(EveryNamespace(reach), PolledOwners(reach.descriptors, reach.hidden_descriptors), reach)


def sockops(cgroup: Path) -> Source:
    return SockOpsSource(Options(cgroup=str(cgroup), reader="descriptors"))


@pytest.fixture(params=[sockdiag, sockops], ids=["sockdiag", "sockops"])
def source(request: pytest.FixtureRequest, cgroup: Path) -> Iterator[Source]:
    make: Callable[[Path], Source] = request.param
    with closing(make(cgroup)) as made:
        yield made


def inode(ns: str) -> int:
    return (NETNS / ns).stat().st_ino


def listening(lab: Lab, cgroup: Path, ns: str, family: int, backlog: int) -> socket.socket:
    with lab.inside(cgroup):
        door = in_netns(ns, lambda: socket.socket(family, socket.SOCK_STREAM))
    door.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    door.listen(backlog)
    return door


def row(found: Records, namespace: int) -> dict[str, int] | None:
    rows = found[found["netns"] == namespace]
    return {name: int(rows[0][name]) for name in rows.dtype.names or ()} if len(rows) else None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_a_queue_that_overflows_is_counted_where_it_is(lab: Lab, cgroup: Path, source: Source, family: int) -> None:
    busy, calm = lab.namespace("busy"), lab.namespace("calm")
    limits = "echo 10000 20000 >/proc/sys/net/ipv4/ip_local_port_range; echo 77 >/proc/sys/net/core/somaxconn"
    run(["sh", "-ec", limits], ns=busy)
    with ExitStack() as stack:
        door, _ = (stack.enter_context(listening(lab, cgroup, ns, family, 0)) for ns in (busy, calm))
        wait_until(lambda: {inode(busy), inode(calm)} <= set(source.poll().namespace_counters["netns"].tolist()))
        for _ in range(4):
            near = stack.enter_context(in_netns(busy, lambda: socket.socket(family, socket.SOCK_STREAM)))
            near.setblocking(False)
            near.connect_ex(door.getsockname())

        def overflowed() -> bool:
            found = row(source.poll().namespace_counters, inode(busy))
            return found is not None and found["listen_overflows"] > 0

        wait_until(overflowed, what="an overflow")
        shot = source.poll()
        found, beside = (row(shot.namespace_counters, inode(ns)) for ns in (busy, calm))
        assert found is not None
        assert beside is not None
        kernel = parse_netstat(in_netns(busy, lambda: Path("/proc/thread-self/net/netstat").read_bytes()))
        assert found["listen_drops"] >= found["listen_overflows"] > 0
        assert kernel["listen_overflows"] >= found["listen_overflows"]
        assert (found["port_low"], found["port_high"], found["somaxconn"]) == (10000, 20000, 77)
        assert (beside["listen_overflows"], beside["listen_drops"], beside["somaxconn"] != 77) == (0, 0, True)


def test_time_wait_is_that_of_the_namespace(lab: Lab, cgroup: Path, source: Source) -> None:
    busy, calm = lab.namespace("busy"), lab.namespace("calm")
    with ExitStack() as stack:
        door, _ = (stack.enter_context(listening(lab, cgroup, ns, socket.AF_INET, 9)) for ns in (busy, calm))
        near = in_netns(busy, socket.socket)
        near.connect(door.getsockname())
        far = door.accept()[0]
        near.close()
        far.close()

        def told() -> bool:
            shot = source.poll().namespace_counters
            found, beside = row(shot, inode(busy)), row(shot, inode(calm))
            return bool(found and beside and found["tw"] == 1 and beside["tw"] == 0)

        wait_until(told, what="a socket in TIME-WAIT, there alone")


def with_helper() -> NamespaceAccess:
    return widest()


@pytest.mark.parametrize("access", [with_helper, InProcessAccess], ids=["helper", "threads"])
def test_a_namespace_that_is_deleted_is_gone_within_two_ticks(
    lab: Lab, cgroup: Path, access: Callable[[], NamespaceAccess]
) -> None:
    """With it goes the other end of its link. Threads would hold it, so they end first."""
    ns = lab.namespace("fleeting")
    here = f"{lab.prefix[-6:]}-x"
    run(["ip", "link", "add", here, "type", "veth", "peer", "name", "there", "netns", ns])
    namespace = inode(ns)
    reach = access()
    counters = NamespaceCounters(reach)
    try:
        assert namespace in reach.namespaces()
        with listening(lab, cgroup, ns, socket.AF_INET, 9):
            live = sockets_in(namespace, State.LISTEN)
            assert row(counters.read(live, live[:0], live[:0]), namespace)
        run(["ip", "netns", "delete", ns])
        if isinstance(reach, InProcessAccess):
            reach.close()
        else:
            assert namespace not in reach.namespaces()
        assert os.path.exists(f"{LINK}/{here}"), "held by the descriptors"
        counters.read(live[:0], live[:0], live)
        counters.read(live[:0], live[:0], live[:0])
        wait_until(lambda: not os.path.exists(f"{LINK}/{here}"), what="the end of the namespace")
    finally:
        counters.close()
        reach.close()


def sockets_in(namespace: int, state: State) -> Records:
    return records([flow(1, netns=namespace, state=state)])[0]


def test_the_source_keeps_no_namespace(lab: Lab, cgroup: Path, source: Source) -> None:
    """Within the time in which namespaces are searched for."""
    ns = lab.namespace("fleeting")
    here = f"{lab.prefix[-6:]}-y"
    run(["ip", "link", "add", here, "type", "veth", "peer", "name", "there", "netns", ns])
    namespace = inode(ns)
    with listening(lab, cgroup, ns, socket.AF_INET, 9):
        wait_until(lambda: row(source.poll().namespace_counters, namespace), timeout=10, what="its counters")
    run(["ip", "netns", "delete", ns])

    def gone() -> bool:
        source.poll()
        return not os.path.exists(f"{LINK}/{here}")

    wait_until(gone, timeout=12, what="the end of the namespace")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_nothing_is_queued_before_the_first_write(lab: Lab, cgroup: Path, source: Source, family: int) -> None:
    """TCP_FASTOPEN_CONNECT where no cookie is needed: the kernel's own tools tell a random number."""
    ns = lab.namespace("fast")
    run(["sh", "-ec", "echo 7 >/proc/sys/net/ipv4/tcp_fastopen"], ns=ns)
    with ExitStack() as stack:
        door = stack.enter_context(listening(lab, cgroup, ns, family, 9))
        ports: list[int] = []
        for _ in range(6):
            with lab.inside(cgroup):
                near = stack.enter_context(in_netns(ns, lambda: socket.socket(family, socket.SOCK_STREAM)))
            near.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            near.connect(door.getsockname())
            ports.append(near.getsockname()[1])

        def dialled() -> Records:
            sockets = source.poll().sockets
            found: Records = sockets[np.isin(sockets["lport"], ports) & (sockets["netns"] == inode(ns))]
            return found

        wait_until(lambda: len(dialled()) == len(ports), timeout=10, what="those connections")
        found = dialled()
        assert set(found["state"].tolist()) == {State.SYN_SENT}
        assert found["send_q"].tolist() == found["notsent"].tolist() == [0] * len(ports)
        near.send(b"x")
        with door.accept()[0] as far:
            assert far.recv(1) == b"x"
