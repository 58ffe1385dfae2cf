"""Sockets that were open before: asked for their events from the first tick on, and left as they were at the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcptop_ops.bpf.attach import EVENT_FLAGS
from tcptop_ops.bpf.flag_setter import OUR_LEVEL, OUR_OPTION, TOLD
from tcptop_ops.bpf.kernel_calls import BPF_CGROUP_SETSOCKOPT, link, programs_at
from tcptop_ops.model.enums import Happening
from tests.live.conftest import BCC_PYTHON
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import wait_until

TRIED, HOOK = (Path(__file__).with_name(name) for name in ("options_tried.py", "option_hook.py"))
EFAULT = 14
SEEDS = (1, 2)

pytestmark = pytest.mark.needs("HAVE_ADOPTION")


@pytest.fixture
def ends(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


def connected(lab: Lab, ends: Link, cgroup: Path, address: str) -> tuple[Traffic, Traffic]:
    """A server, and a client in another namespace that is connected to it."""
    server = lab.server(ends.b.ns, address=address, cgroup=cgroup)
    client = lab.client(ends.a.ns, "connect-only", address=address, port=server.port, cgroup=cgroup)
    client.expect("done")
    server.expect("accepted")
    return server, client


@contextmanager
def hooked(watch: Watch, cgroup: Path) -> Iterator[None]:
    """Our program attached for a while: ``watch`` without a helper, whose monitor has it."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    attached = link(watch.source.attached.fds["adoption"], fd, BPF_CGROUP_SETSOCKOPT)
    try:
        yield
    finally:
        os.close(attached)
        os.close(fd)


def hooks(cgroup: Path) -> list[int]:
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return programs_at(fd, BPF_CGROUP_SETSOCKOPT)[0]
    finally:
        os.close(fd)


def test_connections_and_listeners_of_all_namespaces_at_the_first_tick(lab: Lab, ends: Link, cgroup: Path) -> None:
    both = [connected(lab, ends, cgroup, address) for address in (ends.b.ipv4, ends.b.ipv6)]
    with Watch(cgroup) as watch:
        first = watch.flows
        assert (first.tick, len(first.live), first.snapshot.notes) == (0, 6, ())
        assert (first.live.events["first_ns"] != 0).all()
        assert hooks(cgroup) == [], "only while it works"
        assert (watch.tick().live.sockets["cb_flags"] == EVENT_FLAGS).all()
        assert {row["origin"] for row in watch.rows()} == {"adopted"}
        assert int(watch.flows.snapshot.counters["adopted"]) == 6
    with Watch(cgroup, adopt=False) as later:
        assert not later.flows.live.sockets["cb_flags"].any()
        assert len(both) * 3 == len(later.flows.live)


def test_its_story_tells_timeouts_from_then_on(lab: Lab, ends: Link, cgroup: Path) -> None:
    _, client = connected(lab, ends, cgroup, ends.b.ipv4)
    with Watch(cgroup) as watch:
        [at] = np.flatnonzero(watch.flows.live.sockets["lport"] == client.port)
        watch.source.watch(int(watch.flows.live.sockets["cookie"][at]))
        ends.loss.set(100)
        client.tell("send 1")

        def timeouts() -> bool:
            story = watch.tick().snapshot.story
            return bool((story["kind"] == Happening.RTO).sum() >= 1)

        wait_until(timeouts, what="a timeout in its story")
        assert watch.open(client.port)["rto_events"] >= 1
        ends.loss.set(0)


def test_the_program_leaves_other_calls_alone(lab: Lab, cgroup: Path) -> None:
    """All results, errors and values of two thousand calls; but the kernel copies a value before it asks a program."""
    tried = Traffic(lab.popen(lab.namespace("calls"), [sys.executable, "-I", str(TRIED)], cgroup=cgroup))
    tried.expect("ready")

    def results(seed: int) -> list[Any]:
        tried.tell(str(seed))
        found: list[Any] = json.loads(tried.expect("results"))
        return found

    with Watch(cgroup, helper=False) as watch:
        without = [call for seed in SEEDS for call in results(seed)]
        with hooked(watch, cgroup):
            beside = [call for seed in SEEDS for call in results(seed)]
    assert len(without) > 2000
    for (call, is_null, error, got), seen in zip(without, beside, strict=True):
        assert seen == ([call, is_null, EFAULT, ""] if is_null else [call, is_null, error, got])
    assert any(error == 0 for _, _, error, _ in without)


def test_who_does_not_know_the_token_gets_the_kernels_error(lab: Lab, cgroup: Path) -> None:
    code = (
        "import socket\n"
        "door = socket.socket(); door.bind(('', 0)); door.listen(); print('ready', flush=True); input()\n"
        f"try: door.setsockopt({OUR_LEVEL}, {OUR_OPTION}, bytes({TOLD.size}))\n"
        "except OSError as error: print('failed', error.errno, flush=True)\n"
        "input()\n"
    )
    stranger = Traffic(lab.popen(None, [sys.executable, "-I", "-c", code], cgroup=cgroup))
    stranger.expect("ready")
    with Watch(cgroup, helper=False) as watch, hooked(watch, cgroup):
        stranger.tell("go")
        assert stranger.expect("failed") == "92", "ENOPROTOOPT"


def test_beside_a_program_of_the_same_kind(lab: Lab, ends: Link, cgroup: Path) -> None:
    other = Traffic(lab.popen(None, [BCC_PYTHON, "-I", str(HOOK), str(cgroup)]))
    other.expect("ready")
    code = (
        "import socket\n"
        "door = socket.socket(); print('ready', flush=True); input()\n"
        "door.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 5)\n"
        "try: door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)\n"
        "except PermissionError: print('got', door.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY), flush=True)\n"
        "input()\n"
    )
    caller = Traffic(lab.popen(None, [sys.executable, "-I", "-c", code], cgroup=cgroup))
    caller.expect("ready")
    _, client = connected(lab, ends, cgroup, ends.b.ipv4)
    with Watch(cgroup, helper=False) as watch:
        assert watch.open(client.port)["origin"] == "adopted"
        assert watch.flags(client.port) == EVENT_FLAGS
        with hooked(watch, cgroup):
            caller.tell("go")
            assert caller.expect("got") == "6", "changed by the other program, and the other option refused"
    with Watch(cgroup, adopt=False) as later:
        assert later.flags(client.port) == 0


def test_a_socket_that_comes_to_a_holder_later(lab: Lab, ends: Link, cgroup: Path) -> None:
    """In the queue of a listener nobody holds it: asked for once it is accepted."""
    server = lab.server(ends.b.ns, "listen-only", cgroup=cgroup, address=ends.b.ipv4)
    client = lab.client(ends.a.ns, "connect-only", address=ends.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("done")
    with Watch(cgroup) as watch:
        origins = {row["lport"]: row["origin"] for row in watch.rows() if row["rport"]}
        assert origins == {client.port: "adopted", server.port: "listed"}
