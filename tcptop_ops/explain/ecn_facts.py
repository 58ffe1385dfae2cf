"""Explicit congestion notification (ECN) of a connection, in words: its kind, marks at both ends, failures. Pure.

A router marks an ECN-capable segment (CE) rather than drop it. TCPI_OPT_ECN_SEEN tells that ECN-capable segments came
(tcp_ecn_received_counters(), before 6.18 __tcp_ecn_check_ce()), and nothing of marks: those are counted.
"""

from __future__ import annotations

from tcptop_ops.diagnosis.evidence_row import Row, times
from tcptop_ops.model.enums import EcnMode
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.views.ecn_readers import ASKED

SEEN = 16
"""TCPI_OPT_ECN_SEEN of include/uapi/linux/tcp.h."""

_KINDS = {EcnMode.CLASSIC: "yes, RFC 3168", EcnMode.ACCURATE: "yes, accurate (AccECN)", EcnMode.PENDING: "asked for"}

FAILURES = ("ACE field sent", "ACE field received", "option sent", "option received")
"""What of accurate ECN has failed, by the bits of ``ecn_fail``, TCP_ACCECN_*_FAIL_*: RFC 9768 3.2.2.3 and 3.2.3.2."""


def ecn(rows: Rows, flows: Flows) -> str:
    """Return what was agreed about ECN, and who marked what, of a row."""
    row = Row(rows, flows)
    if not row.socket("options") & ASKED:
        return "no"
    kind = _KINDS.get(EcnMode(min(row.socket("ecn_mode"), EcnMode.PENDING)), "yes")
    marks = [told for told in (_sent(row), _received(row)) if told]
    seen = [] if marks or not row.socket("options") & SEEN else ["ECN-capable segments came"]
    failed = [words for bit, words in enumerate(FAILURES) if row.socket("ecn_fail") >> bit & 1]
    return ", ".join([kind, *marks, *seen, *([f"failed: {' and '.join(failed)}"] if failed else [])])


def _sent(row: Row) -> str:
    """Say how many of the segments sent were marked; exact where the receiving end is on this host, too."""
    reported = _count(row, "delivered_ce")
    there = None if row.partner is None else row.partner.socket("received_ce")
    if there is not None and there != UNKNOWN_U32 and (there or reported):
        arrived = max(row.partner.socket("data_segs_in") if row.partner else 0, there)
        share = f"{100.0 * there / arrived:.1f} %" if arrived else "none"
        return (
            f"CE marks: {share} of segments, counted at both ends: routers marked {there} of {arrived} that arrived, "
            f"{reported} reported"
        )
    if not reported:
        return ""
    delivered = row.socket("delivered")
    return f"the peer reports {min(reported, delivered)} of {times(delivered, 'segment')} as marked (CE)"


def _received(row: Row) -> str:
    """Say how many of the segments that came were marked, where the kernel counts them (6.18)."""
    marked = _count(row, "received_ce")
    came = max(row.socket("data_segs_in"), marked)
    return f"{marked} of {times(came, 'data segment')} that came were marked by a router (CE)" if marked else ""


def _count(row: Row, name: str) -> int:
    return 0 if row.socket(name) == UNKNOWN_U32 else row.socket(name)
