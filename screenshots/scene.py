"""Simulate the host of the screenshots: 27 sockets for 40 seconds, the same each time.

It has a path to one subnet that loses packets, a listener whose accept queue overflows, a client that nobody answers, a
connection that stalls on timeouts, and healthy ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tcptop_ops.model.enums import Direction, Happening, Origin, State, Timer
from tcptop_ops.model.records import COUNTERS, HAPPENING, SEEN, Records
from tcptop_ops.model.snapshot import Snapshot
from tests.support.fakes import BOOT_NS, flow, snapshot

SECONDS = 40
STALLED, YOU = 7, 40
"""Cookies of the stalled connection and of the SSH session over which the program is used."""

SSHD = 1022
UP_S = 100_000
START_NS = BOOT_NS + UP_S * 1_000_000_000
BEGAN_S = 21
"""The second at which the path begins to lose packets."""

LOSSY: tuple[tuple[str, int, str], ...] = (
    ("10.2.0.14", 5432, "postgres"),
    ("10.2.0.77", 51822, "nginx"),
    ("10.2.0.130", 44120, "nginx"),
)
LOSSY += (("10.2.0.9", 38112, "nginx"), ("10.2.0.201", 60344, "nginx"), ("10.2.0.33", 9000, "backup"))
HEALTHY = (("10.4.7.3", 6379, "gunicorn"), ("10.4.7.4", 6379, "gunicorn"), ("2001:db8:4::9", 6379, "gunicorn"))
PIDS = {
    "postgres": 4121,
    "nginx": 871,
    "backup": 612,
    "gunicorn": 3301,
    "redis-server": 640,
    "java": 2210,
    "curl": 9377,
}
CGROUPS = {1: "/system.slice/nginx.service", 2: "/system.slice/postgresql.service", 3: "/system.slice/app.service"}


def wave(second: int, cookie: int, around: float, share: float = 0.2) -> int:
    """Return a value that oscillates around ``around`` by ``share``, with a period that depends on the cookie."""
    return int(around * (1 + share * math.sin(second * (0.3 + cookie % 5 / 10) + cookie)))


def ago(seconds: float) -> dict[str, Any]:
    """Return the fields of a connection that was opened this many seconds before the start."""
    return {"first_ns": START_NS - int(seconds * 1e9), "origin": Origin.ADOPTED}


def sent(second: int, cookie: int, per_s: int) -> dict[str, Any]:
    """Return the counters of a connection that sends ``per_s`` segments (1448 bytes) per second, more or less."""
    segments = 100_000 + sum(wave(s, cookie, per_s) for s in range(second + 1))
    return {
        "data_segs_out": segments,
        "segs_in": segments,
        "segs_out": segments,
        "data_segs_in": segments // 4,
        "bytes_acked": segments * 1448,
        "bytes_received": segments * 90,
        "busy_us": second * 900_000,
        "delivery_rate": per_s * 1448,
    }


def lossy(second: int, number: int) -> dict[str, Any]:
    """Return a connection that loses 2 to 5 percent from BEGAN_S on."""
    address, port, name = LOSSY[number]
    cookie, bad_s = 10 + number, max(second - BEGAN_S, 0)
    per_s = 420 - 30 * number
    again = sum(wave(s, cookie, per_s * (0.02 + 0.006 * number), 0.5) for s in range(bad_s))
    return flow(
        cookie,
        name=name.encode(),
        pid=PIDS[name],
        local=("192.0.2.10", 443 if name == "nginx" else 41000 + number),
        peer=(address, port),
        direction=Direction.IN if name == "nginx" else Direction.OUT,
        cgroup_id=2 if name == "postgres" else 1,
        srtt_us=wave(second, cookie, 48_000),
        rttvar_us=9_000,
        min_rtt_us=31_000,
        cwnd=wave(second, cookie, 12 if bad_s else 60, 0.3),
        ssthresh=9 if bad_s else 64,
        retrans_segs=again,
        retrans_calls=again,
        lost=bad_s and number % 3,
        rto_us=260_000,
        cc=b"cubic",
        **sent(second, cookie, per_s),
        **ago(3600 * (number + 1)),
    )


def stalled(second: int) -> dict[str, Any]:
    """Return a connection with three timeouts in a row, a recovery, and another timeout."""
    rtos = (second > 23) + (second > 24) + (second > 26) + (second > 33)
    return flow(
        STALLED,
        name=b"postgres",
        pid=4121,
        local=("192.0.2.10", 48122),
        peer=("10.2.0.14", 5432),
        cgroup_id=2,
        srtt_us=wave(second, 7, 188_000 if second > 27 else 41_000),
        rttvar_us=60_000,
        min_rtt_us=38_000,
        cwnd=2 if second > 23 else 22,
        ssthresh=11,
        retrans_segs=41 if second > 30 else 19 * (second > 23),
        retrans_calls=41 if second > 30 else 19 * (second > 23),
        total_rto=rtos,
        rto_events=rtos,
        rto_wait_us=204_000 * (second > 23)
        + 408_000 * (second > 24)
        + 816_000 * (second > 26)
        + 612_000 * (second > 33),
        rto_us=612_000,
        lost=6 * (second > 33),
        unacked=9,
        cc=b"cubic",
        **sent(second, 7, 8),
        **ago(7500),
    )


def listener(second: int) -> dict[str, Any]:
    """Return a listener whose accept queue is full after second 26."""
    full = second > 26
    return flow(
        2,
        name=b"java",
        pid=PIDS["java"],
        state=State.LISTEN,
        direction=Direction.LISTEN,
        local=("0.0.0.0", 8080),
        peer=("0.0.0.0", 0),
        recv_q=129 if full else wave(second, 2, 40, 0.6),
        send_q=128,
        drops=24 * (second - 26) if full else 0,
        cgroup_id=3,
        **ago(86_400),
    )


def unanswered(second: int) -> dict[str, Any]:
    """Return a connection in SYN-SENT, with SYNs retransmitted after one, three and seven seconds."""
    tries = sum(second - 28 >= at for at in (1, 3, 7))
    return flow(
        3,
        name=b"curl",
        pid=PIDS["curl"],
        state=State.SYN_SENT,
        local=("192.0.2.10", 51200),
        peer=("203.0.113.80", 443),
        srtt_us=0,
        states=1 << State.SYN_SENT,
        retransmits=tries,
        retrans_segs=tries,
        retrans_calls=tries,
        rto_events=tries,
        total_rto=tries,
        rto_us=1_000_000 << tries,
        timer=Timer.RETRANSMIT,
        timer_us=1_400_000,
        first_ns=START_NS + 28_000_000_000,
    )


def healthy(second: int, number: int) -> dict[str, Any]:
    """Return a connection without faults."""
    address, port, name = HEALTHY[number % len(HEALTHY)]
    cookie = 20 + number
    return flow(
        cookie,
        name=name.encode(),
        pid=PIDS[name],
        family=10 if ":" in address else 2,
        local=("2001:db8:4::1" if ":" in address else "192.0.2.10", 42000 + number),
        peer=(address, port),
        cgroup_id=3,
        srtt_us=wave(second, cookie, 900 + 120 * (number % 4)),
        rttvar_us=200,
        min_rtt_us=420,
        cwnd=10,
        cc=b"cubic",
        **sent(second, cookie, 60 + 10 * number),
        **ago(600 + 37 * number),
    )


def session(second: int) -> dict[str, Any]:
    """Return the SSH session over which the program is used."""
    return flow(
        YOU,
        name=b"sshd",
        pid=SSHD,
        local=("192.0.2.10", 22),
        peer=("198.51.100.4", 50022),
        direction=Direction.IN,
        srtt_us=wave(second, YOU, 31_000, 0.05),
        rttvar_us=2_000,
        min_rtt_us=28_000,
        cwnd=14,
        cc=b"cubic",
        **sent(second, YOU, 12),
        **ago(1500),
    )


def doors(second: int) -> list[dict[str, Any]]:
    """Return listeners without faults."""
    listens: dict[str, Any] = {
        "state": State.LISTEN,
        "direction": Direction.LISTEN,
        "peer": ("0.0.0.0", 0),
        "send_q": 511,
    }
    return [
        flow(number, name=name, pid=pid, local=(address, port), **listens, **ago(90_000))
        for number, name, pid, address, port in (
            (50, b"nginx", 870, "0.0.0.0", 443),
            (51, b"sshd", 1000, "0.0.0.0", 22),
            (52, b"redis-server", 640, "127.0.0.1", 6379),
        )
    ]


def at(second: int) -> Snapshot:
    """Return the snapshot of this second."""
    flows = [listener(second), stalled(second), session(second), *doors(second)]
    flows += [lossy(second, number) for number in range(len(LOSSY))]
    flows += [healthy(second, number) for number in range(14)]
    if second >= 28:
        flows.append(unanswered(second))
    counters, seen = np.zeros((), COUNTERS), np.zeros(2, SEEN)
    calls = [38, 41, 19, 17, 22, 33, 0, 2, 31, 118, 0, 640, 610, 1450, 0]
    counters["calls"][: len(calls)] = [each * (second + 1) for each in calls]
    counters["adopted"] = 24
    seen["calls"][0] = counters["calls"]
    seen["last_ns"][0] = START_NS + second * 1_000_000_000 - 300_000_000
    seen["rtt"][0][9:17] = [40, 220, 180, 30, 8, 60, 190, 40]
    rest: dict[str, Any] = {"namespaces": 3, "time_wait": 311, "opened": 38, "counters": counters, "seen": seen}
    made = snapshot(UP_S + second, flows, cgroups=CGROUPS, users={0: "root", 33: "www-data"}, **rest)
    return replace(made, source="sockops")


def story(second: int) -> Records:
    """Return the events (HAPPENING) of the stalled connection up to this second."""
    told = [
        (-192.1, Happening.ADOPTED, 1 << State.ESTABLISHED, 0, 1),
        (23.1, Happening.RETRANS, 3, 0, 3),
        (23.6, Happening.RTO, 1, 204_000, 1),
        (24.0, Happening.RTO, 2, 408_000, 1),
        (26.2, Happening.RTO, 3, 816_000, 1),
        (27.4, Happening.RECOVERED, 188_000, 0, 1),
        (27.5, Happening.SRTT, 41_000, 188_000, 1),
        (33.1, Happening.RETRANS, 22, 0, 4),
        (33.7, Happening.RTO, 1, 612_000, 1),
    ]
    found = np.zeros(sum(one[0] <= second for one in told), HAPPENING)
    for row, (when, kind, a, b, times) in zip(found, told, strict=False):
        row["first_ns"] = row["last_ns"] = START_NS + int(when * 1e9)
        row["kind"], row["a"], row["b"], row["times"] = kind, a, b, times
    return found


class Scene:
    """A Source that advances by a second at each poll, and stays at the last one."""

    name = "sockops"

    def __init__(self) -> None:
        """Start at second 0, with no connection watched."""
        self._second = self._watched = 0

    def poll(self) -> Snapshot:
        """Return the snapshot of the next second."""
        made = at(min(self._second, SECONDS))
        told = story(self._second) if self._watched == STALLED else made.story
        self._second += 1
        return replace(made, watched=self._watched, story=told)

    def watch(self, cookie: int) -> None:
        """Record the story of the connection with this cookie; there is one for STALLED only."""
        self._watched = cookie

    def measure(self, on: bool) -> None:
        """Do nothing: no program runs in the kernel."""

    def close_connection(self, sock: Records) -> None:
        """Do nothing: there is no connection to close."""

    def drain(self) -> None:
        """Do nothing: there are no pending records."""

    def close(self) -> None:
        """Do nothing: no resources are held."""
