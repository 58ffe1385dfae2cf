"""Happenings in words."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from tcptop_ops.explain import timeline
from tcptop_ops.model.enums import Happening, RetransClass, State
from tcptop_ops.model.records import HAPPENING, UNKNOWN_U32, Records

NOW_NS = 50_000_000_000_000


def story(*told: tuple[float, Happening, int, int], detail: int = 0, lasted_s: float = 0.0) -> Records:
    """Happenings: seconds ago, kind, a, b."""
    found = np.zeros(len(told), HAPPENING)
    for at, (ago_s, kind, a, b) in enumerate(told):
        first = NOW_NS - int(ago_s * 1e9)
        found[at] = (first, first + int(lasted_s * 1e9), a, b, kind, detail, 1)
    return found


def only(kind: Happening, a: int = 0, b: int = 0, detail: int = 0, lasted_s: float = 0.0) -> tuple[str, int]:
    (told,) = timeline.lines(story((1.0, kind, a, b), detail=detail, lasted_s=lasted_s), NOW_NS)
    return told.what, told.level


@pytest.mark.parametrize(
    ("kind", "a", "b", "what", "level"),
    [
        (Happening.CONNECT, 0, 0, "connect()", 0),
        (Happening.ESTABLISHED, 0, 0, "established", 0),
        (Happening.STATE, State.ESTABLISHED, State.CLOSE_WAIT, "ESTAB -> CLS-W", 0),
        (Happening.RTO, 1, 204_000, "RTO #1 204ms", 2),
        (Happening.RECOVERED, 188_000, 0, "recovered, srtt 188ms", 0),
        (Happening.SRTT, 20_000, 60_000, "srtt grew from 20ms to 60ms", 1),
        (Happening.SRTT, 60_000, 20_000, "srtt fell from 60ms to 20ms", 0),
        (Happening.CLOSE, 0, State.LAST_ACK, "closed, from LST-A", 0),
        (Happening.CLOSE, UNKNOWN_U32, State.LAST_ACK, "closed, from LST-A", 0),
        (Happening.CLOSE, errno.ETIMEDOUT, State.ESTABLISHED, "closed, from ESTAB: ETIMEDOUT", 2),
        (Happening.CLOSE, 9999, State.ESTABLISHED, "closed, from ESTAB: 9999", 2),
        (Happening.ADOPTED, 1 << State.ESTABLISHED, 0, "adopted, ESTAB", -1),
        (Happening.ADOPTED, 1 << State.ESTABLISHED | 1 << State.CLOSE_WAIT, 0, "adopted", -1),
    ],
)
def test_what_happened(kind: Happening, a: int, b: int, what: str, level: int) -> None:
    assert only(kind, a, b) == (what, level)


def test_a_burst_tells_its_class_and_how_long_it_was() -> None:
    assert only(Happening.RETRANS, 3, detail=RetransClass.RECOVERY) == ("RETRANS x3 (recovery)", 1)
    assert only(Happening.RETRANS, 43, detail=RetransClass.PROBE, lasted_s=7.48) == (
        "RETRANS x43 (tail-loss probe) within 7.48s",
        1,
    )
    assert only(Happening.RETRANS, 1, detail=200) == ("RETRANS x1 (?)", 1)


def test_only_a_doubled_timeout_is_backed_off() -> None:
    doubled = story((3, Happening.RTO, 1, 204_000), (2, Happening.RTO, 2, 408_000), (1, Happening.RTO, 3, 816_000))
    assert [told.what for told in timeline.lines(doubled, NOW_NS)] == [
        "RTO #1 204ms",
        "RTO #2 408ms, back-off 1",
        "RTO #3 816ms, back-off 2",
    ]
    linear = story((3, Happening.RTO, 1, 1_000_000), (2, Happening.RTO, 2, 1_000_000))
    assert [told.what for told in timeline.lines(linear, NOW_NS)] == ["RTO #1 1.00s", "RTO #2 1.00s"]
    (met_later,) = timeline.lines(story((1, Happening.RTO, 7, 4_000_000)), NOW_NS)
    assert met_later.what == "RTO #7 4.00s"


def test_times_count_back_from_now() -> None:
    found = timeline.lines(
        story((192.1144, Happening.CONNECT, 0, 0), (0.5, Happening.ESTABLISHED, 0, 0), (5000, Happening.CONNECT, 0, 0)),
        NOW_NS,
    )
    assert [told.when for told in found] == ["-192.114", "-0.500", "-83m"]
    assert all(len(told.when) <= timeline.TIME_WIDTH for told in found)


def test_what_is_not_known_is_left_out() -> None:
    assert timeline.lines(story((1, Happening.CONNECT, 0, 0)), NOW_NS)
    odd = story((1, Happening.CONNECT, 0, 0))
    odd["kind"] = 99
    assert timeline.lines(odd, NOW_NS) == []


def test_what_was_waited_before_it_stood() -> None:
    syns = ((9.0, Happening.RTO, 1, 1_000_000), (8.0, Happening.RTO, 2, 1_000_000))
    stood = (7.0, Happening.ESTABLISHED, 0, 0)
    assert timeline.waited_before_standing_us(story(*syns, stood, (1, Happening.RTO, 1, 300_000))) == 2_000_000
    assert timeline.waited_before_standing_us(story(*syns)) == 0
