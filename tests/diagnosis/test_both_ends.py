"""Loss, lost acknowledgements and reordering, told apart by the counts of both ends: rows computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.both_ends import Counts, as_receiver, as_sender
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import State
from tcptop_ops.tracking.tracker import Tracker
from tests.support.both_ends import with_other_end
from tests.support.cases import case, verdict
from tests.support.fakes import flow, snapshot

SENT = {"data_segs_out": 814, "retrans_segs": 14}
AS_SENDER: list[tuple[str, float, dict[str, Any], dict[str, Any]]] = [
    # nothing had arrived: loss, as where the other end is not known
    ("loss", 12 * 1300 / 864, SENT, {"data_segs_in": 800}),
    ("loss", 90, SENT | {"retrans_segs": 100}, {"data_segs_in": 700}),
    # of some the original had arrived, and these do not count
    ("loss", 12 * 700 / 864, SENT, {"data_segs_in": 806}),
    ("loss", 12 * 700 / 864, SENT | {"dsack_dups": 6}, {"data_segs_in": 806}),
    # all had arrived, whatever duplicates the peer has reported: fewer than 2 %
    ("healthy", 0, SENT, {"data_segs_in": 814}),
    ("spurious", 20, SENT | {"data_segs_out": 700}, {"data_segs_in": 700}),
    ("reordering", 20, SENT | {"data_segs_out": 700, "reord_seen": 3}, {"data_segs_in": 700}),
    ("healthy", 0, SENT | {"data_segs_out": 200, "retrans_segs": 9}, {"data_segs_in": 200}),
    # the same without certainty: what is under way, or was counted between the polls, may be lost or not
    ("loss", 12 * 1300 / 750, SENT | {"data_segs_out": 700, "unacked": 14}, {"data_segs_in": 700}),
    ("loss", 12 * 1300 / 750, SENT | {"data_segs_out": 700, "win_s": 0.2}, {"data_segs_in": 700}),
    # windows that began at other moments are not compared
    ("loss", 12 * 1300 / 750, SENT | {"data_segs_out": 700, "win_s": 19.0}, {"data_segs_in": 700}),
    # every retransmit ever was of a lost segment: W began while a burst was under way
    ("loss", 12 * 1300 / 750, SENT | {"data_segs_out": 700}, {"data_segs_in": 900, "ever": 214}),
    # only probes
    ("tail-loss", 12 * 1300 / 864, SENT | {"probe_segs": 14}, {"data_segs_in": 800}),
    ("healthy", 0, SENT | {"probe_segs": 14}, {"data_segs_in": 814}),
]
CAME = {"data_segs_in": 1000, "ooo_in": 200, "was_ooo_seconds": 20}
AS_RECEIVER: list[tuple[str, float, dict[str, Any], dict[str, Any]]] = [
    # the sender retransmitted nothing: nothing was lost, however much came out of order
    ("healthy", 0, CAME, {"data_segs_out": 1000}),
    ("healthy", 0, CAME, {"data_segs_out": 1010}),
    # it retransmitted what had arrived
    ("healthy", 0, CAME, {"data_segs_out": 1000, "retrans_segs": 10}),
    ("inbound-loss", 12 * 1000 / 1060, CAME, {"data_segs_out": 1010, "retrans_segs": 10}),
    ("inbound-loss", 12 * 600 / 1056, CAME, {"data_segs_out": 1006, "retrans_segs": 10}),
    ("healthy", 0, CAME, {"data_segs_out": 1005, "retrans_segs": 10}),
    ("healthy", 0, CAME | {"ooo_in": 4}, {"data_segs_out": 1010, "retrans_segs": 10}),
    # under way
    ("healthy", 0, CAME, {"data_segs_out": 1010, "retrans_segs": 10, "unacked": 8}),
    # the sender was polled later, and has been told that what it retransmitted had arrived
    ("healthy", 0, CAME, {"data_segs_out": 1100, "retrans_segs": 100, "dsack_dups": 98}),
    ("inbound-loss", 12 * 4000 / 1150, CAME, {"data_segs_out": 1100, "retrans_segs": 100, "dsack_dups": 60}),
]


def judged(told: dict[str, Any], other: dict[str, Any]) -> tuple[str, float]:
    """The counters of the life are those of W, and ``ever`` more at the sender; at 1000 segments a poll is 0 s late."""
    other = dict(other)
    ever = other.pop("ever", 0)
    made = with_other_end(told, other)
    made.sockets["data_segs_out"] += 1000 + ever
    assert made.everyone is not None
    made.everyone.sockets["data_segs_in"] += 1000
    return verdict(made)


@pytest.fixture(autouse=True)
def _polled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcptop_ops.diagnosis.both_ends.SKEW_S", 0.0)


@pytest.mark.parametrize(("name", "severity", "told", "other"), AS_SENDER)
def test_what_was_sent(name: str, severity: float, told: dict[str, Any], other: dict[str, Any]) -> None:
    assert judged(told, other) == (name, round(severity, 6))


@pytest.mark.parametrize(("name", "severity", "told", "other"), AS_RECEIVER)
def test_what_was_received(name: str, severity: float, told: dict[str, Any], other: dict[str, Any]) -> None:
    assert verdict(with_other_end(told, other)) == (name, round(severity, 6))


def test_counters_that_wrapped() -> None:
    made = with_other_end(SENT, {"data_segs_in": 800})
    assert made.everyone is not None
    made.sockets["data_segs_out"], made.everyone.sockets["data_segs_in"] = 5, 2**32 - 9
    comparable, counts = as_sender(made)
    assert comparable.all()
    assert (counts.missing_ever, counts.lost, counts.surely_arrived) == (14, 14, 0)


def test_a_listener_and_a_row_alone_are_compared_with_none() -> None:
    assert not as_sender(with_other_end({"state": State.LISTEN}, {}))[0].any()
    assert not as_receiver(case())[0].any()


def test_where_a_poll_may_be_late_a_second_of_a_fast_flow_tells_little() -> None:
    counts = Counts(50_000.0, 49_800.0, 250.0, 0.0, 150_000, 149_000, 1250, 0.0, 1.0, 0.0, False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tcptop_ops.diagnosis.both_ends.SKEW_S", 0.005)
        assert (counts.doubt, counts.lost, counts.surely_lost, counts.surely_arrived) == (500, 200, 0, 0)
        assert counts.unsure == 250


def said(cause: str, near: dict[str, Any], far: dict[str, Any], of: int = 0) -> str:
    """The evidence of one end of a connection between ports 5 and 6; the growth within W is that of the life."""
    ends = [("10.0.0.1", 5), ("10.0.0.2", 6)]
    rows = [
        flow(1, local=ends[0], peer=ends[1], name=b"curl", pid=812) | near,
        flow(2, local=ends[1], peer=ends[0], name=b"sshd", pid=4711) | far,
    ]
    flows = Tracker().update(snapshot(20, rows))
    rates = flows.live.rates
    rates["cause"], rates["win_s"] = [c.name for c in CAUSES].index(cause), 20.0
    for name in ("data_segs_out", "data_segs_in", "retrans_segs"):
        rates["win"][name] = flows.live.sockets[name]
    return evidence.sentence(flows.live.take(flows.live.sockets["cookie"] == of + 1), flows)


def test_words() -> None:
    near, far = {"data_segs_out": 812, "retrans_segs": 12}, {"data_segs_in": 800}
    assert said("loss", near, far) == (
        "12 of 812 segments did not reach sshd 4711 (counted at both ends), 12 retransmits in 20 s"
    )
    assert said("loss", near | {"unacked": 2}, far).startswith("about 12 of 812 segments did not reach sshd 4711")
    assert said("loss", near | {"unacked": 20}, far).startswith("12 retransmits in 20 s, 1.5 % of 812 segments")
    assert said("inbound-loss", near, far, of=1) == (
        "12 of 812 segments that curl 812 sent did not arrive in 20 s (counted at both ends)"
    )


def test_words_about_what_had_arrived() -> None:
    near = {"data_segs_out": 800, "retrans_segs": 14, "segs_in": 300}
    far = {"data_segs_in": 800, "segs_out": 320}
    all_of_them = "all 14 retransmitted segments in 20 s had arrived"
    assert said("spurious", near, far) == f"{all_of_them}: 20 of 320 ACKs were lost, counted at both ends"
    assert said("spurious", near | {"segs_in": 320}, far) == f"{all_of_them}, counted at both ends"
    some = said("reordering", near | {"reord_seen": 4}, far | {"data_segs_in": 798, "segs_out": 300})
    assert some.startswith("12 of 14 retransmitted segments in 20 s had arrived, counted at both ends")


def test_words_of_a_receiver_whose_sender_is_elsewhere() -> None:
    flows = Tracker().update(snapshot(20, [flow(1)]))
    flows.live.rates["cause"], flows.live.rates["win_s"] = [c.name for c in CAUSES].index("inbound-loss"), 20.0
    flows.live.rates["win"]["ooo_in"], flows.live.rates["win"]["data_segs_in"] = 36, 183
    assert evidence.sentence(flows.live, flows) == (
        "36 of 183 segments came out of order in 20 s: lost, or reordered on the path, 19.7 %"
    )
