"""The sockets that no descriptor shows, found by sock_diag: only what a pass over all descriptors leaves.

These are connections that wait for accept(), orphans in a closing state, what is in flight by SCM_RIGHTS, the kernel's
own, direct descriptors of io_uring, subflows of MPTCP, and sockets of processes in no PID namespace of ours.

How many there are is told by what the kernel counts in a namespace, less those that are held. Where that is nothing,
and no handshake began, nobody is asked. What was found once is asked for by its address and cookie from then on. What
is new is looked for first among the closing states, whose dump costs a walk of the kernel's hash and no message for any
other socket, then among all. Both are bounded by shares of a processor (``CpuShare``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.errors import TcptopError
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.host.socket_counts import Counts, SocketCounts, most_kept
from tcptop_ops.model.arrays import distinct, find_sorted, gather, scatter
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources.cgroup_follow import CgroupMembers
from tcptop_ops.sources.cpu_share import Clock, CpuShare
from tcptop_ops.sources.inet_diag import AF_INET, DumpBuffer
from tcptop_ops.sources.namespace_sweep import Sweep
from tcptop_ops.sources.sock_diag import STAYING, SockDiag, new_buffer
from tcptop_ops.sources.socket_state import SocketState
from tcptop_ops.sources.time_wait import TimeWait

WALK_SHARE = 0.03
"""Most of a processor for dumps of the closing states: in a second, four walks of a hash with 100,000 sockets."""

GUESS_SHARE = 0.01
"""Most of a processor for such dumps where somebody listens, and nothing says that there is any."""

SEARCH_SHARE = 0.03
"""Most of a processor for looking through all sockets of a namespace where some are missing."""

SMALL, SMALL_SHARE = 2000, 0.02
"""A namespace with less sockets than this has a share of its own: a large one must not keep all others from it."""

CHECK_SHARE = 0.005
"""Most of a processor for the same where none is missing."""

CHECK_S = 10.0
"""Seconds between two looks through all sockets of a namespace where none is missing, at the least."""

LOOKED_S = 10.0
"""A namespace without sockets is looked at every so many seconds, but LOOKED_A_TICK at a read."""

LOOKED_A_TICK = 100

DUMPED_US, ASKED_US = 1.5, 9.0
"""CPU time of a socket in a dump with its struct tcp_info, and of asking for one alone: microseconds, measured."""

WALK_US, WALKED_US = 1800.0, 0.07
"""CPU time of a walk of the kernel's hash, and of each socket in it that is in no state that is asked for."""

CLOSING = (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)

NEVER = float("-inf")


@dataclass(frozen=True)
class _Held:
    """How many sockets of a namespace are held, of those that the kernel counts; and whether one listens."""

    inet: int = 0
    inet6: int = 0
    listens: bool = False


@dataclass(frozen=True)
class _Expected:
    """What one read expects of a namespace."""

    number: int
    held: _Held
    is_told: bool  # whether the kernel's count was asked for at this read
    counts: Counts | None  # None: the kernel does not tell

    def missing(self, found: Records) -> int:
        """Return how many sockets of either family are neither held nor among ``found``. Not told: perhaps one."""
        if self.counts is None:
            return int(self.is_told)
        inet = int(np.count_nonzero(found["family"] == AF_INET)) if len(found) else 0
        inet6 = len(found) - inet
        return max(self.counts.inet - self.held.inet - inet, 0) + max(self.counts.inet6 - self.held.inet6 - inet6, 0)

    @property
    def everybody(self) -> int:
        """How many sockets there are, about."""
        return sum(self.counts[:2]) if self.counts else self.held.inet + self.held.inet6


@dataclass
class _Place:
    """What is known of a namespace between two reads."""

    number: int
    diag: SockDiag | None = None
    searched_at: float = NEVER
    walked_at: float = NEVER
    shaken: int = -1  # how many handshakes had begun on the host at the last walk
    unexplained: int = 0  # sockets that the kernel has counted since, and the last search did not find
    silent: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, "u8"))  # what did not answer it then
    answers: bool = True  # whether each socket that is asked for is told
    half_open: Records = field(default_factory=lambda: np.zeros(0, SOCKET))


class _Cookies:
    """Those of the sockets that are held: sorted when they are first asked for."""

    def __init__(self, held: Records) -> None:
        self._held = held
        self._sorted: NDArray[np.uint64] | None = None

    @property
    def sorted(self) -> NDArray[np.uint64]:
        if self._sorted is None:
            self._sorted = np.sort(self._held["cookie"])
        return self._sorted

    def lack(self, sockets: Records) -> NDArray[np.bool_]:
        """Return which of these rows are not held."""
        return ~find_sorted(self.sorted, sockets["cookie"])[1] if len(sockets) else np.zeros(0, np.bool_)


class UnheldReader:
    """Finds them in every namespace that is reached: ``UnheldSockets``. Used by one thread.

    ``members``: only the sockets of this cgroup are wanted, and held; then counts, which are of all, tell nothing.
    """

    def __init__(
        self,
        reach: NamespaceAccess,
        sweep: Sweep | None = None,
        members: CgroupMembers | None = None,
        handshakes: Callable[[], int] | None = None,
        clock: Clock = time.monotonic,
        cpu: Clock = time.thread_time,
    ) -> None:
        """Take what gives access to the namespaces, and stays its owner's, and what knows which there are.

        ``handshakes``: returns how many handshakes have begun on this host, as far as a sock_ops program was called for
        them, so that nobody is in SYN-RECV where it stays the same; None: that is not known.
        """
        self._reach, self._sweep, self._members, self._clock = reach, sweep or Sweep(reach), members, clock
        self._counts, self._time_wait = SocketCounts(reach), TimeWait(clock, cpu)
        self._walks, self._guesses = CpuShare(WALK_SHARE, clock, cpu), CpuShare(GUESS_SHARE, clock, cpu)
        self._searches, self._small_searches = CpuShare(SEARCH_SHARE, clock, cpu), CpuShare(SMALL_SHARE, clock, cpu)
        self._checks = CpuShare(CHECK_SHARE, clock, cpu)
        self._handshakes, self._shaken = handshakes, 0
        self._places: dict[int, _Place] = {}
        self._empty: dict[int, float] = {}  # namespaces without sockets: when they were looked at
        self._newest, self._oldest = DumpBuffer(), DumpBuffer()
        self._last: Records = np.zeros(0, SOCKET)
        self._buffer, self._most = new_buffer(), most_kept()

    def read(self, held: Records) -> SocketState:
        """See UnheldSockets. One that this read can't afford to look for is told by a later one."""
        self._newest, self._oldest = self._oldest, self._newest
        self._newest.cut(0)
        before = self._last
        if self._sweep.refresh():
            self._forget(self._sweep.found)
        self._shaken = self._shaken + 1 if self._handshakes is None else self._handshakes()
        cookies = _Cookies(held)
        known = gather(before, cookies.lack(before))
        by_namespace = _tally(held)
        wanted = by_namespace.keys() | set(distinct(known["netns"].copy()).tolist()) | {self._reach.own}
        wanted |= (self._sweep.found - self._empty.keys()) | self._turn(wanted)
        counts = self._counts.read(wanted)
        self._note(counts)
        hides = self._members is not None
        expected = [
            _Expected(one, by_namespace.get(one, _Held()), one in counts, None if hides else counts.get(one))
            for one in wanted
            if counts.get(one) is None or one not in self._empty
        ]
        half_open = [before[:0]]
        for one, account in self._in_order(expected, set(distinct(known["netns"].copy()).tolist())):
            if account is not None and not account.allows:
                continue
            place = self._places.setdefault(one.number, _Place(one.number))
            with suppress(OSError, TcptopError):  # the namespace is gone meanwhile
                self._look(one, place, gather(known, known["netns"] == one.number), cookies)
            half_open += [place.half_open] if len(place.half_open) else []
        time_wait = self._time_wait.learn(counts, self._diag)
        self._let_go()
        self._last, waiting = _once(self._newest.all()), np.concatenate(half_open)
        return SocketState(self._last, before, waiting, time_wait, len(waiting))

    def _turn(self, wanted: Iterable[int]) -> set[int]:
        """Return those of the namespaces without sockets whose turn it is to be looked at."""
        long_ago = self._clock() - LOOKED_S
        due = [one for one in self._empty.keys() & self._sweep.found - set(wanted) if self._empty[one] <= long_ago]
        return set(sorted(due, key=self._empty.__getitem__)[:LOOKED_A_TICK])

    def _note(self, counts: dict[int, Counts | None]) -> None:
        """Remember which namespaces have no sockets, so that they need not be read each time."""
        now = self._clock()
        for one, of in counts.items():
            if of is not None and not any(of):
                self._empty[one] = now
            else:
                self._empty.pop(one, None)

    def _in_order(self, expected: list[_Expected], inhabited: set[int]) -> list[tuple[_Expected, CpuShare | None]]:
        """Return those in which something may be asked: first where a socket is missing, then the longest not asked.

        With each comes the account that must allow it, if there is one. ``inhabited``: the namespaces in which unheld
        sockets are known.
        """
        nothing, unknown, found = self._last[:0], _Place(0), []
        for one in expected:
            place = self._places.get(one.number, unknown)
            missing = one.missing(nothing)
            place.unexplained = min(place.unexplained, missing)
            is_missing = missing > place.unexplained
            if is_missing or one.number in inhabited or len(place.half_open):
                account = None
            elif one.held.listens and place.shaken != self._shaken:
                account = self._guesses
            elif self._is_check_due(place):
                account = self._checks
            else:
                continue
            found.append((not is_missing, max(place.walked_at, place.searched_at), one.number, one, account))
        return [(one, account) for *_, one, account in sorted(found, key=lambda of: of[:3])]

    def _look(self, expected: _Expected, place: _Place, known: Records, cookies: _Cookies) -> None:
        """Append what is found in a namespace to the rows. Raises OSError or TcptopError where it can't be asked."""
        start, rows = len(self._newest), self._newest
        listens = expected.held.listens or bool((known["state"] == State.LISTEN).any())
        missing = expected.missing(known)
        place.unexplained = min(place.unexplained, missing)
        is_likely = missing > place.unexplained or len(place.half_open) > 0 or _are_many(known, expected)
        if is_likely and self._walks.allows:
            self._walk(place, cookies, self._walks)
        elif listens and place.shaken != self._shaken and self._guesses.allows:
            self._walk(place, cookies, self._guesses)
        elif not listens:
            place.half_open = self._last[:0]
        self._follow(expected, place, known, start, cookies)
        is_missing = expected.missing(rows.all(start)) > place.unexplained
        searches = self._small_searches if expected.everybody < SMALL else self._searches
        account = searches if is_missing else self._checks
        if (is_missing or self._is_check_due(place)) and account.allows:
            with account.spent():
                self._search(expected, place, start, cookies)

    def _is_check_due(self, place: _Place) -> bool:
        return self._clock() - place.searched_at >= CHECK_S

    def _walk(self, place: _Place, cookies: _Cookies, account: CpuShare) -> None:
        """Append what is in a closing state, and learn what is in SYN-RECV."""
        start = len(self._newest)
        with account.spent():
            found, place.half_open = self._diag(place.number).add_passing(self._newest)
            self._keep(start, cookies.lack(found.sockets))
        place.walked_at, place.shaken = self._clock(), self._shaken

    def _search(self, expected: _Expected, place: _Place, start: int, cookies: _Cookies) -> None:
        """Look through all sockets for those that are neither held nor told: ``start`` is where those rows begin.

        One that is there at two searches and answers no question, for whatever reason, is told by dumps from then on.
        """
        rows, place.answers = self._newest, True
        found = self._diag(place.number).others(np.union1d(cookies.sorted, rows.all(start)["cookie"]))
        found = self._wanted(found)
        self._follow(expected, place, found, start, cookies)
        silent = found["cookie"][~np.isin(found["cookie"], rows.all(start)["cookie"])]
        if np.isin(silent, place.silent).any():
            place.answers = False
            self._dump(place, STAYING, start, cookies)
        place.silent, place.searched_at = silent, self._clock()
        left = expected.missing(rows.all(start)) if expected.counts else 0
        place.unexplained = max(left - len(silent), 0)

    def _follow(self, expected: _Expected, place: _Place, known: Records, start: int, cookies: _Cookies) -> None:
        """Append these sockets as they are now, but for those that are told: ``start`` is where those rows begin."""
        known = gather(known, ~np.isin(known["cookie"], self._newest.all(start)["cookie"]))
        if not len(known):
            return
        if not place.answers or len(known) * ASKED_US > WALK_US + expected.everybody * DUMPED_US:
            self._dump(place, STAYING, start, cookies)
            return
        self._diag(place.number).ask(known, self._newest)
        listeners = known["cookie"][known["state"] == State.LISTEN]
        if not np.isin(listeners, self._newest.all(start)["cookie"]).all():  # of several at one port one answers
            self._dump(place, 1 << State.LISTEN, start, cookies)

    def _dump(self, place: _Place, states: int, start: int, cookies: _Cookies) -> None:
        """Append all sockets in these states that are neither held nor told."""
        at = len(self._newest)
        told = self._newest.all(start)["cookie"].copy()
        found = self._diag(place.number).add_to(self._newest, states).sockets
        self._keep(at, cookies.lack(found) & ~np.isin(found["cookie"], told))

    def _wanted(self, sockets: Records) -> Records:
        return sockets if self._members is None else gather(sockets, self._members.among(sockets["cgroup_id"]))

    def _keep(self, start: int, which: NDArray[np.bool_]) -> None:
        """Keep, of the rows from ``start`` on, these, if they are wanted."""
        kept = self._wanted(gather(self._newest.all(start), which))
        self._newest.cut(start)
        scatter(self._newest.add(len(kept)), np.ones(len(kept), np.bool_), kept)

    def _diag(self, namespace: int) -> SockDiag:
        """Return what asks there. Raises OSError or Unsupported where it can't be."""
        place = self._places.setdefault(namespace, _Place(namespace))
        if place.diag is None:
            place.diag = SockDiag(self._reach.diag(namespace), namespace, self._buffer)
        return place.diag

    def _forget(self, found: set[int]) -> None:
        """Let go of all other namespaces: what is open of one keeps it alive."""
        self._empty = {one: at for one, at in self._empty.items() if one in found}
        self._counts.let_go(found)
        self._time_wait.keep(found)
        for one in self._places.keys() - found:
            _close(self._places.pop(one))

    def _let_go(self) -> None:
        """Close what is open of namespaces without sockets, and of some others if it is much."""
        for one in self._places.keys() & self._empty.keys():
            _close(self._places.pop(one))
        opened = [place for place in self._places.values() if place.diag is not None]
        if len(opened) > self._most:
            for place in sorted(opened, key=lambda one: one.walked_at)[: len(opened) - self._most]:
                _close(place)

    def devices(self, sockets: Records) -> dict[int, str]:
        """See UnheldSockets."""
        return self._sweep.devices(sockets)

    def expire(self) -> None:
        """See UnheldSockets."""
        self._sweep.expire()

    def close(self) -> None:
        """See UnheldSockets. ``reach`` stays open, its owner closes it."""
        self._forget(set())


def _close(place: _Place) -> None:
    if place.diag is not None:
        place.diag.close()
        place.diag = None


def _tally(held: Records) -> dict[int, _Held]:
    """Return how many of these SOCKET rows the kernel counts, by namespace."""
    keys = held["netns"].astype("u8") << np.uint64(16)
    keys |= (held["family"] == AF_INET).astype("u8") << np.uint64(8)
    keys |= held["state"]
    found: dict[int, _Held] = {}
    for key, count in zip(*_counted(keys), strict=True):
        namespace, state, old = key >> 16, key & 0xFF, found.get(key >> 16, _Held())
        if state != State.CLOSE:
            inet = count if key & 0x100 else 0
            listens = old.listens or state == State.LISTEN
            found[namespace] = _Held(old.inet + inet, old.inet6 + count - inet, listens)
    return found


def _counted(keys: NDArray[np.uint64]) -> tuple[list[int], list[int]]:
    """Return the distinct ones, and how often each is there: without sorting them where they are few."""
    found = distinct(keys)
    if len(found) <= 8:
        return found.tolist(), [int(np.count_nonzero(keys == key)) for key in found]
    _, counts = np.unique(keys, return_counts=True)
    return found.tolist(), counts.tolist()


def _are_many(known: Records, expected: _Expected) -> bool:
    """Whether so many of these are in a closing state that a walk costs less than asking for each."""
    return bool(np.isin(known["state"], CLOSING).sum() * ASKED_US > WALK_US + expected.everybody * WALKED_US)


def _once(found: Records) -> Records:
    """Return each socket once: a bucket of the kernel's hash may change between two parts of a dump."""
    _, first = np.unique(found["cookie"], return_index=True)
    return found if len(first) == len(found) else gather(found, np.sort(first))
