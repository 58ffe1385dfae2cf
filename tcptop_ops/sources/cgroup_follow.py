"""The cgroup of --cgroup, followed: a service that restarts has its directory removed and made again.

The kernel forgets what is attached to a directory when that is removed (cgroup_bpf_offline, kernel/bpf/cgroup.c), once
its last socket is gone; another directory at the same path is another cgroup, with a number of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.errors import Unsupported
from tcptop_ops.model.arrays import distinct
from tcptop_ops.text import printable

FOLLOWED = 8
"""Directories of a cgroup that is removed and made again: so many of the last are remembered."""

TOLD_S = 60.0
"""So long a note tells that the directory was made again."""


class CgroupMembers:
    """Which sockets belong to a cgroup or one below it, told by the number of the cgroup that each was made in."""

    def __init__(self, path: str) -> None:
        """Take ``path``: the cgroup's directory, which need not be there."""
        self._path = path
        self._ids: set[int] = set()

    def among(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return a mask of the sockets of these cgroup ids that belong to it.

        A socket can outlive the directory: its process has moved, or it waits for its peer's last segments. So the
        ids of directories that are gone are remembered for as long as any socket has them.
        """
        self._ids.intersection_update(distinct(ids).tolist())
        for directory, _, _ in os.walk(self._path):
            with suppress(OSError):  # removed meanwhile
                self._ids.add(os.stat(directory).st_ino)
        return np.isin(ids, np.fromiter(self._ids, np.uint64, len(self._ids)))


class FollowedCgroup:
    """Sees that the cgroup's directory is another one, attaches to that, and says so in a note. Used by one thread.

    ``path``: the directory; ``ids``: inode numbers of those that were there, the newest first, at most FOLLOWED.
    """

    def __init__(
        self,
        path: str,
        top: str,
        inode: int,
        attach: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the directory and the mount above it, and the inode number of the directory that is attached to.

        ``attach``: see ``NamespaceAccess.attach_again``; None: there is nothing to attach.
        """
        self.path, self._name = path, printable(path.removeprefix(top))
        self._attach, self._clock = attach, clock
        self._links: list[int] = []
        self._inode = inode
        self._removed_at = self._made_at = 0.0
        self._times = 0
        self._why_not = ""
        self.ids = [inode]

    @property
    def attached(self) -> bool:
        """Whether its directory is there, and attached to."""
        return not self._removed_at and not self._why_not

    @property
    def is_refused(self) -> bool:
        """Whether its directory is there, and what happens in it is not told."""
        return bool(self._why_not) and not self._removed_at

    def look(self) -> bool:
        """Look at the directory; attach if it is another one. Return whether ``ids`` changed."""
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            self._removed_at = self._removed_at or self._clock()
            return False
        except OSError:
            return False  # it can't be looked at: nobody knows
        if inode == self._inode:
            self._removed_at = 0.0
            return False
        before = self.ids[0]
        if inode != before:
            self._begin(inode)
        self._follow()
        return self.ids[0] != before

    def _begin(self, inode: int) -> None:
        """Another directory is there, of which nothing is told yet."""
        self.ids = [inode, *self.ids][:FOLLOWED]
        self._made_at, self._removed_at = self._clock(), 0.0
        self._times += 1

    def _follow(self) -> None:
        if self._attach is None:
            self._inode = self.ids[0]
            return
        try:
            inode, link = self._attach()
        except FileNotFoundError:
            self._removed_at = self._clock()
            return
        except Unsupported as reason:
            self._why_not = f"{reason.message}: {reason.hint}"
            return
        except OSError as error:
            self._why_not = f"the kernel refused: {error.strerror}"
            return
        if inode != self.ids[0]:
            self._begin(inode)
        self._inode, self._removed_at, self._why_not = inode, 0.0, ""
        self._keep(link)

    def _keep(self, link: int) -> None:
        """Keep the links of earlier directories open too: what their last sockets do is still told."""
        self._links.append(link)
        while len(self._links) > FOLLOWED:
            os.close(self._links.pop(0))

    @property
    def note(self) -> str:
        """What a user should know; "": nothing."""
        if self._removed_at:
            return f"cgroup {self._name} was removed at {_clock(self._removed_at)}: waiting for it to be made again"
        made = f"removed and made again at {_clock(self._made_at)}"
        if self._why_not:
            return (
                f"cgroup {self._name} was {made}, and is not attached to ({self._why_not}); its sockets are only polled"
            )
        if not self._times or self._clock() - self._made_at > TOLD_S:
            return ""
        often = f" ({self._times} times so far)" if self._times > 1 else ""
        return f"{'attached again to' if self._attach else 'following'} cgroup {self._name}: it was {made}{often}"

    def close(self) -> None:
        """Detach from the directories that were made again."""
        while self._links:
            os.close(self._links.pop())


def _clock(time_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_s))
