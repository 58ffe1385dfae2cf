"""Which open sockets are asked to call our program for their events, and which to call it for less.

Callback flags are per socket: one that was open before the program was attached calls nothing, and another program may
overwrite the flags of any. Whoever holds a descriptor of such a socket is asked for a duplicate (``SetFlags``), for
a tenth of a second a tick: what there is no time for waits for the next.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf.attach import ALL_FLAGS, EVENT_FLAGS
from tcptop_ops.bpf.flag_setter import MOST_ASKED, PATIENCE_S, UNKNOWN_FD
from tcptop_ops.errors import Unsupported
from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.enums import FlagRequest, State
from tcptop_ops.model.records import FLAG_ASK, Records

SetFlags = Callable[[Records], NDArray[np.int32]]
"""FLAG_ASK rows -> an errno each, as ``NamespaceAccess.set_flags``."""

PACKET_FLAGS = ALL_FLAGS & ~EVENT_FLAGS
TRIES = 3
"""So often a socket is looked for at its holders: descriptors come and go."""

REST_S = 5.0
"""Seconds until it is tried again, after the program could not be attached, or a socket had no holder."""

_REFUSED = (errno.EPERM, errno.EACCES)
_DONE = (0, errno.ECANCELED)  # the latter perhaps

Cookies = NDArray[np.uint64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Wish:
    """What is wanted at a tick."""

    birth_flags: int  # of a connection that comes now, and of the watched one
    watched: int  # its cookie; 0: none
    reads_flags: bool  # whether SOCKET rows tell the flags
    adopts: bool  # whether sockets without a row of events, and without flags, are to get them


def lacking(sockets: Records, events: Records, wish: Wish) -> tuple[Indices, NDArray[np.uint32]]:
    """Return which sockets lack a row of events or one of the flags wanted, the former first, and all flags wanted.

    A listener never gets the per-packet flags: its children inherit them. What no descriptor can lead to is left out.
    """
    state = sockets["state"]
    wanted = np.full(len(sockets), EVENT_FLAGS, "u4")
    wanted[(sockets["cookie"] == wish.watched) & (state != State.LISTEN)] |= wish.birth_flags
    possible = (state != State.CLOSE) & (sockets["inode"] != 0)
    new = possible & (events["first_ns"] == 0)
    less = possible & ~new & ((sockets["cb_flags"] & wanted) != wanted) & wish.reads_flags
    found = np.concatenate([np.flatnonzero(new), np.flatnonzero(less)])
    return found, wanted[found]


def to_strip(sockets: Records, events: Records, before_ns: int) -> Cookies:
    """Return the cookies of those that have per-packet flags of ours, and began before another program was loaded."""
    ours = sockets["cb_flags"] & PACKET_FLAGS & ~events["found"]
    old = (events["first_ns"] != 0) & (events["first_ns"] < before_ns)
    cookies: Cookies = sockets["cookie"][(ours != 0) & old]
    return cookies


def asks(cookies: Cookies, flags: NDArray[np.uint32], tries: NDArray[np.intp], descriptors: Records) -> Records:
    """Return FLAG_ASK rows of those sockets that a descriptor leads to (OWNER rows), in the order given.

    ``tries``: so often each was looked for in vain: it is another holder's turn where there are several.
    """
    order = np.argsort(cookies, kind="stable")
    at, there = find_sorted(cookies[order], descriptors["cookie"])
    held = np.flatnonzero(there & (descriptors["fd"] != UNKNOWN_FD) & (descriptors["cookie"] != 0))
    of = order[at[held]]
    by_socket = np.argsort(of, kind="stable")
    which, first, count = np.unique(of[by_socket], return_index=True, return_counts=True)
    chosen = held[by_socket[first + tries[which] % count]]
    asked = np.zeros(len(which), FLAG_ASK)
    asked["cookie"], asked["flags"] = cookies[which], flags[which]
    for name in ("pid", "fd"):
        asked[name] = descriptors[name][chosen]
    return asked


class Adoption:
    """Asks at each tick for what is lacking then. Used by one thread."""

    def __init__(self, set_flags: SetFlags) -> None:
        """Take what sets the flags."""
        self._set_flags = set_flags
        self._refused: Cookies = np.zeros(0, "u8")
        self._failed: Cookies = np.zeros(0, "u8")  # once for each try
        self._to_strip: Cookies = np.zeros(0, "u8")
        self._strip_before_ns = 0
        self._unheld: Cookies = np.zeros(0, "u8")  # no descriptor led to them at the last look
        self._seek_at = self._rests_until = 0.0
        self._why_not = ""

    @property
    def note(self) -> str:
        """What a user should know; "" for nothing."""
        if self._why_not:
            return f"open sockets are not adopted: {self._why_not}"
        count = len(self._refused)
        if not count:
            return ""
        sockets = f"{count} open sockets are" if count > 1 else "1 open socket is"
        return f"{sockets} not adopted: the kernel lets nobody look into their processes"

    def strip(self, sockets: Records, events: Records, before_ns: int) -> None:
        """Take the per-packet flags off these from the next ``tend`` on: a program came that was loaded then."""
        self._to_strip, self._strip_before_ns = to_strip(sockets, events, before_ns), before_ns

    def tend(self, sockets: Records, events: Records, wish: Wish, descriptors: Callable[[], Records]) -> bool:
        """Ask for what is lacking, and tell whether there may be new rows of events.

        ``descriptors``: returns OWNER rows; it is called only where there is somebody to ask for.
        """
        if time.monotonic() < self._rests_until:
            return False
        self._forget(sockets["cookie"])
        which, flags = lacking(sockets, events, wish) if wish.adopts else (np.zeros(0, np.intp), np.zeros(0, "u4"))
        cookies = sockets["cookie"][which]
        tries = self._tries(cookies)
        rest = (tries < TRIES) & ~np.isin(cookies, self._refused)
        now = time.monotonic()
        if now >= self._seek_at:
            self._unheld, self._seek_at = np.zeros(0, "u8"), now + REST_S
        rest &= ~np.isin(cookies, self._unheld)
        if not rest.any() and not len(self._to_strip):
            return False
        rows = descriptors()
        adopted = asks(cookies[rest], flags[rest], tries[rest], rows)
        self._unheld = np.union1d(self._unheld, np.setdiff1d(cookies[rest], adopted["cookie"]))
        stripped = asks(self._to_strip, np.zeros(len(self._to_strip), "u4"), self._tries(self._to_strip), rows)
        stripped["what"], stripped["before_ns"] = FlagRequest.STRIP, self._strip_before_ns
        asked = np.concatenate([stripped, adopted])
        has_new, until = False, time.monotonic() + PATIENCE_S
        for at in range(0, len(asked), MOST_ASKED):
            has_new |= self._ask(asked[at : at + MOST_ASKED])
            if self._why_not or time.monotonic() >= until:
                break
        return has_new

    def _ask(self, asked: Records) -> bool:
        if not len(asked):
            return False
        asked = gather(asked, np.argsort(asked["pid"], kind="stable"))
        try:
            answer = self._set_flags(asked)
        except (OSError, Unsupported) as error:
            self._why_not = str(getattr(error, "strerror", None) or error)
            self._rests_until = time.monotonic() + REST_S
            return False
        self._why_not = ""
        self._learn(asked, answer)
        return bool(np.isin(answer, _DONE).any())

    def _learn(self, asked: Records, answer: NDArray[np.int32]) -> None:
        cookies = asked["cookie"]
        refused = np.isin(answer, _REFUSED)
        waits = answer == errno.EAGAIN
        self._refused = np.union1d(self._refused, cookies[refused])
        self._failed = np.concatenate([self._failed, cookies[(answer != 0) & ~refused & ~waits]])
        stripped = cookies[(asked["what"] == FlagRequest.STRIP) & ~waits]
        self._to_strip = self._to_strip[~np.isin(self._to_strip, stripped)]

    def _tries(self, cookies: Cookies) -> NDArray[np.intp]:
        failed, count = np.unique(self._failed, return_counts=True)
        tries = np.zeros(len(cookies), np.intp)
        at, there = find_sorted(failed, cookies)
        tries[there] = count[at[there]]
        return tries

    def _forget(self, cookies: Cookies) -> None:
        """Forget the sockets that are gone."""
        for name in ("_refused", "_failed", "_to_strip"):
            known: Cookies = getattr(self, name)
            if len(known):
                setattr(self, name, known[np.isin(known, cookies)])
