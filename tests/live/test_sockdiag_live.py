"""sock_diag rows against ss, in namespaces where packets are lost, held up and never answered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tcptop_ops.host.namespaces import widest
from tcptop_ops.model.enums import Origin, State, Timer
from tcptop_ops.model.records import INFINITE_SSTHRESH
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.sources.sock_diag import SockDiag, open_socket
from tests.support.against_ss import as_ss, row_of_port
from tests.support.lab import Lab
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run
from tests.support.witness import ss_sockets, wait_quiet

ODD = 1_000_003  # bytes
NOBODY = 65534


@contextmanager
def asking(ns: str) -> Iterator[SockDiag]:
    """Dumps of another namespace, asked for from here."""
    diag = SockDiag(in_netns(ns, open_socket))
    try:
        yield diag
    finally:
        diag.close()


def differences(ns: str, diag: SockDiag) -> dict[int, object]:
    """Where rows and ss differ, by local port; every socket is in both or told."""
    said = {each.cookie: each for each in ss_sockets(ns) if not each.timer.startswith("timewait")}
    rows = {int(row["cookie"]): row for row in diag.dump().sockets}
    found: dict[int, object] = dict.fromkeys(rows.keys() ^ said.keys(), "only in one")
    for cookie in rows.keys() & said.keys():
        if different := as_ss(rows[cookie], said[cookie]):
            found[cookie] = different
    return found


def agree(ns: str, diag: SockDiag) -> None:
    """Timers tick between two questions, so there may have to be another: but soon, ss and we say the same."""
    try:
        wait_until(lambda: not differences(ns, diag), 10)
    except TimeoutError:
        assert differences(ns, diag) == {}


def test_every_field_that_ss_knows_too(lab: Lab) -> None:
    link = lab.link("sender", "receiver", offload=False)
    servers = {family: lab.server(link.b.ns, address=getattr(link.b, family)) for family in ("ipv4", "ipv6")}
    hole = lab.black_hole(link.b.ns, 9)
    link.loss.every(20)
    lossy = [
        lab.client(link.a.ns, "send", ODD, address=getattr(link.b, family), port=server.port)
        for family, server in servers.items()
    ]
    for client in lossy:
        client.expect("done", timeout=60)
        wait_quiet(link.a.ns, client.port)
    link.loss.set(0)
    waiting = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=9)
    wait_until(lambda: hole.dropped() >= 2, 15)
    half = lab.client(link.a.ns, "connect-only", address=link.b.ipv6, port=servers["ipv6"].port)
    half.expect("done")
    half.tell("shutdown")
    half.expect("done")

    with asking(link.a.ns) as diag:
        agree(link.a.ns, diag)
        sockets = diag.dump().sockets
    with asking(link.b.ns) as diag:
        agree(link.b.ns, diag)
    for client in lossy:
        row = row_of_port(sockets, client.port)
        assert row["retrans_segs"] > 0
        assert row["bytes_acked"] == ODD + 1  # and the SYN
        assert row["ssthresh"] < INFINITE_SSTHRESH
    syn = row_of_port(sockets, waiting.port)
    assert (syn["state"], syn["timer"]) == (State.SYN_SENT, Timer.RETRANSMIT)
    assert syn["retransmits"] >= 1
    assert syn["total_rto"] >= 1


def test_the_cgroup_is_the_one_that_the_socket_was_made_in(lab: Lab) -> None:
    ns = lab.namespace("alone")
    group = lab.cgroup("service")
    server = lab.server(ns, "listen-only", cgroup=group)
    with asking(ns) as diag:
        dump = diag.dump()
    assert dump.cgroups
    assert row_of_port(dump.sockets, server.port)["cgroup_id"] == group.stat().st_ino


def test_time_wait_and_syn_recv_are_counted(lab: Lab) -> None:
    link = lab.link("client", "server")
    server = lab.server(link.b.ns, "serve-echo", address=link.b.ipv4, then="close")
    lab.traffic(link.a.ns, "short-connections", 7, address=link.b.ipv4, port=server.port).expect("done")
    with asking(link.a.ns) as diag:
        wait_until(lambda: diag.count_time_wait() == 7)
        dump = diag.dump()
        assert (dump.time_wait, dump.syn_recv, len(dump.sockets)) == (7, 0, 0)
    with asking(link.b.ns) as diag:
        wait_until(lambda: diag.dump().sockets["state"].tolist() == [State.LISTEN])  # all FINs have arrived

    back = lab.loss(link.a, 100)
    clients = [lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port) for _ in range(3)]
    wait_until(lambda: back.dropped() >= 3)
    with asking(link.b.ns) as diag:
        wait_until(lambda: len(diag.half_open()) == 3)
        assert diag.dump().sockets["state"].tolist() == [State.LISTEN]
    back.set(0)
    for client in clients:
        client.expect("connected", timeout=30)


def test_the_source_follows_a_connection(lab: Lab) -> None:
    link = lab.link("client", "server")
    server = lab.server(link.b.ns, address=link.b.ipv6)
    source = SockDiagSource(SockDiag(in_netns(link.a.ns, open_socket)))
    try:
        assert len(source.poll().sockets) == 0
        client = lab.client(link.a.ns, "send", ODD, address=link.b.ipv6, port=server.port)
        client.expect("done")
        wait_quiet(link.a.ns, client.port)
        alive = source.poll()
        assert alive.opened == 1
        assert np.all(alive.events["origin"] == Origin.LISTED)
        client.end()
        ended = wait_until(lambda: next((s for s in [source.poll()] if len(s.closed)), None), 10, "its end")
        assert ended
        (closed,) = ended.closed
        assert closed["socket"]["lport"] == client.port
        assert closed["socket"]["bytes_acked"] >= ODD + 1
        assert len(ended.sockets) == 0
    finally:
        source.close()


def test_every_namespace_as_it_comes_and_goes(lab: Lab) -> None:
    reach = widest()
    everywhere = EveryNamespace(reach)

    def listeners() -> dict[int, int]:
        """Port and namespace."""
        everywhere.expire()
        sockets = everywhere.dump().sockets
        rows = sockets[sockets["state"] == State.LISTEN]
        return dict(zip(rows["lport"].tolist(), rows["netns"].tolist(), strict=True))

    try:
        assert not reach.note
        before = listeners()
        servers = [lab.server(lab.namespace(name)) for name in ("one", "two")]
        found = listeners()
        assert {server.port for server in servers} <= found.keys() - before.keys()
        assert len({found[server.port] for server in servers}) == 2
        servers[0].end()
        run(["ip", "netns", "del", lab.namespace("one")])
        assert servers[0].port not in listeners()
        assert servers[1].port in listeners()
    finally:
        everywhere.close()
        reach.close()


def test_nobody_can_use_it() -> None:
    program = (
        "import os; from tcptop_ops.sources.polled import SockDiagSource; import socket\n"
        "from tcptop_ops.host.namespaces import widest\n"
        "from tcptop_ops.sources.namespace_dump import EveryNamespace\n"
        f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "sockets = SockDiagSource(EveryNamespace(widest())).poll().sockets\n"
        "mine = sockets[sockets['inode'] == os.fstat(listener.fileno()).st_ino]\n"
        "print(mine['uid'].tolist(), bool(mine['cookie'].all()))"
    )
    said = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True).stdout
    assert os.geteuid() != NOBODY
    assert said.split("\n")[0] == f"[{NOBODY}] True"
