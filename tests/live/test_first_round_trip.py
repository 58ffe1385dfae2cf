"""A connection whose first round trip was none (SYN cookies, TCP_DEFER_ACCEPT) is not said to queue on the way."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run

pytestmark = pytest.mark.halved


THINKING_S = 1.5
ONE_WAY_MS = 50


@pytest.mark.parametrize("how", ["deferred", "cookie"])
def test_a_handshake_s_own_time_is_no_queue(lab: Lab, cgroup: Path, how: str) -> None:
    """A long answer over a path of 100 ms, looked at as often as can be until a second of it has passed."""
    link = lab.slow_path("near", "far", delay_ms=ONE_WAY_MS)
    with lab.inside(cgroup):
        door = in_netns(link.b.ns, lambda: socket.create_server((link.b.ipv4, 0)))
        client = in_netns(link.a.ns, socket.socket)
    with contextlib.closing(door), contextlib.closing(client), Watch(cgroup) as watch:
        if how == "deferred":
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        else:
            run(["sh", "-ec", "echo 2 > /proc/sys/net/ipv4/tcp_syncookies"], ns=link.b.ns)
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        client.connect(door.getsockname())
        thought = time.monotonic() + (THINKING_S if how == "deferred" else 0)
        wait_until(lambda: time.monotonic() >= thought, what="the client's thinking")
        client.send(b"?")
        accepted = door.accept()[0]
        with contextlib.closing(accepted):
            accepted.recv(1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # less than the path's queue has room for
            accepted.setblocking(False)
            client.setblocking(False)
            causes, srtt_us = set(), []
            over = time.monotonic() + 1.5
            while time.monotonic() < over:
                with contextlib.suppress(BlockingIOError):
                    accepted.send(bytes(1 << 16))
                with contextlib.suppress(BlockingIOError):
                    client.recv(1 << 16)
                row = watch.open(door.getsockname()[1])
                causes.add(row["cause"])
                srtt_us.append(row["srtt_us"])
    assert causes <= {"healthy", "idle", "unknown"}
    assert "healthy" in causes
    if how == "deferred":
        assert max(srtt_us) > 1e6 * THINKING_S, "else this proves nothing"
