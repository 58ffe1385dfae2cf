"""What the helper does to its own process: signals, limits, memory, capabilities. Of the standard library alone."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
from contextlib import suppress

PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 4, 15, 38
KEPT = 1 << 2 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39
"""CAP_DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF: namespaces and descriptors of any process."""

M_MMAP_THRESHOLD = -3

libc = ctypes.CDLL(None, use_errno=True)


def outlast_the_monitor() -> None:
    """Ignore the signals that end a whole service or session: work is left to do then. It holds over execve(2)."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def raise_limit() -> None:
    """Allow as many descriptors as the hard limit does: each namespace takes one (RLIMIT_NOFILE)."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def go_on_when_asked(connection: socket.socket) -> None:
    """Have a request, and the end of the pair, continue this process where somebody stopped it.

    Who asks may have no privilege, and not signal it. What the socket sends is allowed to whoever set it so: this
    process (F_SETOWN, fcntl(2); sigio_perm(), fs/fcntl.c). SIGCONT does nothing to one that runs.
    """
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGCONT)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)


def give_memory_back() -> None:
    """Large buffers are the kernel's again once they are freed: that of a scan is needed for a moment (mallopt(3))."""
    with suppress(AttributeError):  # not glibc
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 17)


def confine() -> None:
    """Keep the capabilities that the requests need, and let nobody look into this process."""
    libc.prctl(PR_SET_NAME, b"tcptop-helper", 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    for half in range(2):
        mask = KEPT >> 32 * half & 0xFFFFFFFF
        data[half * 3] &= mask
        data[half * 3 + 1] &= mask
        data[half * 3 + 2] = 0
    libc.capset(header, data)
