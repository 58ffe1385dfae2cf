"""Incidents at 80x24: each is a finding with its blame, and at most two keys lead to its rows; alone and three at once.

With TCPTOP_PICTURES=DIRECTORY each leaves its picture there.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.live.terminal import Terminal, terminal
from tests.support.lab import Lab, Traffic

FLOWS = 6
PACE = 2_000_000
"""Bytes a second: as fast as it goes is too much work where the machine is an emulated one."""


@pytest.fixture
def name(lab: Lab) -> str:
    return lab.prefix


def kept(shown: Terminal, name: str, title: str) -> None:
    if directory := os.environ.get("TCPTOP_PICTURES"):
        shown.keep(Path(directory) / f"{name}.svg", title)


def bulk(lab: Lab, cgroup: Path, name: str, loss_percent: float) -> str:
    """Flows that send for ever over a link of their own: the far end's address."""
    link = lab.link(f"{name}-near", f"{name}-far", loss_percent=loss_percent)
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup, comm="storage")
    for _ in range(FLOWS):
        client = lab.client(
            link.a.ns,
            "send-endless",
            address=link.b.ipv4,
            port=server.port,
            cgroup=cgroup,
            congestion="cubic",
            pace=PACE,
            comm="backup",
        )
        client.expect("connected")
    return link.b.ipv4


def rows(lines: list[str]) -> list[str]:
    """The lines of the table; none while it is not drawn."""
    top = next((i for i, line in enumerate(lines) if "CAUSE" in line), len(lines))
    bottom = next((i for i, line in enumerate(lines) if i > top and line.startswith(("---", "filter:"))), 0)
    return [line for line in lines[top + 1 : bottom] if line.strip()]


def test_a_lossy_path_to_one_subnet(lab: Lab, cgroup: Path, name: str) -> None:
    """The finding stands in line 3, with its blame; one key shows its flows."""
    bulk(lab, cgroup, "good", 0)
    bad = bulk(lab, cgroup, "bad", 4)
    with terminal(name, "--cgroup", str(cgroup)) as shown:
        lines = shown.wait_for(lambda lines: lines[2].startswith("! "), "a finding")
        assert re.match(r"! NET  \d+ of \d+ flows to 10\.", lines[2])
        assert "[f]" in lines[2]
        worst = rows(lines)[0]
        assert re.search(r"(rto-stall|loss|inbound-loss)", worst)
        shown.press("f")
        lines = shown.wait_for(lambda lines: any("raddr = 10." in line for line in lines), "the filter of the finding")
        subnet = bad.rpartition(".")[0]
        assert all(subnet in row for row in rows(lines)), rows(lines)
        kept(shown, "incident-lossy-path", "one key: the flows that share a lossy path")


def test_a_full_accept_queue(lab: Lab, cgroup: Path, name: str) -> None:
    """The listener is the first row, and its why is at the bottom: no key."""
    link = lab.link("near", "far")
    server = lab.server(link.b.ns, "listen-only", address=link.b.ipv4, cgroup=cgroup, backlog=3, comm="java")
    with terminal(name, "--cgroup", str(cgroup)) as shown, ExitStack() as stack:
        shown.wait_for(lambda lines: any("LISTN" in line for line in lines), "the listener")
        for _ in range(12):
            knocking: Traffic = lab.client(
                link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup, comm="curl"
            )
            stack.callback(knocking.end)
        lines = shown.wait_for(
            lambda lines: bool(rows(lines)) and "accept-queue" in rows(lines)[0] and "LISTN" in rows(lines)[0],
            "the listener in the first row",
        )
        assert f"*:{server.port}" in rows(lines)[0] or f":{server.port}" in rows(lines)[0]
        assert rows(lines)[0].startswith(">"), "it is selected"
        why = " ".join(lines[-7:])
        assert "java" in why
        assert re.search(r"queue 4 of 3", why)
        assert re.search(r"\d+ handshakes? dropped", why)
        kept(shown, "incident-accept-queue", "no key: a listener whose accept queue overflows")


def test_a_client_that_hangs_in_syn_sent(lab: Lab, cgroup: Path, name: str) -> None:
    """It hung before anybody looked: the tries so far and the next one are told at once."""
    link = lab.link("near", "far", loss_percent=100)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=443, cgroup=cgroup, comm="curl")
    with terminal(name, "--cgroup", str(cgroup)) as shown:
        lines = shown.wait_for(
            lambda lines: bool(rows(lines)) and "syn-unanswered" in rows(lines)[0], "the connection in the first row"
        )
        worst = rows(lines)[0]
        assert "curl" in worst
        assert f"{link.b.ipv4}:443" in worst
        assert "SYN-S" in worst
        assert re.search(r"\d+ SYNs unanswered, next in [0-9.]+", " ".join(lines[-7:]))
        shown.press("Enter")
        shown.wait_for(lambda lines: any("filtered, down" in line for line in lines), "the detail, which explains")
        kept(shown, "incident-syn-sent", "one key: a client that hangs in SYN-SENT")
        assert client.process.poll() is None


WITHIN_S = 10.0
"""From the last incident on, each is on the screen."""


def shows_alone(tag: str, subnet: str, lines: list[str]) -> bool:
    """Whether the finding with this tag is the chosen one, and all rows are of this subnet."""
    chosen = any(line[1:6] == f">{tag}" for line in lines[2:5])
    return chosen and bool(rows(lines)) and all(subnet in row for row in rows(lines))


def test_three_at_once(lab: Lab, cgroup: Path, name: str) -> None:
    """In namespaces of their own, beside a healthy path: a lossy one, a full listener, and refusals."""
    bulk(lab, cgroup, "good", 0)
    with terminal(name, "--cgroup", str(cgroup)) as shown:
        shown.wait_for(lambda lines: any("storage" in line for line in lines), "the healthy flows")
        assert not shown.lines()[2].startswith(("!", "1"))
        bad = bulk(lab, cgroup, "bad", 6)
        queue, closed = lab.link("caller", "callee"), lab.link("prober", "nobody")
        server = lab.server(queue.b.ns, "listen-only", address=queue.b.ipv4, cgroup=cgroup, backlog=1, comm="java")
        for _ in range(7):
            lab.client(queue.a.ns, "connect-only", address=queue.b.ipv4, port=server.port, cgroup=cgroup, comm="curl")
        for _ in range(4):
            lab.client(closed.a.ns, "connect-only", address=closed.b.ipv4, port=9, cgroup=cgroup, comm="probe")
        began = time.monotonic()
        where = {"NET ": f"to {bad}:", "APP ": f"java, {queue.b.ipv4}:{server.port}", "PEER": f"-> {closed.b.ipv4}:9 "}

        def told(lines: list[str]) -> dict[str, str]:
            """Each incident's tag, with the digit before it."""
            return {line[2:6]: line[0] for line in lines[2:5] if where.get(line[2:6], "nowhere") in line}

        lines = shown.wait_for(lambda lines: len(told(lines)) == 3, "three findings")
        assert time.monotonic() - began < WITHIN_S
        assert len(rows(lines)) >= 12, "the table keeps half of the screen"
        kept(shown, "incidents-three", "three incidents at once: each a finding, with who is to blame")
        for tag, address in (("NET ", bad), ("APP ", queue.b.ipv4), ("PEER", closed.b.ipv4)):
            shown.press("f", told(shown.lines())[tag])
            lines = shown.wait_for(partial(shows_alone, tag, address.rpartition(".")[0] + "."), f"the rows of {tag}")
            assert told(lines).keys() == set(where), "the others keep their lines"
        shown.press("Escape")
        shown.wait_for(lambda lines: any("storage" in row or "backup" in row for row in rows(lines)), "all rows")
