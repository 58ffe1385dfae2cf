"""What the processes do whose sockets hold data that nobody takes: running, sleeping, stopped, frozen.

Reads /proc/PID/stat, and the process's cgroup: files that every user may read. Where /proc hides a process
(hidepid of proc(5)), nothing is known of it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from tcptop_ops.bpf.proc_walk import TICK_NS, stat_of
from tcptop_ops.host.owners import COMM_LENGTH
from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.processes import process_keys
from tcptop_ops.model.records import Records

MOST_A_TICK = 64
"""Processes that are looked at in a tick; of more, those that were looked at longest ago."""

MOST_THREADS = 64
"""Threads of a process whose state is read."""

RUNNING, SLEEPING, STOPPED, IN_D, FROZEN, ZOMBIE = "running", "sleeping", "stopped", "in state D", "frozen", "zombie"

BUSY = 0.5
"""Share of one CPU from which a process is said to be running, whatever its first thread does at the moment."""

LEAST_S = 0.5
"""Shortest time, seconds, over which that share is worked out: it is counted in hundredths of a second."""

_STATE, _UTIME, _STIME, _THREADS, _START = 0, 11, 12, 17, 19
"""Fields of /proc/PID/stat behind the name (proc_pid_stat(5)): 3, 14, 15, 20 and 22, less 3."""

_WORDS = {b"R": RUNNING, b"T": STOPPED, b"t": STOPPED, b"D": IN_D, b"Z": ZOMBIE, b"X": ZOMBIE}


@dataclass(frozen=True)
class _Look:
    """A process when it was last looked at."""

    at_s: float  # CLOCK_MONOTONIC
    told: str = ""
    since_s: float = 0.0  # when its time on a CPU was last compared with the one before; CLOCK_MONOTONIC
    cpu_ticks: int = 0  # that time, of all its threads, in clock ticks
    busy: bool = False  # whether BUSY of the time before was spent so


def _look(at_s: float, told: str, cpu_ticks: int, before: _Look | None) -> _Look:
    """Return what was seen of a process that is there, in the light of what was seen before."""
    if before is None or not before.told:
        return _Look(at_s, told, at_s, cpu_ticks)
    since_s, cpu_then, busy = before.since_s, before.cpu_ticks, before.busy
    if at_s - since_s >= LEAST_S:
        busy = (cpu_ticks - cpu_then) * TICK_NS / 1e9 >= BUSY * (at_s - since_s)
        since_s, cpu_then = at_s, cpu_ticks
    return _Look(at_s, RUNNING if busy and told == SLEEPING else told, since_s, cpu_then, busy)


class Activities:
    """Looks at the owners of sockets that are not served, MOST_A_TICK of them a tick. Used by one thread."""

    def __init__(self, cgroup_root: str | None) -> None:
        """Take the directory at which cgroup v2 is mounted; None: it is not."""
        self._cgroup_root = cgroup_root
        self._looks: dict[int, _Look] = {}
        self._last = (np.zeros(0, "u8"), np.zeros(0, "u8"))  # cookies, sorted, and bytes taken out of their queues

    def read(self, sockets: Records, owned: Records) -> dict[int, str]:
        """Return what the processes do, by ``process_keys``; without those of which that is not known.

        Takes the live SOCKET rows and their OWNED rows, aligned. Looked at are the owners of sockets with unread bytes
        of which none were taken since the last call, of those in CLOSE-WAIT, and of listeners with a queue.
        """
        which = self._unserved(sockets)
        if not len(which):
            self._looks = {}
            return {}
        rows = gather(owned, which)
        keys, at = np.unique(process_keys(rows), return_index=True)
        wanted = {
            key: (int(rows["pid"][row]), int(rows["start_ns"][row]), bytes(rows["name"][row]))
            for key, row in zip(keys.tolist(), at.tolist(), strict=True)
            if key
        }
        before = {key: look for key, look in self._looks.items() if key in wanted}
        turn = sorted(wanted, key=lambda key: before[key].at_s if key in before else 0.0)[:MOST_A_TICK]
        frozen: dict[str, bool] = {}
        self._looks = before | {key: self._look(*wanted[key], before.get(key), frozen) for key in turn}
        return {key: look.told for key, look in self._looks.items() if look.told}

    def _unserved(self, sockets: Records) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Return the indices of the sockets whose owners are looked at, and remember what was taken of each."""
        state, queue = sockets["state"].copy(), sockets["recv_q"].copy()
        waits = np.flatnonzero(queue)
        cookies = sockets["cookie"][waits]
        taken = sockets["bytes_received"][waits] - queue[waits]
        order = np.argsort(cookies, kind="stable")
        same = state[waits] == State.LISTEN
        at, found = find_sorted(self._last[0], cookies)
        same[found] |= self._last[1][at[found]] == taken[found]
        self._last = cookies[order], taken[order]
        return np.union1d(waits[same], np.flatnonzero(state == State.CLOSE_WAIT))

    def _look(self, pid: int, start_ns: int, comm: bytes, before: _Look | None, frozen: dict[str, bool]) -> _Look:
        now = time.monotonic()
        try:
            name, stat = stat_of(pid)
            if int(stat[_START]) != start_ns // TICK_NS if start_ns else name != comm[:COMM_LENGTH]:
                return _Look(now)
            cpu = int(stat[_UTIME]) + int(stat[_STIME])
            look = _look(now, self._told(pid, stat, frozen), cpu, before)
        except OSError:
            return _Look(now)
        return replace(look, told=look.told + _inside(pid)) if look.told in (SLEEPING, IN_D) else look

    def _told(self, pid: int, stat: list[bytes], frozen: dict[str, bool]) -> str:
        """Return what a process does, by its first thread's fields of /proc/PID/stat. Raises OSError where it is gone.

        A signal stops all threads; that the first thread is in state D, or has ended, says nothing of the others.
        """
        state = stat[_STATE]
        told = _WORDS.get(state, SLEEPING)
        if state in (b"D", b"Z") and int(stat[_THREADS]) > 1:
            told = _of_threads(pid)
        if told in (SLEEPING, IN_D):  # a task of a frozen cgroup sleeps (do_freezer_trap(), kernel/signal.c)
            cgroup = _cgroup_of(pid)
            if cgroup not in frozen:
                frozen[cgroup] = self._is_frozen(cgroup)
            told = FROZEN if frozen[cgroup] else told
        return told

    def _is_frozen(self, cgroup: str) -> bool:
        """Return whether a cgroup, or one above it, is frozen: cgroup.events of cgroup v2."""
        if self._cgroup_root is None or not cgroup:
            return False
        with suppress(OSError), open(f"{self._cgroup_root}{cgroup}/cgroup.events", "rb") as file:
            return b"frozen 1" in file.read()
        return False


def _of_threads(pid: int) -> str:
    """Return what a process does whose first thread is in state D, or has ended, by the states of all its threads."""
    states: set[bytes] = set()
    for thread in os.listdir(f"/proc/{pid}/task")[:MOST_THREADS]:
        with suppress(OSError):
            states.add(stat_of(pid, thread)[1][_STATE])
    states -= {b"Z", b"X"}
    if len(states) == 1:
        return _WORDS.get(states.pop(), SLEEPING)
    return RUNNING if b"R" in states else SLEEPING if states else ZOMBIE


def _inside(pid: int) -> str:
    """Return ``" in FUNCTION"`` of the kernel in which the first thread sleeps; empty where that is hidden."""
    with suppress(OSError), open(f"/proc/{pid}/wchan", "rb") as file:
        function = file.read().decode(errors="replace")
        return f" in {function}" if function not in ("", "0") else ""
    return ""


def _cgroup_of(pid: int) -> str:
    """Return the path of a process's cgroup v2 below the mount; empty where it has none."""
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        for line in file:
            if line.startswith(b"0::"):
                return os.fsdecode(line[3:].rstrip(b"\n"))
    return ""
