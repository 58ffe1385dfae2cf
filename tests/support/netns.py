"""Tools and functions run inside a network namespace."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.support.leftovers import NETNS

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h


class LabError(RuntimeError):
    """The machine refused something that the lab needs; the message is what the tool said."""


def run(argv: Sequence[str], *, ns: str | None = None, text: str = "") -> str:
    """Run a tool to its end, in a namespace if one is named, and return what it printed."""
    done = subprocess.run([*entering(ns), *argv], input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def entering(ns: str | None) -> list[str]:
    """Return the words before a command that runs in a namespace.

    Not ``ip netns exec``: that mounts another /sys, and a program that looks for cgroups would find none.
    """
    return ["nsenter", f"--net={NETNS / ns}", "--"] if ns else []


def in_netns(ns: str, function: Callable[[], T]) -> T:
    """Call a function in a thread of this process that has entered the namespace: its sockets stay in there."""

    def there() -> T:
        _enter(ns)
        return function()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(there).result()


def _enter(ns: str) -> None:
    """Move the calling thread, for good. Through libc, as os.setns is of CPython 3.12."""
    with open(NETNS / ns, "rb") as handle:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {ns}")
