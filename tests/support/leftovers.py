"""What a test lab leaves in the kernel, and how it is taken away again.

A lab names everything that it makes with one prefix, ``tct-<owner pid>-<random>``: network namespaces, one cgroup
(its processes live in there, or below), tracefs instances. So a prefix is all that is needed to undo a lab, and the
owner's pid in it tells whether anybody still wants it.

Run as a program (``python -I leftovers.py PREFIX``) it is the lab's watcher: it waits for the end of its standard
input, which comes when the owner closes the pipe or dies, be it by SIGKILL, and then takes away what is there. That
is why this file imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MARK = "tct-"
NETNS = Path("/run/netns")  # where iproute2 keeps the names of namespaces


def wait_until(predicate: Callable[[], T], timeout: float = 5.0, what: str = "the condition") -> T:
    """Ask until the answer is true and return it; raise TimeoutError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline  # looked at before asking: the last answer is never older than the deadline
        answer = predicate()
        if answer:
            return answer
        if late:
            raise TimeoutError(f"{what} did not come true within {timeout:g} s")
        time.sleep(0.005)


def mounts(kind: str) -> list[Path]:
    """Where file systems of this type are mounted, whole, as /proc/self/mountinfo tells."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        ours, _, theirs = line.partition(" - ")
        root, point = ours.split()[3:5]
        if theirs.split()[0] == kind and root == "/":
            found.append(Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)))
    return found


def cgroup2_mount() -> Path | None:
    """The root of the cgroup v2 tree; on hybrid hosts not /sys/fs/cgroup."""
    return next(iter(mounts("cgroup2")), None)


def memory_mount() -> Path | None:
    """The root of the memory controller's tree of cgroup v1; None where that is not mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    options = {line.split()[4]: line.split()[-1] for line in lines}
    return next((point for point in mounts("cgroup") if "memory" in options.get(str(point), "").split(",")), None)


@contextlib.contextmanager
def tracefs() -> Iterator[Path]:
    """The root of tracefs, which often is not mounted: through a mount of our own, that ends with its descriptor."""
    with tempfile.TemporaryDirectory(prefix=MARK) as point:
        subprocess.run(["mount", "-t", "tracefs", "nodev", point], check=True, capture_output=True)
        root = os.open(point, os.O_PATH | os.O_DIRECTORY)
        subprocess.run(["umount", "--lazy", point], check=True)  # it lives on for as long as the descriptor does
    try:
        yield Path(f"/proc/self/fd/{root}")
    finally:
        os.close(root)


def owner_of(name: str) -> int | None:
    """The pid in a name that a lab gave, or None if no lab gave it."""
    match = re.match(rf"{MARK}(\d+)-", name)
    return int(match[1]) if match else None


def existing(prefix: str) -> list[str]:
    """Everything that labs of this prefix still have: namespaces, cgroups, tracefs instances."""
    with contextlib.ExitStack() as stack:
        found = [*_namespaces(prefix), *_cgroups(prefix), *_instances(prefix, stack)]
        return [str(path) for path in found]


def remove(prefix: str) -> None:
    """Undo a lab: end its processes, delete its cgroups, namespaces and trace instances. Safe to repeat."""
    for cgroup in _cgroups(prefix):
        _remove_cgroup(cgroup)
    for namespace in _namespaces(prefix):
        subprocess.run(["ip", "netns", "delete", namespace.name], check=False, capture_output=True)
    with contextlib.ExitStack() as stack:
        for instance in _instances(prefix, stack):
            _remove_directory(instance)
    if left := existing(prefix):
        raise RuntimeError(f"could not remove {', '.join(left)}")


def sweep_leftovers() -> list[str]:
    """Remove what labs of dead owners left; return what that was."""
    swept = []
    for name in sorted({Path(path).name for path in existing(MARK)}):
        owner = owner_of(name)
        if owner is not None and not Path(f"/proc/{owner}").exists():
            remove(name)
            swept.append(name)
    return swept


def _namespaces(prefix: str) -> list[Path]:
    return sorted(NETNS.glob(f"{prefix}*"))


def _cgroups(prefix: str) -> list[Path]:
    return sorted(path for root in (cgroup2_mount(), memory_mount()) if root for path in root.glob(f"{prefix}*"))


def _instances(prefix: str, stack: contextlib.ExitStack) -> list[Path]:
    """The trace instances, for as long as the stack is open; none where tracefs can't be mounted, as none was made."""
    try:
        root = stack.enter_context(tracefs())
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted((root / "instances").glob(f"{prefix}*"))


def _remove_cgroup(cgroup: Path) -> None:
    """End whoever is inside, and remove the directories from the leaves up."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        wait_until(functools.partial(_emptied, Path(directory)), what=f"the end of {directory}")


def _emptied(cgroup: Path) -> bool:
    """One try: the owner moves out, the others are killed, and the directory goes once they are gone."""
    owner = owner_of(next(part for part in cgroup.parts if part.startswith(MARK)))
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for pid in map(int, (cgroup / "cgroup.procs").read_text().split()):
            if pid == owner:
                (_mount_of(cgroup) / "cgroup.procs").write_text(str(pid))
            else:
                os.kill(pid, signal.SIGKILL)
    return _remove_directory(cgroup)


def _mount_of(cgroup: Path) -> Path:
    return next(parent for parent in cgroup.parents if not any(part.startswith(MARK) for part in parent.parts))


def _remove_directory(path: Path) -> bool:
    """Whether it is gone now; a busy one is not."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.stdin.read()
    remove(sys.argv[1])
