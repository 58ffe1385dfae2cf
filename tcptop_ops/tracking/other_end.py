"""Who reset a connection: told by the other end's row, where that end is on this host, too."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted, gather
from tcptop_ops.model.endings import FAREWELL, RESET, outstanding, unread
from tcptop_ops.model.enums import ResetBy, ResetSeen, State
from tcptop_ops.model.records import Records

_SIDES = (("laddr", "lport", "raddr", "rport"), ("raddr", "rport", "laddr", "lport"))


def reset_by(
    final: Records, codes: NDArray[np.uint8], live: Records, earlier: list[tuple[Records, Records]]
) -> NDArray[np.uint8]:
    """Return who reset each of these closed connections, as ResetBy.

    ``final``: FINAL rows; ``codes``: how they ended (``end_codes``); ``live``: SOCKET rows of those still open;
    ``earlier``: SOCKET and EVENTS rows that closed before. The two ends are found by their addresses and ports,
    crosswise, whatever their namespaces: behind NAT they are not, and of several that fit none is believed.
    """
    sockets, events = final["socket"], final["events"]
    found = np.zeros(len(final), np.uint8)
    is_reset = codes == RESET
    if not is_reset.any():
        return found
    received = events["resets"] & ResetSeen.RECEIVED != 0
    error = final["ending"]["error"]
    aborted, by_us = error == errno.ECONNABORTED, ~received & (error == 0)
    found[is_reset] = np.select([aborted, by_us], [ResetBy.HOST, ResetBy.US], default=ResetBy.UNKNOWN)[is_reset]
    asked = np.flatnonzero(found == ResetBy.UNKNOWN)
    if len(asked):
        found[asked] = _told_by_other_end(gather(sockets, asked), live, [(sockets, events), *earlier])
    return found


def _told_by_other_end(asked: Records, live: Records, closed: list[tuple[Records, Records]]) -> NDArray[np.uint8]:
    """Return what the other ends' rows tell: ResetBy.UNKNOWN where there is none, or more than one."""
    found = np.full(len(asked), ResetBy.UNKNOWN, np.uint8)
    which, at = _other_ends(asked, live)
    found[which] = np.where(live["state"][at] == State.SYN_SENT, ResetBy.UNKNOWN, ResetBy.BETWEEN)
    for sockets, events in closed:
        which, at = _other_ends(asked, sockets)
        ends, told = gather(sockets, at), gather(events, at)
        found[which] = np.where(found[which] == ResetBy.UNKNOWN, _closed_end(ends, told), found[which])
    return found


def _closed_end(sockets: Records, events: Records) -> NDArray[np.uint8]:
    """Return who reset a connection by its other end, which is closed: it sent the reset, or got one itself."""
    sent = events["resets"] & ResetSeen.SENT != 0
    left = unread(sockets, events)
    has_read = (left == 0) | (left <= FAREWELL) & (sockets["bytes_received"] > left)
    lost_nothing = has_read & (outstanding(sockets, events) == 0) & (sockets["inode"] != 0)
    stood = events["states"] & (1 << State.FIN_WAIT1 | 1 << State.LAST_ACK) == 0
    got_one = (events["resets"] & ResetSeen.RECEIVED != 0) & stood
    return np.select(
        [sent & lost_nothing, sent, got_one], [ResetBy.DONE_PEER, ResetBy.PEER, ResetBy.BETWEEN], default=ResetBy.PEER
    ).astype(np.uint8)


def _other_ends(asked: Records, among: Records) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices of those asked for that have exactly one other end among these, and of those ends."""
    likely = np.flatnonzero(np.isin(among["lport"], asked["rport"]) & np.isin(among["rport"], asked["lport"]))
    keys, first, count = np.unique(_keys(gather(among, likely), 1), return_index=True, return_counts=True)
    at, is_there = find_sorted(keys, _keys(asked, 0))
    which = np.flatnonzero(is_there)
    which = which[count[at[which]] == 1]
    return which, likely[first[at[which]]]


def _keys(sockets: Records, side: int) -> NDArray[np.bytes_]:
    """Return the addresses and ports of each row as bytes: as they are (``side`` 0), or as the other end has them."""
    held = np.zeros((len(sockets), 37), np.uint8)
    held[:, 36] = 1  # numpy takes trailing zeros of bytes for padding
    laddr, lport, raddr, rport = _SIDES[side]
    held[:, :16], held[:, 16:32] = sockets[laddr], sockets[raddr]
    for name, to in ((lport, 32), (rport, 34)):
        held[:, to], held[:, to + 1] = sockets[name] >> 8, sockets[name] & 0xFF
    return held.view("S37")[:, 0]
