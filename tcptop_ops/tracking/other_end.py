"""Who reset a connection: told by the other end's row, where that end is on this host, too."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import gather
from tcptop_ops.model.endings import FAREWELL, RESET, outstanding, unread
from tcptop_ops.model.enums import ResetBy, ResetSeen, State
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.partners import other_ends, partners_of


def reset_by(
    final: Records, codes: NDArray[np.uint8], live: Records, earlier: list[tuple[Records, Records]]
) -> NDArray[np.uint8]:
    """Return who reset each of these closed connections, as ResetBy.

    ``final``: FINAL rows; ``codes``: how they ended (``end_codes``); ``live``: SOCKET rows of those still open;
    ``earlier``: SOCKET and EVENTS rows that closed before. The two ends are found as ``partners`` finds them.
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
        found[asked] = _told_by_other_end(sockets, events, asked, live, earlier)
    return found


def _told_by_other_end(
    sockets: Records,
    events: Records,
    asked: NDArray[np.intp],
    live: Records,
    earlier: list[tuple[Records, Records]],
) -> NDArray[np.uint8]:
    """Return what the other ends' rows tell: ResetBy.UNKNOWN where there is none, or more than one.

    ``sockets``, ``events``: SOCKET and EVENTS rows that closed in this tick; ``asked``: indices of those meant.
    """
    found = np.full(len(asked), ResetBy.UNKNOWN, np.uint8)
    ours = gather(sockets, asked)
    which, _ = other_ends(ours, live)
    found[which] = ResetBy.BETWEEN
    partner = partners_of(sockets)[asked]
    which = np.flatnonzero((partner >= 0) & (found == ResetBy.UNKNOWN))
    found[which] = _closed_end(gather(sockets, partner[which]), gather(events, partner[which]))
    for before, told in earlier:
        which, at = other_ends(ours, before)
        which, at = which[found[which] == ResetBy.UNKNOWN], at[found[which] == ResetBy.UNKNOWN]
        found[which] = _closed_end(gather(before, at), gather(told, at))
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
