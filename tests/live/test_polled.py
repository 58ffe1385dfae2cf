"""Where sock_diag reads the state: events and ends are told as everywhere, and what was open before is adopted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until

SENT = 1_234_567


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("a", "b", loss_percent=3, offload=False)


def test_a_connection_from_its_birth_to_its_end(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup, reader="sock_diag") as watch:
        server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
        client = lab.client(link.a.ns, "send", SENT, address=link.b.ipv4, port=server.port, cgroup=cgroup)
        client.expect("sent")
        wait_until(
            lambda: watch.open(client.port)["bytes_acked"] == SENT + 1, what="all being acknowledged"
        )  # and the SYN
        row = watch.open(client.port)
        assert (row["origin"], row["direction"], row["state"]) == ("new", "out", "ESTAB")
        assert row["process"].startswith("python")
        assert row["retrans_segs"] > 0
        assert row["cgroup"]
        client.end()
        closed = watch.closed(client.port)
        assert closed["end"] == "closed"
        assert closed["bytes_acked"] >= SENT + 1
        assert closed["retrans_segs"] >= row["retrans_segs"]


@pytest.mark.needs("HAVE_ADOPTION")
def test_what_was_open_before_is_adopted(lab: Lab, link: Link, cgroup: Path) -> None:
    server = lab.server(link.b.ns, "serve-echo", address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("connected")
    with Watch(cgroup, reader="sock_diag") as watch:
        row = watch.open(client.port)
        assert (row["origin"], row["state"]) == ("adopted", "ESTAB")
