"""What bad flows have in common is told, and nothing where there is nothing; on the real kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tcptop_ops.filters import compiler
from tcptop_ops.model.flows import Finding
from tcptop_ops.text import endpoint
from tcptop_ops.views import view
from tests.live import faults
from tests.live.faults import HARMLESS
from tests.live.stage import Stage
from tests.live.watch import program
from tests.support.lab import Link, Traffic
from tests.support.netns import run

pytestmark = pytest.mark.halved


TICKS = 8


@pytest.fixture
def stage() -> Iterator[Stage]:
    with faults.staged(crowd=False) as made:
        yield made


@pytest.fixture
def link(stage: Stage) -> Link:
    """The far end has six addresses more."""
    made = stage.link()
    for address in addresses(made):
        run(["ip", "-n", made.b.ns, "address", "add", f"{address}/24", "dev", made.b.device])
    return made


def addresses(link: Link) -> list[str]:
    """.16 to .21 of the link's /24."""
    return [f"{link.b.ipv4.rpartition('.')[0]}.{host}" for host in range(16, 22)]


def sinks(stage: Stage, link: Link) -> tuple[int, int]:
    """The ports of two servers of the far end, which nobody watches: what they say of the same flows is not asked."""
    bad, good = (stage.lab.server(link.b.ns, "serve-sink") for _ in range(2))
    link.loss.replace(f"tcp dport {bad.port} numgen inc mod 20 0")
    return bad.port, good.port


def fan(stage: Stage, link: Link, name: str, *to: str) -> Traffic:
    return program(stage.lab, link.a.ns, stage.cgroup, "fan", "--comm", name, "--to", *to)


def finding(stage: Stage) -> Finding:
    """The first that is told."""
    for _ in range(TICKS):
        found = stage.tick().findings
        if found:
            return found[0]
    raise AssertionError(f"no finding within {TICKS} ticks: {stage.causes()}")


def told_of_a_lossy_way(found: Finding, whose: str) -> bool:
    """In the words for what most of the six have, or for the two causes that they have."""
    ways = ("lose ", "stall on timeouts;", "are bad: ")
    return found.text.startswith(tuple(f"6 of 6 flows {whose} {way}" for way in ways))


def test_a_prefix(stage: Stage, link: Link) -> None:
    bad, _ = sinks(stage, link)
    others = stage.link()
    good = stage.lab.server(others.b.ns, "serve-sink")
    for address in addresses(link):
        fan(stage, link, "client", f"{address}:{bad}")
    for _ in range(6):
        program(stage.lab, others.a.ns, stage.cgroup, "fan", "--to", f"{others.b.ipv4}:{good.port}")
    found = finding(stage)
    net = link.b.ipv4.rpartition(".")[0]
    assert found.filter == f"raddr = {net}.16/29 and score >= 10"
    assert told_of_a_lossy_way(found, f"to {net}.16/29")
    assert "; other 6: 0" in found.text
    assert found.rows == 6


def test_a_process(stage: Stage, link: Link) -> None:
    """Another process at the same addresses has no loss."""
    bad, good = sinks(stage, link)
    culprit = fan(stage, link, "culprit", *(f"{address}:{bad}" for address in addresses(link)))
    fan(stage, link, "other", *(f"{address}:{good}" for address in addresses(link)))
    found = finding(stage)
    assert found.filter == f"pid = {culprit.pid} and score >= 10"
    assert told_of_a_lossy_way(found, f"of culprit {culprit.pid}")


def test_nothing_in_common(stage: Stage, link: Link) -> None:
    """In each process, and at each address, one flow is bad and one good."""
    bad, good = sinks(stage, link)
    for address in addresses(link):
        fan(stage, link, "both", f"{address}:{bad}", f"{address}:{good}")
    found = [stage.tick().findings for _ in range(5)]
    assert sum(count for cause, count in stage.causes().items() if cause not in HARMLESS) == 6
    assert found == [()] * 5


def told(stage: Stage, *texts: str) -> tuple[Finding, ...]:
    """The findings, once there are so many, each of which begins as one of these patterns says.

    Each one's filter shows as many rows as it tells.
    """
    found: tuple[Finding, ...] = ()
    for _ in range(TICKS):
        flows = stage.tick()
        found = flows.findings
        if len(found) == len(texts) and all(any(re.match(text, one.text) for one in found) for text in texts):
            for one in found:
                assert len(view.make(flows, view.Spec(filter=compiler.compile(one.filter)))) == one.rows
            return found
    raise AssertionError(f"no such findings within {TICKS} ticks: {found}")


@pytest.fixture(params=["ipv4", "ipv6"])
def far(request: pytest.FixtureRequest, link: Link) -> str:
    address: str = getattr(link.b, request.param)
    return address


def knocking(stage: Stage, link: Link, far: str, port: int, number: int, name: str) -> None:
    """Processes each of which tries to connect once."""
    stage.clients(link, port, "connect-only", number, comm=name, address=far)


def test_attempts_that_failed_alike(stage: Stage, link: Link, far: str) -> None:
    knocking(stage, link, far, 9, 4, "knocker")
    [found] = told(stage, rf"knocker -> {re.escape(endpoint(far, 9))} 4 failed in \d s: refused")
    assert found.rows == 4
    assert stage.watch.flows.snapshot.time - 3 * TICKS < found.since <= stage.watch.flows.snapshot.time


def test_two_incidents_at_once_are_two_findings(stage: Stage, link: Link, far: str) -> None:
    """A healthy client of the same host is in neither."""
    stage.lab.black_hole(link.b.ns, 10)
    knocking(stage, link, far, 9, 6, "knocker")
    knocking(stage, link, far, 10, 4, "waiter")
    server = stage.server(link)
    stage.connected(link, server.port, "send-endless", pace=1_000_000)
    found = told(
        stage,
        rf"knocker -> {re.escape(endpoint(far, 9))} 6 failed in \d+ s: refused",
        rf"waiter -> {re.escape(endpoint(far, 10))} 4 failed in \d+ s: no answer",
    )
    assert sum(one.rows for one in found) == 10
    flows = stage.watch.flows
    narrowed = view.make(flows, view.Spec(filter=compiler.compile("process = waiter"))).findings
    assert [one.text.split()[0] for one in narrowed] == ["waiter"]


def test_a_lossy_way_beside_refusals_is_told_as_well(stage: Stage, link: Link) -> None:
    bad, good = sinks(stage, link)
    culprit = fan(stage, link, "culprit", *(f"{address}:{bad}" for address in addresses(link)))
    fan(stage, link, "other", *(f"{address}:{good}" for address in addresses(link)))
    knocking(stage, link, link.b.ipv4, 9, 4, "knocker")
    found = told(
        stage, f"6 of 6 flows of culprit {culprit.pid} ", f"knocker -> {re.escape(link.b.ipv4)}:9 4 failed in "
    )
    assert {one.blame for one in found} >= {"network"}


def test_both_ends_of_a_full_accept_queue_are_one_finding(stage: Stage, link: Link, far: str) -> None:
    server = stage.lab.server(link.b.ns, "listen-only", address=far, cgroup=stage.cgroup, backlog=1, comm="java")
    knocking(stage, link, far, server.port, 7, "curl")
    whole = (
        rf"the accept queue of java, {re.escape(endpoint(far, server.port))}, is full: .*\d+ attempts of curl on this"
    )
    [found] = told(stage, whole)
    assert found.blame == "app"
    assert 4 <= found.rows <= 6


def test_three_incidents_on_one_path_and_both_ends_of_each_watched(stage: Stage) -> None:
    """Loss, a port that does not answer and a full listener at one address; a healthy path beside. One ends first."""
    link, calm = stage.link(), stage.link()
    server, healthy = stage.server(link, comm="storage"), stage.server(calm)
    stage.connected(calm, healthy.port, "send-endless", 5, pace=1_000_000)
    link.loss.replace(f"tcp dport {server.port} numgen inc mod 17 0")
    stage.connected(link, server.port, "send-endless", 6, pace=1_000_000, comm="backup")
    stage.lab.black_hole(link.b.ns, 443)
    waiting = stage.clients(link, 443, "connect-only", 4, comm="wget")
    java = stage.server(link, "listen-only", backlog=1, comm="java")
    knocking(stage, link, link.b.ipv4, java.port, 7, "curl")
    at = re.escape(link.b.ipv4)
    lossy = rf"6 of 6 flows to {at}:{server.port} .*; other 5: 0"
    queue = rf"the accept queue of java, {at}:{java.port}, is full: .*attempts of curl on this host wait"
    found = told(stage, lossy, rf"wget -> {at}:443 4 failed in \d+ s: no answer", queue)
    assert sorted(one.blame for one in found) == ["app", "network", "network"]
    since = {one.key: one.since for one in found}
    for one in waiting:
        one.end()
    for _ in range(TICKS):
        flows = stage.tick()
        assert {one.key for one in flows.findings} <= since.keys()
        assert all(one.since == since[one.key] for one in flows.findings)


def test_a_peer_that_does_not_read_and_resets_are_told_once_for_both_ends(stage: Stage, link: Link) -> None:
    """Beside them one more fault of the same client processes, which is its own."""
    reader = stage.server(link, "serve-sink", 1, comm="sleepy")
    stage.connected(link, reader.port, "send-endless", 4, comm="writer")
    knocking(stage, link, link.b.ipv4, 9, 4, "writer")
    found = told(
        stage,
        rf"4 connections to the listener of sleepy, port {reader.port} are not read by their process",
        rf"writer -> {re.escape(link.b.ipv4)}:9 4 failed in \d+ s: refused",
    )
    assert sorted((one.blame, one.rows) for one in found) == [("app", 8), ("peer", 4)]


def test_a_leak_is_one_finding_for_its_process(stage: Stage, link: Link) -> None:
    """Whatever the peers: here two addresses."""
    server = stage.server(link, comm="leaky")
    for client in stage.connected(link, server.port, "connect-only", 4):
        client.tell("close")
    [found] = told(
        stage, rf"leaky {server.pid} has not closed 4 sockets that their peers closed, the oldest since \d s"
    )
    assert (found.blame, found.rows) == ("app", 4)
