"""Whether a process takes what was received: for how long bytes have waited, and whether it can run at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.endings import FAREWELL
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import TOO_LONG, UNKNOWN_U32, Records

Floats = NDArray[np.float64]

UNREAD_S = 5.5
"""How long nothing must have been taken for a process not to read, seconds: one that reads every 5 s does."""

HELD_S = 2.0
"""The same for a process that cannot run: it is stopped, say."""

NO_WINDOW_S = 2.0
"""How long our window must be shut with nothing unread, seconds: an instant of it is nothing."""

LOOKED_S = 2.5
"""How long a row must have been looked at for the kernel's times to tell how long a few bytes have waited, seconds."""

FEW = 4096
"""Bytes of which a process takes all or none."""

OPEN = (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2)
"""States in which the peer may still send."""

GOT_FIN = (State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING)
"""States in which the peer's FIN was received, which counts as one byte that waits until it was read."""

CLOSED_BY_US = (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)
"""States of a connection whose process may have closed it: it has no inode then."""

_CANNOT_RUN = ("stopped", "frozen", "zombie")


def cannot_run(activity: str) -> bool:
    """Return whether a process that does this (``Snapshot.activities``) cannot read until somebody changes that.

    State D is none of these: most who are seen in it read a file, and go on in a moment.
    """
    return activity.startswith(_CANNOT_RUN)


def without_window(sockets: Records, state: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the indices of the connections to which the peer may send, but that offer no window, with nothing unread.

    The window is less than a segment, and less than an eighth of the buffer: a buffer may be smaller than a segment.
    """
    few = np.flatnonzero(sockets["rcv_wnd"] < sockets["rcv_mss"])
    few = few[np.isin(state[few], OPEN)]
    rows = gather(sockets, few)
    window, buffer = rows["rcv_wnd"].astype("u8"), rows["rcvbuf"]
    none = np.where(buffer == UNKNOWN_U32, window == 0, 8 * window < buffer)
    found: NDArray[np.intp] = few[none & (rows["recv_q"] == 0)]
    return found


def unread(sockets: Records) -> NDArray[np.uint32]:
    """Return the bytes of payload that wait to be read. A listener has none."""
    state, waits = sockets["state"], sockets["recv_q"]
    payload: NDArray[np.uint32] = waits - ((waits > 0) & np.isin(state, GOT_FIN))
    payload[state == State.LISTEN] = 0
    return payload


def unread_s(sockets: Records, memory: Records, now_s: float) -> Floats:
    """Return for how many seconds bytes have waited of which none were taken; 0 where none wait.

    ``memory``: MEMORY rows of these SOCKET rows. That is as long as it was seen; longer where the kernel tells when the
    last of these bytes came: of a process that has never read any, and of a few bytes that a process would have read at
    once, while the window is open, so that it does not merely lag behind, and unless it was seen to take them in parts.
    """
    waiting = unread(sockets)
    seen = np.where(waiting > 0, now_s - memory["taken_s"], 0.0)
    came = sockets["last_received_us"]
    never = sockets["bytes_received"] - sockets["recv_q"] == 0
    open_wide = sockets["rcv_wnd"] >= np.maximum(sockets["rcv_mss"], waiting)
    few = (waiting <= FEW) & open_wide & (seen >= LOOKED_S) & (memory["in_parts"] == 0)
    told = (waiting > 0) & (never | few) & (came < TOO_LONG)
    return np.where(told, np.maximum(seen, came / 1e6), seen)


def are_unread(sockets: Records, memory: Records, now_s: float) -> Mask:
    """Return where the process does not read what has come. Takes what ``unread_s`` takes.

    Not of a farewell behind which the peer has closed, as a pool may leave it in a connection that it will not use
    again; nor where the process has closed the socket: nobody can read it then.
    """
    state, waiting = sockets["state"], unread(sockets)
    long_ago = unread_s(sockets, memory, now_s) >= np.where(memory["held"] != 0, HELD_S, UNREAD_S)
    has_read = sockets["bytes_received"] > sockets["recv_q"]
    farewell = np.isin(state, GOT_FIN) & (waiting <= FAREWELL) & has_read
    is_closed = (sockets["inode"] == 0) & np.isin(state, CLOSED_BY_US)
    found: Mask = long_ago & (waiting > 0) & ~farewell & ~is_closed
    return found
