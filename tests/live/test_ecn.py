"""Explicit congestion notification on the real kernel: what was agreed, and marks that are counted at both ends."""

from __future__ import annotations

import pytest

from tcptop_ops.explain.ecn_facts import ecn
from tcptop_ops.model.records import UNKNOWN_U32
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until
from tests.support.netns import run

BYTES = 2_000_000
MARKS = "table inet marks { chain in { type filter hook input priority 0; tcp dport %d ip ecn { ect0, ect1 } %s; }; }"
FIFTH = "numgen random mod 5 == 0 ip ecn set ce"


def use_ecn(link: Link, value: int) -> None:
    for end in (link.a, link.b):
        run(["sh", "-c", f"echo {value} > /proc/sys/net/ipv4/tcp_ecn"], ns=end.ns)


@pytest.mark.halved
@pytest.mark.parametrize("how", ["polled", "descriptors"])
def test_what_was_agreed_and_what_was_marked(lab: Lab, how: str) -> None:
    """One link whose arriving segments are marked, one that is not, one without ECN."""
    marked, clean, without = lab.link("m-a", "m-b", offload=False), lab.link("c-a", "c-b"), lab.link("n-a", "n-b")
    for link, value in ((marked, 1), (clean, 1), (without, 0)):
        use_ecn(link, value)
    cgroup = lab.cgroup("ecn")
    ports, doors = [], []
    with Watch(cgroup, polled=how == "polled", reader="sock_diag" if how == "polled" else "descriptors") as watch:
        for link in (marked, clean, without):
            server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
            if link is marked:
                run(["nft", "-f", "-"], ns=link.b.ns, text=MARKS % (server.port, FIFTH))
            client = lab.client(link.a.ns, "send", BYTES, address=link.b.ipv4, port=server.port, cgroup=cgroup)
            client.expect("sent")
            ports.append(client.port)
            doors.append(server.port)
        wait_until(
            lambda: all(watch.open(port)["bytes_acked"] > BYTES for port in ports), what="all being acknowledged"
        )
        rows = [watch.open(port) for port in ports]
        assert [row["ecn_mode"] for row in rows] == ["ecn", "ecn", "none"]
        assert rows[0]["ce_pct"] > 5
        assert (rows[1]["ce_pct"], rows[2]["ce_pct"]) == (0, None)
        flows = watch.flows
        live = flows.live
        words = [ecn(live.take(live.sockets["lport"] == port), flows) for port in ports]
        assert words[1:] == ["yes, RFC 3168", "no"]
        there = live.take((live.sockets["lport"] == doors[0]) & (live.sockets["rport"] == ports[0]))
        assert len(there) == 1
        marks = int(there.sockets["received_ce"][0])
        if marks == UNKNOWN_U32:  # before 6.18
            assert "the peer reports" in words[0]
            return
        came = int(there.sockets["data_segs_in"][0])
        assert f"counted at both ends: routers marked {marks} of {came} that arrived" in words[0]
        assert 0.08 < marks / came < 0.4
        assert f"{marks} of {came} data segments that came were marked by a router (CE)" in ecn(there, flows)
        quiet = live.take((live.sockets["lport"] == doors[1]) & (live.sockets["rport"] == ports[1]))
        assert ecn(quiet, flows) == "yes, RFC 3168, ECN-capable segments came"
