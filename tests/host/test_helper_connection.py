"""Requests to a helper that answers late, in pieces, with descriptors, or no more. A thread stands in for it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tcptop_ops.bpf import helper
from tcptop_ops.errors import Unsupported
from tcptop_ops.host import helper_connection
from tcptop_ops.host.helper_connection import GONE, SILENT, HelperConnection, with_room


@pytest.fixture
def idle() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until its input ends: as one that is stopped."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


class Served:
    """A connection, and the other end of its pair."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        ours, self.theirs = socket.socketpair()
        self.connection = HelperConnection((process, ours))

    def answer(self, data: bytes, fds: tuple[int, ...] = (), status: int = 0, *, size: int | None = None) -> None:
        """One answer, or the begin of one whose data has more bytes."""
        head = helper.REPLY.pack(status, len(data) if size is None else size)
        socket.send_fds(self.theirs, [head], list(fds))
        self.theirs.sendall(data)


@pytest.fixture
def served(idle: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(helper_connection, "GRACE_S", 0.02)
    made = Served(idle)
    yield made
    made.theirs.close()
    made.connection._connection.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def requests(served: Served) -> list[int]:
    """What was asked since the last look."""
    got = served.theirs.recv(1 << 16)
    assert len(got) % helper.REQUEST.size == 0
    return [what for what, *_ in helper.REQUEST.iter_unpack(got)]


def test_an_answer_with_data_and_descriptors(served: Served) -> None:
    with socket.socket() as sent:
        served.answer(b"told", (sent.fileno(),))
        data, [fd] = served.connection.ask(helper.DIAG, 7)
    assert (data, os.get_inheritable(fd)) == (b"told", False)
    os.close(fd)
    served.answer(b"", status=errno.ENOENT)
    with pytest.raises(FileNotFoundError):
        served.connection.ask(helper.DIAG, 7)
    assert served.connection.note == ""


def test_late_answers_are_nobodys_and_their_descriptors_are_closed(served: Served) -> None:
    for _ in range(3):
        with pytest.raises(Unsupported, match="not answering"):
            served.connection.ask(helper.COUNTERS, 7)
    assert requests(served) == [helper.COUNTERS, helper_connection.NOTHING]
    assert served.connection.note == SILENT
    before = descriptors()
    with socket.socket() as sent:
        served.answer(b"lo", (sent.fileno(), sent.fileno()), size=4)
    with pytest.raises(Unsupported):  # it has begun
        served.connection.ask(helper.NAMESPACES)
    served.theirs.sendall(b"ng")
    served.answer(b"", status=errno.EPERM)
    served.answer(b"wanted")
    assert served.connection.ask(helper.NAMESPACES) == (b"wanted", [])
    assert served.connection.note == ""
    assert descriptors() == before


def test_one_that_works_is_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    class Busy:
        def __init__(self, pid: int) -> None:
            assert pid == served.connection.process.pid

        def goes_on(self) -> bool:
            looks.append(1)
            if len(looks) == 3:
                served.answer(b"at last")
            return True

    monkeypatch.setattr(helper_connection, "Activity", Busy)
    assert served.connection.ask(helper.SCAN) == (b"at last", [])
    assert len(looks) == 3


def test_one_that_is_gone_is_asked_no_more(served: Served) -> None:
    served.connection.process.kill()
    served.theirs.close()
    with pytest.raises(Unsupported):
        served.connection.ask(helper.SCAN)
    assert served.connection.is_gone
    assert served.connection.process.returncode is not None
    with pytest.raises(Unsupported, match=GONE):
        served.connection.ask(helper.SCAN)


def test_where_there_is_privilege_another_is_started(
    idle: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    first, other = socket.socketpair()
    with theirs, other, subprocess.Popen(["true"]) as ended:
        ended.wait()
        connection = HelperConnection((ended, first), lambda: (idle, ours))
        monkeypatch.setattr(helper_connection, "is_privileged", lambda: True)
        assert connection.note == ""
        assert connection.process is idle
        theirs.sendall(helper.REPLY.pack(0, 0))
        assert connection.ask(helper.NAMESPACES) == (b"", [])
        ours.close()


def test_some_descriptors_stay_free(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    assert with_room([fd]) == [fd]
    monkeypatch.setattr(os, "sysconf", lambda _name: fd + helper_connection.SPARE)
    with pytest.raises(OSError, match="Too many open files"):
        with_room([fd])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
