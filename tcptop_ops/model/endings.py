"""How a connection ended, concluded from its error, the states it was in, and whether a segment came. Pure."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.enums import BEFORE_ESTABLISHED, ResetSeen, State
from tcptop_ops.model.records import UNKNOWN_U32, Records

ENDS = ("", "closed", "peer-closed", "reset", "timed-out", "refused", "unreachable", "abandoned", "unseen")
"""How a connection may have ended; "": null. ``abandoned``: closed by its own process before it was established."""

_NAMES = np.array([name.encode() for name in ENDS], "S12")
CLOSED, PEER_CLOSED, RESET, TIMED_OUT, REFUSED, UNREACHABLE, ABANDONED, UNSEEN = range(1, len(ENDS))

_UNREACHABLE_ERRORS = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EHOSTDOWN, errno.ENONET)
_TOLD_ERRORS = (*_UNREACHABLE_ERRORS, errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.EPROTO, errno.EOPNOTSUPP)
"""Those that ICMP messages become: icmp_err_convert[] of net/ipv4/icmp.c, icmpv6_err_convert() of net/ipv6/icmp.c."""


FAREWELL = 100
"""Most bytes of a last word that nobody has to read: a close_notify alert of TLS (RFC 8446 6.1, RFC 5246 7.2.1).

It is 24 bytes long with TLS 1.3, 31 with TLS 1.2 and AES-GCM, up to 85 with AES-CBC.
"""


def was_established(states: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return where any state but SYN-SENT, SYN-RECV and CLOSE was seen. ``states``: of EVENTS, one or an array."""
    found: NDArray[np.bool_] = states & np.uint16(~BEFORE_ESTABLISHED & 0xFFFF) != 0
    return found


def fin_sent(events: Records) -> NDArray[np.bool_]:
    """Return where this end has sent its FIN, or is about to: it counts as one of the unacknowledged bytes."""
    sent: NDArray[np.bool_] = events["states"] & (1 << State.FIN_WAIT1 | 1 << State.LAST_ACK | 1 << State.CLOSING) != 0
    return sent


def outstanding(sockets: Records, events: Records) -> NDArray[np.int64]:
    """Return the bytes that were written and not acknowledged, sent or not; the FIN does not count."""
    found: NDArray[np.int64] = np.maximum(sockets["send_q"].astype(np.int64) - fin_sent(events), 0)
    return found


def unread(sockets: Records, events: Records) -> NDArray[np.int64]:
    """Return the bytes that came and were not read; the peer's FIN, which counts as one until it is read, does not."""
    got_fin = events["states"] & (1 << State.CLOSE_WAIT | 1 << State.CLOSING) != 0
    found: NDArray[np.int64] = np.maximum(sockets["recv_q"].astype(np.int64) - got_fin, 0)
    return found


def end_codes(sockets: Records, events: Records, endings: Records) -> NDArray[np.uint8]:
    """Return how each connection ended, as indices into ENDS; 0 (null) for a listener, and where no state was seen.

    ``endings["error"]`` is sk_err, which the kernel sets before the state changes to CLOSE: tcp_done_with_error(),
    tcp_write_err(), tcp_reset(). An ICMP message of this very host, which comes while connect() holds the socket, is
    told to the application without it: ``events["error"]`` has it. The first condition that holds decides.
    """
    error, start = endings["error"], endings["from_state"]
    states = events["states"]
    young = start == State.SYN_SENT
    told = young & ((error == 0) | (error == UNKNOWN_U32)) & np.isin(events["error"], _TOLD_ERRORS)
    error = np.where(told, events["error"], error)
    listened = start == State.LISTEN
    met_close_wait = states & (1 << State.CLOSE_WAIT) != 0
    met_fin_wait = states & (1 << State.FIN_WAIT1) != 0
    unknown = error == UNKNOWN_U32
    # Its process had closed it, and all that it had sent had arrived: that a reset came instead of the FIN is no news.
    was_over = fin_sent(events) & (sockets["inode"] == 0) & (outstanding(sockets, events) == 0)
    sent_reset = (error == 0) & (events["resets"] & ResetSeen.SENT != 0)
    # Where sk_err is not known: a segment was received in SYN-SENT, so it was refused; RTO_CB reports giving up itself.
    refused = (error == errno.ECONNREFUSED) | (unknown & young & (sockets["segs_in"] > 0))
    gave_up = (error == errno.ETIMEDOUT) | (unknown & (events["gave_up"] != 0))
    return np.select(
        [
            start == State.UNSEEN,
            listened | (states == 0),
            young & refused,
            gave_up,
            np.isin(error, _UNREACHABLE_ERRORS) | young & np.isin(error, _TOLD_ERRORS),
            young & np.isin(error, (errno.ECONNRESET, errno.EPIPE)),
            young,
            ~unknown & (error != 0) & ~was_over,
            sent_reset,
            met_close_wait,
            met_fin_wait,
            start == 0,  # its final record was lost
        ],
        [UNSEEN, 0, REFUSED, TIMED_OUT, UNREACHABLE, REFUSED, ABANDONED, RESET, RESET, PEER_CLOSED, CLOSED, 0],
        default=RESET,
    ).astype(np.uint8)


def end_names(sockets: Records, events: Records, endings: Records) -> NDArray[np.bytes_]:
    """Return the names of ``end_codes``, as bytes; empty for null."""
    return _NAMES[end_codes(sockets, events, endings)]
