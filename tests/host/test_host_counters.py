"""What the files of the host as a whole say, and what is not known without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcptop_ops.host.host_counters import HostCounters, parse_files, parse_sockstat, parse_softnet

SOCKSTAT = "sockets: used 17\nTCP: inuse 1 orphan 3 tw 4 alloc 5 mem 264\nUDP: inuse 0 mem 9\n"
SOFTNET = "0000000a 00000002 00000017 0\n0000000b 00000011 0000000c 0\n"
FILES = {
    "net/sockstat": SOCKSTAT,
    "net/softnet_stat": SOFTNET,
    "sys/fs/file-nr": "594\t0\t2466165\n",
    "sys/net/ipv4/tcp_mem": "287898\t383866\t575796\n",
    "sys/net/ipv4/tcp_max_orphans": "131072\n",
}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_the_files_say(proc: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    counters = HostCounters(str(proc))
    [row] = counters.read()
    assert {name: int(row[name]) for name in row.dtype.names} == {
        "backlog_packets": 21,
        "backlog_drops": 19,
        "tcp_mem_pages": 264,
        "sockets": 5,
        "orphans": 3,
        "files": 594,
        "tcp_mem_low": 287898,
        "tcp_mem_pressure": 383866,
        "tcp_mem_high": 575796,
        "max_orphans": 131072,
        "max_files": 2466165,
    }
    counters.close()
    counters.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(counters.read()) == 0


def test_gauges_are_read_at_each_tick_and_limits_every_ten_seconds(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("tcptop_ops.host.host_counters.time.monotonic", lambda: now[0])
    counters = HostCounters(str(proc))
    counters.read()
    (proc / "net/sockstat").write_text(SOCKSTAT.replace("264", "265"))
    (proc / "sys/net/ipv4/tcp_mem").write_text("1 2 3\n")
    for seconds, pressure in ((5.0, 383866), (5.0, 2)):
        now[0] += seconds
        [row] = counters.read()
        assert (int(row["tcp_mem_pages"]), int(row["tcp_mem_pressure"])) == (265, pressure)
    counters.close()


def test_limits_of_the_first_namespace_alone_are_zero_elsewhere(proc: Path) -> None:
    for name in ("tcp_mem", "tcp_max_orphans"):
        (proc / "sys/net/ipv4" / name).unlink()
    counters = HostCounters(str(proc))
    [row] = counters.read()
    assert [int(row[name]) for name in ("tcp_mem_pages", "tcp_mem_pressure", "max_orphans")] == [264, 0, 0]
    counters.close()


def test_without_a_file_there_is_no_row(proc: Path) -> None:
    (proc / "net/softnet_stat").unlink()
    counters = HostCounters(str(proc))
    assert len(counters.read()) == 0
    counters.close()


def test_empty_files_say_nothing() -> None:
    assert parse_sockstat(b"") == parse_files(b"") == {}
    assert parse_softnet(b"") == {"backlog_packets": 0, "backlog_drops": 0}


def test_of_this_host() -> None:
    counters = HostCounters()
    [row] = counters.read()
    counters.close()
    assert row["files"] > 0
    assert row["max_files"] > row["files"]
