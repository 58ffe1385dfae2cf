"""What holds back data although window and congestion window have room: Nagle's algorithm, or pacing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import Floats, as_floats
from tcptop_ops.model.arrays import Mask, gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import UNLIMITED_RATE, Records

NODELAY_OR_CORK = 3
"""Bits of ``nonagle``: with either, Nagle's algorithm is not asked."""

OFTEN = 2
"""Ticks of the last eight in which a write was held back, from which on that is what limits."""

_PACING_SHARE = 0.5
"""Least share of the pacing rate that a connection sends which is limited by it."""


def remember_nagle(memory: Records, sockets: Records, waits: NDArray[np.intp]) -> None:
    """Note for each row whether Nagle's algorithm holds back a write now. ``waits``: rows with unsent data."""
    seen = np.zeros(len(memory), np.uint8)
    seen[waits] = held_by_nagle(gather(sockets, waits))
    noted = np.flatnonzero(seen | memory["nagle"])
    memory["nagle"][noted] = memory["nagle"][noted] << 1 | seen[noted]


def held_by_nagle(sockets: Records) -> Mask:
    """Return where a write smaller than a segment waits for the acknowledgement of a small one (tcp_nagle_check()).

    TCP_NODELAY and TCP_CORK are known where a pass over descriptors reads them. A segment behind full ones is not held
    back (tcp_minshall_check()).
    """
    small = (sockets["notsent"] > 0) & (sockets["notsent"] < sockets["mss"])
    behind_small = (sockets["unacked"] > 0) & (_in_flight(sockets) < as_floats(sockets["unacked"]) * sockets["mss"])
    undisturbed = (sockets["retransmits"] == 0) & (sockets["ca_state"] == 0) & (sockets["state"] != State.LISTEN)
    allowed = sockets["nonagle"] & NODELAY_OR_CORK == 0
    found: Mask = small & behind_small & undisturbed & allowed & has_room(sockets, sockets["notsent"])
    return found


def often_held(memory: Records) -> Mask:
    """Return where Nagle's algorithm held back a write in OFTEN of the last eight ticks."""
    bits = memory["nagle"]
    found: Mask = np.unpackbits(bits[:, None], axis=1).sum(axis=1, dtype=np.uint8) >= OFTEN
    return found


def paced(sockets: Records, tx_bytes_per_s: Floats) -> Mask:
    """Return where data waits for its turn at the pacing rate: of SO_MAX_PACING_RATE, or of BBR, which always paces.

    Another congestion control has a pacing rate, too, but only the queueing discipline fq keeps it
    (tcp_update_pacing_rate(), SK_PACING_NEEDED of net/ipv4/tcp_output.c).
    """
    rate = sockets["pacing_rate"]
    known = (rate > 0) & (rate != UNLIMITED_RATE)
    kept = (sockets["pacing_capped"] > 0) | (np.char.find(sockets["cc"], b"bbr") >= 0)
    near = tx_bytes_per_s >= _PACING_SHARE * as_floats(rate)
    waits = (sockets["notsent"] > 0) & has_room(sockets, np.minimum(sockets["notsent"], sockets["mss"]))
    found: Mask = known & kept & near & waits & (sockets["ca_state"] == 0)
    return found


def has_room(sockets: Records, size: NDArray[np.uint32]) -> Mask:
    """Return where congestion window and the peer's window have room for so many bytes."""
    found: Mask = (sockets["unacked"] < sockets["cwnd"]) & (_in_flight(sockets) + size <= sockets["snd_wnd"])
    return found


def _in_flight(sockets: Records) -> Floats:
    return as_floats(sockets["send_q"]) - as_floats(sockets["notsent"])
