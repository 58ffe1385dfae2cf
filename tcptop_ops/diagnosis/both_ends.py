"""What was lost between two ends that are both on this host, by what each of them counted. Pure.

The sender counts each segment with data as it sends it, retransmits among them (tcpi_data_segs_out, in
__tcp_transmit_skb()), the receiver each one that comes for the connection, duplicates among them (tcpi_data_segs_in, in
tcp_segs_in()). Both count the segments of a packet that segmentation offload has made or joined (gso_segs). So what the
sender has counted and the receiver has not is under way, or was lost; and a retransmit that is not made up for by a
loss had arrived before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.case import Case
from tcptop_ops.diagnosis.evidence_row import Row
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import TOO_LONG

SKEW_S = 0.01
"""Time between the polls of the two ends, seconds, as far as is allowed for."""

RESTS_US = 100_000
"""Time since the sender last sent from which on both ends were polled when all had come that will."""

SAME_AGE_S = 0.05
"""Most by which the windows of the two ends may differ in length, seconds: one of them was first seen a tick later."""


@dataclass(frozen=True)
class Counts:
    """What the two ends of some connections counted of one direction, floats. The arrays are aligned."""

    sent: Any  # data segments that the sender sent within W, retransmits included
    received: Any  # data segments that came to the receiver within W, duplicates included
    retransmits: Any  # segments that the sender retransmitted within W
    duplicates: Any  # segments of which the receiver has told the sender within W that they had arrived before
    sent_ever: Any  # the same three since the connection began, of u4 counters that wrap
    received_ever: Any
    retransmits_ever: Any
    in_flight: Any  # segments that are not acknowledged
    win_s: Any  # length of W, seconds
    apart_s: Any  # by how much the windows of the two ends differ in length, seconds
    rests: Any  # whether the sender has sent nothing since before the two were polled

    @property
    def missing(self) -> Any:
        """Segments sent and not received within W: lost, or under way, or counted by the end that was polled later."""
        return np.minimum(self.sent - self.received, self.missing_ever)

    @property
    def missing_ever(self) -> Any:
        """The same since the connection began."""
        difference = self.sent_ever - self.received_ever
        return (difference + 2.0**31) % 2.0**32 - 2.0**31

    @property
    def doubt(self) -> Any:
        """How many of ``missing`` may not be lost, or how many more may be."""
        return self.doubt_ever + self._sent_in(SKEW_S + self.apart_s)

    @property
    def doubt_ever(self) -> Any:
        """The same of ``missing_ever``, for which only the last polls matter."""
        return self.in_flight + np.where(self.rests, 0.0, self._sent_in(SKEW_S))

    def _sent_in(self, seconds: Any) -> Any:
        return seconds * self.sent / np.maximum(self.win_s, SKEW_S)

    @property
    def surely_lost(self) -> Any:
        """The least number of retransmitted segments that had been lost on the path within W.

        At least as many as of all retransmits since the connection began can't have arrived; and none of those that
        the receiver has reported as duplicates (DSACK, RFC 2883; tcp_dsack_seen()), which the sender counts alone: that
        holds however late the other end was polled.
        """
        had_arrived = np.maximum(self.retransmits_ever - self.missing_ever + self.doubt_ever, 0.0)
        least = np.maximum(self.missing - self.doubt, self.retransmits - had_arrived)
        most = np.minimum(self.retransmits - self.duplicates, self.missing_ever)
        return np.clip(least, 0.0, np.maximum(most, 0.0))

    @property
    def surely_arrived(self) -> Any:
        """The least number of segments that were retransmitted within W though they had arrived.

        No more than of all since the connection began: a window may begin in the middle of a burst, which would count
        as received and not sent.
        """
        ever = np.maximum(self.retransmits_ever - self.missing_ever, 0.0)
        counted = np.clip(self.retransmits - np.maximum(self.missing + self.doubt, 0.0), 0.0, ever)
        return np.maximum(counted, np.minimum(self.duplicates, self.retransmits))

    @property
    def lost(self) -> Any:
        """Retransmitted segments that had been lost on the path within W, as good as is known."""
        return np.clip(self.missing, self.surely_lost, self.retransmits - self.surely_arrived)

    @property
    def unsure(self) -> Any:
        """By how many segments ``lost`` may be wrong."""
        return self.retransmits - self.surely_arrived - self.surely_lost


def as_sender(case: Case) -> tuple[Mask, Counts]:
    """Return which rows can be compared with their other end, and the counts of what they sent."""
    here, there = _mine(case), _theirs(case)
    return _comparable(case), _between(here, there)


def as_receiver(case: Case) -> tuple[Mask, Counts]:
    """Return which rows can be compared with their other end, and the counts of what that sent to them.

    Their length of W is that of the rows themselves, as in ``as_sender``: the two differ by SAME_AGE_S at most.
    """
    here, there = _mine(case), _theirs(case)
    return _comparable(case), replace(_between(there, here), win_s=case.win_s)


def to_row(row: Row) -> Counts | None:
    """Return the counts of what the other end sent to a row; None where they are not known, or too doubtful to tell."""
    return None if row.partner is None else _of(row.partner, row)


def from_row(row: Row) -> Counts | None:
    """Return the counts of what a row sent; None where they are not known, or too doubtful to tell."""
    return None if row.partner is None else _of(row, row.partner)


def how_many(counts: Counts) -> str:
    """Say how many segments were lost, and whether that is exact."""
    return f"{'about ' * bool(counts.unsure >= 1)}{text.count(round(float(counts.lost)))}"


def acks_missing(row: Row) -> tuple[int, int]:
    """Return how many acknowledgements without data the other end has sent to a row that did not come, and of how many.

    Since the connection began, SYN and FIN included; 0, 0 where the other end is not known. The SYN-ACK is counted by
    the end that gets it only (tcp_create_openreq_child()).
    """
    if row.partner is None:
        return 0, 0
    sent = (row.partner.socket("segs_out") - row.partner.socket("data_segs_out")) % 2**32
    came = (row.socket("segs_in") - row.socket("data_segs_in")) % 2**32
    return max(sent - came, 0), sent


@dataclass(frozen=True)
class _End:
    """One end, or the same end of several connections: what it holds and what it counted."""

    socket: Callable[[str], Any]  # a field of SOCKET, by its name
    grown: Callable[[str], Any]  # growth of a counter of COUNTED within W
    win_s: Any  # length of W, seconds


def _mine(case: Case) -> _End:
    return _End(case.sockets.__getitem__, case.win.__getitem__, case.win_s)


def _theirs(case: Case) -> _End:
    return _End(case.other, case.other_win, case.other_win_s)


def _of(sender: Row, receiver: Row) -> Counts | None:
    ends = (_End(row.socket, row.grown, row.win_s) for row in (sender, receiver))
    counts = _between(*ends)
    return counts if counts.apart_s <= SAME_AGE_S and counts.unsure <= max(1.0, counts.retransmits / 4) else None


def _between(sender: _End, receiver: _End) -> Counts:
    def floats(values: Any) -> Any:
        return np.asarray(values, np.float64)

    return Counts(
        sent=floats(sender.grown("data_segs_out")),
        received=floats(receiver.grown("data_segs_in")),
        retransmits=floats(sender.grown("retrans_segs")),
        duplicates=floats(sender.grown("dsack_dups")),
        sent_ever=floats(sender.socket("data_segs_out")),
        received_ever=floats(receiver.socket("data_segs_in")),
        retransmits_ever=floats(sender.socket("retrans_segs")),
        in_flight=floats(sender.socket("unacked")),
        win_s=sender.win_s,
        apart_s=np.abs(sender.win_s - receiver.win_s),
        rests=_rests(sender.socket("last_sent_us")),
    )


def _rests(sent_us: Any) -> Any:
    """Return whether data was last sent so long ago (SOCKET's ``last_sent_us``) that all has come that will."""
    return (sent_us >= RESTS_US) & (sent_us < TOO_LONG)


def _comparable(case: Case) -> Mask:
    other_s = case.other_win_s
    found: Mask = case.has_partner & (np.abs(case.win_s - other_s) <= SAME_AGE_S) & (case.states != State.LISTEN)
    return found
