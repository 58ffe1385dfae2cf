"""Whose a socket is that several hold, or nobody in sight; whose it is while it waits. By each source."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.watch import HOLDERS, Watch, program
from tests.support.lab import Lab, Traffic
from tests.support.leftovers import wait_until
from tests.support.netns import run

pytestmark = pytest.mark.halved


Row = dict[str, Any]
Starts = Callable[[], Watch]
SOURCES: dict[str, dict[str, Any]] = {
    "iterators": {},
    "events, polled": {"reader": "sock_diag"},
    "sock_diag": {"polled": True},
}
LOOPBACKS = ["127.0.0.1", "::1"]


@pytest.fixture(params=SOURCES)
def starts(cgroup: Path, request: pytest.FixtureRequest) -> Iterator[Starts]:
    """Start a monitor of each kind, before or after what it is to see."""
    made: list[Watch] = []

    def start() -> Watch:
        made.append(Watch(cgroup, **SOURCES[request.param]))
        return made[-1]

    yield start
    for watch in made:
        watch.source.close()


@pytest.fixture
def ns(lab: Lab) -> str:
    made = lab.namespace("holders")
    run(["ip", "link", "set", "lo", "up"], ns=made)
    return made


def numbers(of: Traffic, word: str) -> list[int]:
    return [int(number) for number in of.expect(word).split()]


def eventually(watch: Watch, read: Callable[[list[Row]], Any], wanted: Any) -> None:
    """At the next look at descriptors, which may be at a later tick, and from then on."""
    try:
        wait_until(lambda: read(watch.rows()) == wanted, 6)
    except TimeoutError:
        assert read(watch.rows()) == wanted
    assert read(watch.rows()) == wanted


def of(port: int, *fields: str, side: str = "lport") -> Callable[[list[Row]], Any]:
    """These fields of the live connection with this local port."""

    def read(rows: list[Row]) -> Any:
        found = [r for r in rows if r[side] == port and r["rport"] and r["closed_s"] is None]
        return tuple(found[0][field] for field in fields) if found else None

    return read


def doors(port: int, *fields: str) -> Callable[[list[Row]], Any]:
    return lambda rows: sorted(
        tuple(r[field] for field in fields) for r in rows if r["lport"] == port and r["state"] == "LISTEN"
    )


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("address", LOOPBACKS)
@pytest.mark.parametrize("into", ["sleep", "python"])
def test_what_leaks_into_a_program_is_still_the_servers(
    lab: Lab, ns: str, cgroup: Path, starts: Starts, address: str, into: str, early: bool
) -> None:
    watch = starts() if early else None
    server = program(lab, ns, cgroup, "leaked", "--address", address, "--comm", into, of=HOLDERS)
    numbers(server, "pids")
    [port] = numbers(server, "port")
    watch = watch or starts()
    told = ("the-server", server.pid, "holder", 2)
    fields = ("process", "pid", "owner", "holders")
    eventually(watch, doors(server.port, *fields), [told])
    eventually(watch, of(port, *fields), told)
    eventually(watch, of(port, *fields, side="rport"), told)


def test_the_worker_of_a_server_that_forks(lab: Lab, ns: str, cgroup: Path, starts: Starts) -> None:
    """What it accepted is the worker's, though the parent keeps a copy and the worker's ``sleep`` has a third."""
    watch = starts()
    server = program(lab, ns, cgroup, "forked", of=HOLDERS)
    [worker] = numbers(server, "pids")
    [port] = numbers(server, "port")
    eventually(watch, of(port, "process", "pid", "holders", side="rport"), ("the-worker", worker, 3))
    eventually(watch, of(port, "process", "pid"), ("the-server", server.pid))
    eventually(watch, doors(server.port, "process", "pid"), [("the-server", server.pid)])


ADDRESSES = [
    (["127.0.0.1", "127.0.0.2"], {"127.0.0.1": 0, "127.0.0.2": 1}),
    (["0.0.0.0", "127.0.0.2"], {"127.0.0.1": 0, "127.0.0.2": 1}),
    (["::1", "fd00::7"], {"::1": 0, "fd00::7": 1}),
    (["::!", "0.0.0.0"], {"::1": 0, "127.0.0.1": 1}),
    (["::", "127.0.0.2"], {"::1": 0, "127.0.0.1": 0, "127.0.0.2": 1}),
    (["127.0.0.3", "::"], {"127.0.0.3": 0, "::1": 1, "127.0.0.4": 1}),
]


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("bound", "wanted"), ADDRESSES, ids=" ".join)
def test_what_waits_is_that_of_the_listener_of_its_address(
    lab: Lab, ns: str, cgroup: Path, starts: Starts, bound: list[str], wanted: dict[str, int], early: bool
) -> None:
    run(["ip", "addr", "add", "fd00::7/128", "dev", "lo", "nodad"], ns=ns)
    watch = starts() if early else None
    server = program(lab, ns, cgroup, "several", "--to", *bound, of=HOLDERS)
    pids = numbers(server, "pids")
    for address in wanted:
        for _ in range(2):
            lab.client(ns, "connect-only", address=address, port=server.port, cgroup=cgroup).expect("connected")
    watch = watch or starts()

    def told(rows: list[Row]) -> set[tuple[str, str, int, str]]:
        waiting = [r for r in rows if r["lport"] == server.port and r["rport"]]
        return {(r["laddr"], r["process"], r["pid"], r["owner"]) for r in waiting}

    eventually(watch, told, {(at, f"door-{door}", pids[door], "listener") for at, door in wanted.items()})
    lengths = Counter({pids[0]: 0, pids[1]: 0}) + Counter(pids[door] for door in wanted.values() for _ in range(2))
    assert {r["pid"]: r["backlog"] for r in watch.rows() if r["state"] == "LISTEN" and r["lport"] == server.port} == (
        lengths
    )


@pytest.mark.parametrize("address", LOOPBACKS)
def test_of_several_at_one_address_it_is_that_of_its_queue(
    lab: Lab, ns: str, cgroup: Path, starts: Starts, address: str, request: pytest.FixtureRequest
) -> None:
    watch = starts()
    server = program(lab, ns, cgroup, "several", "--to", *[address] * 3, of=HOLDERS)
    pids = numbers(server, "pids")
    for _ in range(12):
        lab.client(ns, "connect-only", address=address, port=server.port, cgroup=cgroup).expect("connected")

    def queues(rows: list[Row]) -> dict[int, int]:
        return {r["pid"]: r["backlog"] for r in rows if r["state"] == "LISTEN" and r["lport"] == server.port}

    def waiting(rows: list[Row]) -> list[Row]:
        return [r for r in rows if r["lport"] == server.port and r["rport"]]

    eventually(watch, lambda rows: sum(queues(rows).values()), 12)
    eventually(watch, lambda rows: sorted(queues(rows)), sorted(pids))
    lengths = {pid: count for pid, count in queues(watch.rows()).items() if count}
    if "sock_diag" in request.node.name and len(lengths) > 1:
        eventually(watch, lambda rows: {(r["process"], r["pid"]) for r in waiting(rows)}, {(None, None)})
    else:
        eventually(watch, lambda rows: Counter(r["pid"] for r in waiting(rows)), lengths)


def test_handshakes_are_counted_where_they_wait(lab: Lab, ns: str, cgroup: Path, starts: Starts) -> None:
    """The SYN-ACKs are dropped."""
    watch = starts()
    server = program(lab, ns, cgroup, "several", "--to", "127.0.0.1", "0.0.0.0", "::!", of=HOLDERS)
    pids = numbers(server, "pids")
    rule = f"table inet t {{ chain o {{ type filter hook output priority 0; tcp sport {server.port} drop; }}; }}"
    run(["nft", "-f", "-"], ns=ns, text=rule)
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.2", "::1", "::1", "::1"):
        lab.client(ns, "connect-only", address=address, port=server.port, cgroup=cgroup)
    eventually(watch, doors(server.port, "pid", "syn_recv"), sorted([(pids[0], 1), (pids[1], 2), (pids[2], 3)]))


def test_a_thread_with_files_of_its_own(lab: Lab, ns: str, cgroup: Path, starts: Starts) -> None:
    watch = starts()
    server = program(lab, ns, cgroup, "thread-files", of=HOLDERS)
    [port] = numbers(server, "port")
    eventually(watch, of(port, "process", "pid", "owner"), ("the-server", server.pid, "holder"))


def test_a_ring_of_io_uring(lab: Lab, ns: str, cgroup: Path, starts: Starts) -> None:
    watch = starts()
    server = program(lab, ns, cgroup, "ring", of=HOLDERS)
    [port] = numbers(server, "port")
    eventually(watch, of(port, "process", "pid", "owner"), ("the-server", server.pid, "holder"))


@pytest.mark.parametrize("mounted", [False, True], ids=["a thread", "a mount"])
def test_a_namespace_that_is_kept_by(lab: Lab, cgroup: Path, starts: Starts, mounted: bool, tmp_path: Path) -> None:
    watch = starts()
    words = ["--to", str(tmp_path / "netns")] if mounted else []
    server = program(lab, None, cgroup, "thread-namespace", *words, of=HOLDERS)
    [inode] = numbers(server, "netns")
    try:
        wait_until(lambda: doors(server.port, "pid", "netns")(watch.rows()) == [(server.pid, inode)], 15)
    finally:
        if mounted:
            run(["umount", str(tmp_path / "netns")])


def test_an_orphan_is_nobodys(lab: Lab, ns: str, cgroup: Path, starts: Starts) -> None:
    watch = starts()
    server = lab.server(ns, "listen-only", address="127.0.0.1", cgroup=cgroup)
    client = program(lab, ns, cgroup, "orphan", "--port", server.port, of=HOLDERS)
    eventually(watch, of(client.port, "process", "pid", "owner"), ("the-server", client.pid, "holder"))
    client.tell("")
    client.expect("closed")
    fields = ("state", "process", "pid", "owner", "holders", "command")
    gone = ("FIN-WAIT-1", "was the-server", None, "former", None, None)
    eventually(watch, of(client.port, *fields), gone)
    client.end()
    eventually(watch, of(client.port, *fields), gone)
    server.end()
    row = watch.closed(client.port)
    assert (row["process"], row["pid"], row["owner"]) == ("the-server", client.pid, "holder")
    assert row["command"] == "holders.py"


@pytest.mark.parametrize("address", LOOPBACKS)
def test_a_long_name_is_whole_and_stays(
    lab: Lab, ns: str, cgroup: Path, starts: Starts, address: str, tmp_path: Path
) -> None:
    """That of a script, whose first argument is its interpreter."""
    script = tmp_path / "a-program-with-a-long-name"
    script.write_text(
        f"#!{os.path.realpath(sys.executable)} -I\n" + HOLDERS.read_text().replace('name("the-server")', "")
    )
    script.chmod(0o755)
    watch = starts()
    server = lab.server(ns, "serve-echo", address=address, cgroup=cgroup)
    words = [str(script), "once", "--address", address, "--port", str(server.port)]
    client = Traffic(lab.popen(ns, words, cgroup=cgroup))
    [port] = numbers(client, "ready")
    told = (script.name, client.pid, f"{script.name} once")
    eventually(watch, of(port, "process", "pid", "command"), told)
    client.tell("")
    client.process.wait(10)
    row = watch.closed(port)
    assert (row["process"], row["pid"], row["command"]) == told
