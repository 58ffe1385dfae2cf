"""What is kept of the ticks, and what a graph gets of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.tracking.history import History
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, flow, snapshot


def kept(*rounds: list[dict[str, Any]], most: int = 1000, always: tuple[int, ...] = ()) -> History:
    """A history of these rounds, a second apart."""
    history, tracker = History(most), Tracker()
    for at, flows in enumerate(rounds):
        history.add(tracker.update(snapshot(at, flows)), always)
    return history


def moving(cookie: int, sent: int, **fields: Any) -> dict[str, Any]:
    return flow(cookie, bytes_acked=sent, **fields)


def test_a_series_has_a_value_a_tick() -> None:
    history = kept(
        [moving(1, 0), moving(2, 0)],
        [moving(1, 100, srtt_us=5000, cwnd=7), moving(2, 50)],
        [moving(1, 300, srtt_us=6000, cwnd=8), moving(2, 50)],
    )
    series = history.series(1, 10)
    assert series.tx.tolist() == [100.0, 200.0]
    assert series.srtt_us.tolist() == [5000.0, 6000.0]
    assert series.cwnd.tolist() == [7.0, 8.0]
    assert series.ago_s.tolist() == [1.0, 0.0]


def test_the_first_tick_has_no_rates() -> None:
    assert len(kept([moving(1, 100)])) == 0


def test_only_what_moved_is_kept() -> None:
    assert len(kept([moving(1, 0), moving(2, 0)], [moving(1, 1), moving(2, 0)])) == 1
    assert len(kept([moving(1, 0), moving(2, 0)], [moving(1, 1), moving(2, 0)], always=(2,))) == 2


def test_between_two_samples_nothing_moved_and_around_them_nothing_is_known() -> None:
    history = kept(
        [moving(1, 0), moving(9, 0)],
        [moving(1, 0), moving(9, 1)],
        [moving(1, 10), moving(9, 2)],
        [moving(1, 10), moving(9, 3)],
        [moving(1, 40), moving(9, 4)],
        [moving(1, 40), moving(9, 5)],
    )
    series = history.series(1, 10)
    np.testing.assert_array_equal(series.tx, [np.nan, 10, 0, 30, np.nan])
    np.testing.assert_array_equal(series.srtt_us, [np.nan, 30_000, np.nan, 30_000, np.nan])


def test_an_unknown_connection_is_all_blank() -> None:
    history = kept([moving(1, 0)], [moving(1, 10)])
    assert np.isnan(history.series(77, 10).tx).all()
    assert len(History().series(1, 10)) == 0


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    rounds = [[moving(cookie, 10 * tick) for cookie in range(1, 11)] for tick in range(8)]
    history = kept(*rounds, most=35)
    assert len(history) <= 35
    series = history.series(3, 100)
    assert series.ago_s.tolist() == [2.0, 1.0, 0.0]
    assert series.tx.tolist() == [10.0, 10.0, 10.0]


def test_one_tick_is_kept_however_large() -> None:
    rounds = [[moving(cookie, 10 * tick) for cookie in range(1, 11)] for tick in range(3)]
    assert history_ticks(kept(*rounds, most=3)) == 1


def history_ticks(history: History) -> int:
    return len(history.series(1, 100))


def test_a_paused_screen_sees_nothing_of_what_came_later() -> None:
    history = kept([moving(1, 0)], [moving(1, 10)], [moving(1, 20)], [moving(1, 30)])
    until_s = BOOT_NS / 1e9 + 2
    assert history.series(1, 10, until_s).ago_s.tolist() == [1.0, 0.0]
    assert history.series(1, 1, until_s).tx.tolist() == [10.0]
