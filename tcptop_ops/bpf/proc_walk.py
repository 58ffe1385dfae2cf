"""What /proc tells of sockets' descriptors and of network namespaces. One file of the standard library, for the helper.

What most processes have is found by a walk over the processes. What is out of the way takes longer, and is looked for
only where something is missing: a thread may have files of its own (unshare(CLONE_FILES)), a ring of io_uring holds
files that have no descriptor (direct descriptors, io_fixed_fd_install()), and a network namespace may be kept by a
thread alone (/proc/PID/task/TID/ns/net), or by a mount in any mount namespace.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress

OWNER = struct.Struct("=QQQII16sQ")
"""As ``fields.OWNER``: cookie, inode, start (ns since boot), pid, descriptor, comm, image."""

BOUND = "/run/netns"
COUNTED = ("/proc/thread-self/net/netstat", "/proc/thread-self/net/snmp", "/proc/thread-self/net/sockstat")
SOCKET_COUNTS = ("/proc/thread-self/net/sockstat", "/proc/thread-self/net/sockstat6")
TRACKED = "/proc/sys/net/netfilter/nf_conntrack_count"
"""Not there where connection tracking is not loaded (nf_conntrack_standalone_init_sysctl())."""

LIMITED = (
    "ipv4/ip_local_port_range",
    "core/somaxconn",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_mtu_probing",
    "ipv4/tcp_tw_reuse",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_max_tw_buckets",
    "netfilter/nf_conntrack_max",
)
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

KCMP_FILES = 2
SYS_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "loongarch64": 272, "ppc64le": 354, "s390x": 343}

_RING = "anon_inode:[io_uring]"
_IN_RING = re.compile(rb"^\s*\d+: socket:\[(\d+)\]", re.MULTILINE)
"""A socket among UserFiles of a ring's fdinfo (io_uring_show_fdinfo())."""

_STATE, _THREADS, _START, _STACK = 0, 17, 19, 25
"""Fields of /proc/PID/stat behind the name (proc_pid_stat(5)): 3, 20, 22 and 28, less 3."""

libc = ctypes.CDLL(None, use_errno=True)


def stat_of(pid: int, thread: str = "") -> tuple[bytes, list[bytes]]:
    """Return the name of a process, and the fields of /proc/PID/stat behind it: state is the first. Raises OSError.

    ``thread``: the number of one of its threads, whose name and fields are wanted.
    """
    with open(f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat", "rb") as file:
        before, _, after = file.read().rpartition(b")")
    return before.partition(b"(")[2], after.split()


def links(folder: str) -> Iterator[tuple[str, str]]:
    """Yield number and target of each descriptor below ``folder``. Raises OSError where that can't be listed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                yield entry.name, os.readlink(entry.path)


def sockets_of(process: str) -> Iterator[tuple[int, int]]:
    """Inode and number of each descriptor that is a socket."""
    for number, target in links(process + "/fd"):
        if target.startswith("socket:["):
            yield int(target[8:-1]), int(number)


def _processes() -> Iterator[tuple[int, str]]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                yield int(entry.name), entry.path


def _rows(pid: int, held: Iterator[tuple[int, int]]) -> bytearray:
    """OWNER rows of what a process holds. Raises OSError."""
    comm, stat = stat_of(pid)
    start_ns, image = int(stat[_START]) * TICK_NS, int(stat[_STACK])
    rows = bytearray()  # a list of rows takes three times as much
    for inode, descriptor in held:
        rows += OWNER.pack(0, inode, start_ns, pid, descriptor, comm, image)
    return rows


def scan() -> bytearray:
    """OWNER rows without cookies: every socket that /proc shows this user. A system call a descriptor."""
    found = bytearray()
    for pid, path in _processes():
        with suppress(OSError):
            found += _rows(pid, sockets_of(path))
    return found


def threads_of(pid: int) -> list[int]:
    """Return the numbers of a process's threads but the first. Raises OSError."""
    if int(stat_of(pid)[1][_THREADS]) < 2:
        return []
    return [int(name) for name in os.listdir(f"/proc/{pid}/task") if name != str(pid)]


def has_own_files(pid: int, thread: int) -> bool:
    """Whether a thread has another table of files than the first of its process; true where that can't be told."""
    number = SYS_KCMP.get(os.uname().machine)
    return number is None or bool(libc.syscall(number, pid, thread, KCMP_FILES, 0, 0))


def rings_of(process: str) -> Iterator[tuple[int, int]]:
    """Inode of each socket that a ring of io_uring holds, and the ring's descriptor."""
    for number, target in links(process + "/fd"):
        if target == _RING:
            with suppress(OSError), open(f"{process}/fdinfo/{number}", "rb") as file:
                for inode in _IN_RING.findall(file.read()):
                    yield int(inode), int(number)


def hidden() -> bytearray:
    """OWNER rows without cookies, of sockets that are not in /proc/PID/fd."""
    found = bytearray()
    for pid, path in _processes():
        with suppress(OSError):
            found += _rows(pid, rings_of(path))
            for thread in threads_of(pid):
                if has_own_files(pid, thread):
                    own = f"{path}/task/{thread}"
                    found += _rows(pid, sockets_of(own)) + _rows(pid, rings_of(own))
    return found


# --- network namespaces


def namespaces() -> Iterator[str]:
    """Paths that lead to network namespaces: those bound to a file, then one for each process."""
    with suppress(OSError):
        yield from (os.path.join(BOUND, name) for name in os.listdir(BOUND))
    yield from (f"{path}/ns/net" for _, path in _processes())


def hidden_namespaces() -> Iterator[str]:
    """Paths to those that a mount elsewhere keeps, seen from each mount namespace; then one for each thread."""
    seen: set[int] = set()
    for pid, path in _processes():
        with suppress(OSError):
            inode = os.stat(f"{path}/ns/mnt").st_ino
            if inode not in seen:
                seen.add(inode)
                yield from mounted(path)
            yield from (f"{path}/task/{thread}/ns/net" for thread in threads_of(pid))


def mounted(process: str) -> Iterator[str]:
    """Paths by which the network namespaces mounted where a process is are reached from here. Raises OSError."""
    with open(f"{process}/mountinfo", "rb") as file:
        for line in file:
            fields = line.split()  # proc_pid_mountinfo(5): the root within the mount, where it is mounted
            if len(fields) > 4 and fields[3].startswith(b"net:["):
                point = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), fields[4])
                yield f"{process}/root{os.fsdecode(point)}"


def open_counters() -> list[int]:
    """Return descriptors of COUNTED, which go on telling of this namespace, each time that they are read anew.

    The last is that of TRACKED, where there is one.
    """
    found = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in COUNTED]
    with suppress(OSError):
        found.append(os.open(TRACKED, os.O_RDONLY | os.O_CLOEXEC))
    return found


def open_socket_counts() -> list[int]:
    """Return descriptors of SOCKET_COUNTS, alike. The second is missing on a kernel without IPv6. Raises OSError."""
    found = [os.open(SOCKET_COUNTS[0], os.O_RDONLY | os.O_CLOEXEC)]
    with suppress(OSError):
        found.append(os.open(SOCKET_COUNTS[1], os.O_RDONLY | os.O_CLOEXEC))
    return found


SOCKET_COUNTS_ALONE = 2


def counters(which: int) -> tuple[bytes, list[int]]:
    """Return ``limits``, and descriptors. Raises OSError.

    ``which``: 0: no descriptors; 1: those of ``open_counters``; SOCKET_COUNTS_ALONE: those of ``open_socket_counts``,
    and no limits.
    """
    if which == SOCKET_COUNTS_ALONE:
        return b"", open_socket_counts()
    return limits(), open_counters() if which else []


def limits() -> bytes:
    """Return what LIMITED says in this namespace, and ``conntrack_drops``, a line each: 0 for what is not there."""
    return b"".join(_said(f"/proc/sys/net/{name}") or b"0\n" for name in LIMITED) + b"%d\n" % conntrack_drops()


def conntrack_drops() -> int:
    """Return the packets that were dropped since the table of connection tracking had no room for their connection.

    /proc/net/stat/nf_conntrack has a line a processor, in hexadecimal digits: ``drop`` counts what nf_conntrack_in()
    throws away, which it does where __nf_conntrack_alloc() finds the table full and nothing to take out of it.
    """
    names, *processors = _said("/proc/thread-self/net/stat/nf_conntrack").splitlines() or [b""]
    columns = names.split()
    return sum(int(line.split()[columns.index(b"drop")], 16) for line in processors) if b"drop" in columns else 0


def _said(path: str) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
