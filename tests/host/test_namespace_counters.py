"""Which namespaces are read, how often, and what their files say."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tcptop_ops.bpf import helper
from tcptop_ops.errors import Unsupported
from tcptop_ops.host import namespace_counters
from tcptop_ops.host.namespace_counters import (
    NamespaceCounters,
    parse_limits,
    parse_netstat,
    parse_snmp,
    parse_sockstat,
    worth_reading,
)
from tcptop_ops.host.namespaces import InProcessAccess, NamespaceAccess
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records
from tests.support.fakes import flow, records

NETSTAT = (
    "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: {0} 2 3 4\n"
    "IpExt: InNoRoutes ListenDrops\nIpExt: 7 8\n"
)
SOCKSTAT = "sockets: used 9\nTCP: inuse 5 orphan 6 tw 7 alloc 8 mem 1\nUDP: inuse 4 mem 0\n"
SNMP = (
    "Ip: InDiscards OutDiscards\nIp: 1 2\nIcmp: InErrors\nIcmp: 9\n"
    "Tcp: OutSegs RetransSegs InErrs OutRsts InCsumErrors\nTcp: 50 4 3 2 1\n"
)
LIMITS = b"32768\t60999\n4096\n512\n1\n2\n1\n8192\n100\n7\n"
NONE = np.zeros(0, SOCKET)


class Access:
    """Namespaces that are files in a directory; ``gone`` ones can't be entered."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.gone: set[int] = set()
        self.tracked = ""
        self.ranges: dict[int, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        self.error: Exception = OSError(errno.ENOENT, "gone")

    def counters(self, namespace: int) -> tuple[list[int], bytes]:
        self.asked.append(("counters", namespace))
        if namespace in self.gone:
            raise self.error
        paths = [self.place / f"{namespace}-{kind}" for kind in ("netstat", "snmp", "sockstat")]
        for path, text in zip(paths, (NETSTAT.format(namespace), SNMP, SOCKSTAT), strict=True):
            path.write_text(text)
        if self.tracked:
            paths.append(self.place / "count")
            paths[-1].write_text(self.tracked)
        limits = LIMITS.replace(b"32768\t60999", self.ranges.get(namespace, b"32768\t60999"))
        return [os.open(path, os.O_RDONLY) for path in paths], limits

    def limits(self, namespace: int) -> bytes:
        self.asked.append(("limits", namespace))
        return LIMITS.replace(b"512", b"1024")

    def count(self, namespace: int, value: int) -> None:
        """Let a namespace count on, in the file that is open."""
        (self.place / f"{namespace}-netstat").write_text(NETSTAT.format(value))


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(tmp_path)


def reader(access: Access) -> NamespaceCounters:
    return NamespaceCounters(cast(NamespaceAccess, access))


def sockets(*rows: tuple[int, State]) -> Records:
    return records([flow(n, netns=netns, state=state) for n, (netns, state) in enumerate(rows, 1)])[0]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_which_are_worth_reading() -> None:
    live = sockets((1, State.LISTEN), (2, State.SYN_SENT), (3, State.ESTABLISHED), (0, State.LISTEN))
    assert worth_reading(live, NONE, NONE) == {1, 2}
    assert worth_reading(NONE, sockets((4, State.SYN_RECV)), sockets((5, State.ESTABLISHED))) == {4, 5}
    many = np.zeros(namespace_counters.MANY + 5, SOCKET)
    many["netns"], many["state"] = 6, State.ESTABLISHED
    many["netns"][:5] = 7
    assert worth_reading(many, NONE, NONE) == {6}
    assert worth_reading(many[:999], NONE, NONE) == set()
    many["retransmits"][:2] = 1, 2
    assert worth_reading(many[:1], NONE, NONE) == set()
    assert worth_reading(many[:2], NONE, NONE) == {7}


def test_what_the_files_say() -> None:
    assert parse_netstat(NETSTAT.format(1).encode()) == {
        "syncookies_sent": 1,
        "listen_overflows": 2,
        "listen_drops": 3,
        "req_q_full_drop": 4,
        "req_q_full_do_cookies": 0,
        "retrans_fail": 0,
        "prune_called": 0,
        "rcv_collapsed": 0,
        "rcv_q_drop": 0,
        "tw_overflow": 0,
        "memory_pressures": 0,
        "abort_on_memory": 0,
    }
    assert parse_snmp(SNMP.encode()) == {
        "out_segs": 50,
        "retrans_segs": 4,
        "in_errs": 3,
        "out_rsts": 2,
        "out_discards": 2,
    }
    assert parse_sockstat(SOCKSTAT.encode()) == {"tw": 7, "orphans": 6}
    assert parse_limits(LIMITS) == {
        "port_low": 32768,
        "port_high": 60999,
        "somaxconn": 4096,
        "syn_backlog": 512,
        "mtu_probing": 1,
        "tw_reuse": 2,
        "syncookies": 1,
        "max_tw_buckets": 8192,
        "conntrack_max": 100,
        "conntrack_drops": 7,
    }
    assert parse_limits(b"1 2\n3\n4\n2\n")["syncookies"] == 0
    for parse in (parse_netstat, parse_snmp, parse_sockstat):
        assert parse(b"") == parse(b"\n\n") == {}


def test_limits_are_read_more_often_where_few_connections_can_still_be_tracked(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("tcptop_ops.host.namespace_counters.time.monotonic", lambda: now[0])
    counters, listening = reader(access), sockets((1, State.LISTEN))
    access.tracked = "79\n"
    for count, asked in (("79", 0), ("80", 0), ("80", 1), ("12", 2), ("12", 2)):
        (access.place / "count").write_text(count) if access.asked else None
        rows = counters.read(listening, NONE, NONE)
        assert (rows["conntrack"].tolist(), rows["conntrack_max"].tolist()) == ([int(count)], [100])
        assert access.asked.count(("limits", 1)) == asked
        now[0] += 1.5
    counters.close()


def test_it_is_opened_once_and_read_at_each_tick(access: Access) -> None:
    before, listening = descriptors(), sockets((1, State.LISTEN))
    counters = reader(access)
    for value in (10, 20):
        rows = counters.read(listening, NONE, NONE)
        assert rows["netns"].tolist() == [1]
        assert rows["syncookies_sent"].tolist() == [1 if value == 10 else value - 10]
        assert (rows["tw"].tolist(), rows["port_high"].tolist()) == ([7], [60999])
        access.count(1, value)
    assert access.asked == [("counters", 1)]
    counters.close()
    counters.close()
    assert descriptors() == before


def test_one_that_holds_any_socket_is_read_now_and_then(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ports may have run out: such connects leave no socket."""
    counters, standing = reader(access), sockets((1, State.ESTABLISHED))
    now = [100.0]
    monkeypatch.setattr("tcptop_ops.host.namespace_counters.time.monotonic", lambda: now[0])
    found = []
    for second in (0, 1, 4, 5, 6, 10):
        now[0] = 100.0 + second
        found.append(len(counters.read(standing, NONE, NONE)))
    assert found == [1, 0, 0, 1, 0, 1]
    counters.close()


def test_a_namespace_of_resting_connections_is_read_where_it_has_few_ports(access: Access) -> None:
    counters, resting = reader(access), sockets((1, State.ESTABLISHED), (2, State.ESTABLISHED), (3, State.ESTABLISHED))
    access.ranges = {2: b"20000\t20004"}
    found = [counters.read(resting, NONE, NONE)["netns"].tolist() for _ in range(3)]
    assert found == [[1, 2, 3], [2], [2]]  # at first each is looked at
    assert ("counters", 2) in access.asked
    counters.close()


def test_limits_are_read_again_now_and_then(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    counters, listening = reader(access), sockets((1, State.LISTEN))
    now = [100.0]
    monkeypatch.setattr("tcptop_ops.host.namespace_counters.time.monotonic", lambda: now[0])
    found = []
    for second in (0, 5, 9, 10, 11):
        now[0] = 100.0 + second
        found += counters.read(listening, NONE, NONE)["syn_backlog"].tolist()
    assert found == [512, 512, 512, 1024, 1024]
    assert access.asked == [("counters", 1), ("limits", 1)]
    counters.close()


def test_one_without_sockets_is_let_go_at_once(access: Access) -> None:
    before, counters = descriptors(), reader(access)
    counters.read(sockets((1, State.LISTEN), (2, State.LISTEN)), NONE, NONE)
    assert descriptors() == before + 6
    rows = counters.read(sockets((1, State.LISTEN), (2, State.ESTABLISHED)), NONE, NONE)
    assert rows["netns"].tolist() == [1]
    assert descriptors() == before + 3, "it has ports enough"
    counters.read(sockets((1, State.LISTEN)), NONE, NONE)
    assert descriptors() == before + 3
    counters.close()


def test_many_are_read_in_turn(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_counters, "MOST_A_TICK", 4)
    monkeypatch.setattr(namespace_counters, "MOST_OPEN", 6)
    before, counters = descriptors(), reader(access)
    access.gone = {3, 4, 5, 6, 7}
    listening = sockets(*((netns, State.LISTEN) for netns in range(1, 12)))
    seen: list[int] = []
    for _ in range(3):
        found = counters.read(listening, NONE, NONE)["netns"].tolist()
        assert len(found) <= 4
        assert descriptors() <= before + 18
        seen += found
    assert set(seen) == {1, 2, 8, 9, 10, 11}
    counters.close()
    assert descriptors() == before


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), Unsupported("the helper is gone")])
def test_what_cannot_be_read_has_no_row(access: Access, error: Exception) -> None:
    access.gone, access.error = {1}, error
    counters = reader(access)
    assert counters.read(sockets((1, State.LISTEN), (2, State.LISTEN)), NONE, NONE)["netns"].tolist() == [2]
    counters.close()


def test_this_process_and_no_privilege() -> None:
    """The real files, without a helper."""
    reach: Any = InProcessAccess.__new__(InProcessAccess)
    reach.own, reach._threads = os.stat(helper.OWN).st_ino, {}
    counters = NamespaceCounters(reach)
    rows = counters.read(sockets((reach.own, State.LISTEN), (reach.own + 1, State.LISTEN)), NONE, NONE)
    assert rows["netns"].tolist() == [reach.own]
    told = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert [int(rows[0][name]) for name in ("port_low", "port_high")] == list(map(int, told))
    assert rows[0]["somaxconn"] > 0
    counters.close()
