"""Where cgroup v2 is mounted. On hybrid hosts it is not /sys/fs/cgroup: ask /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tcptop_ops.errors import Unsupported, Usage

MOUNTINFO = Path("/proc/self/mountinfo")


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def parse_mountinfo(text: str) -> list[str]:
    """The mount points of cgroup v2, in the order of the file."""
    found = []
    for line in text.split("\n"):  # not splitlines(): a path may hold what that takes for the end of a line
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] == "cgroup2":
            found.append(_unescape(before.split(" ")[4]))
    return found


def root() -> str:
    """The mount point of cgroup v2. Raises Unsupported where it isn't mounted."""
    mounts = parse_mountinfo(MOUNTINFO.read_text(errors="surrogateescape"))
    if not mounts:
        raise Unsupported(
            "cgroup v2 is not mounted",
            "mount it (mount -t cgroup2 none /mnt), or watch without BPF: --source sockdiag",
        )
    return mounts[0]


def resolve(path: str | None) -> tuple[str, str]:
    """The directory to attach to, and the mount it belongs to. ``path``: absolute, or below the mount.

    Raises Usage where there is no such cgroup, Unsupported without cgroup v2.
    """
    mount = root()
    if path is None:
        return mount, mount
    for candidate in (path, os.path.join(mount, path.lstrip("/"))) if path else ():
        real = os.path.realpath(candidate)
        if os.path.isfile(os.path.join(real, "cgroup.procs")) and (real + "/").startswith(mount + "/"):
            return real, mount
    raise Usage(f"no cgroup {path}", f"cgroup v2 is mounted at {mount}; systemd-cgls shows what is there")


class Paths:
    """Paths of cgroups by id, which is the inode number of their directory; looked up when an unknown id appears."""

    def __init__(self, mount: str) -> None:
        self._mount = mount
        self.names: dict[int, str] = {}
        self._gone: set[int] = set()

    def learn(self, ids: set[int]) -> dict[int, str]:
        """Paths below the mount ("/" is the root) for these ids too; one that is gone has none."""
        unknown = ids - self.names.keys() - self._gone - {0}
        if unknown:
            for directory, _, _ in os.walk(self._mount):
                try:
                    self.names[os.stat(directory).st_ino] = directory[len(self._mount) :] or "/"
                except OSError:
                    continue  # removed meanwhile
            self._gone |= unknown - self.names.keys()
        return self.names
