"""What the helper answers, what it refuses, and that it ends with whoever asks."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tcptop_ops.bpf import helper, kernel_calls
from tcptop_ops.bpf.loader_process import GRACE_S, HELPER, INTERPRETERS, end, start
from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import HelperAccess, InProcessAccess, scan_descriptors, widest
from tcptop_ops.model.enums import State
from tcptop_ops.sources.sock_diag import SockDiag
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import in_netns, run

SOON_S = 20
ANY_COOKIE = 2**64 - 1  # INET_DIAG_NOCOOKIE


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


class Asked(NamedTuple):
    """A helper without BPF that may close, and the test's end of the pair."""

    process: subprocess.Popen[bytes]
    ours: socket.socket


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked(*start(INTERPRETERS[0], HELPER, "1"))
    try:
        yield made
    finally:
        end(*made)


@pytest.fixture
def reach() -> Iterator[HelperAccess]:
    made = widest(may_close=True)
    assert isinstance(made, HelperAccess)
    try:
        yield made
    finally:
        made.close()


def test_it_reaches_into_namespaces(lab: Lab, link: Link, reach: HelperAccess) -> None:
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4)
    inode = in_netns(link.b.ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    assert {inode, reach.own} <= reach.namespaces()
    assert listeners(reach.diag(inode), inode) == [server.port]
    assert set(reach.devices(inode).values()) == {"lo", link.b.device}
    ours, theirs = scan_descriptors(), reach.descriptors()
    still = [rows[np.isin(rows["pid"], [server.pid, os.getpid()])] for rows in (ours, theirs)]
    assert set(still[0]["pid"]) == {server.pid, os.getpid()}
    assert np.array_equal(still[0], still[1])


def test_sixty_namespaces(lab: Lab, reach: HelperAccess) -> None:
    names = [f"{lab.prefix}-{n}" for n in range(60)]
    run(["ip", "-batch", "-"], text="".join(f"netns add {name}\n" for name in names))
    inodes = {(NETNS / name).stat().st_ino for name in names}
    assert len(inodes) == 60
    assert inodes < reach.namespaces()
    assert all(reach.devices(inode) == {1: "lo"} for inode in inodes)
    server = lab.server(names[59], "serve-sink", address="::")
    listening = {inode: listeners(reach.diag(inode), inode) for inode in inodes}
    assert {port for ports in listening.values() for port in ports} == {server.port}
    assert listening[(NETNS / names[59]).stat().st_ino] == [server.port]
    run(["ip", "netns", "delete", names[0]])
    assert len(inodes & reach.namespaces()) == 59


def listeners(asked: socket.socket, inode: int) -> list[int]:
    diag = SockDiag(asked, inode)
    try:
        sockets = diag.dump().sockets
        ports: list[int] = sockets["lport"][sockets["state"] == State.LISTEN].tolist()
        return ports
    finally:
        diag.close()


def test_a_namespace_that_is_not_there(reach: HelperAccess) -> None:
    for ask in (reach.diag, reach.devices):
        with pytest.raises(FileNotFoundError):
            ask(1)


def sockid(near: socket.socket, cookie: int) -> bytes:
    """A struct inet_diag_sockid of an IPv4 connection."""
    (laddr, lport), (raddr, rport) = near.getsockname(), near.getpeername()
    pair = struct.pack(">HH", lport, rport)
    return (
        pair
        + socket.inet_aton(laddr).ljust(16, b"\0")
        + socket.inet_aton(raddr).ljust(16, b"\0")
        + struct.pack("=IQ", 0, cookie)
    )


def connection() -> tuple[socket.socket, socket.socket, int]:
    door = socket.create_server(("127.0.0.1", 0))
    with door:
        near = socket.create_connection(door.getsockname())
        return near, door.accept()[0], struct.unpack("=Q", near.getsockopt(socket.SOL_SOCKET, 57, 8))[0]


def test_it_closes_what_is_meant_and_nothing_else(reach: HelperAccess) -> None:
    near, far, cookie = connection()
    with near, far:
        for wrong, refusals in ((cookie + 1, (errno.ENOENT, errno.ESTALE)), (ANY_COOKIE, (errno.EINVAL,))):
            with pytest.raises(OSError, match=r".") as refused:
                reach.close_connection(reach.own, socket.AF_INET, sockid(near, wrong))
            assert refused.value.errno in refusals
        near.send(b"x")
        assert far.recv(1) == b"x"
        reach.close_connection(reach.own, socket.AF_INET, sockid(near, cookie))
        with pytest.raises(ConnectionAbortedError):
            near.recv(1)


def test_it_closes_nothing_unless_that_was_asked_for() -> None:
    reach = widest(may_close=False)
    assert isinstance(reach, HelperAccess)
    near, far, cookie = connection()
    try:
        with near, far:
            with pytest.raises(PermissionError):
                reach.close_connection(reach.own, socket.AF_INET, sockid(near, cookie))
            near.send(b"x")
            assert far.recv(1) == b"x"
    finally:
        reach.close()


def test_statistics_run_while_the_descriptor_is_open(reach: HelperAccess, lab: Lab, link: Link, cgroup: Path) -> None:
    def run_time_ns(watch: Watch) -> int:
        return int.from_bytes(kernel_calls.program_info(watch.source.attached.fds["program"])[192:200], "little")

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


def answer(ours: socket.socket, what: int, argument: int = 0, namespace: int = 0) -> int:
    """The status of a request that nothing comes back of."""
    ours.sendall(helper.REQUEST.pack(what, argument, namespace, b""))
    status, size = helper.REPLY.unpack(ours.recv(helper.REPLY.size, socket.MSG_WAITALL))
    assert size == 0
    return int(status)


def test_what_is_not_among_the_requests_is_refused(asked: Asked) -> None:
    for what in (0, helper.SET_FLAGS, 99, 2**32 - 1):
        assert answer(asked.ours, what) == errno.EPERM
    own = os.stat("/proc/self/ns/net").st_ino
    for what in (helper.NEIGHBOURS, helper.ATTACH_AGAIN):
        assert answer(asked.ours, what, namespace=own) == errno.EPERM, "it has attached nothing"
    for what in (helper.DIAG, helper.DEVICES, helper.COUNTERS, helper.CLOSE):
        assert answer(asked.ours, what, namespace=2**64 - 1) == errno.ENOENT
    for family in (0, socket.AF_UNIX, 256 + socket.AF_INET, 2**32 - 1):
        assert answer(asked.ours, helper.CLOSE, family, own) == errno.EINVAL
    asked.ours.close()
    assert asked.process.wait(SOON_S) == 0


@pytest.mark.parametrize("rubbish", [b"", b"x", b"\xff" * 7, b"\0" * 71], ids=["nothing", "1", "7", "71"])
def test_half_a_request_is_the_end(asked: Asked, rubbish: bytes) -> None:
    assert answer(asked.ours, 99) == errno.EPERM
    asked.ours.sendall(rubbish)
    asked.ours.close()
    assert asked.process.wait(SOON_S) == 0


def test_it_ends_with_who_asks_and_not_before(asked: Asked) -> None:
    """A service is ended by one signal to all of its processes: flags are taken back after that."""
    assert answer(asked.ours, 99) == errno.EPERM
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        asked.process.send_signal(number)
        assert answer(asked.ours, 99) == errno.EPERM
    asked.ours.close()
    assert asked.process.wait(SOON_S) == 0


def test_an_answer_that_nobody_waits_for(asked: Asked) -> None:
    for _ in range(20):
        asked.ours.sendall(helper.REQUEST.pack(helper.SCAN, 0, 0, b""))
    asked.ours.close()
    assert asked.process.wait(SOON_S) == 0


def test_when_the_helper_is_gone_the_own_namespace_is_still_seen() -> None:
    process, ours = start(INTERPRETERS[0], HELPER, "0")
    reach = HelperAccess(process, ours)
    try:
        process.kill()
        process.wait()
        assert reach.namespaces() == {reach.own}
        assert "helper is gone" in reach.note
        with pytest.raises(Unsupported):
            reach.diag(1)
        reach.diag(reach.own).close()
        with socket.socket() as held:
            assert held.fileno() in reach.descriptors()["fd"]
    finally:
        reach.close()


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_one_that_is_stopped_goes_on_when_it_is_asked_or_left(asked: Asked) -> None:
    pid = asked.process.pid
    assert answer(asked.ours, 99) == errno.EPERM
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: process_state(pid) == "T")
    assert answer(asked.ours, 99) == errno.EPERM
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: process_state(pid) == "T")
    asked.ours.close()
    assert asked.process.wait(SOON_S) == 0


def test_one_that_is_frozen_is_waited_for_once_and_heard_again_later(lab: Lab, link: Link, reach: HelperAccess) -> None:
    """Its late answer, which brings a descriptor, is nobody's."""
    inode = in_netns(link.b.ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    found = reach.namespaces()
    place = lab.cgroup("frozen")
    (place / "cgroup.procs").write_text(str(reach._helper.process.pid))
    (place / "cgroup.freeze").write_text("1")
    wait_until(lambda: "frozen 1" in (place / "cgroup.events").read_text())
    before, begun = os.listdir("/proc/self/fd"), time.monotonic()
    for _ in range(20):
        with pytest.raises(Unsupported, match="not answering"):
            reach.diag(inode)
        assert reach.namespaces() == found
    assert GRACE_S < time.monotonic() - begun < 4 * GRACE_S
    assert "not answering" in reach.note
    (place / "cgroup.freeze").write_text("0")

    def answers() -> bool:
        with suppress(Unsupported):
            return set(reach.devices(inode).values()) == {"lo", link.b.device}
        return False

    wait_until(answers, SOON_S)
    assert reach.note == ""
    assert os.listdir("/proc/self/fd") == before


def test_one_that_is_frozen_does_not_hold_up_the_end(lab: Lab) -> None:
    reach = widest()
    assert isinstance(reach, HelperAccess)
    place = lab.cgroup("frozen")
    (place / "cgroup.procs").write_text(str(reach._helper.process.pid))
    (place / "cgroup.freeze").write_text("1")
    begun = time.monotonic()
    reach.close()
    assert time.monotonic() - begun < 4 * GRACE_S
    assert reach._helper.process.returncode == -signal.SIGKILL


def test_one_that_is_killed_is_reaped_and_another_comes(lab: Lab, link: Link, reach: HelperAccess) -> None:
    inode = in_netns(link.b.ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    first = reach._helper.process
    first.kill()
    wait_until(lambda: reach.note == "" and reach._helper.process is not first)
    assert first.returncode == -signal.SIGKILL
    assert inode in reach.namespaces()
    assert set(reach.devices(inode).values()) == {"lo", link.b.device}


def test_descriptors_that_do_not_suffice(lab: Lab) -> None:
    """In the helper, which has one for each namespace, and in who asks: counted, and told."""
    names = [f"{lab.prefix}-{n}" for n in range(60)]
    run(["ip", "-batch", "-"], text="".join(f"netns add {name}\n" for name in names))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reach = widest()
    assert isinstance(reach, HelperAccess)
    opened: list[socket.socket] = []
    try:
        pid = reach._helper.process.pid
        reach.namespaces()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, hard))
        run(["ip", "-batch", "-"], text="".join(f"netns add {name}-b\n" for name in names))
        found = reach.namespaces()
        assert 60 <= int(reach.note.split()[0]) < 120, "others may have some"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        found = reach.namespaces()
        assert reach.note == ""
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, hard))
        refused = 0
        for inode in found - {reach.own}:
            try:
                opened.append(reach.diag(inode))
            except OSError:
                refused += 1
        assert len(opened) > 5
        assert f"{refused} network namespaces are not seen" in reach.note
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in opened:
            each.close()
        reach.close()


def test_threads_stay_in_the_namespaces_of_the_start(lab: Lab, link: Link) -> None:
    inode = in_netns(link.b.ns, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
    alone = InProcessAccess()
    try:
        assert {inode, alone.own} <= alone.namespaces()
        assert set(alone.devices(inode).values()) == {"lo", link.b.device}
        later = lab.namespace("later")
        assert in_netns(later, lambda: os.stat("/proc/thread-self/ns/net").st_ino) not in alone.namespaces()
        assert "no helper" in alone.note
    finally:
        alone.close()
    assert os.stat("/proc/thread-self/ns/net").st_ino == alone.own
