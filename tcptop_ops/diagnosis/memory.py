"""What the diagnosis remembers of a row from one tick to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import reading
from tcptop_ops.diagnosis.case import MEMORY, Case, Floats
from tcptop_ops.diagnosis.limiting import remember_nagle
from tcptop_ops.diagnosis.path_mtu import first_segments, remember_segments
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.enums import Origin, RetransClass, State
from tcptop_ops.model.processes import process_keys
from tcptop_ops.model.records import TOO_LONG, UNKNOWN_U32, Records

SECOND_S = 0.9
"""Growth of the segments out of order counts once in so many seconds: about a tick of a second."""

DISORDER_GAP_S = 5.0
"""Seconds without a segment out of order after which disorder is over."""


def first_memory(sockets: Records, events: Records, now_s: float) -> Records:
    """Return MEMORY rows for sockets that are seen for the first time. ``now_s``: CLOCK_MONOTONIC."""
    memory = np.zeros(len(sockets), MEMORY)
    for name in ("segs_in", "state"):
        memory[name] = sockets[name]
    memory["heard"], memory["failed"] = sockets["retransmits"], events["retrans_failed"]
    _count_syns(memory, sockets, sockets["state"])
    memory["state_s"] = now_s
    closed = np.flatnonzero(sockets["state"] == State.CLOSE_WAIT)
    memory["state_s"][closed] -= since_fin_s(sockets[closed])
    memory["ooo_in"] = np.where(events["origin"] == Origin.NEW, 0, sockets["ooo_in"])
    first_segments(memory, sockets, events, now_s)
    return memory


def since_fin_s(sockets: Records) -> Floats:
    """Return how long ago, at least, the peer's FIN came to sockets in CLOSE-WAIT, seconds; 0 where nobody tells.

    It acknowledges too, and is the last segment of a peer that closed and is sent nothing more: it came with the last
    acknowledgement or before. tcp_ack() sets rcv_tstamp; the time of the last data (lrcvtime) is set by data alone,
    which may be older by hours, in tcp_data_queue().
    """
    ago_us = sockets["last_ack_received_us"]
    return np.where(ago_us >= TOO_LONG, 0, ago_us) / 1e6


def remember(
    memory: Records, sockets: Records, state: NDArray[np.uint8], events: Records, now_s: float, seconds: float
) -> NDArray[np.intp]:
    """Update ``memory`` in place with this tick, before its rows are judged; return the rows with waiting bytes.

    ``recv_q``, ``score`` and ``cause`` stay those of the last tick: rules and ``fade`` compare with them. ``seconds``:
    since the last tick.
    """
    _count_syns(memory, sockets, state)
    listens = np.flatnonzero(state == State.LISTEN)
    moved = memory["state"] != state
    moved[listens] |= sockets["recv_q"][listens] <= sockets["send_q"][listens]
    memory["state_s"][moved], memory["state"] = now_s, state
    again, segs_in = sockets["retransmits"].copy(), sockets["segs_in"].copy()
    came = memory["segs_in"] != segs_in
    remember_segments(memory, sockets, np.flatnonzero(came | (again > 0) | (memory["stalled"] > 0)), now_s)
    heard = came | (again < memory["heard"])
    np.copyto(memory["heard"], again, where=heard)
    memory["segs_in"] = segs_in
    np.copyto(memory["failed"], events["retrans_failed"], where=again == 0)
    unread = _remember_reading(memory, sockets, state, now_s)
    waits = np.flatnonzero(sockets["notsent"])
    waiting = gather(sockets, waits)
    shut = (waiting["unacked"] == 0) & (waiting["snd_wnd"] < waiting["mss"]) & (waiting["state"] != State.LISTEN)
    memory["zero_window_us"][waits[shut]] += np.uint64(seconds * 1e6)
    remember_nagle(memory, sockets, waits)
    return unread


def notice_disorder(case: Case, seconds: float) -> None:
    """Count in ``case.memory``, in place, in how many seconds in a row segments came out of order.

    ``seconds``: since the last tick. Seconds without any are passed over, up to DISORDER_GAP_S. Of a row whose other
    end is on this host nothing is counted: what was lost is known there.
    """
    memory = case.memory
    memory["paired"] = case.has_partner
    some = np.flatnonzero(case.win["ooo_in"])
    now_in = case.sockets["ooo_in"][some]
    grown = some[(now_in != memory["ooo_in"][some]) & ~case.has_partner[some]]
    memory["ooo_in"][some] = now_in
    since_s = case.now_s - memory["ooo_s"][grown]
    over = grown[since_s > max(DISORDER_GAP_S, 2.5 * seconds)]
    memory["ooo_seconds"][over] = 0
    another = grown[since_s >= SECOND_S]
    memory["ooo_seconds"][another] = np.minimum(memory["ooo_seconds"][another], 254) + 1
    memory["ooo_s"][another] = case.now_s


def _remember_reading(memory: Records, sockets: Records, state: NDArray[np.uint8], now_s: float) -> NDArray[np.intp]:
    """Remember since when no bytes were taken of those that wait, and since when a window is shut without any.

    Return the rows with waiting bytes, and the listeners with a queue.

    Whatever was read between two ticks shows: the bytes received less those that wait only grow, and only by reading.
    """
    waits = np.flatnonzero(sockets["recv_q"])
    if len(waits):
        taken = sockets["bytes_received"][waits] - sockets["recv_q"][waits]
        begins = memory["recv_q"][waits] == 0
        grown = memory["taken"][waits] != taken
        in_parts = memory["in_parts"]
        in_parts[waits[begins]] = 0
        in_parts[waits[grown & ~begins & (memory["taken_s"][waits] > 0)]] = 1
        moved = begins | grown
        memory["taken"][waits] = taken
        memory["taken_s"][waits[moved]] = now_s
    shut, since = reading.without_window(sockets, state), memory["no_window_s"]
    since[np.setdiff1d(np.flatnonzero(since), shut, assume_unique=True)] = 0
    since[shut[since[shut] == 0]] = now_s
    return waits


def notice_unread(
    memory: Records,
    rates: Records,
    sockets: Records,
    owners: Records,
    activities: Mapping[int, str],
    waits: NDArray[np.intp],
    now_s: float,
) -> None:
    """Note in ``memory`` of which rows bytes wait for a process that cannot run, and in ``rates`` for how long.

    ``memory``, ``rates``, ``sockets``: some live rows; ``waits``: those with waiting bytes (``remember``), and
    ``owners``: OWNED rows of these; ``activities``: of the snapshot.
    """
    held = memory["held"]
    held[np.flatnonzero(held)] = 0
    cannot = [key for key, told in activities.items() if reading.cannot_run(told)]
    if cannot:
        held[waits] = np.isin(process_keys(owners), np.array(cannot, np.uint64))
    rates["unread_s"][waits] = reading.unread_s(gather(sockets, waits), gather(memory, waits), now_s)


def _count_syns(memory: Records, sockets: Records, state: NDArray[np.uint8]) -> None:
    """Remember how many SYNs the sockets have sent again that are in SYN-SENT, or have left it since the last tick.

    Of the latter, no more than timeouts (6.7): data can be lost at once, but has hardly had time for a timeout.
    """
    tries = np.flatnonzero(state == State.SYN_SENT)
    memory["syn_retrans"][tries] = np.minimum(sockets["retrans_segs"][tries], 255)
    left = established_late(memory["state"], sockets)
    told = left[sockets["total_rto"][left] != UNKNOWN_U32]
    again = np.minimum(sockets["retrans_segs"][told], sockets["total_rto"][told])
    memory["syn_retrans"][told] = np.maximum(memory["syn_retrans"][told], np.minimum(again, 255))


def established_late(states: NDArray[np.uint8], sockets: Records) -> NDArray[np.intp]:
    """Return the indices of the rows that were in SYN-SENT at the last tick, have left it, and had sent a SYN again.

    ``states``: of the last tick, aligned with the sockets.
    """
    left = np.flatnonzero(states == State.SYN_SENT)
    found: NDArray[np.intp] = left[(sockets["state"][left] != State.SYN_SENT) & (sockets["retrans_segs"][left] > 0)]
    return found


def waited_us(sockets: Records, events: Records) -> NDArray[np.uint32]:
    """Return the time spent waiting for retransmission timeouts so far, us, those of SYNs included.

    For a socket without events it is tcpi_total_rto_time (6.7), which leaves out the first wait of consecutive
    timeouts; 0 where the kernel has none.
    """
    found: NDArray[np.uint32] = events["rto_wait_us"].copy()
    without = np.flatnonzero(events["first_ns"] == 0)
    told = sockets["total_rto_ms"][without]
    found[without] = np.where(told == UNKNOWN_U32, np.uint32(0), told * np.uint32(1000))
    return found


def stall_us(waited: NDArray[np.uint32], events: Records, memory: Records, until_ns: Any) -> NDArray[np.uint64]:
    """Return the time lost so far, us: waiting for retransmission timeouts, and for the peer's zero window.

    ``waited``: ``waited_us`` of the same rows, which the counters of the tick need too.
    It is no longer than the life that was seen, up to ``until_ns`` (CLOCK_MONOTONIC, one number or one a row): a timer
    may have expired sooner than RTO_CB says, which reports the timeout before TCP_USER_TIMEOUT cut it
    (tcp_clamp_rto_to_user_timeout()).
    """
    lost: NDArray[np.uint64] = waited.astype(np.uint64) + memory["zero_window_us"]
    some = np.flatnonzero(lost)
    first = events["first_ns"][some]
    until = np.broadcast_to(np.asarray(until_ns, "u8"), len(lost))[some]
    life = np.where(first == 0, np.iinfo("u8").max, (np.maximum(until, first) - first) // np.uint64(1000))
    lost[some] = np.minimum(lost[some], life.astype("u8"))
    return lost


def probe_segments(events: Records) -> NDArray[np.uint32]:
    """Return the segments sent as tail loss probes so far."""
    found: NDArray[np.uint32] = events["retrans"][:, RetransClass.PROBE]
    return found
