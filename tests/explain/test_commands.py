"""What shows a connection in other tools: the text of it, and that this program's own filter finds just that row."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Any

import pytest

from tcptop_ops.explain.commands import OtherTools, commands
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, snapshot
from tests.support.rows import row_of

OWN, OTHER = 4026531840, 4026532999

V4 = flow(1, local=("10.0.0.1", 4000), peer=("10.2.0.14", 5432), netns=OWN)
V6 = flow(2, local=("2001:db8::1", 4000), peer=("2001:db8::2", 5432), family=10, netns=OWN)
MAPPED = flow(3, local=("10.0.0.1", 4001), peer=("10.2.0.14", 5432), family=10, netns=OWN)
LINK_LOCAL = flow(4, local=("fe80::1", 22), peer=("fe80::2", 50000), family=10, ifindex=2, netns=OWN)
DOOR = flow(5, state=State.LISTEN, local=("0.0.0.0", 80), peer=("0.0.0.0", 0), netns=OWN)
DOOR6 = flow(6, state=State.LISTEN, local=("::", 80), peer=("::", 0), family=10, netns=OWN)
BOUND = flow(7, state=State.LISTEN, local=("10.0.0.1", 443), peer=("0.0.0.0", 0), netns=OWN)
CAME_IN = flow(8, local=("10.0.0.1", 443), peer=("10.2.0.15", 6000), netns=OWN)
AWAY = flow(9, local=("10.0.0.1", 4000), peer=("10.2.0.14", 5432), netns=OTHER, pid=4711)
NOBODYS = flow(10, local=("10.0.0.1", 4002), peer=("10.2.0.14", 5432), netns=OTHER, pid=0, name=b"")
WORLD = (V4, V6, MAPPED, LINK_LOCAL, DOOR, DOOR6, BOUND, CAME_IN)


def flows_of(*flows: dict[str, Any], **rest: Any) -> Flows:
    return Tracker().update(snapshot(0, list(flows), **rest))


def told(wanted: dict[str, Any], *others: dict[str, Any], **rest: Any) -> OtherTools:
    flows = flows_of(wanted, *(one for one in others if one is not wanted), **rest)
    return commands(row_of(flows, wanted["cookie"]), flows, OWN)


def typed(found: OtherTools) -> list[str]:
    return [one.typed for one in found.commands]


@pytest.mark.parametrize(
    ("wanted", "ss", "tcpdump", "own"),
    [
        (
            V4,
            "ss -tinH 'src 10.0.0.1:4000 and dst 10.2.0.14:5432'",
            "tcpdump -ni any 'tcp and host 10.0.0.1 and port 4000 and host 10.2.0.14 and port 5432'",
            "local = 10.0.0.1:4000 and peer = 10.2.0.14:5432",
        ),
        (
            V6,
            "ss -tinH 'src [2001:db8::1]:4000 and dst [2001:db8::2]:5432'",
            "tcpdump -ni any 'tcp and host 2001:db8::1 and port 4000 and host 2001:db8::2 and port 5432'",
            "local = [2001:db8::1]:4000 and peer = [2001:db8::2]:5432",
        ),
        (
            MAPPED,
            "ss -tinH 'src 10.0.0.1:4001 and dst 10.2.0.14:5432'",
            "tcpdump -ni any 'tcp and host 10.0.0.1 and port 4001 and host 10.2.0.14 and port 5432'",
            "local = 10.0.0.1:4001 and peer = 10.2.0.14:5432",
        ),
        (
            LINK_LOCAL,
            "ss -tinH 'src [fe80::1]:22 and dst [fe80::2]:50000'",
            "tcpdump -ni any 'tcp and host fe80::1 and port 22 and host fe80::2 and port 50000'",
            "local = [fe80::1%2]:22 and peer = [fe80::2%2]:50000",
        ),
        (
            DOOR,
            "ss -tlinH 'src 0.0.0.0:80'",
            "tcpdump -ni any 'tcp and port 80'",
            "state = LISTEN and local = 0.0.0.0:80",
        ),
        (DOOR6, "ss -tlinH 'src [::]:80'", "tcpdump -ni any 'tcp and port 80'", "state = LISTEN and local = [::]:80"),
        (
            BOUND,
            "ss -tlinH 'src 10.0.0.1:443'",
            "tcpdump -ni any 'tcp and host 10.0.0.1 and port 443'",
            "state = LISTEN and local = 10.0.0.1:443",
        ),
    ],
    ids=["v4", "v6", "mapped", "link-local", "listener", "v6-listener", "bound-listener"],
)
def test_what_is_typed(wanted: dict[str, Any], ss: str, tcpdump: str, own: str) -> None:
    found = told(wanted, *WORLD)
    assert typed(found) == [ss, tcpdump, f"tcptop-ops -f '{own}'", own]
    assert [one.tool for one in found.commands] == ["ss", "tcpdump", "tcptop-ops", "the filter alone"]
    assert found.note == ""


@pytest.mark.parametrize("wanted", [*WORLD, AWAY, NOBODYS], ids=lambda one: str(one["cookie"]))
def test_the_filter_finds_this_row_and_no_other(wanted: dict[str, Any]) -> None:
    flows = flows_of(*WORLD, AWAY, NOBODYS, namespaces=2)
    found = commands(row_of(flows, wanted["cookie"]), flows, OWN)
    command, text = typed(found)[2:]
    assert shlex.split(command) == ["tcptop-ops", "-f", text]
    mask = compiler.compile(text).mask(flows.live, flows)
    assert flows.live.sockets["cookie"][mask].tolist() == [wanted["cookie"]]


def test_another_network_namespace_is_entered_through_the_process() -> None:
    found = told(AWAY, *WORLD, namespaces=2)
    for command, tool in zip(typed(found)[:2], ("ss", "tcpdump"), strict=True):
        assert command.startswith(f"nsenter --net=/proc/4711/ns/net {tool} -")
    assert typed(found)[3].endswith(f" and netns = {OTHER}")
    assert found.note == ""


def test_where_no_process_is_known_the_namespace_is_told() -> None:
    found = told(NOBODYS, *WORLD, namespaces=2)
    assert typed(found)[0].startswith("ss -tinH ")
    assert str(OTHER) in found.note
    assert "namespace" in found.note


def test_twins_are_told_apart_by_the_cookie() -> None:
    """Two listeners with SO_REUSEPORT."""
    twin = DOOR | {"cookie": 0xABCDEF}
    found = told(twin, *WORLD)
    assert typed(found)[0] == "ss -tlinHeO 'src 0.0.0.0:80' | grep -w sk:abcdef"
    assert typed(found)[3] == f"state = LISTEN and local = 0.0.0.0:80 and cookie = {0xABCDEF}"
    elsewhere = told(twin | {"netns": OTHER}, *WORLD)
    assert "grep" not in typed(elsewhere)[0]


def test_of_a_closed_one_ss_tells_no_more() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, [AWAY]))
    flows = tracker.update(snapshot(1, [], finals([AWAY], BOOT_NS + int(5e8))))
    found = commands(row_of(flows, AWAY["cookie"]), flows, OWN)
    assert "closed" in found.note
    assert "nsenter" not in typed(found)[0], "the process may be gone too"
    mask = compiler.compile(typed(found)[3]).mask(flows.closed, flows)
    assert mask.tolist() == [True]


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
@pytest.mark.parametrize("wanted", WORLD, ids=lambda one: str(one["cookie"]))
def test_tcpdump_takes_its_filter(wanted: dict[str, Any]) -> None:
    """-d compiles it, and ends: no device is opened. -y: of what a device would have been."""
    expression = shlex.split(typed(told(wanted, *WORLD))[1])[-1]
    argv = ["tcpdump", "-y", "EN10MB", "-d", expression]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "ret" in done.stdout
