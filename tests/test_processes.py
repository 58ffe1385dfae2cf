"""Whose a socket is: against a slow reference, real processes and a real /proc."""

from __future__ import annotations

import io
import os
import pwd
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops import processes
from tcptop_ops.processes import Owners, Users, describe, holder_counts, holders, is_kernel_thread, scan_descriptors
from tcptop_ops.snapshot import EVENTS, OWNER, SOCKET, Records

LONG = "a-name-longer-than-fifteen"


def descriptors(*rows: tuple[int, int, int, bytes]) -> Records:
    """OWNER rows: cookie, pid, start, comm."""
    made = np.zeros(len(rows), OWNER)
    for at, (cookie, pid, start, comm) in enumerate(rows):
        made[at]["cookie"], made[at]["inode"], made[at]["pid"] = cookie, cookie + 1000, pid
        made[at]["start_ns"], made[at]["comm"] = start, comm
    return made


def sockets(*cookies: int) -> Records:
    made = np.zeros(len(cookies), SOCKET)
    made["cookie"] = cookies
    made["inode"] = made["cookie"] + 1000
    return made


def events(*rows: tuple[int, bytes]) -> Records:
    made = np.zeros(len(rows), EVENTS)
    for at, (pid, comm) in enumerate(rows):
        made[at]["pid"], made[at]["comm"] = pid, comm
    return made


HELD = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), max_size=25)


@pytest.mark.parametrize("key", ["cookie", "inode"])
@given(held=HELD)
def test_the_youngest_process_holds_it(key: str, held: list[tuple[int, int]]) -> None:
    """Descriptors (socket, process); the start of a process rises against its number."""
    rows = descriptors(*((cookie, pid, 1000 - pid, b"p%d" % pid) for cookie, pid in held))
    by_socket: dict[int, set[int]] = defaultdict(set)
    for at, (_, pid) in enumerate(held):
        by_socket[int(rows[key][at])].add(pid)
    found = holders(rows, key)
    assert found[key].tolist() == sorted(by_socket)
    assert found["pid"].tolist() == [min(by_socket[socket]) for socket in sorted(by_socket)]
    keys, counts = holder_counts(rows, key)
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == {k: len(pids) for k, pids in by_socket.items()}


def test_owners_of_sockets() -> None:
    owners = Owners()
    rows = descriptors((5, 10, 1, b"master"), (5, 11, 2, b"worker"), (5, 11, 2, b"worker"), (7, 10, 1, b"master"))
    owners.learn(rows, sockets(5, 7, 9))
    found = owners.assign(sockets(9, 7, 5, 4), events((0, b""), (77, b"nobody"), (0, b""), (0, b"")))
    assert found["pid"].tolist() == [0, 10, 11, 0]
    assert found["name"].tolist() == [b"", b"master", b"worker", b""]
    assert found["holders"].tolist() == [0, 1, 2, 0]
    assert found["certain"].tolist() == [0, 1, 1, 0]


def test_owners_by_inode() -> None:
    owners = Owners("inode")
    owners.learn(descriptors((5, 10, 1, b"one")), sockets(5))
    assert owners.assign(sockets(5, 6), events((0, b""), (0, b"")))["pid"].tolist() == [10, 0]


def test_without_a_holder_the_task_of_the_event_owns_it() -> None:
    owners = Owners()
    gone = 2**31 - 1
    found = owners.assign(sockets(1, 2, 3), events((gone, b"curl"), (os.getpid(), b"me"), (gone - 1, b"kworker/0:1")))
    assert found["pid"].tolist() == [gone, os.getpid(), 0]
    assert found["name"].tolist() == [b"curl", b"me", b""]
    assert found["certain"].tolist() == [1, 1, 0]


def test_nothing_to_own() -> None:
    owners = Owners()
    owners.learn(descriptors(), sockets())
    assert len(owners.assign(sockets(), events())) == 0
    assert owners.assign(sockets(1), events((0, b"")))["pid"].tolist() == [0]


def test_when_to_look_again() -> None:
    owners = Owners()
    assert owners.is_current(sockets())
    assert not owners.is_current(sockets(1))
    owners.learn(descriptors((1, 10, 1, b"x")), sockets(1, 2))
    assert owners.is_current(sockets(1))
    assert owners.is_current(sockets(1, 2))  # nobody was found to hold 2: asking again would not help
    assert not owners.is_current(sockets(1, 2, 3))


STAT = "%d (%s) S 2 0 0 0 -1 %d 0 0 0 0 0 0 0 0 20 0 1 0 42 0 0"


@pytest.mark.parametrize(
    ("name", "flags", "kernel"),
    [
        ("kthreadd", 0x00208040, True),
        ("kworker/0:1-events", 0x04208060, True),
        ("kworker/0:1", 0x00400100, False),  # a process that only calls itself so
        ("a) S 2 0 0 0 -1 2097152 (b", 0x00400000, False),
        ("nginx", 0x00400140, False),
    ],
)
def test_kernel_threads_by_their_flags(name: str, flags: int, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    line = (STAT % (7, name, flags)).encode()
    monkeypatch.setattr(processes, "open", lambda path, mode: io.BytesIO(line), raising=False)
    assert is_kernel_thread(7, name.encode()) is kernel


@pytest.mark.parametrize(
    ("comm", "kernel"),
    [(b"kworker/3:2", True), (b"ksoftirqd/0", True), (b"kthreadd", True), (b"nginx", False), (b"", False)],
)
def test_of_one_that_is_gone_the_name_tells(comm: bytes, kernel: bool) -> None:
    assert is_kernel_thread(2**31 - 1, comm) is kernel


@pytest.fixture
def long_named(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name the kernel cuts; it waits for its standard input to end."""
    path = tmp_path / LONG
    path.symlink_to(os.path.realpath(sys.executable))
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([path, "-IS", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        yield child


def test_a_cut_name_is_completed(long_named: subprocess.Popen[bytes]) -> None:
    owners = Owners()
    cut = LONG[:15].encode()
    rows = descriptors((1, long_named.pid, 5, cut), (2, 2**31 - 1, 6, cut), (3, long_named.pid, 5, b"short"))
    owners.learn(rows, sockets(1, 2, 3))
    names = owners.assign(sockets(1, 2, 3), events(*[(0, b"")] * 3))["name"].tolist()
    assert names == [LONG.encode(), cut, b"short"]


def test_describe(long_named: subprocess.Popen[bytes]) -> None:
    found = describe(long_named.pid)
    assert found is not None
    assert (found.pid, found.name, found.user) == (long_named.pid, LONG, psutil.Process().username())
    assert found.cmdline[1:3] == ("-IS", "-c")
    assert describe(2**31 - 1) is None


def test_a_process_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: int) -> NoReturn:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", denied)
    assert describe(1) is None
    assert processes.psutil_name(1) == ""


def test_a_scan_of_proc_finds_our_sockets() -> None:
    with socket.socket() as ours, socket.socket() as other:
        inodes = [os.fstat(sock.fileno()).st_ino for sock in (ours, other)]
        again = os.dup(ours.fileno())
        try:
            rows = scan_descriptors()
            mine = rows[rows["pid"] == os.getpid()]
            found = set(zip(mine["inode"].tolist(), mine["fd"].tolist(), strict=True))
            assert {(inodes[0], ours.fileno()), (inodes[0], again), (inodes[1], other.fileno())} <= found
            assert set(mine["comm"].tolist()) == {Path("/proc/self/comm").read_bytes().rstrip(b"\n")}
            asked = np.zeros(2, SOCKET)
            asked["inode"] = inodes
            assert Owners("inode").of(asked)["pid"].tolist() == [os.getpid()] * 2
        finally:
            os.close(again)
    assert inodes[1] not in scan_descriptors()["inode"]


def test_one_look_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def scan() -> Records:
        looks.append(1)
        return descriptors((1, 10, 1, b"x"))

    monkeypatch.setattr(processes, "scan_descriptors", scan)
    owners = Owners("inode")
    for _ in range(3):
        assert owners.of(sockets(1))["pid"].tolist() == [10]
    assert len(looks) == 1
    unborn: Any = np.zeros(1, SOCKET)  # no descriptor: not worth a look
    owners.of(unborn)
    assert len(looks) == 1
    owners.of(sockets(1, 2))
    owners.of(sockets(1, 2))
    assert len(looks) == 2


def test_users(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwall()[0]
    users = Users()
    names = users.learn(np.array([me.pw_uid, 2**32 - 1, me.pw_uid], "u4"))
    assert names == {me.pw_uid: pwd.getpwuid(me.pw_uid).pw_name, 2**32 - 1: ""}
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pytest.fail("looked up again"))
    assert users.learn(np.array([me.pw_uid, 2**32 - 1], "u4")) == names
    assert users.learn(np.zeros(0, "u4")) == names
