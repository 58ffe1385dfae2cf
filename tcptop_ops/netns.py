"""Which network namespaces exist, and how to be inside one.

A namespace lives through the processes in it, or through a file bound to it below /run/netns (ip-netns(8)).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tcptop_ops.errors import Unsupported

CLONE_NEWNET = 0x40000000
BOUND = "/run/netns"
OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def candidates() -> Iterator[str]:
    """Paths that lead to namespaces: those bound to a file, then one for each process."""
    with suppress(OSError):
        yield from (os.path.join(BOUND, name) for name in os.listdir(BOUND))
    yield from (f"/proc/{pid}/ns/net" for pid in os.listdir("/proc") if pid.isdecimal())


def enter(fd: int) -> None:
    """Move this thread into a network namespace (setns(2)). Raises Unsupported without CAP_SYS_ADMIN."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise Unsupported(f"cannot enter a network namespace: {os.strerror(number)}", "run it as root")


class Namespaces:
    """The namespaces found so far, each kept open by a descriptor: ``fds`` by inode number, one's own first.

    ``refresh`` lets go of a namespace that nothing else holds. A process that hides its namespace is passed over.
    """

    def __init__(self) -> None:
        own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        self.own = os.fstat(own).st_ino
        self.fds: dict[int, int] = {self.own: own}

    def refresh(self) -> None:
        """Look for namespaces that came and went."""
        seen: dict[int, str] = {}
        nsfs = os.fstat(self.fds[self.own]).st_dev
        for path in candidates():
            try:
                found = os.stat(path)
            except OSError:
                continue  # the process ended meanwhile, or it may not be looked at
            if found.st_dev == nsfs:  # below /run/netns a plain file waits for its namespace to be mounted on it
                seen.setdefault(found.st_ino, path)
        for inode in [i for i in self.fds if i not in seen and i != self.own]:
            os.close(self.fds.pop(inode))
        for inode, path in seen.items():
            if inode not in self.fds:
                self._open(inode, path)

    def _open(self, inode: int, path: str) -> None:
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if os.fstat(fd).st_ino == inode:
                self.fds[inode] = fd
            else:
                os.close(fd)

    @contextmanager
    def each(self) -> Iterator[Iterator[int]]:
        """Visit every namespace: yields an iterator of inode numbers, this thread being inside each in turn.

        The thread is back in its own namespace at the end, whatever happened.
        """
        moved = len(self.fds) > 1
        try:
            yield self._visit()
        finally:
            if moved:
                enter(self.fds[self.own])

    def _visit(self) -> Iterator[int]:
        for inode, fd in list(self.fds.items()):
            if inode != self.own or len(self.fds) > 1:
                enter(fd)
            yield inode

    def close(self) -> None:
        """Let go of all."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
