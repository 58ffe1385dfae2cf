"""Processes and users: real ones, and a real /proc."""

from __future__ import annotations

import io
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tcptop_ops.bpf import proc_walk
from tcptop_ops.bpf.proc_walk import TICK_NS, stat_of
from tcptop_ops.host import processes
from tcptop_ops.host.descriptors import PolledOwners
from tcptop_ops.host.namespaces import scan_descriptors, scan_hidden_descriptors
from tcptop_ops.host.processes import Users, full_name, is_kernel_thread
from tcptop_ops.model.records import SOCKET

LONG = "a-name-longer-than-fifteen"


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
    monkeypatch.setattr(proc_walk, "open", lambda path, mode: io.BytesIO(line), raising=False)
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
    start_ns = int(stat_of(long_named.pid)[1][19]) * TICK_NS
    comm = LONG.encode()[:15]
    assert full_name(long_named.pid, start_ns, comm) == LONG.encode()
    assert full_name(long_named.pid, start_ns + TICK_NS - 1, comm) == LONG.encode()
    assert full_name(long_named.pid, start_ns + TICK_NS, comm) == b"", "another process has had this number"
    assert full_name(2**31 - 1, start_ns, comm) == b""


def test_of_a_caller_its_name_tells_that_it_is_the_same(long_named: subprocess.Popen[bytes]) -> None:
    """When it started is not known of a process that is known by its call alone."""
    assert full_name(long_named.pid, 0, LONG.encode()[:15]) == LONG.encode()
    assert full_name(long_named.pid, 0, b"another-one-now") == b""


def test_a_process_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: int) -> NoReturn:
        raise PermissionError

    monkeypatch.setattr(processes, "stat_of", denied)
    assert full_name(os.getpid(), 0, b"python") == b""


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
            assert (
                PolledOwners(scan_descriptors, scan_hidden_descriptors).of(asked)["pid"].tolist() == [os.getpid()] * 2
            )
        finally:
            os.close(again)
    assert inodes[1] not in scan_descriptors()["inode"]


def test_users(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwall()[0]
    users = Users()
    names = users.learn(np.array([me.pw_uid, 2**32 - 1, me.pw_uid], "u4"))
    assert names == {me.pw_uid: pwd.getpwuid(me.pw_uid).pw_name, 2**32 - 1: ""}
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pytest.fail("looked up again"))
    assert users.learn(np.array([me.pw_uid, 2**32 - 1], "u4")) == names
    assert users.learn(np.zeros(0, "u4")) == names
