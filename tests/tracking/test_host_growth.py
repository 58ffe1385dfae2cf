"""What the host counted within W, and since the start."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.model.host_counters import HOST, HostTick
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import snapshot


def row(dtype: np.dtype[np.void], **fields: int) -> Records:
    made = np.zeros(1, dtype)
    for name, value in fields.items():
        made[name] = value
    return made


def ticks(*shots: dict[str, Any], window_s: float = 10.0) -> list[HostTick]:
    tracker = Tracker(window_s)
    return [tracker.update(snapshot(float(at), [], **shot)).host for at, shot in enumerate(shots)]


def test_growth_of_the_host_and_of_its_namespaces() -> None:
    told = ticks(
        *(
            {
                "host_counters": row(HOST, backlog_drops=50 + 2 * at, files=7),
                "namespace_counters": row(NETNS, netns=4, out_segs=1000 + 3 * at),
            }
            for at in range(15)
        )
    )
    assert [one.seconds for one in told[:3]] == [0.0, 1.0, 2.0]
    assert told[14].seconds == 10.0
    assert [one.grown["backlog_drops"] for one in (told[0], told[1], told[14])] == [0, 2, 20]
    assert told[14].since_start["backlog_drops"] == 28
    assert told[14].since_start["out_segs"] == 42
    assert told[14].namespaces["net"]["out_segs"].tolist() == [30]
    assert told[14].now["files"].tolist() == [7]


def test_of_a_source_that_does_not_tell_nothing_is_known() -> None:
    told = ticks({}, {})
    assert (len(told[1].now), dict(told[1].grown)) == (0, {})
    assert len(told[1].namespaces) == 0


def test_a_counter_that_runs_backwards_begins_anew() -> None:
    told = ticks(*({"host_counters": row(HOST, backlog_drops=count)} for count in (90, 95, 3, 4)))
    assert [one.grown["backlog_drops"] for one in told] == [0, 5, 0, 1]
    assert told[3].since_start["backlog_drops"] == 1


def test_what_namespaces_had_counted_two_seconds_ago() -> None:
    tracker = Tracker(10.0)
    told = [
        tracker.update(snapshot(tenths / 10, [], namespace_counters=row(NETNS, netns=4, out_segs=tenths))).host
        for tenths in range(0, 40, 4)
    ]
    assert [len(one.settled) for one in told[:6]] == [0, 0, 0, 0, 0, 1]
    assert [one.settled["net"]["out_segs"].tolist() for one in told[5:8]] == [[0], [4], [8]]
