"""Requests to the helper and their answers: one after the other, and none is waited for in vain for long.

A helper may be stopped, frozen with its cgroup, or killed. One that neither answers nor runs counts as not answering:
what was asked is refused, and so is all else until its late answer has come, which is thrown away.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tcptop_ops.bpf import helper
from tcptop_ops.bpf.loader_process import GRACE_S, Activity, end, is_privileged
from tcptop_ops.errors import Unsupported

MOST_FDS = 4
"""Descriptors that an answer of the helper may bring."""

INT = struct.Struct("=i")

USUAL_S = 0.02
"""Most answers come sooner; a helper that takes longer is looked at."""

SPARE = 24
"""Descriptors that are left free for what is opened for a moment: iterators, files of /proc."""

NOTHING = 0
"""A request that is refused: it wakes a helper that was stopped while it was at work on another one."""

SILENT = "the helper is not answering: network namespaces that appear now are not seen"
GONE = "the helper is gone: other network namespaces are no longer seen"

Process = tuple["subprocess.Popen[bytes]", socket.socket]


@dataclass
class _Answer:
    """What has come of the answer that is under way. ``is_cut``: some of its descriptors found no room here."""

    head: bytearray = field(default_factory=bytearray)
    data: bytearray = field(default_factory=bytearray)
    fds: list[int] = field(default_factory=list)
    is_cut: bool = False

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


class HelperConnection:
    """Our end of the pair that a helper serves. Used by one thread."""

    def __init__(self, process: Process, again: Callable[[], Process] | None = None) -> None:
        """Take over a running helper. ``again`` starts another one, once that is gone, while there is privilege."""
        self._again = again
        self._take(process)
        self._note = ""

    def _take(self, process: Process) -> None:
        self.process, self._connection = process
        self._connection.setblocking(False)
        self._poll = select.poll()  # select(2) refuses descriptors above 1,023
        self._poll.register(self._connection, select.POLLIN)
        self._coming = _Answer()
        self._owed = 0  # answers

    @property
    def note(self) -> str:
        """What is lost, and why; "" where nothing is. A helper that ended is reaped here, too."""
        if self._note != GONE and self.process.poll() is not None:
            self._lose()
        return self._note

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, for good."""
        return self.note == GONE

    def ask(
        self, what: int, namespace: int = 0, argument: int = 0, sockid: bytes = b"", behind: bytes = b""
    ) -> tuple[bytes, list[int]]:
        """Send a request, and what follows it; return the data and descriptors of the answer.

        Raises the OSError that the helper met, EMFILE where there is no room for the descriptors, and Unsupported when
        the helper is gone or not answering.
        """
        if self.note == GONE:
            raise Unsupported(GONE)
        try:
            while self._owed:
                self._receive(0.0).close()
            self._send(what, argument, namespace, sockid, behind)
            answer = self._receive(GRACE_S)
        except TimeoutError as error:
            self._note = SILENT
            if self._owed == 1:
                with suppress(ConnectionError):  # it ended just now: the next request tells
                    self._send(NOTHING)
            raise Unsupported(SILENT) from error
        except ConnectionError as error:
            self._lose()
            raise Unsupported(self.note or SILENT) from error
        self._note = ""
        return self._checked(answer)

    def _send(self, what: int, argument: int = 0, namespace: int = 0, sockid: bytes = b"", behind: bytes = b"") -> None:
        """Send what the socket's buffer has room for at once: all answers to earlier requests have come."""
        self._connection.sendall(helper.REQUEST.pack(what, argument, namespace, sockid) + behind)
        self._owed += 1

    @staticmethod
    def _checked(answer: _Answer) -> tuple[bytes, list[int]]:
        status, _ = helper.REPLY.unpack(answer.head)
        status = errno.EMFILE if answer.is_cut else status
        if status:
            answer.close()
            raise OSError(status, os.strerror(status))
        return bytes(answer.data), answer.fds

    def _receive(self, grace_s: float) -> _Answer:
        """Return the answer that is owed. Raises TimeoutError, and goes on there when it is called again."""
        coming = self._coming
        while (lacks := helper.REPLY.size - len(coming.head)) > 0:
            self._wait(grace_s)
            room = socket.CMSG_LEN(4 * MOST_FDS)
            part, told, flags, _ = self._connection.recvmsg(lacks, room, socket.MSG_CMSG_CLOEXEC)
            coming.fds += [fd for *_, packed in told for [fd] in INT.iter_unpack(packed[: len(packed) & ~3])]
            coming.is_cut |= bool(flags & socket.MSG_CTRUNC)
            coming.head += _some(part)
        _, size = helper.REPLY.unpack(coming.head)
        while (lacks := size - len(coming.data)) > 0:
            self._wait(grace_s)
            coming.data += _some(self._connection.recv(min(lacks, 1 << 20)))
        self._coming, self._owed = _Answer(), self._owed - 1
        return coming

    def _wait(self, grace_s: float) -> None:
        """Wait until something comes. Raises TimeoutError once the helper has done nothing for ``grace_s``."""
        if self._poll.poll(1000 * min(USUAL_S, grace_s)):
            return
        activity = Activity(self.process.pid)
        while not self._poll.poll(1000 * grace_s):
            if not grace_s or not activity.goes_on():
                raise TimeoutError

    def _lose(self) -> None:
        """Let go of one that ended, and start another where that is possible."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        self._coming.close()
        self._connection.close()
        self._note = GONE
        if self._again is not None and is_privileged():
            with suppress(OSError, Unsupported):
                self._take(self._again())
                self._note = ""

    def close(self) -> None:
        """Close our end, upon which the helper tidies up and exits. May be called twice."""
        self._coming.close()
        end(self.process, self._connection)


def _some(part: bytes) -> bytes:
    """Return it. Raises ConnectionResetError where there is nothing: the other end is closed."""
    if not part:
        raise ConnectionResetError
    return part


def with_room(fds: list[int]) -> list[int]:
    """Return these descriptors, new here, if enough stay free for all else; close them and raise EMFILE if not.

    The kernel gives the lowest number that is free (sysconf(3) tells RLIMIT_NOFILE).
    """
    if max(fds) < os.sysconf("SC_OPEN_MAX") - SPARE:
        return fds
    for fd in fds:
        os.close(fd)
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
