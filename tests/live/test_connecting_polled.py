"""What polls of sock_diag alone can tell of connection attempts; and local ports that are used up, by both sources."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.host.descriptors import PolledOwners
from tcptop_ops.host.namespaces import widest
from tcptop_ops.model.flows import Flows
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view
from tests.live.faults_connecting import DIALLER
from tests.live.watch import Watch
from tests.support.lab import End, Lab, Link, Traffic
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run
from tests.support.packet_drops import BlackHole, FirstSyns

pytestmark = pytest.mark.halved


PORT, DOOR = 7327, 7328
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])


class Ticks:
    """Ticks on demand of a source."""

    def __init__(self, source: Any) -> None:
        self.is_called = source.name == "sockops"
        self._source, self._tracker, self._memory = source, Tracker(window_s=20, closed_s=60), FindingsMemory()
        self._tracker.update(source.poll())

    def tick(self) -> Flows:
        return self._memory.complete(self._tracker.update(self._source.poll()))

    def rows(self, port: int) -> list[dict[str, Any]]:
        """Those of a new tick to this remote port."""
        return [row for row in connections(view.make(self.tick(), view.Spec())) if row["rport"] == port]


@pytest.fixture
def polls() -> Iterator[Ticks]:
    reach = widest()
    source = SockDiagSource(EveryNamespace(reach), PolledOwners(reach.descriptors, reach.hidden_descriptors), reach)
    yield Ticks(source)
    source.close()


@pytest.fixture(params=["sockops", "sockdiag"])
def ticks(request: pytest.FixtureRequest, cgroup: Path) -> Iterator[Ticks]:
    if request.param == "sockdiag":
        yield request.getfixturevalue("polls")
        return
    with Watch(cgroup) as watch:
        yield Ticks(watch.source)


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


def address(end: End, family: int) -> str:
    return end.ipv4 if family == socket.AF_INET else end.ipv6


def hanging(link: Link, family: int, port: int = PORT) -> socket.socket:
    made = in_netns(link.a.ns, lambda: socket.socket(family, socket.SOCK_STREAM))
    made.setblocking(False)
    with suppress(BlockingIOError):
        made.connect((address(link.b, family), port))
    return made


def dialler(lab: Lab, link: Link, *words: object) -> Traffic:
    return Traffic(lab.popen(link.a.ns, [sys.executable, "-I", str(DIALLER), *map(str, words)]))


@FAMILIES
def test_a_hung_attempt(link: Link, polls: Ticks, family: int) -> None:
    hole = BlackHole(link.b.ns, PORT)
    with closing(hanging(link, family)):
        wait_until(lambda: [r["cause"] for r in polls.rows(PORT)] == ["syn-unanswered"], what="the cause")
        [row] = polls.rows(PORT)
        assert row["evidence"].startswith(f"{hole.dropped()} SYNs unanswered")
    rows = polls.rows(PORT)
    assert {row["cause"] for row in rows} == {"syn-unanswered"}


@FAMILIES
def test_a_syn_that_the_own_rules_drop(lab: Lab, link: Link, polls: Ticks, family: int) -> None:
    lab.own_drop(link.a)
    with closing(hanging(link, family)):
        wait_until(lambda: [r["cause"] for r in polls.rows(PORT)] == ["local-drop"], what="the cause")


@FAMILIES
def test_a_syn_that_was_lost(link: Link, polls: Ticks, family: int) -> None:
    FirstSyns(link.b.ns, DOOR, 2)
    causes: set[str] = set()
    with ExitStack() as stack:
        far = stack.enter_context(closing(in_netns(link.b.ns, lambda: socket.socket(family, socket.SOCK_STREAM))))
        far.bind((address(link.b, family), DOOR))
        far.listen()
        stack.enter_context(closing(hanging(link, family, DOOR)))

        def stands() -> bool:
            rows = polls.rows(DOOR)
            causes.update(row["cause"] for row in rows)
            return any(row["cause"] == "syn-lost" for row in rows)

        wait_until(stands, what="an established connection that lost a SYN")
        [row] = polls.rows(DOOR)
    assert row["evidence"].endswith("lost while it connected")
    assert 0 < row["score"] <= 30
    assert "rto-stall" not in causes


def test_attempts_that_are_given_up(lab: Lab, link: Link, polls: Ticks) -> None:
    BlackHole(link.b.ns, PORT)
    tries = dialler(lab, link, "give-up", link.b.ipv4, PORT, "--after", 0.5, "--count", 40)
    for _ in range(40):
        tries.expect("tried")
        rows = polls.rows(PORT)
    causes = [row["cause"] for row in rows if row["closed_s"] is not None]
    assert causes.count("syn-unanswered") > len(causes) / 2


@pytest.mark.parametrize("stagger", [0.0, 0.25])
def test_losers_of_a_race_are_nothing(lab: Lab, link: Link, polls: Ticks, stagger: float) -> None:
    BlackHole(link.b.ns, PORT)
    with closing(in_netns(link.b.ns, lambda: socket.create_server((link.b.ipv4, DOOR)))):
        words = ("race", link.b.ipv4, PORT, "--winner", link.b.ipv4, DOOR, "--stagger", stagger, "--every", 0.4)
        tries = dialler(lab, link, *words, "--count", 12)
        scores = []
        for _ in range(12):
            tries.expect("tried")
            scores += [row["score"] for row in polls.rows(PORT)]
    assert not any(scores)


def findings(flows: Flows) -> list[str]:
    return [one.text for one in flows.findings if f":{DOOR}" in one.text]


@FAMILIES
@pytest.mark.parametrize("held", [0, 6])
def test_all_local_ports_are_used(lab: Lab, link: Link, cgroup: Path, ticks: Ticks, family: int, held: int) -> None:
    """The far end has the listener. Polls find a namespace by a socket that is left there; the program needs none."""
    held = max(held, 0 if ticks.is_called else 1)
    run(["sh", "-c", "echo 41000 41019 > /proc/sys/net/ipv4/ip_local_port_range"], ns=link.a.ns)
    with ExitStack() as stack:
        far = stack.enter_context(closing(in_netns(link.b.ns, lambda: socket.socket(family, socket.SOCK_STREAM))))
        far.bind((address(link.b, family), DOOR))
        far.listen(64)
        for number in range(20):
            with lab.inside(cgroup):
                near = in_netns(link.a.ns, lambda: socket.socket(family, socket.SOCK_STREAM))
            near.connect(far.getsockname())
            peer, _ = far.accept()
            if number < held:
                stack.enter_context(closing(near))
                stack.enter_context(closing(peer))
                continue
            near.close()
            peer.close()
            if number == 10:
                assert findings(ticks.tick()) == []
        last = stack.enter_context(closing(in_netns(link.a.ns, lambda: socket.socket(family, socket.SOCK_STREAM))))
        with pytest.raises(OSError, match="assign requested address"):
            last.connect(far.getsockname())
        said = (
            f"are used: {20 - held} in TIME-WAIT, {held} open; net.ipv4.ip_local_port_range 41000 41019 in namespace "
        )
        wait_until(lambda: any(said in text for text in findings(ticks.tick())), 15, "the finding")
        assert all(text.startswith("all 20 local ports to ") for text in findings(ticks.tick()))
