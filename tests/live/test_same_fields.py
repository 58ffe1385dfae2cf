"""Both sources side by side: what one of them fills, the other fills too, or lists as missing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields
from typing import Any

import numpy as np

from tcptop_ops.explain.connection_facts import SYN_DATA
from tcptop_ops.host.descriptors import PolledOwners
from tcptop_ops.host.namespaces import widest
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records, unknown_of
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tests.live.crowd import crowded, listener
from tests.live.watch import Watch
from tests.support.filled_fields import OF_A_PROGRAM, is_filled, null
from tests.support.lab import Lab, Link
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import in_netns, run

NOT_IN_SOCK_DIAG = {"last_rtt_us", "cb_flags", "nonagle"}
"""Fields of SOCKET that struct tcp_info lacks: the column of the first is missing, no column shows the others."""

BY_CHANCE = {"reord_seen", "reordering", "probes", "app_limited", "delivered_ce", "mptcp", "drops"}
"""Fields that depend on what the kernel had to do in this second, or that nothing here uses."""

OF_SOME_ROWS = {"used_ports", "activities", "addresses"}
"""Fields of a Snapshot that are filled where some row needs them: one that another process of this host has, too."""

OF_BUSY_ROWS = {"retrans_pct"}
"""Columns that have a value from some data segments on: by sock_diag, the rows of other processes have it, too."""

NOT_ASKED_FOR = {"watched", "story", "program_ns", "program_calls"}
"""Fields of a Snapshot that are empty as long as no connection is looked at, and the cost is not measured."""

ENDS = {"laddr": "ab", "raddr": "ba"}
"""The last digit of the link-local addresses (``crowd``) as the two ends of the link have them."""


@contextmanager
def polled_everywhere() -> Iterator[SockDiagSource]:
    reach = widest()
    with closing(
        SockDiagSource(EveryNamespace(reach), PolledOwners(reach.descriptors, reach.hidden_descriptors), reach)
    ) as source:
        yield source


def unknown(kind: np.dtype[Any]) -> int:
    return unknown_of(kind) if kind.kind == "u" and kind.itemsize >= 4 else 0


def filled(rows: Records) -> set[str]:
    """The fields that have another value than 0 and unknown in some row."""
    names = rows.dtype.names or ()
    empty = {name: (b"",) if rows[name].dtype.kind == "S" else (0, unknown(rows.dtype[name])) for name in names}
    return {name for name in names if not np.isin(rows[name], empty[name]).all()}


def connected(link: Link, door: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection."""
    near = in_netns(link.a.ns, socket.socket)
    near.connect((link.b.ipv4, door.getsockname()[1]))
    return near, door.accept()[0]


def half_open(lab: Lab, link: Link, door: socket.socket) -> socket.socket:
    """A connection whose SYN-ACK is lost."""
    back = lab.loss(link.a, 100)
    near = in_netns(link.a.ns, socket.socket)
    near.setblocking(False)
    near.connect_ex((link.b.ipv4, door.getsockname()[1]))
    wait_until(lambda: back.dropped() >= 1, what="a SYN-ACK that is lost")
    return near


def within(flows: Flows, namespaces: set[int]) -> Records:
    """The live sockets of these namespaces."""
    sockets = flows.live.sockets
    found: Records = sockets[np.isin(sockets["netns"], list(namespaces))]
    return found


def shown(flows: Flows, name: str, namespaces: set[int]) -> set[str]:
    """The values of a column, as they are shown, of live sockets of these namespaces."""
    column = find(name)
    values = column.read(flows.live, flows)[np.isin(flows.live.sockets["netns"], list(namespaces))]
    return set(map(column.show, values.tolist()))


def blank(shot: Snapshot) -> set[str]:
    """The fields of a snapshot that say nothing."""
    return {one.name for one in fields(Snapshot) if not is_filled(getattr(shot, one.name))}


def test_both_sources_fill_the_same_fields(lab: Lab) -> None:
    cgroup, tracker = lab.cgroup("watched"), Tracker()
    with ExitStack() as stack:
        crowd = stack.enter_context(crowded(lab, cgroup))
        link = crowd.links[0]
        namespaces = {os.stat(NETNS / ns).st_ino for ns in crowd.namespaces}
        watch = stack.enter_context(Watch(cgroup))
        source = stack.enter_context(polled_everywhere())
        stack.enter_context(lab.inside(cgroup))
        door = stack.enter_context(in_netns(link.b.ns, lambda: listener(link.b, socket.AF_INET)))
        ends = [stack.enter_context(end) for end in connected(link, door)]
        watch.tick()
        tracker.update(source.poll())
        for end in ends:
            end.close()
        for made in (*connected(link, door), half_open(lab, link, door)):
            stack.enter_context(made)
        watched, polled = watch.tick(), tracker.update(source.poll())

    ours, theirs = within(watched, namespaces), within(polled, namespaces)
    assert set(ours["cookie"].tolist()) == set(theirs["cookie"].tolist())
    assert (filled(ours) ^ filled(theirs)) - BY_CHANCE == NOT_IN_SOCK_DIAG
    assert blank(polled.snapshot) - OF_SOME_ROWS == OF_A_PROGRAM | {"events"}
    assert blank(watched.snapshot) - OF_SOME_ROWS - {"notes", "missing", "changed"} == NOT_ASKED_FOR
    assert null(polled) - null(watched) <= polled.snapshot.missing
    assert null(watched) - null(polled) <= OF_BUSY_ROWS
    for side in ("laddr", "raddr"):
        names = {name for name in shown(polled, side, namespaces) if name.startswith("fe80:")}
        assert names == {name for name in shown(watched, side, namespaces) if name.startswith("fe80:")}
        assert names >= {f"fe80::{host}%{end.device}" for host, end in zip(ENDS[side], (link.a, link.b), strict=True)}


def test_data_in_the_syn(lab: Lab) -> None:
    """The options that were negotiated are the same, that data in a SYN was taken among them (TCPI_OPT_SYN_DATA)."""
    cgroup, link = lab.cgroup("watched"), lab.link("client", "server")
    for end, switches in ((link.a, 0x1 | 0x4), (link.b, 0x2 | 0x200 | 0x400)):  # without cookies and socket options
        run(["sh", "-ec", f"echo {switches} > /proc/sys/net/ipv4/tcp_fastopen"], ns=end.ns)
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(cgroup))
        source = stack.enter_context(polled_everywhere())
        stack.enter_context(lab.inside(cgroup))
        door = stack.enter_context(in_netns(link.b.ns, lambda: listener(link.b, socket.AF_INET)))
        near = stack.enter_context(in_netns(link.a.ns, socket.socket))
        near.sendto(b"early", socket.MSG_FASTOPEN, (link.b.ipv4, door.getsockname()[1]))
        far = stack.enter_context(door.accept()[0])
        assert far.recv(5) == b"early"
        port = near.getsockname()[1]
        wait_until(lambda: options(watch.tick().snapshot, port) & SYN_DATA, what="the acknowledgement of the SYN")
        assert options(watch.tick().snapshot, port) == options(source.poll(), port)


def options(shot: Snapshot, lport: int) -> int:
    """The options of the socket with this local port that is no listener."""
    sockets = shot.sockets
    [found] = sockets["options"][(sockets["lport"] == lport) & (sockets["rport"] != 0)]
    return int(found)
