"""Causes of a connection that sends."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.both_ends import acks_missing, from_row, how_many
from tcptop_ops.diagnosis.case import Case, Floats, as_floats, never_stood, percent
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.connecting import kept_back
from tcptop_ops.diagnosis.evidence_row import Row, next_in, times, us, within
from tcptop_ops.diagnosis.quantities import (
    had_arrived,
    loss_percent,
    other_end_gone,
    queueing_us,
    sent_again,
    stalled_share,
)
from tcptop_ops.model import endings as ends
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records

KNOWN_S = 3.0
"""Length of W, seconds, from which on a share of needless retransmits tells something.

Packets of a flow overtake each other for a moment where it moves to another queue or CPU, as on a veth device. In the
first second of a flow that is a large part of all that it has sent.
"""

BLOAT_US = 50_000
"""Queueing delay from which a flow may suffer from bufferbloat."""

OPTION_SACK = 2
"""Bit of tcpi_options: TCPI_OPT_SACK (include/uapi/linux/tcp.h)."""

SETTLED, SAMPLES, MANY_CAME = 100, 50, 2000
"""Segments delivered, and acknowledgements received without data or segments received of any kind, from which on the
smoothed RTT has forgotten its first sample: each sample leaves 7/8 of it (RFC 6298).

That sample is no round trip where the connection came in by a SYN cookie (cookie_init_timestamp()), or where
TCP_DEFER_ACCEPT let the server wait for the client's first data (tcp_check_req()).
"""


def _local_drop(case: Case) -> tuple[Mask, Floats]:
    """Match flows whose packets this host itself drops.

    Either unsent data waits and the probes for it remain unanswered although the peer's window is open; or RETRANS_CB
    reports that most retransmits of what is in flight, or all of a SYN, failed to be sent.
    """
    sockets = case.sockets
    probed = case.unsent & (sockets["snd_wnd"] >= sockets["mss"]) & (sockets["probes"] >= 2)
    failed = case.events["retrans_failed"] - case.memory["failed"]
    mostly = (failed >= 2) & (2 * failed > sockets["retransmits"])  # the first may have gone before the rule came
    in_flight = (sockets["unacked"] > 0) & (sockets["retransmits"] >= 2) & mostly
    live = (case.ended == 0) & ~case.is_in(State.SYN_SENT)
    return (probed | in_flight) & live | kept_back(case), np.full(len(case), 90.0)


def _rto_stall(case: Case) -> tuple[Mask, Floats]:
    share = stalled_share(case)
    stalled = (case.win["rto_events"] >= 1) & (share >= 0.05) & ~case.is_in(State.SYN_SENT) & ~never_stood(case)
    return stalled, np.minimum(50.0 + 150.0 * share, 100.0)


def _had_mostly_arrived(case: Case) -> Mask:
    """Return where of at least half of the retransmits the original had arrived.

    Only of ten retransmissions or more, and 2 % or more of the segments sent in W.
    """
    again = as_floats(case.win["retrans_segs"])
    enough = (sent_again(case) >= 10) & (percent(again, as_floats(case.win["data_segs_out"])) >= 2.0)
    found: Mask = enough & (2 * had_arrived(case) >= again)
    return found


def _needless(case: Case) -> Mask:
    """Return where retransmits were spurious, in a W of KNOWN_S or longer."""
    found: Mask = _had_mostly_arrived(case) & (case.win_s >= KNOWN_S) & ~other_end_gone(case)
    return found


def _reordering(case: Case) -> tuple[Mask, Floats]:
    return _needless(case) & (case.win["reord_seen"] >= 3), np.full(len(case), 20.0)


def _spurious(case: Case) -> tuple[Mask, Floats]:
    return _needless(case), np.full(len(case), 20.0)


def _lost(case: Case) -> tuple[Mask, Floats]:
    share = loss_percent(case)
    lost = (sent_again(case) >= 3) & (share >= 0.5) & ~other_end_gone(case)
    return lost & ~_had_mostly_arrived(case), np.minimum(12.0 * share, 90.0)


def _tail_loss(case: Case) -> tuple[Mask, Floats]:
    lost, severity = _lost(case)
    return lost & (case.win["probe_segs"] >= case.win["retrans_segs"]), severity


def _bufferbloat(case: Case) -> tuple[Mask, Floats]:
    sockets, extra = case.sockets, queueing_us(case.sockets, case.memory)
    busy = as_floats(case.win["busy_us"]) >= 0.5e6 * case.win_s
    queued = (extra >= BLOAT_US) & (sockets["unacked"] >= 10) & busy & (sockets["app_limited"] == 0)
    settled = (case.ended == 0) & (sockets["delivered"] >= SETTLED) & _sampled(sockets)
    return queued & settled, np.minimum(10.0 + extra / 30_000, 60.0)


def _sampled(sockets: Records) -> Mask:
    """Return where many round trips were measured: an acknowledgement of many segments is one sample."""
    came, with_data = sockets["segs_in"], sockets["data_segs_in"]
    found: Mask = (came >= with_data + np.uint32(SAMPLES)) | (came >= MANY_CAME)
    return found


def _local_drop_evidence(row: Row) -> list[str]:
    if not row.stood:
        failed = row.event("retrans_failed") or row.socket("retrans_segs")
        return [f"{times(failed + (not row.event('syn_retrans')), 'SYN')} could not be sent{next_in(row)}"]
    if row.socket("unacked"):
        waiting = f"{times(row.socket('unacked'), 'segment')} in flight"
        return [f"{times(row.event('retrans_failed'), 'retransmit')} could not be sent{next_in(row)}", waiting]
    return [f"{what_waits(row)}, {times(row.socket('probes'), 'probe')} in vain"]


def what_waits(row: Row) -> str:
    """Say what was not sent yet; the FIN counts as one byte of it (tcp_send_fin())."""
    unsent = row.socket("notsent") - bool(ends.fin_sent(row.events))
    return f"{text.si(unsent)}B wait" if unsent > 0 else "the FIN waits"


def _rto_stall_evidence(row: Row) -> list[str]:
    share = 100.0 * row.grown("rto_wait_us") / 1e6 / max(row.win_s, 1.0)
    found = [
        f"{times(row.grown('rto_events'), 'timeout')} {within(row)}",
        f"{min(share, 100):.0f} % of it stood still",
    ]
    if row.socket("backoff"):
        found.append(f"back-off {row.socket('backoff')}")
    return found + what_had_arrived(row)


def _without_sack(row: Row) -> list[str]:
    """Say that loss and reordering can't be told apart, where selective acknowledgements were not agreed (RFC 2018)."""
    known = row.socket("rto_us") and row.socket("state") not in (State.SYN_SENT, State.LISTEN)
    lacks = known and not row.socket("options") & OPTION_SACK
    return ["SACK was not agreed: loss and reordering can't be told apart"] if lacks else []


def _needless_evidence(row: Row) -> list[str]:
    again = times(row.grown("retrans_segs"), "retransmit")
    counted = what_had_arrived(row)
    found = counted or [f"{row.grown('dsack_dups')} of {again} {within(row)} had arrived"]
    found += [f"reordering noticed {times(row.grown('reord_seen'), 'time')}"] * bool(row.grown("reord_seen"))
    return found if counted else [*found, *_without_sack(row)]


def what_had_arrived(row: Row) -> list[str]:
    """Say how many retransmitted segments had arrived, and whether the other end's ACKs were lost.

    Only where both ends have counted that it was half of them or more; else the list is empty.
    """
    counts, again = from_row(row), row.grown("retrans_segs")
    needless = 0 if counts is None else round(again - float(counts.lost))
    if not needless or 2 * needless < again:
        return []
    which = f"{'all' if needless >= again else f'{needless} of'} {times(again, 'retransmitted segment')}"
    missing, sent = acks_missing(row)
    why = f": {text.count(missing)} of {text.count(sent)} ACKs were lost" if missing >= max(3, needless / 2) else ""
    return [f"{which} {within(row)} had arrived{why}", "counted at both ends"]


def _loss_evidence(row: Row) -> list[str]:
    found = [f"{times(row.grown('retrans_segs'), 'retransmit')} {within(row)}"]
    counts = from_row(row)
    if counts is not None:
        who = row.partner.process if row.partner and row.partner.process else "the other end"
        sent = f"{text.count(int(counts.sent))} segments"
        found.insert(0, f"{how_many(counts)} of {sent} did not reach {who} (counted at both ends)")
    elif row.grown("data_segs_out"):
        found.append(f"{text.percent(row.loss_pct)} % of {text.count(row.grown('data_segs_out'))} segments")
    if row.grown("dsack_dups"):
        found.append(f"{row.grown('dsack_dups')} had arrived")
    if row.grown("probe_segs"):
        found.append(f"{row.grown('probe_segs')} were tail-loss probes")
    return found if counts is not None else [*found, *_without_sack(row)]


def _bufferbloat_evidence(row: Row) -> list[str]:
    return [
        f"round trip {us(row.socket('srtt_us'))}, at its least {us(int(row.rates['least_rtt_us']))}",
        f"{times(row.socket('unacked'), 'segment')} in flight, {text.printable(bytes(row.sockets['cc']))}",
    ]


LOCAL_DROP = Cause(
    name="local-drop",
    phase="sending",
    blame="host",
    means="this host itself drops what it sends",
    told_by="data waits, nothing is in flight, the peer's window is open, and probes go out in vain; "
    "or what is in flight was to be sent again and mostly could not be, twice or more, or a SYN once",
    severity="90",
    threshold="2 probes at an open window; or 2 retransmits of the segment at the head that could not be sent, more "
    "than half of all, or 1 of a SYN",
    remedy="look at the own output rules and queues: nft list ruleset, tc -s qdisc",
    source="tcp_send_probe0() after tcp_transmit_skb() fails",
    of_many="are dropped by this host",
    related=(
        "notsent",
        "timer",
    ),
    rule=_local_drop,
    evidence=_local_drop_evidence,
)

RTO_STALL = Cause(
    name="rto-stall",
    phase="sending",
    blame="network",
    means="transmission stood still, waiting for retransmission timeouts",
    told_by="timeouts within the window that cost at least 5 % of it",
    severity="50 + 150 x share of W",
    threshold="1 timeout, 5 % of W",
    remedy="loss of whole windows or of the last segments: look at the path",
    source="tcp_retransmit_timer(); RFC 6298 (5.4) to (5.6)",
    of_many="stall on timeouts",
    related=(
        "rto",
        "stall_ms",
        "backoff",
        "RTO_CB",
    ),
    rule=_rto_stall,
    evidence=_rto_stall_evidence,
)

REORDERING = Cause(
    name="reordering",
    phase="sending",
    blame="network",
    means="the network delivers out of order, and what was only late is retransmitted",
    told_by="ten retransmits or more in three seconds or more, 2 % or more, and at least half of them had arrived, as "
    "duplicates reported by the peer tell, or the counts of both ends; reordering was noticed three times",
    severity="20",
    threshold="10 retransmits in 3 s or more, 2 %, half of them had arrived, noticed 3 times",
    remedy="look for paths of unequal length: bonding, ECMP by packet",
    source="tcp_check_sack_reordering(), tcp_check_dsack(); RFC 2883, RFC 8985 (RACK)",
    of_many="are reordered",
    related=(
        "reord_seen",
        "dsack_dups",
    ),
    rule=_reordering,
    evidence=_needless_evidence,
)

SPURIOUS = Cause(
    name="spurious",
    phase="sending",
    blame="network",
    means="segments are retransmitted that had arrived: their acknowledgements were lost, or late",
    told_by="ten retransmits or more in three seconds or more, 2 % or more, and at least half of them had arrived, as "
    "duplicates reported by the peer tell, or the counts of both ends where both are on this host",
    severity="20",
    threshold="10 retransmits in 3 s or more, 2 %, half of them had arrived",
    remedy="look at the path back, from the peer to here: loss of acknowledgements there, or sudden delays",
    source="tcp_check_dsack(); RFC 2883, RFC 5682 (F-RTO)",
    of_many="retransmit what had arrived",
    related=(
        "dsack_dups",
        "retr",
    ),
    rule=_spurious,
    evidence=_needless_evidence,
)

TAIL_LOSS = Cause(
    name="tail-loss",
    phase="sending",
    blame="network",
    means="the last segments of what is sent are lost",
    told_by="three retransmits or more, all of them tail-loss probes; 0.5 % or more of what was sent "
    "within the window, not counting those that had arrived: as duplicates reported by the peer tell, or the counts of "
    "both ends",
    severity="12 x percent, to 90",
    threshold="as loss, all of them probes",
    remedy="look at the path; each costs two round trips at least",
    source="tcp_send_loss_probe(); RFC 8985 7.2",
    of_many="lose their last segments",
    related=(
        "retr",
        "retr%",
        "RETRANS_CB",
    ),
    rule=_tail_loss,
    evidence=_loss_evidence,
)

LOSS = Cause(
    name="loss",
    phase="sending",
    blame="network",
    means="the network loses what is sent",
    told_by="three retransmits or more; 0.5 % or more of what was sent within the window, not "
    "counting those that had arrived: as duplicates reported by the peer tell, or, where the other end is on this host "
    "too, the counts of both ends: what one has sent the other has received or not",
    severity="12 x percent, to 90",
    threshold="3 retransmits, 0.5 %, where (r - arrived - one call) / (segments + 50) is counted",
    remedy="look at the path: do others to the same place share it?",
    source="tcp_retransmit_skb(); RFC 6675, RFC 8985",
    of_many="lose what they send",
    related=(
        "retr",
        "retr%",
        "lost",
        "RETRANS_CB",
    ),
    rule=_lost,
    evidence=_loss_evidence,
)

BUFFERBLOAT = Cause(
    name="bufferbloat",
    phase="sending",
    blame="network",
    means="packets queue on the way: the round trip has grown by a lot",
    told_by="a round trip 50 ms and more above its least, with data in flight for at least half of the window",
    severity="10 + ms / 30, to 60",
    threshold="50 ms, 10 segments in flight, busy for half of W, 100 segments delivered",
    remedy="shape below the bottleneck's rate, use fq_codel there, or a congestion control that "
    "keeps queues short (bbr)",
    source="tcp_rtt_estimator(), tcp_min_rtt(); RFC 8290",
    of_many="queue on the way",
    related=(
        "srtt",
        "min_rtt_us",
        "unacked",
    ),
    rule=_bufferbloat,
    evidence=_bufferbloat_evidence,
)
