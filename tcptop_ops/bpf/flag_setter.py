"""Sets callback flags of sockets that other processes hold, and takes them back. Of the standard library alone.

The program ``adoption.c`` does it when an option that does not exist is set on a duplicate of the descriptor
(pidfd_getfd(2)); it is attached to our cgroup only meanwhile. Its sockets alone are reached: on any other the kernel
refuses the option. A token tells the program that it is this process that asks: process ids differ by PID namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator

ADOPT, GIVE_BACK, STRIP = 0, 1, 2  # FlagRequest
OUR_LEVEL, OUR_OPTION = 0x54434F50, 0x464C4147  # fields.OUR_LEVEL, OUR_OPTION
ASK = struct.Struct("=QQIIII")
"""fields.FLAG_ASK: cookie, before_ns, pid, fd, flags, what."""
TOLD = struct.Struct("=QQQII")
"""fields.FLAG_REQUEST, what the program is told: token, cookie, before_ns, flags, what."""
SETTER = struct.Struct("=QQ")
"""fields.FLAG_SETTER, the value of the map ``setter``: the token comes first."""
MOST_ASKED = 4096
"""Most sockets in one request: they have room in the buffer of the socket that it comes by."""

PATIENCE_S = 0.1
"""A request is answered after this time, whatever is left to do."""

SO_COOKIE = 57
SYS_PIDFD_GETFD = 438  # on all architectures
UNKNOWN_FD = 0xFFFFFFFF
OF_THE_SOCKET = {errno.ENOTSOCK: errno.ESTALE, errno.EPERM: errno.ECANCELED}
"""What an error means that came from the duplicate. Any other program at cgroup/setsockopt can make the call fail with
EPERM, after ours was called too (bpf_prog_run_array_cg(), kernel/bpf/cgroup.c)."""

libc = ctypes.CDLL(None, use_errno=True)

Ask = tuple[int, int, int, int, int, int]


def duplicate(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2). Raises OSError."""
    made = libc.syscall(ctypes.c_long(SYS_PIDFD_GETFD), pidfd, fd, 0)
    if made < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(made)


class Duplicates:
    """Duplicates of the descriptors of one process after the other."""

    def __init__(self) -> None:
        """Open nothing yet: the first ``of`` opens its process."""
        self._pid = self._pidfd = -1

    def of(self, pid: int, fd: int) -> socket.socket:
        """Return one. Its family and type are not looked up: it may be any file. Raises OSError."""
        if pid != self._pid:
            self.close()
            self._pidfd = os.pidfd_open(pid)
            self._pid = pid
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=duplicate(self._pidfd, fd))

    def close(self) -> None:
        """Close the pidfd of the last process, if any."""
        if self._pid >= 0:
            os.close(self._pidfd)
        self._pid = self._pidfd = -1


class FlagSetter:
    """Works on batches. ``attach`` returns a descriptor that attaches the program while it is open."""

    def __init__(self, attach: Callable[[], int], token: int) -> None:
        """Take ``token``: what the map ``setter`` has."""
        self._attach, self._token = attach, token

    def work(self, asked: Iterable[Ask], until: float) -> list[int]:
        """Return an errno for each that there was time for, 0 where it is done. Raises OSError where it can't attach.

        ESTALE: the descriptor is no longer this socket's. EPERM, EACCES: the process may not be looked into. ENOENT:
        there is nothing to do. ECANCELED: another program refused the call, which ours may have answered.
        """
        done: list[int] = []
        duplicates, link = Duplicates(), self._attach()
        try:
            for each in asked:
                if time.monotonic() >= until:
                    break
                done.append(self._one(duplicates, *each))
        finally:
            os.close(link)
            duplicates.close()
        return done

    def _one(
        self, duplicates: Duplicates, cookie: int, before_ns: int, pid: int, fd: int, flags: int, what: int
    ) -> int:
        try:
            found = duplicates.of(pid, fd)
        except OSError as error:
            return errno.ESTALE if error.errno in (errno.EBADF, errno.ESRCH) else error.errno or errno.EIO
        try:
            if int.from_bytes(found.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder) != cookie:
                return errno.ESTALE
            found.setsockopt(OUR_LEVEL, OUR_OPTION, TOLD.pack(self._token, cookie, before_ns, flags, what))
        except OSError as error:
            return OF_THE_SOCKET.get(error.errno or 0, error.errno or errno.EIO)
        finally:
            found.close()
        return 0

    def answer(self, request: bytes) -> bytes:
        """Work on rows of ASK as ``work``; return an errno (i4) for each, EAGAIN where there was no time."""
        done = self.work(ASK.iter_unpack(request), time.monotonic() + PATIENCE_S)
        left = len(request) // ASK.size - len(done)
        return struct.pack(f"={len(done) + left}i", *done, *[errno.EAGAIN] * left)

    def take_back(self, held: Callable[[], Iterator[tuple[int, int, int]]], before_ns: int, until: float) -> None:
        """Take our flags off the sockets of these descriptors until none is left that has them.

        ``held``: (cookie, pid, fd) of each as of now, listeners first, since children inherit. ``before_ns``: 0, or of
        those older than this only the per-packet flags. Raises OSError.
        """
        what = STRIP if before_ns else GIVE_BACK
        while True:
            asked = ((cookie, before_ns, pid, fd, 0, what) for cookie, pid, fd in held())
            if 0 not in self.work(asked, until) or what == STRIP:
                return
