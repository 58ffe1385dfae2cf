"""Who does not read, what that process does, and what its peer is told of it: by both sources, over IPv4 and IPv6."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import wait_until

pytestmark = pytest.mark.halved

HELD = "stopped", "frozen"
Row = dict[str, Any]


@pytest.mark.parametrize("polled", [False, True], ids=["sockops", "sockdiag"])
def test_a_stopped_process_a_frozen_one_and_a_slow_one(lab: Lab, cgroup: Path, polled: bool) -> None:
    link, icy = lab.link("reads-a", "reads-b"), cgroup / "icy"
    icy.mkdir()
    servers = {
        "stopped": lab.server(link.b.ns, "serve-sink", address=link.b.ipv6, cgroup=cgroup),
        "frozen": lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=icy),
        "": lab.server(link.b.ns, "serve-slowly", 10, address=link.b.ipv4, cgroup=cgroup, pause="0.2"),
    }
    clients = {}
    for does, server in servers.items():
        address = link.b.ipv6 if does == "stopped" else link.b.ipv4
        clients[does] = lab.client(link.a.ns, "connect-only", address=address, port=server.port, cgroup=cgroup)
        clients[does].expect("connected")
    os.kill(servers["stopped"].pid, signal.SIGSTOP)
    (icy / "cgroup.freeze").write_text("1")
    try:
        with Watch(cgroup, polled=polled) as watch:
            for client in clients.values():
                client.tell("send 1000")
            rows: dict[tuple[str, str], Row] = {}

            def named() -> bool:
                for row in watch.rows():
                    for does, server in servers.items():
                        if row["rport"] and server.port in (row["lport"], row["rport"]):
                            rows[does, "far" if row["lport"] == server.port else "near"] = row
                return all(rows.get((does, "near"), {}).get("cause") == "peer-not-reading" for does in HELD)

            wait_until(named, 15, "a peer that does not read")
    finally:
        (icy / "cgroup.freeze").write_text("0")
    for does in HELD:
        far, near = rows[does, "far"], rows[does, "near"]
        who = f"{far['process']} {servers[does].pid}"
        assert (far["cause"], far["blame"], far["score"]) == ("not-reading", "app", 60)
        assert far["evidence"].startswith("1.0kB unread, none read for ")
        assert f"{who} is {does}" in far["evidence"]
        assert near["evidence"].startswith(f"{who} ({does}) has not read 1.0kB for ")
    assert {rows["", end]["score"] for end in ("near", "far")} <= {0, None}
