"""Where the TCP iterator is left alone: sockets are polled, events and ends are told as everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcptop_ops.bpf import iterator_cve
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until

SENT = 1_234_567


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("a", "b", loss_percent=3, offload=False)


def test_a_connection_from_its_birth_to_its_end(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup, reader="sock_diag") as watch:
        assert "bpf_iter__tcp" not in watch.source.attached.fds
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


def test_what_was_open_before_is_listed_and_no_flag_is_set(lab: Lab, link: Link, cgroup: Path) -> None:
    server = lab.server(link.b.ns, "serve-echo", address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("connected")
    with Watch(cgroup, reader="sock_diag") as watch:
        row = watch.open(client.port)
        assert (row["origin"], row["state"]) == ("listed", "ESTAB")
        assert int(watch.flows.snapshot.counters["adopted"]) == 0


def test_by_itself_it_is_left_alone_exactly_where_it_can_harm(cgroup: Path) -> None:
    system = os.uname()
    harmed = iterator_cve.harms(system.release, system.version)
    with Watch(cgroup, reader="") as watch:
        assert watch.source.attached.spared == harmed
        assert ("bpf_iter__tcp" in watch.source.attached.fds) is not harmed
        assert any(iterator_cve.CVE in note for note in watch.flows.snapshot.notes) is harmed
