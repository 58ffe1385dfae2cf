"""How a connection ended, from the socket's error, the states it went through, and what it had received."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.snapshot import UNKNOWN_U32, Records, State

ENDS = ("", "closed", "peer-closed", "reset", "timed-out", "refused", "unreachable", "abandoned", "unseen")
_NAMES = np.array([name.encode() for name in ENDS], "S12")
CLOSED, PEER_CLOSED, RESET, TIMED_OUT, REFUSED, UNREACHABLE, ABANDONED, UNSEEN = range(1, len(ENDS))

_UNREACHABLE_ERRORS = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EHOSTDOWN, errno.ENONET)


def end_codes(sockets: Records, events: Records, endings: Records) -> NDArray[np.uint8]:
    """Indices into ENDS. ``error`` is sk_err, set before the state (tcp_done_with_error, tcp_write_err, tcp_reset).

    0 for a listener, and where no state was seen.
    """
    error, start = endings["error"], endings["from_state"]
    states = events["states"]
    young = start == State.SYN_SENT
    listened = start == State.LISTEN
    met_close_wait = states & (1 << State.CLOSE_WAIT) != 0
    met_fin_wait = states & (1 << State.FIN_WAIT1) != 0
    unknown = error == UNKNOWN_U32
    # For kernels that do not tell sk_err: a refusal is a segment received, giving up is RTO_CB's own word.
    refused = (error == errno.ECONNREFUSED) | (unknown & young & (sockets["segs_in"] > 0))
    gave_up = (error == errno.ETIMEDOUT) | (unknown & (events["gave_up"] != 0))
    return np.select(
        [
            start == State.UNSEEN,
            listened | (states == 0),
            young & refused,
            gave_up,
            np.isin(error, _UNREACHABLE_ERRORS),
            young & np.isin(error, (errno.ECONNRESET, errno.EPIPE)),
            young,
            ~unknown & (error != 0) & ~met_fin_wait,
            met_close_wait,
            met_fin_wait,
            start == 0,  # its final record was lost
        ],
        [UNSEEN, 0, REFUSED, TIMED_OUT, UNREACHABLE, REFUSED, ABANDONED, RESET, PEER_CLOSED, CLOSED, 0],
        default=RESET,
    ).astype(np.uint8)


def end_names(sockets: Records, events: Records, endings: Records) -> NDArray[np.bytes_]:
    """The names: ``closed``, ``peer-closed``, ``reset`` ..., empty for null."""
    return _NAMES[end_codes(sockets, events, endings)]
