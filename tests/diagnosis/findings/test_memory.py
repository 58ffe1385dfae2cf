"""Since when: remembered from tick to tick."""

from __future__ import annotations

from typing import Any

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.model.enums import Direction, State
from tests.support.bad_rows import Row, remembered, row


def failing(count: int, **fields: Any) -> list[Row]:
    return [row("syn-unanswered", state=State.SYN_SENT, peer=("10.0.0.5", 80), **fields) for _ in range(count)]


def test_a_finding_is_told_since_its_first_row_was_seen_bad() -> None:
    memory = FindingsMemory()
    assert remembered(memory, failing(2), 1000.0) == ()
    [one] = remembered(memory, failing(5), 1001.0)
    assert one.since == 1000.0
    [one] = remembered(memory, failing(5), 1002.0)
    assert one.since == 1000.0


def test_it_goes_on_with_other_rows_and_after_a_gap() -> None:
    memory = FindingsMemory()
    remembered(memory, failing(3, name=b"app"), 1000.0)
    assert remembered(memory, [row()], 1030.0) == ()
    [one] = remembered(memory, [row()] * 9 + failing(3, name=b"app"), 1059.0)
    assert one.since == 1000.0


def test_after_a_minute_it_is_another_one() -> None:
    memory = FindingsMemory()
    remembered(memory, failing(3, name=b"app"), 1000.0)
    remembered(memory, [row()], 1061.0)
    [one] = remembered(memory, failing(3, name=b"app"), 1062.0)
    assert one.since == 1062.0


def queue(score: float) -> Row:
    usual: Row = {
        "state": State.LISTEN,
        "local": ("0.0.0.0", 443),
        "peer": ("0.0.0.0", 0),
        "name": b"nginx",
        "netns": 5,
    }
    return row("accept-queue", score, direction=Direction.LISTEN, **usual)


def test_clients_that_gave_up_stay_with_their_listener() -> None:
    """And they are not told without it, once it has recovered."""
    usual: Row = {"state": State.SYN_SENT, "peer": ("10.81.0.2", 443), "netns": 8, "name": b"curl", "listener": 1}
    gave_up, waits = row("accept-queue", closed=1.0, **usual), row("accept-queue", **usual)
    memory = FindingsMemory()
    [told] = remembered(memory, [queue(95.0), *[gave_up] * 4, *[waits] * 4], 1000.0)
    assert (told.rows, told.blame) == (9, "app")
    assert remembered(memory, [queue(11.0), *[gave_up] * 4, *[waits] * 4], 1002.0) == ()
