"""Counting the local ports that each destination has taken, where a namespace's sockets could have taken nearly all."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.errors import TcptopError
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.addresses import is_loopback_address
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.model.used_ports import USED_PORTS
from tcptop_ops.sources.sock_diag import SockDiag

NEARLY = 0.8
"""Share of the range of local ports from which on a destination is told of."""

COUNT_REST = 300
"""Rest after a count, in multiples of its duration: a proxy has very many sockets in TIME-WAIT."""

REUSED_AFTER_US = 1_000_000
"""Age of a socket in TIME-WAIT from which on tcp_twsk_unique() lets its port be used again, if tcp_tw_reuse says so."""

TIME_WAIT_US = 60_000_000
"""How long a socket stays in TIME-WAIT: TCP_TIMEWAIT_LEN."""

_KEY = ("netns", "laddr", "raddr", "rport")


class UsedPorts:
    """Counts used ports in the namespaces that are reached. Used by one thread."""

    def __init__(self, reach: NamespaceAccess) -> None:
        """Take what gives access to the namespaces: it stays its owner's, who closes it."""
        self._reach = reach
        self._crowded: dict[int, Records] = {}  # by namespace: its NETNS row
        self._found: dict[int, Records] = {}  # by namespace: its USED_PORTS rows
        self._counted = self._counting_s = 0.0

    def read(self, counters: Records, sockets: Records) -> Records:
        """Return USED_PORTS rows of the destinations that have taken NEARLY all ports, or more.

        ``counters``: NETNS rows, those that were read at this tick; ``sockets``: SOCKET rows, the live ones. What is
        returned may be older than these by COUNT_REST, but for a namespace that is among them for the first time.
        """
        for at in range(len(counters)):
            row = counters[at : at + 1]
            if _may_run_out(row, sockets):
                self._crowded[int(row["netns"][0])] = row.copy()
            else:
                self._crowded.pop(int(row["netns"][0]), None)
        now = time.monotonic()
        old = now - self._counted >= COUNT_REST * self._counting_s
        due = [one for one in self._crowded if old or one not in self._found]
        found = {one: self._count(one, self._crowded[one], sockets) for one in due}
        if due:
            took_s = time.monotonic() - now
            self._counted, self._counting_s = now, took_s if old else self._counting_s + took_s
        self._found = {one: rows for one, rows in (self._found | found).items() if one in self._crowded}
        return np.concatenate([np.zeros(0, USED_PORTS), *self._found.values()])

    def _count(self, namespace: int, limits: Records, sockets: Records) -> Records:
        waiting = np.zeros(0, SOCKET)
        with suppress(OSError, TcptopError):  # the namespace is gone
            diag = SockDiag(self._reach.diag(namespace), namespace)
            try:
                waiting = diag.time_wait()
            finally:
                diag.close()
        if not len(waiting) and not (sockets["netns"] == namespace).any():
            del self._crowded[namespace]
        return used(limits, waiting, sockets)


def _may_run_out(row: Records, sockets: Records) -> bool:
    size = _size(row)
    enough = NEARLY * size - float(row["tw"][0])
    if size <= 0 or len(sockets) < enough:
        return False
    return int(np.count_nonzero(sockets["netns"] == row["netns"][0])) >= enough


def _size(row: Records) -> int:
    return int(row["port_high"][0]) - int(row["port_low"][0]) + 1 if row["port_high"][0] else 0


def used(limits: Records, waiting: Records, sockets: Records) -> Records:
    """Return USED_PORTS rows of a namespace. ``limits``: its NETNS row; ``waiting``: its SOCKET rows in TIME-WAIT."""
    namespace, low, high = int(limits["netns"][0]), int(limits["port_low"][0]), int(limits["port_high"][0])
    live = sockets[(sockets["netns"] == namespace) & (sockets["state"] != State.LISTEN)]
    waiting = waiting[~_can_be_used_again(waiting, int(limits["tw_reuse"][0]))]
    both = np.concatenate([_keys(part) for part in (waiting, live)])
    is_waiting = np.arange(len(both)) < len(waiting)
    ports = np.concatenate([waiting["lport"], live["lport"]])
    within = (ports >= low) & (ports <= high) & (both["rport"] != 0)
    both, is_waiting = both[within], is_waiting[within]
    opaque = both.view(f"V{both.itemsize}").reshape(-1)
    _, first, group = np.unique(opaque, return_index=True, return_inverse=True)
    found = np.zeros(len(first), USED_PORTS)
    for name in _KEY:
        found[name] = both[name][first]
    found["time_wait"] = np.bincount(group[is_waiting], minlength=len(first))
    found["open"] = np.bincount(group[~is_waiting], minlength=len(first))
    found["port_low"], found["port_high"] = low, high
    full: Records = found[found["time_wait"] + found["open"] >= NEARLY * _size(limits)]
    return full


def _keys(sockets: Records) -> Records:
    found = np.zeros(len(sockets), [(name, SOCKET[name]) for name in _KEY])
    for name in _KEY:
        found[name] = sockets[name]
    return found


def _can_be_used_again(waiting: Records, reuse: int) -> NDArray[np.bool_]:
    """Return which ports in TIME-WAIT a connect() may take. ``reuse``: net.ipv4.tcp_tw_reuse, 2: on loopback only."""
    old = (waiting["timer_us"] <= TIME_WAIT_US - REUSED_AFTER_US) & (waiting["state"] == State.TIME_WAIT)
    on_loopback = is_loopback_address(waiting["laddr"]) & is_loopback_address(waiting["raddr"])
    found: NDArray[np.bool_] = old & (on_loopback | (reuse == 1)) & (reuse != 0)
    return found
