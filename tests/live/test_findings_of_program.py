"""Findings as the program prints them: with a filter and without, by both sources, at several delays."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tcptop_ops.text import endpoint
from tests.live.started import json_ticks
from tests.support.lab import Lab

HOLE = 10
SECONDS = 4


@pytest.mark.parametrize(("source", "delay", "family"), [("sockops", 0.5, "ipv4"), ("sockdiag", 1, "ipv6")])
def test_two_incidents_of_one_host(lab: Lab, source: str, delay: float, family: str) -> None:
    """Clients of a port that swallows SYNs, and a listener that does not accept, with those who wait for it."""
    link = lab.link("a", "b")
    far = getattr(link.b, family)
    lab.black_hole(link.b.ns, HOLE)
    server = lab.server(link.b.ns, "listen-only", address=far, backlog=1, comm="java")
    for name, port, number in (("waiter", HOLE, 4), ("curl", server.port, 7)):
        for _ in range(number):
            lab.client(link.a.ns, "connect-only", address=far, port=port, comm=name)
    here = " or ".join(f"netns = {os.stat(Path('/run/netns') / end.ns).st_ino}" for end in (link.a, link.b))
    options = ("--source", source, "-d", str(delay))
    last = json_ticks(*options, "-f", here, count=int(SECONDS / delay))[-1]
    queue, waiters = sorted(last["findings"], key=lambda one: one["text"].startswith("waiter"))
    assert waiters["text"].startswith(f"waiter -> {endpoint(far, HOLE)} 4 failed in ")
    assert waiters["text"].endswith(" s: no answer")
    assert (waiters["rows"], waiters["blame"]) == (4, "network")
    assert queue["text"].startswith(f"the accept queue of java, {endpoint(far, server.port)}, is full")
    assert queue["text"].endswith("attempts of curl on this host wait for it")
    assert (queue["rows"] > 3, queue["blame"]) == (True, "app")
    assert all(one["since"] <= last["time"] for one in (queue, waiters))
    nobody = f"({here}) and process = nobody"
    filters = (queue["filter"], waiters["filter"], nobody)
    with ThreadPoolExecutor() as at_once:
        run = partial(json_ticks, *options, "-f", count=int(SECONDS / delay))
        *both, empty = [ticks[-1] for ticks in at_once.map(run, filters)]
    assert empty["findings"] == []
    for found, shown in zip((queue, waiters), both, strict=True):
        assert len(shown["connections"]) == found["rows"]
        assert [one["text"].split(" failed")[0].split(" is full")[0] for one in shown["findings"]] == [
            found["text"].split(" failed")[0].split(" is full")[0]
        ]
