"""Causes of a connection that receives."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis import reading
from tcptop_ops.diagnosis.both_ends import as_receiver, how_many, to_row
from tcptop_ops.diagnosis.case import Case, Floats, percent
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.evidence_row import Row, times, within
from tcptop_ops.diagnosis.quantities import inbound_percent
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.records import UNKNOWN_U32

LASTING = 3
"""Seconds in a row with segments out of order from which a receiver that knows its own end only tells of loss.

Packets of a flow overtake each other for a moment where it moves to another queue or CPU, as on a veth device.
"""


HELD = 60.0
"""Severity where the process cannot run."""

DROPPED = 3
"""Segments dropped in W from which on memory is lacking."""


def _inbound_loss(case: Case) -> tuple[Mask, Floats]:
    """Match what both ends counted as lost; of a flow of which one end is known, what long came out of order."""
    share = inbound_percent(case.win)
    lasting = (share >= 3.0) & (case.memory["ooo_seconds"] >= LASTING) & (case.memory["paired"] == 0)
    found, severity = lasting, np.minimum(4.0 * share, 60.0)
    comparable, counts = as_receiver(case)
    if comparable.any():
        lost = counts.surely_lost
        lost_share = percent(lost, counts.sent + 50)
        found = np.where(comparable, (lost >= 3) & (lost_share >= 0.5), found)
        severity = np.where(comparable, np.minimum(12.0 * lost_share, 90.0), severity)
    return (case.win["ooo_in"] >= 5) & found, severity


def not_reading(case: Case) -> Mask:
    """Return where bytes wait of which the process of a live connection has taken none for a while."""
    found: Mask = reading.are_unread(case.sockets, case.memory, case.now_s) & (case.ended == 0)
    return found


def _not_reading(case: Case) -> tuple[Mask, Floats]:
    waited_s = reading.unread_s(case.sockets, case.memory, case.now_s)
    severity = np.where(case.memory["held"] != 0, HELD, np.clip(5.0 * waited_s, 25.0, 50.0))
    return not_reading(case), severity


def lacks_buffer(case: Case) -> Mask:
    """Return where no memory is left for what comes in, though nothing, or little, waits to be read.

    Either no window has been offered for a while, or what came was dropped, while the namespace counted that receive
    queues had no room (PruneCalled, TCPRcvQDrop).
    """
    sockets, win, since = case.sockets, case.win, case.memory["no_window_s"]
    shut = (since > 0) & (case.now_s - since >= reading.NO_WINDOW_S)
    little = (2 * sockets["rmem"].astype("u8") < sockets["rcvbuf"]) & (sockets["rcvbuf"] != UNKNOWN_U32)
    dropped = (win["drops"] >= DROPPED) & little
    dropped &= case.net["prune_called"] + case.net["rcv_q_drop"] >= DROPPED
    found: Mask = (shut | dropped) & np.isin(sockets["state"], reading.OPEN) & (case.ended == 0)
    return found


def _receive_buffer(case: Case) -> tuple[Mask, Floats]:
    """Match both ends: the one that lacks memory, and the one whose data are held up or dropped there."""
    found = lacks_buffer(case)
    dropped = case.win["drops"] >= DROPPED
    which, others = case.partners
    retransmits = 2 * others.win["drops"] >= case.win["retrans_segs"][which]
    held_up = (case.win["retrans_segs"][which] > 0) & retransmits | (case.sockets["notsent"][which] > 0)
    found[which] |= held_up & lacks_buffer(others) & (case.ended[which] == 0)
    dropped[which] |= others.win["drops"] >= DROPPED
    return found, np.where(dropped, 95.0, 60.0)


def _inbound_loss_evidence(row: Row) -> list[str]:
    counts = to_row(row)
    if counts is not None:
        who = row.partner.process if row.partner and row.partner.process else "the other end"
        sent = f"{text.count(int(counts.sent))} segments that {who} sent"
        return [f"{how_many(counts)} of {sent} did not arrive {within(row)} (counted at both ends)"]
    share = 100.0 * row.grown("ooo_in") / max(row.grown("data_segs_in"), 1)
    came = f"{row.grown('ooo_in')} of {text.count(row.grown('data_segs_in'))} segments came out of order"
    return [f"{came} {within(row)}: lost, or reordered on the path", f"{text.percent(share)} %"]


def _not_reading_evidence(row: Row) -> list[str]:
    waiting = f"{text.si(row.unread)}B unread" + ", which may be urgent data" * (row.unread == 1)
    if row.socket("inode") == 0:
        found = [f"{waiting}, not accepted for {text.duration(row.unread_s)}"]
    else:
        found = [f"{waiting}, none read for {text.duration(row.unread_s)}"]
    if row.process and row.activity:
        found.append(f"{row.process} is {row.activity}")
    if row.socket("rcv_wnd") < row.socket("rcv_mss"):
        found.append(f"window offered: {row.socket('rcv_wnd')} bytes")
    return found


def _receive_buffer_evidence(row: Row) -> list[str]:
    here = _lacking_side(row)
    found = [f"at the other end, {here.process}"] * bool(here is not row and here.process)
    window = f"window offered: {here.socket('rcv_wnd')} bytes, {text.si(here.unread)}B unread"
    dropped = here.grown("drops")
    found += [f"{times(dropped, 'segment')} dropped {within(here)}"] * bool(dropped)
    found += [window]
    if here.socket("rcvbuf") != UNKNOWN_U32:
        found.append(f"receive buffer {text.si(here.socket('rcvbuf'))}B, {text.si(here.socket('rmem'))}B in use")
    if here.socket("rcv_ssthresh") != UNKNOWN_U32:
        found.append(f"rcv_ssthresh {here.socket('rcv_ssthresh')}")
    return found + _pruned(here)


def _lacking_side(row: Row) -> Row:
    """Return the row of the end that lacks memory, where both are here: it dropped more, or offers less."""
    other = row.partner
    if other is None or row.grown("drops") > other.grown("drops"):
        return row
    if other.grown("drops") > row.grown("drops"):
        return other
    return other if other.socket("rcv_wnd") < row.socket("rcv_wnd") else row


def _pruned(row: Row) -> list[str]:
    """Say what the namespace counted in W of receive queues without room."""
    names = {"prune_called": "PruneCalled", "rcv_collapsed": "TCPRcvCollapsed", "rcv_q_drop": "TCPRcvQDrop"}
    told = [f"{theirs} {int(row.net_win[name])}" for name, theirs in names.items() if row.net_win[name]]
    return [f"in its namespace {', '.join(told)}"] * bool(told)


INBOUND_LOSS = Cause(
    name="inbound-loss",
    phase="receiving",
    blame="network",
    means="the network loses what is received",
    told_by="where the sender is on this host too: segments that it sent, and retransmitted, and that did not arrive, "
    "0.5 % or more. Elsewhere segments out of order, in three seconds in a row, 3 % or more of those with data, not "
    "counting a tenth or two packets of 64 KB: lost, or reordered on the path, which a receiver can't tell",
    severity="counted at both ends 12 x percent, to 90; else 4 x percent, to 60",
    threshold="5 segments out of order; 3 lost of those counted at both ends, 0.5 %; else 3 % beyond two packets of "
    "64 KB, in 3 seconds",
    remedy="look at the path; the sender sees the retransmits",
    source="tcp_data_queue_ofo(), tcp_segs_in(); RFC 5681 4.2",
    of_many="lose what they receive",
    related=("ooo_in",),
    rule=_inbound_loss,
    evidence=_inbound_loss_evidence,
)

NOT_READING = Cause(
    name="not-reading",
    phase="receiving",
    blame="app",
    means="the local application does not read what has come",
    told_by="bytes wait, however few, and none were taken for 5.5 seconds; for 2 seconds where the process cannot run, "
    "since it is stopped, frozen or a zombie. A process that takes something from time to time is slow: "
    "`limit` says `rwnd` or `app`",
    severity="5 x seconds, from 25 to 50; 60 where the process cannot run",
    threshold="received less waiting did not grow for 5.5 s, or 2 s, at two ticks at least; not for 100 bytes behind "
    "which the peer has closed",
    remedy="what does the process wait for? The evidence says what it does; cat /proc/PID/wchan, /proc/PID/stack",
    source="tcp_diag_get_info(): rcv_nxt - copied_seq; tcp_select_window(); RFC 9293 3.8.6.2.2",
    of_many="are not read by their process",
    related=(
        "recv_q",
        "rcv_wnd",
        "drops",
    ),
    rule=_not_reading,
    evidence=_not_reading_evidence,
)

RECEIVE_BUFFER = Cause(
    name="receive-buffer",
    phase="receiving",
    blame="host",
    means="memory is lacking for what is received: the window is shut, or segments are dropped, with nothing unread",
    told_by="no window is offered, or a small part of a segment, for two seconds with nothing unread; or segments are "
    "dropped while little of the buffer is in use and the namespace counts receive queues without room. Told at "
    "both ends where both are on this host",
    severity="60; 95 where segments are dropped",
    threshold="2 s; or 3 segments dropped in W, and PruneCalled and TCPRcvQDrop grew by 3",
    remedy="memory of TCP: net.ipv4.tcp_mem and the limit of the service's cgroup; of one connection: "
    "net.ipv4.tcp_rmem, SO_RCVBUF",
    source="__tcp_select_window(), tcp_try_rmem_schedule(), tcp_prune_queue(), tcp_under_memory_pressure()",
    of_many="lack memory for what they receive",
    related=("rcv_wnd", "recv_q", "drops"),
    rule=_receive_buffer,
    evidence=_receive_buffer_evidence,
)
