"""Counts to the one: many short connections, floods of SYNs, a ring that nobody drains, states that have no rows."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf import attach, syscall
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.model.endings import end_names
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import EVENTS, FINAL
from tcptop_ops.polling.schedule import ticks
from tcptop_ops.sources import sockops
from tcptop_ops.tracking.tracker import Tracker
from tests.live.watch import Watch, program
from tests.support.lab import Lab, Link
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import LabError, run
from tests.support.witness import snmp

CLIENTS = 2
ROUNDS = 5
SHORT_CONNECTIONS = CLIENTS * ROUNDS * int(8_000 * float(os.environ.get("TCPTOP_SCALE", "1")))
MOST_TICKS = 300
RING_HEADER = 8
"""Bytes before each record of a BPF ring buffer (BPF_RINGBUF_HDR_SZ)."""
"""Twice as many rows: what the tracker keeps (MAX_LINGERING). An emulated machine takes a share of them."""

SYNS = 2_000
TIMEOUT_INIT = next(operator.number for operator in OPERATORS if operator.name == "TIMEOUT_INIT")
SMALL_RING = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def rows_in_map(watch: Watch) -> int:
    keys, values = np.zeros(4096, "u8"), np.zeros(4096, EVENTS)
    count = syscall.lookup_batch(watch.source.attached.fds["conns"], keys, values)
    assert count is not None
    return count


def listeners(watch: Watch, count: int) -> int:
    """So many rows in the map for listeners that were there before: where sockets can be adopted."""
    return count if "HAVE_ADOPTION" in watch.source.attached.features else 0


def test_every_short_connection_is_counted_and_listed(lab: Lab, cgroup: Path) -> None:
    """In the rhythm of the product: a tick a second, the ring drained in between.

    In rounds of as many as the ring holds, each begun when the tick has all of the one before: a host may make
    connections faster than a tick with 200,000 lingering rows can read them.
    """
    ns = lab.namespace("busy")
    server = program(lab, ns, cgroup, "hang-up", "--count", 2, "--address", "127.0.0.1")
    each = SHORT_CONNECTIONS // CLIENTS // ROUNDS
    assert 2 * each * CLIENTS <= attach.RING_BYTES // (FINAL.itemsize + RING_HEADER)
    words = ("--count", CLIENTS, "--each", each, "--address", "127.0.0.1", "--port", server.port)
    bursts = [program(lab, ns, cgroup, "burst", *words) for _ in range(ROUNDS)]
    both = 2 * SHORT_CONNECTIONS
    with Watch(cgroup) as watch:
        opened = closed = begun = idle = 0
        stop = threading.Event()
        for flows in ticks(watch.source, Tracker(window_s=20, closed_s=3600), 1.0, stop, MOST_TICKS):
            opened, closed = opened + flows.totals.opened, closed + flows.totals.closed
            if closed < 2 * each * CLIENTS * begun:
                continue
            if begun < ROUNDS:
                bursts[begun].tell("go")
                begun += 1
                continue
            idle += 1
            if idle > 1:
                stop.set()
        assert (opened, closed, len(flows.closed)) == (both, both, both)
        assert [burst.expect("finished") for burst in bursts] == ["0"] * ROUNDS
        whole(flows, snmp(ns)["Tcp.OutRsts"])
        assert not any(" full: " in note for note in flows.snapshot.notes), "neither the map nor the ring"
        assert rows_in_map(watch) == listeners(watch, 1)


def whole(flows: Flows, resets: int) -> None:
    """Every closed row is another connection, and has all its figures.

    ``resets``: RSTs that the kernel sent in this namespace. It may do so where memory is short (tcp_check_oom, or a
    TIME-WAIT that could not be made): such a side ends as reset, and no other does.
    """
    sockets, events, owners = flows.closed.sockets, flows.closed.events, flows.closed.owners
    assert flows.closed.endings is not None
    assert len(np.unique(sockets["cookie"])) == len(sockets)
    ends, counts = np.unique(end_names(sockets, events, flows.closed.endings), return_counts=True)
    ended = dict(zip(ends.tolist(), counts.tolist(), strict=True))
    assert ended.keys() <= {b"closed", b"peer-closed", b"reset"}
    assert ended.pop(b"reset", 0) <= 2 * resets
    assert all(SHORT_CONNECTIONS - 2 * resets <= ended[end] <= SHORT_CONNECTIONS for end in (b"closed", b"peer-closed"))
    server_side = sockets["lport"] < sockets["rport"]
    names, counts = np.unique(owners["name"], return_counts=True)
    said = dict(zip(names.tolist(), counts.tolist(), strict=True))
    assert said.pop(b"the-parent") == SHORT_CONNECTIONS, "the clients: children that did not rename themselves"
    assert said.keys() == {b"worker-0", b"worker-1"}
    assert sum(said.values()) == SHORT_CONNECTIONS
    assert np.all(sockets["laddr"][:, 12] == 127)
    assert np.all(events["direction"] > 0)
    assert server_side.any()


def test_a_flood_of_syns_makes_no_rows(lab: Lab, link: Link, cgroup: Path) -> None:
    server = lab.server(link.b.ns, "listen-only", address=link.b.ipv4, cgroup=cgroup, backlog=4096)
    with Watch(cgroup) as watch:
        assert (rows_in_map(watch), len(watch.flows.live)) == (listeners(watch, 1), 1)
        before = watch.flows.snapshot.counters
        words = ("--address", link.b.ipv4, "--port", server.port, "--each", SYNS)
        program(lab, link.a.ns, cgroup, "flood", *words).expect("finished")
        wait_until(lambda: count(link.b.ns, "syn-recv") == SYNS, what="all SYNs to arrive")
        flows = watch.tick()
        after = flows.snapshot.counters
        assert (rows_in_map(watch), len(flows.live)) == (listeners(watch, 1), 1)
        assert (flows.totals.opened, flows.totals.closed, int(after["untracked"])) == (0, 0, 0)
        asked = after["requests"] - before["requests"]
        assert int(asked[TIMEOUT_INIT]) >= SYNS, "once for each SYN-ACK, and again for those that are sent again"
        assert np.array_equal(asked, after["calls"] - before["calls"]), "not one call was for a whole socket"
        assert_counted_as_ss(watch, "SYN-RECV")


def count(ns: str | None, state: str) -> int:
    return len(run(["ss", "-tanH", "state", state], ns=ns).splitlines())


def counted_by_ss(state: str) -> int:
    """In every namespace that has a name, and ours: what is counted without rows is counted for the whole host."""
    return sum(count(ns, state) for ns in [None, *(path.name for path in NETNS.glob("*"))])


def assert_counted_as_ss(watch: Watch, state: str) -> None:
    """Others come and go meanwhile: but soon we and ss say the same."""

    def same() -> bool:
        try:
            theirs = counted_by_ss(state.lower())
        except LabError:
            return False  # a namespace that went meanwhile
        return watch.tick().totals.by_state.get(state, 0) == theirs

    wait_until(same, 15, f"agreement with ss about {state}")


def test_time_wait_is_counted(lab: Lab, link: Link, cgroup: Path) -> None:
    server = lab.server(link.b.ns, "serve-echo", cgroup=cgroup, then="close")
    with Watch(cgroup) as watch:
        client = lab.client(link.a.ns, "short-connections", 60, address=link.b.ipv4, port=server.port, cgroup=cgroup)
        client.expect("done")
        wait_until(lambda: count(link.a.ns, "time-wait") == 60)
        assert_counted_as_ss(watch, "TIME-WAIT")
        assert watch.flows.totals.by_state["TIME-WAIT"] >= 60
        assert set(watch.flows.live.sockets["state"].tolist()) == {10}, "none has a row: the listener alone"


def test_what_a_full_ring_turned_away_is_told_once(
    lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 50
    for module in (attach, sockops):
        monkeypatch.setattr(module, "RING_BYTES", SMALL_RING)
    server = lab.server(link.b.ns, "serve-echo", cgroup=cgroup, then="close", comm="farside")
    with Watch(cgroup) as watch:
        client = lab.client(
            link.a.ns,
            "short-connections",
            connections,
            cgroup=cgroup,
            address=link.b.ipv4,
            port=server.port,
            comm="nearside",
        )
        client.expect("done")
        wait_until(
            lambda: not count(link.b.ns, "last-ack") and not count(link.b.ns, "close-wait"), what="the last ends"
        )
        turned_away = rows_in_map(watch) - listeners(watch, 1)
        assert 0 < 2 * connections - turned_away <= SMALL_RING // FINAL.itemsize, "a page holds so few final records"
        flows = watch.tick()
        assert (flows.totals.opened, flows.totals.closed) == (2 * connections, 2 * connections)
        assert int(flows.snapshot.counters["ring_full"]) == turned_away
        assert any(note.startswith("ring full") for note in flows.snapshot.notes)
        cookies = flows.closed.sockets["cookie"]
        assert len(np.unique(cookies)) == len(cookies) == 2 * connections
        assert rows_in_map(watch) == listeners(watch, 1)
        again = watch.tick()
        assert (again.totals.opened, again.totals.closed, len(again.closed)) == (0, 0, 2 * connections)
        assert set(again.closed.owners["name"].tolist()) == {b"nearside", b"farside"}
