"""A minute of the soak; and that what it judges by can find what it looks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.judge import (
    Made,
    Sample,
    Tick,
    book_violations,
    growth_percent,
    left_out,
    memory_violations,
    row_violations,
)
from tests.soak.plan import ONE_MINUTE
from tests.soak.run import soak

STILL = Tick(
    number=0,
    interval_s=1.0,
    poll_s=0.01,
    opened=0,
    closed=0,
    connections=10,
    adopted=10,
    untracked=0,
    notes=(),
    states=frozenset(),
    unseen=0,
)
TICKS = [
    replace(STILL, number=1),
    replace(STILL, number=2, opened=6, closed=1, connections=15),
    replace(STILL, number=3, closed=4, connections=11),
]
MADE = Made(opened=6, closed=5)
FLAT = [
    Sample(at_s=10.0 * n, rss_kib=100_000 + n % 3 * 500, fds=14 + (n % 5 == 0), namespaces=n % 4) for n in range(60)
]


def test_the_one_minute_form() -> None:
    """What a machine that stands still leaves out is told, and no violation."""
    said: list[str] = []
    report = soak(ONE_MINUTE, said.append)
    print(*said, *report.figures, sep="\n")
    assert report.violations == []


def test_books_that_agree() -> None:
    assert book_violations(TICKS, MADE) == []


@pytest.mark.parametrize(
    ("at", "change", "said"),
    [
        (2, {"number": 4}, "tick numbers 1 to 4, but 3 lines"),
        (1, {"opened": 5}, "opened 5, but 6 connections were"),
        (2, {"closed": 5}, "closed 6, but 5 sockets were"),
        (2, {"connections": 13}, "opened less closed leaves 11, but 13 are listed"),
        (2, {"adopted": 11}, "adopted 10 at first and 11 in the end"),
        (2, {"untracked": 1}, "untracked 1"),
        (1, {"unseen": 2}, "2 rows whose end is unseen"),
        (1, {"notes": ("ring full: 3",)}, "1 ticks: ring full: 3"),
    ],
)
def test_books_that_do_not(at: int, change: dict[str, object], said: str) -> None:
    ticks = list(TICKS)
    ticks[at] = replace(ticks[at], **change)  # type: ignore[arg-type]
    assert said in book_violations(ticks, MADE)


def test_a_late_tick_is_not_a_left_out_one() -> None:
    ticks = [replace(STILL, number=n) for n in range(100)]
    assert left_out(ticks, 1.0) == 0
    ticks[50:52] = [replace(ticks[50], interval_s=1.7), replace(ticks[51], interval_s=0.3)]
    assert left_out(ticks, 1.0) == 0
    ticks[70] = replace(ticks[70], interval_s=2.0)
    assert left_out(ticks, 1.0) == 1
    ticks[99] = replace(ticks[99], interval_s=1.4, poll_s=0.41)  # a slow poll at the end
    assert left_out(ticks, 1.0) == 1


def test_what_is_flat_is_taken_for_flat() -> None:
    assert memory_violations("it", FLAT) == []
    assert abs(growth_percent(FLAT)) < 0.5


def test_what_grows_is_found() -> None:
    grown = [replace(each, rss_kib=each.rss_kib + 60 * n) for n, each in enumerate(FLAT)]
    assert growth_percent(grown) == pytest.approx(3.5, abs=0.2)
    assert [each.split(" by ")[0] for each in memory_violations("it", grown)] == ["it: memory grew"]
    peak = [replace(each, rss_kib=each.rss_kib * (2 if n == 59 else 1)) for n, each in enumerate(FLAT)]
    assert memory_violations("it", peak) == [], "one sample is no growth"


def test_a_leaked_descriptor_is_found() -> None:
    leaked = [replace(each, fds=each.fds + n // 30) for n, each in enumerate(FLAT)]
    assert memory_violations("it", leaked) == ["it: 14 descriptors became 15"]
    held = [replace(each, namespaces=each.namespaces + n // 5) for n, each in enumerate(FLAT)]
    [said] = memory_violations("it", held)
    assert "namespaces" in said


def test_rows_are_compared_with_ss() -> None:
    rows = [{"cookie": n, "bytes_received": 2, "state": "ESTAB"} for n in range(4)]
    assert row_violations(rows, {0, 1, 2, 3}, 2) == []
    assert row_violations(rows[:3], {0, 1, 2, 3}, 2) == ["3 rows of 4 resting ends", "1 that ss lists are missing"]
    rows[3] |= {"cookie": 7, "bytes_received": 1}
    assert len(row_violations(rows, {0, 1, 2, 3}, 2)) == 3
