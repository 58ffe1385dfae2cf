"""Quantities that several rules compare, worked out from a row's counters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.both_ends import as_sender
from tcptop_ops.diagnosis.case import Case, Floats, as_floats, percent
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.records import UNKNOWN_U32, Records

TWO_PACKETS = 90
"""Segments of 1460 bytes in two packets of 64 KB, the largest that segmentation offload makes."""


def _syns(case: Case) -> Floats:
    """Return how many SYNs were sent again in W, by connections that were established in W: they are no data."""
    events = case.events
    syns = as_floats(events["syn_retrans"])
    which = np.flatnonzero(syns)
    stood_s = (events["first_ns"][which] + events["connect_us"][which] * np.uint64(1000)) / 1e9
    syns[which[stood_s < case.now_s - case.win_s[which]]] = 0.0
    return syns


def _too_large(case: Case) -> Floats:
    """Return how many segments were retransmitted in W since a router told that they were too large for the path."""
    recent = case.now_s - case.memory["resized_s"] <= case.win_s
    return np.where(recent, as_floats(case.memory["resized"]), 0.0)


def sent_again(case: Case) -> Floats:
    """Count the retransmissions of data in W: calls of RETRANS_CB, or segments where no call was seen.

    One call may resend a packet of many segments, which the device splits (GSO).
    """
    win = case.win
    again = as_floats(np.where(win["retrans_calls"] == 0, win["retrans_segs"], win["retrans_calls"]))
    return np.maximum(again - _syns(case) - _too_large(case), 0.0)


def loss_percent(case: Case) -> Floats:
    """Return the percentage of the data segments sent in W that was lost, estimated low where few were sent.

    One retransmission of average size is not counted, and 50 is added to the segments sent: one of ten proves nothing.
    Nor are retransmits counted whose original had arrived.
    """
    win = case.win
    again = np.maximum(as_floats(win["retrans_segs"]) - _syns(case) - _too_large(case), 0.0)
    lost = again - had_arrived(case) - again / np.maximum(sent_again(case), 1.0)
    return percent(np.maximum(lost, 0.0), as_floats(win["data_segs_out"]) + 50)


def had_arrived(case: Case) -> Floats:
    """Count the segments retransmitted in W whose original had arrived.

    As far as the peer reported duplicates (D-SACK, RFC 2883), or as both ends have counted, where both are here.
    """
    reported = as_floats(case.win["dsack_dups"])
    comparable, counts = as_sender(case)
    return np.where(comparable, np.maximum(reported, counts.surely_arrived), reported) if comparable.any() else reported


def other_end_gone(case: Case) -> Mask:
    """Return the closed rows whose other end was on this host: what both ends counted was told while they lived."""
    found: Mask = (case.ended > 0) & (case.memory["paired"] > 0) & ~case.has_partner
    return found


def inbound_percent(win: Records) -> Floats:
    """Return the percentage of the data segments received in W that came out of order, less an allowance.

    The allowance is two packets of 64 KB or a tenth of what came, whichever is smaller: tcpi_rcv_ooopack counts every
    segment that is ahead of a gap, so that one late packet counts for all that overtook it.
    """
    segments = as_floats(win["data_segs_in"])
    return percent(np.maximum(as_floats(win["ooo_in"]) - np.minimum(segments / 10, TWO_PACKETS), 0), segments)


def stalled_share(case: Case) -> Floats:
    """Return the share of W that was spent waiting for retransmission timeouts, 0 to 1; of W a second at least."""
    return np.minimum(as_floats(case.win["rto_wait_us"]) / 1e6 / np.maximum(case.win_s, 1.0), 1.0)


def least_rtt_us(sockets: Records, memory: Records) -> NDArray[np.uint32]:
    """Return the least round trip of each connection as far as seen, us; UNKNOWN_U32 where none was measured.

    ``memory``: MEMORY, aligned; zeros for a connection that was not seen before.
    """
    now, before = sockets["min_rtt_us"], memory["min_rtt_us"]
    found: NDArray[np.uint32] = np.where(before > 0, np.minimum(now, before), now)
    return found


def queueing_us(sockets: Records, memory: Records) -> Floats:
    """Return the smoothed RTT less the least RTT, us; 0 where the least is not known.

    ``memory``: MEMORY, aligned. The kernel's own minimum is that of net.ipv4.tcp_min_rtt_wlen, 300 s: in a queue that
    stands for longer it is none.
    """
    least = least_rtt_us(sockets, memory)
    return np.where(least != UNKNOWN_U32, as_floats(sockets["srtt_us"]) - as_floats(least), 0.0)
