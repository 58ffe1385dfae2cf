"""Over a lossy run: our retransmits and timeouts against the tracepoint's events and the kernel's own counters."""

from __future__ import annotations

import os
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf import kernel_offsets
from tcptop_ops.model.records import UNKNOWN_U32, Records
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import in_netns
from tests.support.witness import RetransmitTracepoint, snmp, ss_socket, wait_quiet

COUNT = 400_009  # bytes
CLIENTS = 4
HOLE = 9
GROWING = ("Tcp.RetransSegs", "TcpExt.TCPTimeouts", "TcpExt.TCPLossProbes")


@pytest.fixture(params=[False, True], ids=["segments", "offloads"])
def link(lab: Lab, request: pytest.FixtureRequest) -> Link:
    return lab.link("near", "far", offload=request.param)


def of_namespace(watch: Watch, ns: str) -> tuple[Records, Records]:
    """Sockets and events of all rows of a namespace, live and closed; listeners have neither."""
    flows = watch.tick()
    inode = os.stat(NETNS / ns).st_ino
    found = [(rows.sockets, rows.events, rows.sockets["netns"] == inode) for rows in (flows.live, flows.closed)]
    sockets, events = (np.concatenate([each[part][each[2]] for each in found]) for part in (0, 1))
    return sockets, events


def connect(lab: Lab, link: Link, cgroup: Path, port: int) -> Traffic:
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=port, cgroup=cgroup)
    client.expect("done")
    return client


def impatient(lab: Lab, link: Link, cgroup: Path, port: int) -> socket.socket:
    """A connection that gives up soon (TCP_USER_TIMEOUT, in milliseconds)."""

    def there() -> socket.socket:
        made = socket.create_connection((link.b.ipv4, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 700)
        return made

    with lab.inside(cgroup):
        return in_netns(link.a.ns, there)


def black_out(link: Link, clients: list[Traffic], giving_up: socket.socket) -> None:
    """Nothing arrives until each has timed out twice, and one has given up."""
    link.loss.set(100)
    for client in clients:
        client.tell("send 5000")
        client.expect("sent")
    giving_up.sendall(b"in vain")

    def all_backed_off() -> bool:
        found = [ss_socket(link.a.ns, local_port=client.port) for client in clients]
        return all(each is not None and each.value("backoff") >= 2 for each in found)

    wait_until(all_backed_off, 20, "timeouts")
    giving_up.settimeout(20)
    with suppress(TimeoutError):  # ETIMEDOUT, from the kernel
        giving_up.recv(1)
    giving_up.close()
    link.loss.set(0)


def lossy_run(lab: Lab, link: Link, cgroup: Path, server: Traffic) -> None:
    """Recoveries, probes, timeouts, a connection that times out, and a SYN that nobody answers."""
    hole = lab.black_hole(link.b.ns, HOLE)
    lost = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=HOLE, cgroup=cgroup)
    clients = [connect(lab, link, cgroup, server.port) for _ in range(CLIENTS)]
    giving_up = impatient(lab, link, cgroup, server.port)
    link.loss.every(23)
    for client in clients:
        client.tell(f"send {COUNT}")
    for client in clients:
        client.expect("sent", 30)
        wait_quiet(link.a.ns, client.port)
    black_out(link, clients, giving_up)
    for client in clients:
        wait_quiet(link.a.ns, client.port)
    wait_until(lambda: hole.dropped() >= 2, 10, "a SYN sent again")
    lost.end()  # its timer would go on
    wait_until(lambda: ss_socket(link.a.ns, local_port=lost.port) is None)


def test_a_lossy_run(lab: Lab, link: Link, cgroup: Path) -> None:
    server = lab.server(link.b.ns, cgroup=cgroup, address=link.b.ipv4)
    before = snmp(link.a.ns)
    with Watch(cgroup) as watch, RetransmitTracepoint(lab, server.port, HOLE) as tracepoint:
        lossy_run(lab, link, cgroup, server)
        sockets, events = of_namespace(watch, link.a.ns)
        seen = tracepoint.events()
        ended = [row for row in watch.rows() if row["closed_s"] is not None and row["direction"] == "out"]
    after = snmp(link.a.ns)
    grown = {name: after[name] - before[name] for name in GROWING}
    assert len(sockets) == CLIENTS + 2

    # An event of the tracepoint is a call of RETRANS_CB, the SYN's too; what could not be sent has an error in both.
    by_port = Counter(event.sport for event in seen if not event.err)
    assert dict(zip(sockets["lport"].tolist(), events["retrans_calls"].tolist(), strict=True)) == dict(by_port)
    assert int(events["retrans_failed"].sum()) == sum(event.err != 0 for event in seen)

    # Segments: of each row the kernel's own lifetime total, of all the growth of the namespace's counter.
    assert events["retrans"].sum(axis=1).tolist() == sockets["retrans_segs"].tolist()
    assert int(events["retrans"].sum()) == grown["Tcp.RetransSegs"] > 0

    # TCPTimeouts counts the firings of the timer, and RTO_CB comes with each: SYN timeouts, and the last of a
    # connection that gives up, which sends nothing again. Loss probes (TLP) run on the same timer, but are no
    # timeouts: they are in RetransSegs only. A SYN-ACK's timer has no socket yet: neither counts it.
    assert int(events["rto_events"].sum()) == grown["TcpExt.TCPTimeouts"] > 0
    assert grown["TcpExt.TCPLossProbes"] > 0

    # tcpi_total_rto, which the row shows, is of timeouts that sent something: one less where a connection gave up.
    # Kernels before 6.7 don't have it.
    if not kernel_offsets.of_kernel().lacks("TP_TOTAL_RTO"):
        assert (events["rto_events"] - events["gave_up"]).tolist() == sockets["total_rto"].tolist()
    else:
        assert set(sockets["total_rto"].tolist()) == {UNKNOWN_U32}
    assert int(events["gave_up"].sum()) == 1
    assert Counter(row["end"] for row in ended) == {"timed-out": 1, "abandoned": 1}


@pytest.mark.needs("HAVE_ADOPTION")
def test_an_adopted_connection_counts_from_then_on(lab: Lab, link: Link, cgroup: Path) -> None:
    server = lab.server(link.b.ns, cgroup=cgroup, address=link.b.ipv4)
    client = connect(lab, link, cgroup, server.port)
    link.loss.every(5)  # with offloads, packets are few
    client.tell(f"send {COUNT}")
    client.expect("sent", 30)
    old = wait_quiet(link.a.ns, client.port).value("retrans_total")
    assert old > 0
    with Watch(cgroup) as watch, RetransmitTracepoint(lab, server.port) as tracepoint:
        assert (watch.open(client.port)["retrans_segs"], watch.open(client.port)["retrans_win"]) == (old, 0)
        client.tell(f"send {COUNT}")
        client.expect("sent", 30)
        new = wait_quiet(link.a.ns, client.port).value("retrans_total")
        row, events = watch.open(client.port), watch.events(client.port)
        seen = [event for event in tracepoint.events() if not event.err]
    assert row["origin"] == "adopted"
    assert (row["retrans_segs"], row["retrans_win"]) == (new, new - old)
    assert int(events["retrans"].sum()) == new - old > 0
    assert int(events["retrans_calls"]) == len(seen)
