"""What the running monitor may do, what its helper may, and what the helper does."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf import helper
from tcptop_ops.bpf.child import HELPER, start
from tcptop_ops.errors import Unsupported
from tcptop_ops.reach import Alone, Helped, scan_descriptors, widest
from tcptop_ops.snapshot import State
from tcptop_ops.sockdiag import SockDiag
from tests.lab import Lab, Link, in_netns, wait_until
from tests.live.started import children, helper_of, started, status, threads
from tests.live.watch import Watch

CALLER = {"SUDO_UID": "12345", "SUDO_GID": "12345"}
NOBODY = "65534"
HELPER_KB = 15_000
READS = {"BPF_MAP_LOOKUP_ELEM", "BPF_MAP_LOOKUP_BATCH", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_BATCH"}


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def capabilities(pid: int, thread: int | None = None) -> dict[str, int]:
    return {name: int(value, 16) for name, value in status(pid, thread).items() if name.startswith("Cap")}


@pytest.mark.parametrize(("environment", "uid"), [(CALLER, "12345"), ({}, NOBODY)], ids=["sudo", "root"])
@pytest.mark.parametrize("source", ["sockops", "sockdiag"])
def test_the_monitor_may_do_nothing(cgroup: Path, environment: dict[str, str], uid: str, source: str) -> None:
    place = ("--cgroup", str(cgroup)) if source == "sockops" else ()
    with started("--source", source, *place, environment=environment) as monitor:
        monitor.wait_for_picture()
        for thread in threads(monitor.pid):
            said = status(monitor.pid, thread)
            assert set(said["Uid"].split()) == {uid}
            assert "0" not in said["Gid"].split()
            assert said["Groups"].split() == []
            assert said["NoNewPrivs"] == "1"
            held = {name: value for name, value in capabilities(monitor.pid, thread).items() if name != "CapBnd"}
            assert held == dict.fromkeys(held, 0)
        assert os.stat(f"/proc/{monitor.pid}/mem").st_uid == 0, "not dumpable: its memory is nobody's business"
        assert children(monitor.pid) == [helper_of(monitor.pid)]
        check_helper(helper_of(monitor.pid))
        monitor.press("q")
        assert monitor.process.wait(20) == 0


def check_helper(pid: int) -> None:
    said = status(pid)
    ours = capabilities(os.getpid())["CapEff"]
    assert capabilities(pid)["CapEff"] == capabilities(pid)["CapPrm"] == helper.KEPT & ours
    assert capabilities(pid)["CapInh"] == 0
    assert said["NoNewPrivs"] == "1"
    assert int(said["VmRSS"].split()[0]) < HELPER_KB
    kinds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not any("bpf-prog" in kind for kind in kinds)
    assert sum("bpf" in kind for kind in kinds) in (0, 2), "the iterator's link and the map that steers it"


def test_without_a_helper_there_is_no_other_process(lab: Lab, link: Link, cgroup: Path) -> None:
    """The namespaces of the start are seen all the same."""
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    with started("--no-helper", "--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        assert children(monitor.pid) == []
        assert set(status(monitor.pid)["Uid"].split()) == {NOBODY}
        wait_until(lambda: f":{server.port}" in monitor.text(), 10, "the listener of another namespace")
        assert "namespaces that appear later" in monitor.text()


def test_strace_sees_reads_and_iterators_alone(lab: Lab, cgroup: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        trace = tmp_path / "trace"
        argv = ["strace", "-f", "-e", "trace=bpf", "-o", str(trace), "-p", str(monitor.pid)]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as tracer:
            wait_until(lambda: trace.exists() and trace.read_text().count("BPF_ITER_CREATE") >= 3, 20, "three polls")
            tracer.send_signal(signal.SIGINT)
        commands = set(re.findall(r"bpf\((BPF_\w+)", trace.read_text()))
    assert "BPF_ITER_CREATE" in commands
    assert commands <= READS | {"BPF_ITER_CREATE"}


@pytest.fixture
def reach() -> Iterator[Helped]:
    made = widest(may_close=True)
    assert isinstance(made, Helped)
    try:
        yield made
    finally:
        made.close()


def test_it_reaches_into_namespaces(lab: Lab, link: Link, reach: Helped) -> None:
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4)
    inode = in_netns(link.b.ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    assert {inode, reach.own} <= reach.namespaces()
    diag = SockDiag(reach.diag(inode), inode)
    try:
        sockets = diag.dump().sockets
        assert sockets["lport"][sockets["state"] == State.LISTEN].tolist() == [server.port]
    finally:
        diag.close()
    assert set(reach.devices(inode).values()) == {"lo", link.b.device}
    ours = scan_descriptors()
    theirs = reach.descriptors()
    mine = [rows[rows["pid"] == server.pid] for rows in (ours, theirs)]
    assert len(mine[0])
    assert np.array_equal(mine[0], mine[1])


def test_a_namespace_that_is_not_there(reach: Helped) -> None:
    for ask in (reach.diag, reach.devices):
        with pytest.raises(FileNotFoundError):
            ask(1)
    with pytest.raises(PermissionError):
        reach.neighbours(True)  # it has attached nothing


def sockid(near: socket.socket, cookie: int) -> bytes:
    """A struct inet_diag_sockid of an IPv4 connection."""
    (laddr, lport), (raddr, rport) = near.getsockname(), near.getpeername()
    pair = struct.pack(">HH", lport, rport)
    return (
        pair
        + socket.inet_aton(laddr).ljust(16, b"\0")
        + socket.inet_aton(raddr).ljust(16, b"\0")
        + (struct.pack("=IQ", 0, cookie))
    )


def connection() -> tuple[socket.socket, socket.socket, int]:
    door = socket.create_server(("127.0.0.1", 0))
    with door:
        near = socket.create_connection(door.getsockname())
        return near, door.accept()[0], struct.unpack("=Q", near.getsockopt(socket.SOL_SOCKET, 57, 8))[0]


def test_it_closes_what_is_meant_and_nothing_else(reach: Helped) -> None:
    near, far, cookie = connection()
    with near, far:
        with pytest.raises(OSError, match=r".") as refused:
            reach.close_connection(reach.own, socket.AF_INET, sockid(near, cookie + 1))
        assert refused.value.errno in (errno.ENOENT, errno.ESTALE)
        near.send(b"x")
        assert far.recv(1) == b"x"
        reach.close_connection(reach.own, socket.AF_INET, sockid(near, cookie))
        with pytest.raises(ConnectionAbortedError):
            near.recv(1)


def test_it_closes_nothing_unless_that_was_asked_for() -> None:
    reach = widest(may_close=False)
    assert isinstance(reach, Helped)
    near, far, cookie = connection()
    try:
        with near, far:
            with pytest.raises(PermissionError):
                reach.close_connection(reach.own, socket.AF_INET, sockid(near, cookie))
            near.send(b"x")
            assert far.recv(1) == b"x"
    finally:
        reach.close()


def test_statistics_run_while_the_descriptor_is_open(reach: Helped, lab: Lab, link: Link, cgroup: Path) -> None:
    def run_time_ns(watch: Watch) -> int:
        return int.from_bytes(helper.program_info(watch.source.attached.fds["program"])[192:200], "little")

    with Watch(cgroup) as watch:
        server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)

        def connect() -> None:
            client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
            client.expect("connected")

        connect()
        assert run_time_ns(watch) == 0
        fd = reach.statistics()
        connect()
        os.close(fd)
        counted = run_time_ns(watch)
        assert counted > 0
        connect()
        assert run_time_ns(watch) == counted


@pytest.mark.parametrize(
    "rubbish", [b"", b"x", b"\xff" * 80, bytes(80), b"\xff" * 7, struct.pack("=IIQ56s", 99, 0, 0, b"")]
)
def test_rubbish_is_refused_and_nothing_stays(rubbish: bytes) -> None:
    process, ours = start("/usr/bin/python3", HELPER, "1")
    with ours:
        ours.sendall(rubbish)
        if len(rubbish) == helper.REQUEST.size:
            refused, size = helper.REPLY.unpack(ours.recv(helper.REPLY.size))
            assert (refused, size) == (errno.EPERM, 0)
    assert process.wait(20) == 0


def test_when_the_helper_is_gone_the_own_namespace_is_still_seen() -> None:
    process, ours = start("/usr/bin/python3", HELPER, "0")
    reach = Helped(process, ours)
    try:
        process.kill()
        process.wait()
        assert reach.namespaces() == {reach.own}
        assert "helper is gone" in reach.note
        with pytest.raises(Unsupported):
            reach.diag(1)
        reach.diag(reach.own).close()
        assert len(reach.descriptors())
    finally:
        reach.close()


def test_threads_stay_in_the_namespaces_of_the_start(lab: Lab, link: Link) -> None:
    inode = in_netns(link.b.ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    alone = Alone()
    try:
        assert {inode, alone.own} <= alone.namespaces()
        assert set(alone.devices(inode).values()) == {"lo", link.b.device}
        later = lab.namespace("later")
        assert in_netns(later, lambda: os.stat("/proc/thread-self/ns/net").st_ino) not in alone.namespaces()
        assert "no helper" in alone.note
    finally:
        alone.close()
    assert os.stat("/proc/thread-self/ns/net").st_ino == alone.own
