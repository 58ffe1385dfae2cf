"""Two hundred mixed connections at rest: what every source tells of them is what ``ss`` tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf import attach
from tcptop_ops.model.flows import Flows
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.sources.sock_diag import SockDiag, open_socket
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view
from tests.live.agreement import CLOCKS, COUNTS, TIMES, Key, Row, Said, differences, ss_says
from tests.live.crowd import Crowd, crowded
from tests.live.watch import Watch
from tests.support.lab import Lab
from tests.support.leftovers import NETNS
from tests.support.netns import in_netns

STEADY = 0.95
"""The share of sockets that have to be the same for ss before and after our tick: timers of the others ran out."""

TRIES = 5
SEEN_BY_CHANCE = {"reord_seen", "rcv_wnd"}  # nothing here reorders packets at will; younger versions of ss know rcv_wnd
RATE_ERROR = 2e-6  # of a rate that sock_diag tells as one number, and that we keep as two (inetdiag.py)


@pytest.fixture(scope="module")
def laboratory() -> Iterator[tuple[Crowd, Path]]:
    with Lab() as lab:
        cgroup = lab.cgroup("watched")
        with crowded(lab, cgroup) as crowd:
            yield crowd, cgroup


def told(flows: Flows) -> dict[Key, tuple[Row, Row]]:
    """The rows of a tick, and of each the clocks that no column shows as such."""
    raw = {int(socket["cookie"]): {name: int(socket[name]) for name in CLOCKS} for socket in flows.live.sockets}
    rows = [row for row in connections(view.make(flows, view.Spec())) if row["closed_s"] is None]
    return {(row["netns"], row["cookie"]): (row, raw[row["cookie"]]) for row in rows}


def steady_tick(crowd: Crowd, tick: Callable[[], dict[Key, tuple[Row, Row]]]) -> tuple[Any, ...]:
    """Our rows between two answers of ss, most of which did not change; and the keys of those."""
    for _ in range(TRIES):
        before, rows, after = ss_says(crowd.namespaces), tick(), ss_says(crowd.namespaces)
        same = {key for key in before.keys() & after.keys() if before[key].facts == after[key].facts}
        if len(same) >= STEADY * len(after) and before.keys() == after.keys():
            return before, rows, after, same
    raise AssertionError(f"only {len(same)} of {len(after)} sockets were at rest")


def agree(crowd: Crowd, tick: Callable[[], dict[Key, tuple[Row, Row]]], rate_error: float = 0.0) -> dict[Key, Row]:
    before, rows, after, same = steady_tick(crowd, tick)
    assert rows.keys() == after.keys(), "every socket is in both"
    different = {
        key: found
        for key in same
        if (found := differences(rows[key][0], rows[key][1], before[key], after[key], rate_error))
    }
    assert different == {}
    has_everything(before)
    return {key: row for key, (row, _) in rows.items()}


def has_everything(said: dict[Key, Said]) -> None:
    """The crowd is as mixed as it has to be: otherwise that we agree means little."""
    facts = [each.facts for each in said.values()]
    assert {each["state"] for each in facts} == {"ESTAB", "LISTEN", "SYN-SENT", "FIN-WAIT-2", "CLOSE-WAIT"}
    assert {each["cc"] for each in facts} >= {"cubic", "reno", "bbr"}
    assert {each["timer"] for each in facts} >= {"", "on", "persist"}
    assert len({each["uid"] for each in facts}) > 20
    names = {*COUNTS, *TIMES, "ssthresh", "delivery_bytes_per_s", "recv_q", "send_q", "drops", "backlog"}
    assert [name for name in names - SEEN_BY_CHANCE if not any(each.get(name) for each in facts)] == []
    assert all(any(each.clocks.get(name) for each in said.values()) for name in ("busy_us", "rwnd_limited_us"))


def test_a_pass_over_descriptors(laboratory: tuple[Crowd, Path]) -> None:
    crowd, cgroup = laboratory
    with Watch(cgroup) as watch:
        assert len(watch.flows.live) == len(ss_says(crowd.namespaces)), "the first tick has them all"
        rows = agree(crowd, lambda: told(watch.tick()))
    connected = [row for row in rows.values() if row["state"] != "LISTEN"]
    assert len(crowd.pairs) >= 200
    assert len(connected) == sum(2 if pair.far or pair.near is None else 1 for pair in crowd.pairs) + waiting(crowd)
    can_adopt = "HAVE_ADOPTION" in watch.source.attached.features
    held = [row for row in connected if row["inode"] is not None]
    listeners = [row for row in rows.values() if row["state"] == "LISTEN"]
    assert {row["origin"] for row in held + listeners} == {"adopted" if can_adopt else "listed"}
    assert {row["origin"] for row in connected if row["inode"] is None} <= {"listed"}, "nobody has a descriptor of them"
    assert {row["pid"] for row in held} == {os.getpid()}


def waiting(crowd: Crowd) -> int:
    """Connections in the queues of listeners: they stand, and nobody accepted them."""
    return 2 * len(crowd.links)


def test_sock_diag_beside_the_program(laboratory: tuple[Crowd, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no iterators, the present state of all namespaces comes from sock_diag."""
    crowd, cgroup = laboratory
    namespaces = {os.stat(NETNS / ns).st_ino for ns in crowd.namespaces}
    monkeypatch.setattr(attach, "attempts", lambda *_: [["HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"]])
    with Watch(cgroup) as watch:

        def tick() -> dict[Key, tuple[Row, Row]]:
            return {key: row for key, row in told(watch.tick()).items() if key[0] in namespaces}

        agree(crowd, tick, RATE_ERROR)


def test_sock_diag_alone(laboratory: tuple[Crowd, Path]) -> None:
    crowd, _ = laboratory
    with ExitStack() as stack:
        sources = []
        for ns in crowd.namespaces:
            diag = SockDiag(in_netns(ns, open_socket), netns=os.stat(NETNS / ns).st_ino)
            sources.append(stack.enter_context(closing(SockDiagSource(diag))))
        trackers = [Tracker() for _ in sources]

        def tick() -> dict[Key, tuple[Row, Row]]:
            rows: dict[Key, tuple[Row, Row]] = {}
            for source, tracker in zip(sources, trackers, strict=True):
                rows |= told(tracker.update(source.poll()))
            return rows

        agree(crowd, tick, RATE_ERROR)
