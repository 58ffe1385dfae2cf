"""The commands for other tools, run as they are told: each finds the socket that is meant, and no other."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.explain.commands import OtherTools, commands
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tests.live.watch import Watch, program
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run
from tests.support.rows import row_of

OWN = os.stat("/proc/self/ns/net").st_ino


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def inode_of(ns: str) -> int:
    return in_netns(ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)


def told(flows: Flows, cookie: int, own_netns: int = OWN) -> OtherTools:
    return commands(row_of(flows, cookie), flows, own_netns)


def found_by_ss(command: str, ns: str | None = None) -> list[int]:
    """The cookies of what it shows, if it shows them too: -e, and -O for one line each."""
    wider = command if "HeO " in command else command.replace("H ", "HeO ", 1)
    shown = run(["sh", "-c", wider], ns=ns)
    return [int(word[3:], 16) for line in shown.splitlines() for word in line.split() if word.startswith("sk:")]


def agree(flows: Flows, cookie: int, ns: str) -> None:
    """From here, through the process; from inside the namespace; and this program's own filter."""
    outside, inside = (told(flows, cookie, own) for own in (OWN, inode_of(ns)))
    assert outside.commands[0].typed.startswith("nsenter --net=/proc/")
    assert found_by_ss(outside.commands[0].typed) == [cookie], outside
    assert not inside.commands[0].typed.startswith("nsenter")
    assert found_by_ss(inside.commands[0].typed, ns) == [cookie], inside
    mask = compiler.compile(outside.commands[3].typed).mask(flows.live, flows)
    assert flows.live.sockets["cookie"][mask].tolist() == [cookie]


def test_connections_and_listeners_of_every_family(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    """Two connections to each listener, and pairs whose both ends are in one namespace."""

    def connect(ns: str, address: str, server: Traffic) -> None:
        for _ in range(2):
            lab.client(ns, "connect-only", address=address, port=server.port, cgroup=cgroup).expect("connected")

    for ns, bound, address in (
        (link.a.ns, "0.0.0.0", link.b.ipv4),
        (link.a.ns, link.b.ipv4, link.b.ipv4),
        (link.a.ns, "::", link.b.ipv6),
        (link.a.ns, link.b.ipv6, link.b.ipv6),
        (link.a.ns, "::", f"::ffff:{link.b.ipv4}"),
        (link.b.ns, "127.0.0.1", "127.0.0.1"),
        (link.b.ns, "::1", "::1"),
        (link.b.ns, "::", "::ffff:127.0.0.1"),
    ):
        connect(ns, address, lab.server(link.b.ns, address=bound, cgroup=cgroup))
    flows = watch.tick()
    places = {inode_of(end.ns): end.ns for end in (link.a, link.b)}
    sockets = flows.live.sockets
    assert len(sockets) == 8 * 5
    assert np.count_nonzero(sockets["state"] == State.LISTEN) == 8
    for cookie, netns in zip(sockets["cookie"].tolist(), sockets["netns"].tolist(), strict=True):
        agree(flows, cookie, places[netns])


def test_listeners_that_share_a_port(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    program(lab, link.b.ns, cgroup, "reuseport", "--count", 3, "--address", link.b.ipv4)
    flows = watch.tick()
    cookies = flows.live.sockets["cookie"].tolist()
    assert len(cookies) == 3
    for cookie in cookies:
        agree(flows, cookie, link.b.ns)


def test_a_connection_that_never_stood(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    lab.black_hole(link.b.ns, 9)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=9, cgroup=cgroup)
    wait_until(lambda: [row["state"] for row in watch.rows() if row["lport"] == client.port] == ["SYN-SENT"])
    (cookie,) = watch.flows.live.sockets["cookie"].tolist()
    agree(watch.flows, cookie, link.a.ns)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
def test_tcpdump_sees_this_connection_alone(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = lab.server(link.b.ns, address=link.b.ipv4, cgroup=cgroup)
    clients = [
        lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup) for _ in range(2)
    ]
    for client in clients:
        client.expect("connected")
    watch.open(clients[0].port)
    sockets = watch.flows.live.sockets
    cookie = int(sockets["cookie"][sockets["lport"] == clients[0].port][0])
    typed = told(watch.flows, cookie).commands[1].typed
    argv = shlex.split(typed.replace("tcpdump ", "tcpdump -Z root -l -c 2 "))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as seen:
        try:
            assert seen.stderr is not None
            while "listening" not in seen.stderr.readline():
                assert seen.poll() is None
            for client in reversed(clients):
                client.tell("send 1")
                client.expect("sent")
            shown = seen.communicate(timeout=20)[0].splitlines()
        finally:
            seen.kill()
    assert len(shown) == 2
    assert all(f".{clients[0].port}" in line for line in shown)
