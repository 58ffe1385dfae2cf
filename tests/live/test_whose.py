"""Whose a connection is: of several workers, of a process that is gone, in containers and passing namespaces."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf import attach, helper
from tests.live.watch import Watch, program
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import run

CONTAINER = "docker-" + "5eed" * 16 + ".scope"
Row = dict[str, Any]


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def connect(lab: Lab, link: Link, cgroup: Path, port: int) -> Traffic:
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=port, cgroup=cgroup, comm="nearside")
    client.expect("connected")
    return client


def accepted(watch: Watch, port: int) -> dict[int, Row]:
    """The far ends of the connections to this port, by the port of the near end."""
    return {r["rport"]: r for r in watch.rows() if r["lport"] == port and r["rport"] and r["closed_s"] is None}


def told(server: Traffic, word: str) -> tuple[int, int]:
    """Pid and port of the next line of this kind."""
    pid, port = server.expect(word).split()
    return int(pid), int(port)


def holders(watch: Watch, port: int, expected: dict[int, int]) -> dict[int, Row]:
    """Rows by the peer's port, once their processes are these; who accepted is seen at the next look at descriptors."""

    def right() -> dict[int, Row]:
        rows = accepted(watch, port)
        return rows if {peer: row["pid"] for peer, row in rows.items()} == expected else {}

    try:
        return wait_until(right, 5)
    except TimeoutError:
        assert {peer: row["pid"] for peer, row in accepted(watch, port).items()} == expected
        raise


def test_workers_of_a_prefork_server_are_told_apart(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = program(lab, link.b.ns, cgroup, "prefork", "--address", link.b.ipv4, "--count", "4", "--each", "3")
    clients = [connect(lab, link, cgroup, server.port) for _ in range(12)]
    expected = {port: pid for pid, port in (told(server, "accepted") for _ in clients)}
    assert sorted(Counter(expected.values()).values()) == [3, 3, 3, 3]
    rows = holders(watch, server.port, expected)
    assert server.pid not in expected.values()
    assert {row["process"] for row in rows.values()} == {f"worker-{n}" for n in range(4)}
    assert {(row["owner"], row["holders"], row["direction"]) for row in rows.values()} == {("holder", 1, "in")}
    [listener] = [row for row in watch.rows() if row["state"] == "LISTEN"]
    assert listener["holders"] == 5, "the parent and its four workers have it"


def test_workers_that_share_a_port_are_told_apart(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = program(lab, link.b.ns, cgroup, "reuseport", "--address", link.b.ipv4)
    expected: dict[int, int] = {}
    while len(set(expected.values())) < 3 and len(expected) < 40:  # the kernel chooses: one of four may get none
        connect(lab, link, cgroup, server.port)
        pid, port = told(server, "accepted")
        expected[port] = pid
    assert len(set(expected.values())) >= 3
    rows = holders(watch, server.port, expected)
    assert {row["holders"] for row in rows.values()} == {1}
    listeners = [row for row in watch.rows() if row["state"] == "LISTEN"]
    assert len({row["pid"] for row in listeners}) == len(listeners) == 4
    assert set(expected.values()) <= {row["pid"] for row in listeners}


@pytest.fixture(params=[{}, {"PID_OF_TASK": 1, "COMM_OF_TASK": 1}], ids=["as this kernel likes", "of the task"])
def watch_that_believes(
    cgroup: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watch]:
    """Who called is told by helpers, or read from the current task, which is the way of older kernels."""
    made_up = attach.request

    def asked(options: attach.Options, target: str, root: str) -> dict[str, Any]:
        told = made_up(options, target, root)
        return told | {"defines": told["defines"] | request.param}

    monkeypatch.setattr(attach, "request", asked)
    with Watch(cgroup) as made:
        yield made


@pytest.mark.needs("HAVE_PID", "HAVE_COMM")
@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_worker_that_closes_at_once_is_named(
    lab: Lab, link: Link, cgroup: Path, watch_that_believes: Watch, then: str
) -> None:
    """It had no descriptor at any tick: the kernel saw who closed, in order or by a reset."""
    watch = watch_that_believes
    server = lab.server(link.b.ns, "serve-echo", cgroup=cgroup, then=then, comm="farside")
    client = lab.client(
        link.a.ns, "exchange", 1, address=link.b.ipv4, port=server.port, cgroup=cgroup, then="close", comm="brief"
    )
    client.process.wait(10)
    near, far = watch.closed(client.port), watch.closed(server.port)
    assert not Path(f"/proc/{client.pid}").exists()
    assert (near["process"], near["pid"], near["owner"]) == ("brief", client.pid, "caller")
    assert (far["process"], far["pid"], far["owner"]) == ("farside", server.pid, "closer")


@pytest.mark.needs("HAVE_PID", "HAVE_COMM")
def test_a_thread_connects_in_the_name_of_its_process(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    """Both are gone before the tick: the name is that which the kernel had when it was called."""
    server = lab.server(link.b.ns, "serve-echo", cgroup=cgroup, then="close")
    client = program(lab, link.a.ns, cgroup, "threaded", "--address", link.b.ipv4, "--port", server.port)
    client.end()
    row = watch.closed(client.port)
    assert not Path(f"/proc/{client.pid}").exists()
    assert (row["process"], row["pid"], row["owner"]) == ("the-parent", client.pid, "caller")


def test_a_name_outlives_its_process(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = lab.server(link.b.ns, cgroup=cgroup)
    client = connect(lab, link, cgroup, server.port)
    assert watch.open(client.port)["process"] == "nearside"
    client.end()
    row = watch.closed(client.port)
    assert (row["process"], row["pid"], row["user"]) == ("nearside", client.pid, "root")


def test_a_descriptor_that_is_handed_on(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = program(lab, link.b.ns, cgroup, "handover", "--address", link.b.ipv4)
    client = connect(lab, link, cgroup, server.port)
    pid, port = told(server, "handed")
    assert port == client.port
    row = holders(watch, server.port, {port: pid})[port]
    assert (row["process"], row["owner"]) == ("worker-0", "holder")
    assert pid != server.pid


def test_whoever_listens_until_somebody_accepts(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = lab.server(link.b.ns, "listen-only", cgroup=cgroup, comm="deaf")
    client = connect(lab, link, cgroup, server.port)
    row = accepted(watch, server.port)[client.port]
    assert (row["pid"], row["process"], row["owner"], row["inode"]) == (server.pid, "deaf", "listener", None)
    [listener] = [r for r in watch.rows() if r["state"] == "LISTEN"]
    assert (listener["backlog"], listener["backlog_max"], listener["owner"]) == (1, 128, "holder")


def test_a_process_in_namespaces_and_a_cgroup_of_its_own(lab: Lab, cgroup: Path, watch: Watch) -> None:
    """As in a container: nothing in /run/netns leads to it, and inside its pid is 1."""
    place = lab.cgroup(f"watched/{CONTAINER}")
    unshare = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    server = program(lab, None, place, "pair", "--up", before=unshare)
    inside, port = told(server, "connected")
    assert inside == 1
    row = wait_until(lambda: next((r for r in watch.rows() if r["lport"] == port), None), 10, "its row")
    pid = next(int(pid) for pid in (place / "cgroup.procs").read_text().split() if int(pid) != server.pid)
    assert row
    assert (row["pid"], row["process"], row["owner"]) == (pid, "both-ends", "holder")
    assert row["netns"] == os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
    assert row["cgroup"].endswith(CONTAINER)
    assert "5eed5eed5eed" in row["service"]
    server.end()
    wait_until(lambda: all(r["closed_s"] is not None for r in watch.rows()), 10, "the end of its connections")


def test_namespaces_come_and_go(lab: Lab, cgroup: Path, watch: Watch) -> None:
    kept = program(lab, lab.namespace("kept"), cgroup, "pair")
    told(kept, "connected")
    for turn in range(3):
        ns = lab.namespace(f"passing{turn}")
        inode = os.stat(NETNS / ns).st_ino
        visitor = program(lab, ns, cgroup, "pair")
        _, port = told(visitor, "connected")

        def seen(inode: int = inode, port: int = port) -> bool:
            return any(r["lport"] == port and r["netns"] == inode and r["pid"] for r in watch.rows())

        wait_until(seen, 10, "a connection of the new namespace")
        visitor.end()
        run(["ip", "netns", "delete", ns])

        def gone(inode: int = inode) -> bool:
            return not any(r["netns"] == inode and r["closed_s"] is None for r in watch.rows())

        wait_until(gone, 10, "the namespace to be forgotten")
    alive = [r for r in watch.rows() if r["closed_s"] is None]
    assert {r["pid"] for r in alive} == {kept.pid}
    assert len(alive) == 3


def test_a_file_that_is_no_namespace_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ip netns add`` makes the file first, and mounts the namespace on it later; some files are left by a crash."""
    (tmp_path / "stale").touch()
    monkeypatch.setattr(helper.proc_walk, "BOUND", str(tmp_path))
    namespaces = helper.Namespaces()
    try:
        namespaces.refresh()
        assert namespaces.own in namespaces.fds
        assert (tmp_path / "stale").stat().st_ino not in namespaces.fds
    finally:
        namespaces.close()


def test_subflows_of_mptcp(lab: Lab, cgroup: Path, watch: Watch) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        pytest.skip(f"no MPTCP: {error}")
    server = program(lab, lab.namespace("multi"), cgroup, "pair", "--protocol", "262")
    pid, port = told(server, "connected")

    def both() -> list[Row]:
        rows = [r for r in watch.rows() if port in (r["lport"], r["rport"])]
        return rows if len(rows) == 2 else []

    rows = wait_until(both, 10, "both ends")
    assert {(r["pid"], r["process"]) for r in rows} == {(pid, "both-ends")}
    raw = watch.flows.live.sockets
    assert set(raw["mptcp"][raw["rport"] != 0].tolist()) == {1}
