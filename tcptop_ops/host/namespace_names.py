"""Names of network namespaces: those of the files that they are bound to, by ip-netns(8) and by Docker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tcptop_ops.bpf.helper import OWN
from tcptop_ops.bpf.proc_walk import BOUND

PLACES = (BOUND, "/run/docker/netns")
"""Where they are bound; of a namespace that has two names the first place's counts."""

READ_S = 10.0
"""Seconds between two readings."""


class NamespaceNames:
    """The names by inode number. Made while there is privilege: Docker's directory is root's alone."""

    def __init__(self, places: tuple[str, ...] = PLACES, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the directories; those that exist are opened now, to be read after privilege was given up."""
        self._places: dict[str, int | None] = dict.fromkeys(places)
        self._clock = clock
        self._read_at = float("-inf")
        self._names: Mapping[int, str] = {}
        for place in places:
            with suppress(OSError):
                self._places[place] = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self) -> Mapping[int, str]:
        """Return the names, read at most every READ_S. A mapping that was returned is not changed later."""
        now = self._clock()
        if now - self._read_at >= READ_S:
            self._read_at = now
            names: dict[int, str] = {}
            for place, fd in reversed(self._places.items()):
                names |= _names_in(place, fd)
            self._names = names
        return self._names

    def close(self) -> None:
        """Close the directories. May be called twice."""
        for place, fd in self._places.items():
            if fd is not None:
                os.close(fd)
                self._places[place] = None


def _names_in(place: str, fd: int | None) -> dict[int, str]:
    """Return the names in a directory; by its descriptor only where the path is closed to this user.

    ip-netns(8) mounts its directory once more, which a descriptor from before does not show.
    """
    try:
        return _listed(place, None)
    except PermissionError:
        if fd is None:
            return {}
    except OSError:
        return {}  # it is not there
    with suppress(OSError):
        return _listed(fd, fd)
    return {}


def _listed(directory: str | int, fd: int | None) -> dict[int, str]:
    """Return the names of the namespaces; a plain file there waits for one. Raises OSError for the directory."""
    kind = os.stat(OWN).st_dev
    names: dict[int, str] = {}
    for name in sorted(os.listdir(directory), reverse=True):
        with suppress(OSError):  # removed meanwhile
            found = os.stat(name if fd is not None else os.path.join(str(directory), name), dir_fd=fd)
            if found.st_dev == kind:
                names[found.st_ino] = name
    return names
