"""The cause mtu: full segments vanish on the path while smaller ones pass; and what has to be remembered for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis.case import Case, Floats, as_floats
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, next_in, times
from tcptop_ops.model.arrays import Mask, gather, scatter
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.records import UNKNOWN_U32, Records

SMALLEST = 512
"""Segments below this size pass on every path: 576 bytes is what each host must accept (RFC 1122 3.3.3)."""

LATELY_S = 15.0
"""Longest silence of the peer before a stall, in which it is not likely to have gone."""

PASSING_S, LONG_PASSING_S = 0.9, 2.0
"""Time after a stall began in which new data of the peer proves that our acknowledgements arrive.

Without them it sends what its congestion window allows, and after one timeout of its own nothing new. The longer time
is for a connection of which full segments were acknowledged before.
"""

USUAL, RESIZING_S = 1500, 1.0
"""MTU of most paths, bytes; and for how long segments are retransmitted that were larger than a router allowed, s."""

_WIDE = 65535


def remember_segments(memory: Records, sockets: Records, rows: NDArray[np.intp], now_s: float) -> None:
    """Update in ``memory`` what was acknowledged, and for how long nothing is, of these rows.

    They must be all those that received a segment since the last tick, and those that wait for an acknowledgement
    after a timeout, now or at the last tick. Called before ``memory["segs_in"]`` is brought up to date.
    """
    known, told = gather(memory, rows), gather(sockets, rows)
    acked, delivered = low(told["bytes_acked"]), told["delivered"] - told["sacked"]
    grown, segments = acked - known["acked"], (delivered - known["delivered"]).view(np.int32)
    size = np.where(grown > 0, grown // np.maximum(segments, 1), 0)
    known["acked_size"] = np.maximum(known["acked_size"], np.minimum(size, _WIDE))
    known["acked"], known["delivered"] = acked, delivered
    known["min_rtt_us"] = np.minimum(known["min_rtt_us"], told["min_rtt_us"])
    waits = (told["retransmits"] > 0) & stands(told["state"])
    _remember_mss(known, told, waits | (known["stalled"] > 0), now_s)
    goes_on = waits & (known["stalled"] > 0) & (grown == 0)
    begins = waits & ~goes_on
    received = low(told["bytes_received"])
    came = goes_on & (received != known["received"])
    known["passing_s"] = np.select([begins, came], [0.0, now_s - known["stalled_s"]], default=known["passing_s"])
    known["stalled_s"][begins] = now_s
    known["lately"][begins] = _silence_s(told[begins]) <= LATELY_S
    known["received"], known["stalled"] = received, waits
    scatter(memory, rows, known)


def first_segments(memory: Records, sockets: Records, events: Records, now_s: float) -> None:
    """Fill in what ``remember_segments`` compares with, for sockets that are seen for the first time.

    What a new connection has retransmitted until then is taken to be too large for its path, where that is narrow.
    """
    narrow = (events["origin"] == Origin.NEW) & (sockets["pmtu"] > 0) & (sockets["pmtu"] < USUAL)
    memory["resized"], memory["resized_s"] = np.where(narrow, sockets["retrans_segs"], 0), now_s
    memory["retrans_segs"] = sockets["retrans_segs"]
    memory["acked"], memory["received"] = low(sockets["bytes_acked"]), low(sockets["bytes_received"])
    memory["delivered"] = sockets["delivered"] - sockets["sacked"]
    size = memory["acked"] // np.maximum(memory["delivered"], 1)
    memory["acked_size"] = np.where(stands(sockets["state"]), np.minimum(size, _WIDE), 0)
    memory["pmtu"], memory["min_rtt_us"] = sockets["pmtu"], sockets["min_rtt_us"]
    memory["mss_before"] = np.where(stands(sockets["state"]), np.minimum(sockets["mss"], _WIDE), 0)


def _remember_mss(known: Records, told: Records, stalled: Mask, now_s: float) -> None:
    """Remember when the kernel lowered the MSS in a stall, although no router told of a smaller MTU.

    And where one did, what was retransmitted since: it was too large, and is no loss (tcp_simple_retransmit()).
    """
    mss = np.minimum(told["mss"], _WIDE)
    other_path = (known["pmtu"] != told["pmtu"]) | (known["mss_before"] == 0) | ~stands(told["state"])
    lower = (mss < known["mss_before"]) & ~other_path & (told["pmtu"] != UNKNOWN_U32)
    known["lowered_s"][lower & stalled & (known["lowered_s"] == 0)] = now_s
    known["lowered_s"][~lower] = 0
    ours = lower & (known["lowered_s"] > 0)
    known["mss_before"] = np.where(stands(told["state"]), np.where(ours, known["mss_before"], mss), 0)
    fell = (told["pmtu"] < known["pmtu"]) & (known["pmtu"] != UNKNOWN_U32)
    again = told["retrans_segs"] - known["retrans_segs"]
    counts = fell | (now_s - known["resized_s"] <= RESIZING_S) & (known["resized"] > 0)
    known["resized"] = np.where(counts, known["resized"] + again, known["resized"])
    known["resized_s"][fell] = now_s
    known["retrans_segs"], known["pmtu"] = told["retrans_segs"], told["pmtu"]


def low(counter: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the lower 32 bits of a counter, of which differences are taken."""
    found: NDArray[np.uint32] = (counter & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return found


def stands(state: NDArray[np.uint8]) -> Mask:
    """Return where a socket in this state may send data."""
    found: Mask = ~np.isin(state, [State.SYN_SENT, State.SYN_RECV, State.LISTEN, State.CLOSE])
    return found


def _silence_s(sockets: Records) -> Floats:
    """Return how long nothing had come when the first segment was sent that is not acknowledged, seconds.

    Its timeouts so far have taken rto x (1 - 1 / 2^back-off), of which ``rto_us`` is the last.
    """
    heard = as_floats(np.minimum(sockets["last_received_us"], sockets["last_ack_received_us"]))
    rto = as_floats(sockets["rto_us"])
    stalled = rto * (1 - 0.5 ** as_floats(sockets["backoff"])) + np.maximum(rto - as_floats(sockets["timer_us"]), 0)
    return np.maximum(heard - stalled, 0) / 1e6


def in_flight_size(sockets: Records) -> Floats:
    """Return how large the segments in flight are: the MSS where one at least must be full, else their average."""
    inside = as_floats(sockets["send_q"]) - as_floats(sockets["notsent"])
    segments = np.maximum(as_floats(sockets["unacked"]), 1)
    mss, average = as_floats(sockets["mss"]), inside / segments
    return np.where((inside >= mss) & (average > mss / 2), mss, average)


def _passing(case: Case) -> Mask:
    """Return where something came in during a stall that proves that smaller segments pass."""
    needed = np.maximum(PASSING_S, 4e-6 * as_floats(case.sockets["srtt_us"]))
    found: Mask = (case.memory["passing_s"] >= needed) | (case.sockets["sacked"] > 0)
    return found


def _never_acknowledged(case: Case, size: Floats) -> Mask:
    """Return where no segment of this size was ever acknowledged, nor received by the other end if it is here."""
    found: Mask = (2 * as_floats(case.memory["acked_size"]) < size) & (as_floats(case.other("rcv_mss")) < 0.9 * size)
    return found


def unacknowledged(case: Case) -> Mask:
    """Return where full segments are retransmitted, three times or more, and only smaller ones pass or passed."""
    sockets, memory = case.sockets, case.memory
    size = in_flight_size(sockets)
    never, passing = _never_acknowledged(case, size), _passing(case)
    waits = (sockets["retransmits"] >= 3) & (sockets["unacked"] > 0) & (case.ended == 0) & stands(case.states)
    full = (sockets["mss"] >= SMALLEST) & (size >= sockets["mss"])
    exchanged = (memory["acked_size"] > 1) | (sockets["bytes_received"] > 0)
    told = never & passing & (size >= SMALLEST)
    likely = never & full & exchanged & (memory["lately"] > 0)
    later = full & (sockets["retransmits"] >= 4) & (memory["passing_s"] >= LONG_PASSING_S)
    found: Mask = waits & (told | likely | later)
    return found


def _lowered(case: Case) -> Mask:
    found: Mask = (case.memory["lowered_s"] > 0) & (case.win["retrans_segs"] > 0) & (case.ended == 0)
    return found


def _mtu(case: Case) -> tuple[Mask, Floats]:
    stalls, lowered = unacknowledged(case), _lowered(case)
    return stalls | lowered, np.where(stalls, 90.0, 20.0)


def fill_rates(rates: Records, sockets: Records, memory: Records) -> None:
    """Fill in the least round trip, and what words need of the memory.

    That is the least so far, but of a closed connection that was never seen alive, of which nothing is remembered.
    """
    least = memory["min_rtt_us"].copy()
    unmet = np.flatnonzero(least == 0)
    least[unmet] = sockets["min_rtt_us"][unmet]
    rates["least_rtt_us"] = least
    lowered = np.flatnonzero(memory["lowered_s"])
    rates["mss_before"][lowered] = memory["mss_before"][lowered]
    stalled = np.flatnonzero(memory["stalled"])
    rates["acked_size"][stalled] = memory["acked_size"][stalled]
    rates["passing"][stalled] = (memory["passing_s"][stalled] >= PASSING_S) | (sockets["sacked"][stalled] > 0)


def suspects_mtu(row: Row) -> bool:
    """Whether nothing as large as the segments in flight was ever acknowledged."""
    size = size_of(row)
    return size >= SMALLEST and 2 * int(row.rates["acked_size"]) < size


def size_of(row: Row) -> int:
    """Return ``in_flight_size`` of a row."""
    return int(in_flight_size(row.sockets.reshape(1))[0])


def _evidence(row: Row) -> list[str]:
    mss, pmtu = row.socket("mss"), row.socket("pmtu")
    headers = pmtu - mss if pmtu != UNKNOWN_U32 else 0
    before = int(row.rates["mss_before"])
    if before and not row.socket("retransmits"):
        shorter = pmtu - before
        return [
            f"the kernel lowered the MSS from {before} to {mss} B",
            f"packets of {pmtu} B do not pass, those of {mss + shorter} B do (MTU)",
            f"{times(row.grown('retrans_segs'), 'retransmit')} in {row.win_s:.0f} s",
        ]
    size = size_of(row)
    ever = "are no longer" if 2 * int(row.rates["acked_size"]) >= size else "never"
    found = [f"MTU: segments of {size} B {ever} acknowledged, smaller ones are"]
    if not row.rates["passing"]:
        found = [f"MTU suspected: segments of {size} B {ever} acknowledged, smaller ones were"]
    found.append(f"retransmitted {times(row.socket('retransmits'), 'time')}{next_in(row)}")
    if not row.rates["passing"]:
        found.append("nothing came in since: the peer may be gone instead")
    found.append(f"MSS {mss} B, path MTU {pmtu} B" if headers > 0 else f"MSS {mss} B")
    return [*found, *_probing(row)]


def _probing(row: Row) -> list[str]:
    """Say whether the kernel looks for the MTU that passes, where the sysctl of the namespace is known."""
    if row.net is None:
        return []
    on = int(row.net["mtu_probing"])
    return [f"net.ipv4.tcp_mtu_probing = {on}: {'the kernel probes for a size that passes' if on else 'off'}"]


MTU = Cause(
    name="mtu",
    phase="sending",
    blame="network",
    means="full segments vanish on the path while smaller ones pass: an MTU black hole",
    told_by="the segment at the head was retransmitted three times or more, none of its size was ever acknowledged, "
    "and smaller ones pass: the peer sends new data or acknowledges what came behind it; or, where nothing comes in, "
    "smaller ones did within the 15 s before. Or full segments are no longer acknowledged, while the peer sends "
    "new data for 2 s. Or the kernel lowered the MSS after such a stall, while the path MTU it knows stayed",
    severity="90; 20 once the kernel has lowered the MSS",
    threshold="3 retransmits of the segment at the head; 4 where full segments were acknowledged before",
    remedy="a router or tunnel drops large packets, and the ICMP message that says so is lost or filtered: let ICMP "
    "type 3 code 4 (IPv6: type 2) pass, clamp the MSS there (nft: tcp option maxseg size set rt mtu), lower the MTU of "
    "the route, or set net.ipv4.tcp_mtu_probing = 1. To try: ping -M do -s 1472 PEER",
    source="tcp_write_timeout(), tcp_mtu_probing(), tcp_v4_mtu_reduced(); RFC 2923 2.1, RFC 4821",
    of_many="get no full segment through (MTU)",
    related=(
        "mss",
        "unacked",
        "backoff",
        "RTO_CB",
    ),
    rule=_mtu,
    evidence=_evidence,
)
