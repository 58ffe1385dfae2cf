"""The short form of ``python -m tests.support.fuzz``; and that it would notice."""

from __future__ import annotations

import itertools
import mmap
import random

import pytest

from tests.support import fuzz_run
from tests.support.fuzz import TRIES
from tests.support.fuzz_filters import filter_text
from tests.support.fuzz_netlink import damage
from tests.support.fuzz_run import run

SHORT = 3000


@pytest.mark.parametrize("what", TRIES)
def test_nothing_breaks(what: str) -> None:
    report = run(TRIES[what](), SHORT, seed=20)
    assert report.broken == []
    assert sum(report.outcomes.values()) == SHORT
    assert all(number > SHORT // 10 for _, number in report.outcomes.most_common(2))  # refused, and taken


def test_the_same_seed_makes_the_same_inputs() -> None:
    texts = [[filter_text(random.Random(f"{seed}:{n}")) for n in range(50)] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    dumps = [damage(random.Random(f"{seed}:0"), [b"a" * 64, b"b" * 64]) for seed in (1, 1, 2)]
    assert dumps[0] == dumps[1] != dumps[2]


def test_an_undocumented_error_is_reported_with_its_seed() -> None:
    def attempt(rng: random.Random) -> str:
        if rng.random() < 0.5:
            raise IndexError("out of bounds")
        return "fine"

    report = run(attempt, 100, seed=3)
    assert 20 < len(report.broken) < 80
    number = int(report.broken[0].split(":")[1])
    assert report.broken[0] == f"3:{number}: IndexError: out of bounds"
    assert random.Random(f"3:{number}").random() < 0.5
    assert "broken" in report.line()


def test_a_hang_is_ended_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_run, "PATIENCE_S", 0.05)

    def attempt(_rng: random.Random) -> str:
        for _ in itertools.count():
            pass
        return "never"

    report = run(attempt, 1, seed=0)
    assert len(report.broken) == 1
    assert "TooSlow" in report.broken[0]


def test_growth_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_run, "MOST_GROWTH", 16 << 20)
    kept: list[mmap.mmap] = []  # fresh pages, not what the allocator had left over

    def attempt(rng: random.Random) -> str:
        kept.append(mmap.mmap(-1, 1 << 20))
        kept[-1].write(rng.randbytes(1 << 20))
        return "kept"

    report = run(attempt, 50, seed=0)
    assert report.growth > 16 << 20
    assert len(report.broken) == 1
