"""Where cgroup v2 is mounted. On hybrid hosts it is not /sys/fs/cgroup: ask /proc/self/mountinfo (proc(5)).

Where it is not mounted at all (a chroot, ``ip netns exec``, a host of cgroup v1), a mount is made that has no place in
any directory: a descriptor holds it, and it is gone with the process.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from functools import cache
from pathlib import Path

from tcptop_ops.errors import Unsupported, Usage

MOUNTINFO = Path("/proc/self/mountinfo")

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # the same on all architectures, since 5.2
_CLOEXEC, _CMD_CREATE = 1, 6  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC; FSCONFIG_CMD_CREATE (linux/mount.h)
_RDONLY_NOSUID_NODEV_NOEXEC = 15  # MOUNT_ATTR_*
_CLONE_NEWCGROUP = 0x02000000

_libc = ctypes.CDLL(None, use_errno=True)


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def parse_mountinfo(text: str) -> list[str]:
    """Return the mount points of cgroup v2: those that show more of the tree first, then in the order of the file."""
    found = []
    for line in text.split("\n"):  # not splitlines(): a path may hold what that takes for the end of a line
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] == "cgroup2":
            top, point = before.split(" ")[3:5]
            found.append((_depth(top), _unescape(point)))
    return [point for _, point in sorted(found, key=lambda each: each[0])]


def _depth(top: str) -> int:
    """How far below the root of this cgroup namespace a mount begins; ``/../..`` is two above it."""
    return sum(-1 if part == ".." else 1 for part in top.split("/") if part)


def mounts() -> list[str]:
    """Return the mount points that can be reached: one may lie under another file system."""
    found = parse_mountinfo(MOUNTINFO.read_text(errors="surrogateescape"))
    return [point for point in found if _is_cgroup(point)]


def root() -> str:
    """Return the top directory of cgroup v2. Raises Unsupported where it is not mounted, and the kernel refuses to."""
    return next(iter(mounts()), None) or _unmounted()


@cache
def _unmounted() -> str:
    """Mount it once a process and return a path to that: the descriptor stays open for as long as the process lives."""
    try:
        fd = _detached_mount()
    except OSError as error:
        raise Unsupported(
            f"cgroup v2 is not mounted, and the kernel refused to mount it: {error.strerror}",
            "run it as root, on Linux 5.2 or later, where cgroup v2 is mounted; or without BPF: --source sockdiag",
        ) from error
    return f"/proc/{os.readlink('/proc/self')}/fd/{fd}"  # the loader, another process, follows it too


def is_unmounted(top: str) -> bool:
    """Whether this top directory is a mount of our own, that has no place."""
    return re.fullmatch(r"/proc/\d+/fd/\d+", top) is not None


def _detached_mount() -> int:
    """Return a descriptor of cgroup v2, read only. Raises OSError.

    A mount from the first cgroup namespace sets the options of the whole host's tree (nsdelegate, memory_recursiveprot)
    to those that it was given: apply_cgroup_root_flags() in kernel/cgroup/cgroup.c. From another one it leaves them. So
    a thread that ends at once opens the file system here, and creates the mount in a namespace of its own.
    """
    done: list[int | OSError] = []

    def mount() -> None:
        try:
            done.append(_mount_from_another_namespace())
        except OSError as error:
            done.append(error)

    thread = threading.Thread(target=mount)
    thread.start()
    thread.join()
    if isinstance(done[0], OSError):
        raise done[0]
    return done[0]


def _mount_from_another_namespace() -> int:
    context = _syscall(_SYS_FSOPEN, b"cgroup2", _CLOEXEC)
    try:
        _checked(_libc.unshare(_CLONE_NEWCGROUP))
        _syscall(_SYS_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return _syscall(_SYS_FSMOUNT, context, _CLOEXEC, _RDONLY_NOSUID_NODEV_NOEXEC)
    finally:
        os.close(context)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call with arguments as wide as they are. Raises OSError."""
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _is_cgroup(directory: str) -> bool:
    return os.path.isfile(os.path.join(directory, "cgroup.procs"))


def is_part(top: str) -> bool:
    """Whether there is more of the host's tree above this top directory: a container's own cgroup namespace.

    Every cgroup has a file cgroup.events but the root of the tree (Documentation/admin-guide/cgroup-v2.rst).
    """
    return os.path.exists(os.path.join(top, "cgroup.events"))


def note(top: str) -> str:
    """Return what is not seen because of where cgroup v2 begins; "" for all seen."""
    if not is_part(top):
        return ""
    return "cgroup v2 begins at this container's own: only its sockets call the program, not the host's"


def resolve(path: str | None) -> tuple[str, str]:
    """Return the directory to attach to, and the top directory above it. ``path``: absolute, or below the top.

    Raises Usage where there is no such cgroup, Unsupported without cgroup v2.
    """
    top = root()
    if path is None:
        return top, top
    if is_unmounted(top):
        return _below_unmounted(path, top), top
    for candidate in (path, os.path.join(top, path.lstrip("/"))) if path else ():
        real = os.path.realpath(candidate)
        if _is_cgroup(real) and (real + "/").startswith(top + "/"):
            return real, top
    raise Usage(f"no cgroup {path}", f"cgroup v2 is mounted at {top}; systemd-cgls shows what is there")


def _below_unmounted(path: str, top: str) -> str:
    """Without realpath(3), which would leave the mount; in cgroup v2 there are no symbolic links."""
    inside = os.path.normpath("/" + path.lstrip("/"))
    found = top if inside == "/" else top + inside
    if path and _is_cgroup(found):
        return found
    raise Usage(f"no cgroup {path}", "cgroup v2 is not mounted here: write the path as /proc/PID/cgroup does")


class Paths:
    """Paths of cgroups by id, which is the inode number of their directory; looked up when an unknown id appears."""

    def __init__(self, mount: str) -> None:
        """Take ``mount``: the top directory that paths begin at."""
        self.mount = mount
        self.names: dict[int, str] = {}
        self._gone: set[int] = set()

    def learn(self, ids: set[int]) -> dict[int, str]:
        """Paths below the mount ("/" is the root) for these ids too; one that is gone has none."""
        unknown = ids - self.names.keys() - self._gone - {0}
        if unknown:
            for directory, _, _ in os.walk(self.mount):
                try:
                    self.names[os.stat(directory).st_ino] = directory[len(self.mount) :] or "/"
                except OSError:
                    continue  # removed meanwhile
            self._gone = (self._gone | unknown) & ids - self.names.keys()
        return self.names
