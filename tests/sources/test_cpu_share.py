"""Work is put off, and is not put off for ever."""

from __future__ import annotations

from tcptop_ops.sources.cpu_share import SAVED_S, CpuShare


class Times:
    now_s = cpu_s = 0.0


def test_a_share_of_the_time_is_used() -> None:
    times = Times()
    account = CpuShare(0.05, lambda: times.now_s, lambda: times.cpu_s)
    for _ in range(1000):
        times.now_s += 1
        if account.allows:
            with account.spent() as used:
                times.cpu_s += 0.2
                assert used() > 0.19
    assert 45 <= times.cpu_s <= 51


def test_what_is_cheap_is_always_allowed() -> None:
    times = Times()
    account = CpuShare(0.05, lambda: times.now_s, lambda: times.cpu_s)
    for _ in range(100):
        times.now_s += 1
        assert account.allows
        with account.spent():
            times.cpu_s += 0.01


def test_little_is_saved() -> None:
    times = Times()
    account = CpuShare(0.5, lambda: times.now_s, lambda: times.cpu_s)
    times.now_s = 1e6
    assert account.allows
    with account.spent():
        times.cpu_s += 0.5 * SAVED_S + 0.1
    assert not account.allows
