"""What is said of explicit congestion notification: a mark is what was counted as one, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tcptop_ops.explain.ecn_facts import SEEN, ecn
from tcptop_ops.model.enums import EcnMode
from tcptop_ops.model.pairs import Pairs
from tcptop_ops.model.records import UNKNOWN_U32
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.ecn_readers import ASKED
from tests.support.fakes import flow, snapshot

USED = {"options": ASKED, "ecn_mode": EcnMode.CLASSIC, "received_ce": UNKNOWN_U32}


def said(*flows: dict[str, Any], paired: bool = False) -> str:
    """Return what is said of the first of these connections; ``paired``: the second is its other end."""
    ticked = Tracker().update(snapshot(0, list(flows)))
    count = len(ticked.live)
    partner = np.array([1, 0]) if paired else np.full(count, -1)
    ticked = replace(ticked, pairs=Pairs(partner.astype(np.intp), np.full(count, -1, np.intp)))
    return ecn(ticked.live.take(np.array([0])), ticked)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": 0}, "no"),
        ({"options": SEEN}, "no"),
        ({}, "yes, RFC 3168"),
        ({"ecn_mode": EcnMode.UNKNOWN}, "yes"),
        ({"ecn_mode": EcnMode.PENDING}, "asked for"),
        ({"options": ASKED | SEEN}, "yes, RFC 3168, ECN-capable segments came"),
        ({"options": ASKED | SEEN, "received_ce": 0}, "yes, RFC 3168, ECN-capable segments came"),
        (
            {"delivered": 100, "delivered_ce": 3},
            "yes, RFC 3168, the peer reports 3 of 100 segments as marked (CE)",
        ),
        (
            {"ecn_mode": EcnMode.ACCURATE, "delivered": 71, "delivered_ce": 72},
            "yes, accurate (AccECN), the peer reports 71 of 71 segments as marked (CE)",
        ),
        ({"delivered_ce": UNKNOWN_U32}, "yes, RFC 3168"),
        (
            {"received_ce": 4, "data_segs_in": 50},
            "yes, RFC 3168, 4 of 50 data segments that came were marked by a router (CE)",
        ),
        (
            {"ecn_mode": EcnMode.ACCURATE, "ecn_fail": 9},
            "yes, accurate (AccECN), failed: ACE field sent and option received",
        ),
    ],
)
def test_one_end(fields: dict[str, Any], words: str) -> None:
    assert said(flow(1, **USED | fields)) == words


def test_marks_that_both_ends_counted() -> None:
    sender = flow(1, **USED, delivered=1000, delivered_ce=60)
    told = said(sender, flow(2, **USED | {"received_ce": 31, "data_segs_in": 1000}), paired=True)
    assert told == (
        "yes, RFC 3168, CE marks: 3.1 % of segments, counted at both ends: "
        "routers marked 31 of 1000 that arrived, 60 reported"
    )


def test_an_older_kernel_at_the_other_end_counts_none() -> None:
    sender = flow(1, **USED, delivered=1000, delivered_ce=60)
    assert said(sender, flow(2, **USED), paired=True).endswith("the peer reports 60 of 1000 segments as marked (CE)")


def test_no_marks_at_either_end() -> None:
    quiet = flow(2, **USED | {"received_ce": 0, "data_segs_in": 9})
    assert said(flow(1, **USED, delivered=9), quiet, paired=True) == "yes, RFC 3168"
