"""Which kernels the TCP iterator can harm."""

from __future__ import annotations

import pytest

from tcptop_ops.bpf.iterator_cve import FIXED, harms, remedy


@pytest.mark.parametrize(
    ("release", "version", "harmed"),
    [
        ("6.18.44", "#1 SMP", True),
        ("6.18.45", "#1 SMP", False),
        ("6.18.44-fc-v595", "#1 SMP PREEMPT", True),
        ("6.12.117+deb12-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-10-01)", False),
        ("6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.187-1 (2026-10-01)", False),
        ("6.1.0-40-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1 (2025-09-20)", True),
        ("6.8.0-31-generic", "#31-Ubuntu SMP", True),  # mended or not: who knows
        ("5.14.0-503.el9", "#1 SMP", False),  # before there were batches
        ("5.15.0", "#1 SMP", True),
        ("6.17.13", "#1 SMP", True),
        ("7.1.8", "", True),
        ("7.1.9", "", False),
        ("7.2.0-rc1", "", False),
        ("7.2", "", False),
        ("8.0.1", "", False),
        ("what is this", "", True),
    ],
)
def test_harms(release: str, version: str, harmed: bool) -> None:
    assert harms(release, version) is harmed


@pytest.mark.parametrize("series", FIXED)
def test_the_first_mended_of_each_series(series: tuple[int, int]) -> None:
    release = ".".join(map(str, (*series, FIXED[series])))
    assert not harms(release, "")
    assert remedy(release) == f"Linux {release} or later"


@pytest.mark.parametrize(
    ("release", "first"), [("6.8.0-31", "6.12.104"), ("6.17.2", "6.18.45"), ("7.0.1", "7.1.9"), ("x", "6.1.183")]
)
def test_the_remedy_is_the_next_series_that_was_mended(release: str, first: str) -> None:
    assert remedy(release) == f"Linux {first} or later"
