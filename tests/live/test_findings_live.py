"""What bad flows have in common is told, and nothing where there is nothing; on the real kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tcptop_ops.model.flows import Finding
from tests.live import faults
from tests.live.faults import HARMLESS, Stage
from tests.live.watch import program
from tests.support.lab import Link, Traffic
from tests.support.netns import run

QUIET_S = int(os.environ.get("TCPTOP_QUIET_S", "30"))
"""How long nothing may be said of healthy flows; two minutes prove more."""

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
    assert found.filter == f"host = {net}.16/29"
    assert told_of_a_lossy_way(found, f"to {net}.16/29")
    assert "; other 6: 0" in found.text
    assert found.rows == 6


def test_a_process(stage: Stage, link: Link) -> None:
    """Another process at the same addresses has no loss."""
    bad, good = sinks(stage, link)
    culprit = fan(stage, link, "culprit", *(f"{address}:{bad}" for address in addresses(link)))
    fan(stage, link, "other", *(f"{address}:{good}" for address in addresses(link)))
    found = finding(stage)
    assert found.filter == f"pid = {culprit.pid}"
    assert told_of_a_lossy_way(found, f"of culprit {culprit.pid}")


def test_nothing_in_common(stage: Stage, link: Link) -> None:
    """In each process, and at each address, one flow is bad and one good."""
    bad, good = sinks(stage, link)
    for address in addresses(link):
        fan(stage, link, "both", f"{address}:{bad}", f"{address}:{good}")
    found = [stage.tick().findings for _ in range(TICKS)]
    assert sum(count for cause, count in stage.causes().items() if cause not in HARMLESS) == 6
    assert found == [()] * TICKS


def test_attempts_that_failed_alike(stage: Stage, link: Link) -> None:
    for client in stage.clients(link, 9, "connect-only", 4, comm="knocker"):
        client.expect("failed")
    found = finding(stage)
    assert found.text == f"knocker -> {link.b.ipv4}:9 4 failed / 60 s: refused"
    assert found.rows == 4


def test_nothing_is_said_of_healthy_flows() -> None:
    with faults.staged() as stage:
        told = faults.Told("")
        for _ in range(QUIET_S):
            flows = stage.tick()
            told.take(flows, faults.Fault("", [], set()), stage.crowd)
            assert flows.findings == ()
    assert told.blamed == []
