"""Both ends of a connection on this host: partners, and attempts at the full queue of a listener."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import wait_until

pytestmark = pytest.mark.halved

Rows = list[dict[str, Any]]


def waiting(rows: Rows, port: int) -> Rows:
    """The attempts at a port that were retransmitted."""
    return [r for r in rows if r["rport"] == port and r["state"] == "SYN-SENT" and r["retrans_segs"] >= 2]


@pytest.mark.parametrize("polled", [False, True], ids=["sockops", "sockdiag"])
def test_whose_queue_they_wait_in(lab: Lab, polled: bool) -> None:
    """Over a link by IPv4 and IPv6, and over loopback; beside them, attempts that a rule drops on the path."""
    link, cgroup = lab.link("a", "b"), lab.cgroup("watched")

    def server(address: str, **options: Any) -> Any:
        return lab.server(link.b.ns, "listen-only", address=address, cgroup=cgroup, **options)

    full = [
        (server("0.0.0.0", backlog=1), link.a.ns, link.b.ipv4),
        (server("::", backlog=1), link.a.ns, link.b.ipv6),
        (server("::", backlog=1), link.a.ns, link.b.ipv4),  # for both families
        (server("127.0.0.1", backlog=1), link.b.ns, "127.0.0.1"),
        (server(link.b.ipv4, backlog=1), link.b.ns, link.b.ipv4),  # its own address
    ]
    roomy = server("0.0.0.0", backlog=100)
    lab.black_hole(link.b.ns, roomy.port)
    here = {os.stat(Path("/run/netns") / end.ns).st_ino for end in (link.a, link.b)}
    with Watch(cgroup, polled=polled) as watch:
        for door, ns, address in [*full, (roomy, link.a.ns, link.b.ipv4)]:
            for _ in range(4):
                lab.client(ns, "connect-only", address=address, port=door.port, cgroup=cgroup)
        ports = [door.port for door, _, _ in full]

        def told() -> Rows:
            rows = [row for row in watch.rows() if row["netns"] in here]
            return rows if all(waiting(rows, port) for port in [*ports, roomy.port]) else []

        wait_until(told, what="attempts that were retransmitted")
        rows = [row for row in watch.rows() if row["netns"] in here]
    for port in ports:
        [door] = [r for r in rows if r["lport"] == port and r["state"] == "LISTEN"]
        whose = f"waits in the accept queue of {door['process']} {door['pid']}: 2 of 1, "
        for row in waiting(rows, port):
            assert (row["cause"], row["blame"]) == ("accept-queue", "app"), row
            assert row["evidence"].startswith(whose), row["evidence"]
    for row in waiting(rows, roomy.port):
        assert (row["cause"], row["blame"]) == ("syn-unanswered", "network"), row
    inside = [r for r in rows if r["state"] == "ESTAB" and {r["lport"], r["rport"]} & set(ports)]
    by_cookie = {r["cookie"]: r for r in inside}
    assert len(inside) == 4 * len(ports)
    for row in inside:
        other = by_cookie[row["partner_cookie"]]
        assert (other["lport"], other["raddr"], other["partner_cookie"]) == (row["rport"], row["laddr"], row["cookie"])
        if other["pid"] is not None:
            assert row["partner"] == f"{other['process']} {other['pid']}"
