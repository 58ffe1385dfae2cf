"""Healthy traffic of every kind: both sources watch it at once, and neither says anything against it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from tests.healthy import places, run
from tests.healthy.judge import Verdict
from tests.support.lab import Lab

TICKS = 10
SOURCES = ("auto", "sockdiag")


def test_nothing_is_said_of_healthy_traffic(lab: Lab) -> None:
    """Ten minutes prove more: ``python -m tests.healthy``."""
    cgroup = lab.cgroup("watched")
    sites = places.sites(lab)
    clients = places.start(lab, cgroup, sites)

    def watched(source: str) -> Verdict:
        verdict = Verdict()
        words = run.options(source, 1.0, cgroup, sites)
        status = run.watch(lab, cgroup, words, TICKS, lambda line: verdict.take(json.loads(line)))
        assert status == 0
        return verdict

    with ThreadPoolExecutor() as at_once:
        for verdict in at_once.map(watched, SOURCES):
            assert verdict.ticks == TICKS
            assert verdict.well, "\n".join(verdict.lines())
    assert run.complaints(clients) == []
