"""A watched cgroup whose directory is removed and made again, as by a service that restarts."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from tcptop_ops.bpf import kernel_calls
from tcptop_ops.bpf.attach import Options
from tcptop_ops.sources import open as opening
from tcptop_ops.sources.cgroup_follow import FOLLOWED
from tcptop_ops.sources.sockops import SockOpsSource
from tcptop_ops.tracking.tracker import Tracker
from tests.live.conftest import BCC_PYTHON
from tests.live.started import started
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import cgroup2_mount, wait_until

pytestmark = pytest.mark.halved


TUNER = Path(__file__).with_name("tuner.py")
SOURCES = ("descriptors", "polled", "sockdiag")
LEGACY = ("override", "none")
SOON_S = 10.0


class Sockdiag(Watch):
    """The source that needs no BPF, of one cgroup."""

    def __init__(self, cgroup: Path) -> None:
        self.source = cast(SockOpsSource, opening._open("sockdiag", Options(cgroup=str(cgroup)), None))
        self.tracker = Tracker(window_s=20, closed_s=60)
        self.flows = self.tracker.update(self.source.poll())


def watching(cgroup: Path, source: str) -> Watch:
    if source == "sockdiag":
        return Sockdiag(cgroup)
    return Watch(cgroup, reader="descriptors" if source == "descriptors" else "sock_diag")


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def remove(cgroup: Path) -> None:
    """Once the last process is gone, which takes a moment."""

    def gone() -> bool:
        with suppress(OSError):
            cgroup.rmdir()
        return not cgroup.exists()

    wait_until(gone, SOON_S, f"{cgroup} being removed")


def attached_to(cgroup: Path) -> list[int]:
    fd = os.open(cgroup, os.O_RDONLY)
    try:
        return kernel_calls.programs_at(fd)[0]
    finally:
        os.close(fd)


def note(watch: Watch) -> str:
    """What a new tick says of the cgroup, "" for nothing."""
    return next((each for each in watch.tick().snapshot.notes if "cgroup /" in each), "")


def connected(lab: Lab, link: Link, cgroup: Path, family: str = "ipv4") -> tuple[Traffic, Traffic]:
    """A server and a client in the cgroup, and their connection."""
    address = getattr(link.b, family)
    server = lab.server(link.b.ns, "serve-echo", address=address, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=address, port=server.port, cgroup=cgroup)
    client.expect("connected")
    return server, client


def is_told(watch: Watch, client: Traffic, cgroup: Path, source: str) -> None:
    """The row of a connection that was made after the restart."""
    row = watch.open(client.port)
    mount = cgroup2_mount()
    assert mount is not None
    assert row["cgroup"] == f"/{cgroup.relative_to(mount)}"
    assert row["pid"] == client.pid
    assert row["origin"] == ("listed" if source == "sockdiag" else "new")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_restart(lab: Lab, link: Link, cgroup: Path, source: str, family: str) -> None:
    with watching(cgroup, source) as watch:
        old = connected(lab, link, cgroup, family)
        is_told(watch, old[1], cgroup, source)
        assert note(watch) == ""
        for each in reversed(old):
            each.end()
        remove(cgroup)
        assert "was removed at" in note(watch)
        assert "waiting" in note(watch)
        assert watch.closed(old[1].port)["end"] == (None if source == "sockdiag" else "closed")
        cgroup.mkdir()
        assert "removed and made again at" in note(watch)
        is_told(watch, connected(lab, link, cgroup, family)[1], cgroup, source)
        assert len(attached_to(cgroup)) == (source != "sockdiag")
    assert attached_to(cgroup) == []


@pytest.mark.parametrize("source", SOURCES)
def test_between_two_ticks_before_any_connection(lab: Lab, link: Link, cgroup: Path, source: str) -> None:
    with watching(cgroup, source) as watch:
        remove(cgroup)
        cgroup.mkdir()
        early = connected(lab, link, cgroup)[1]  # nobody has looked yet: it is found later
        assert "made again" in note(watch)
        assert watch.open(early.port)["pid"] == early.pid
        is_told(watch, connected(lab, link, cgroup)[1], cgroup, source)


def test_it_is_seen_between_two_ticks_too(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup) as watch:
        remove(cgroup)
        cgroup.mkdir()
        watch.source.drain()
        assert len(attached_to(cgroup)) == 1
        is_told(watch, connected(lab, link, cgroup)[1], cgroup, "descriptors")


@pytest.mark.parametrize("source", SOURCES)
def test_the_slice_above_it_is_made_again(lab: Lab, link: Link, source: str) -> None:
    above, cgroup = lab.cgroup("a.slice"), lab.cgroup("a.slice/b.service")
    with watching(cgroup, source) as watch:
        remove(cgroup)
        remove(above)
        assert "was removed at" in note(watch)
        above.mkdir()
        assert "was removed at" in note(watch)
        cgroup.mkdir()
        assert "made again" in note(watch)
        is_told(watch, connected(lab, link, cgroup)[1], cgroup, source)


@pytest.mark.parametrize("source", SOURCES)
def test_again_and_again(lab: Lab, link: Link, cgroup: Path, source: str) -> None:
    with watching(cgroup, source) as watch:
        descriptors = []
        for number in range(2 * FOLLOWED):
            remove(cgroup)
            if number % 2:
                assert "waiting" in note(watch)
            cgroup.mkdir()
            assert "made again" in note(watch)
            assert len(attached_to(cgroup)) == (source != "sockdiag")
            descriptors.append(len(os.listdir("/proc/self/fd")))
        assert f"({2 * FOLLOWED} times so far)" in note(watch)
        assert descriptors[-1] <= descriptors[FOLLOWED]
        is_told(watch, connected(lab, link, cgroup)[1], cgroup, source)
    assert attached_to(cgroup) == []


def test_a_directory_of_cgroup_v2_is_never_renamed(cgroup: Path) -> None:
    """kernfs_iop_rename() of fs/kernfs/dir.c, and cgroup_kf_syscall_ops, which has no rename."""
    with pytest.raises(PermissionError):
        cgroup.rename(cgroup.with_name("renamed"))


@pytest.mark.parametrize("source", SOURCES)
def test_a_process_that_moved_keeps_its_rows(lab: Lab, link: Link, cgroup: Path, source: str) -> None:
    elsewhere = lab.cgroup("elsewhere")
    with watching(cgroup, source) as watch:
        server, client = connected(lab, link, cgroup)
        before = watch.open(client.port)
        for process in (server, client):
            (elsewhere / "cgroup.procs").write_text(str(process.pid))
        remove(cgroup)
        assert "was removed at" in note(watch)
        assert watch.open(client.port)["cookie"] == before["cookie"]
        cgroup.mkdir()
        assert "made again" in note(watch)
        is_told(watch, connected(lab, link, cgroup)[1], cgroup, source)
        for _ in range(3):
            assert watch.open(client.port)["cookie"] == before["cookie"]
        assert watch.open(client.port)["origin"] == before["origin"]
        client.tell("close")
        assert watch.closed(client.port)["end"] == (None if source == "sockdiag" else "closed")
        server.tell("close")
        assert watch.closed(server.port)["end"] == (None if source == "sockdiag" else "peer-closed")


@pytest.mark.needs("HAVE_ADOPTION")
def test_flags_are_taken_back_in_every_directory_that_it_had(lab: Lab, link: Link, cgroup: Path) -> None:
    elsewhere = lab.cgroup("elsewhere")
    with Watch(cgroup) as watch:
        clients = []
        for number in range(3):
            server, client = connected(lab, link, cgroup)
            clients.append(client)
            assert watch.flags(client.port)
            if number < 2:
                for process in (server, client):
                    (elsewhere / "cgroup.procs").write_text(str(process.pid))
                remove(cgroup)
                cgroup.mkdir()
                assert "made again" in note(watch)
    with Watch(cgroup.parent, adopt=False) as later:
        everybody = later.everybody()
        flags = {int(row["lport"]): int(row["cb_flags"]) for row in everybody[everybody["rport"] != 0]}
        assert [flags[client.port] for client in clients] == [0, 0, 0]


@contextmanager
def children_of(cgroup: Path) -> Iterator[Callable[[], int]]:
    """Cgroups below it that come and go, nested ones too, as quickly as they can; how many came so far."""
    over, made = threading.Event(), itertools.count()
    count = [0]

    def churn() -> None:
        for number in made:
            if over.is_set():
                return
            below = cgroup / f"child-{number % 7}"
            inner = below / "inner"
            below.mkdir()
            inner.mkdir()
            inner.rmdir()
            below.rmdir()
            count[0] = number

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield lambda: count[0]
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("source", SOURCES)
def test_children_that_come_and_go_end_nothing(lab: Lab, link: Link, cgroup: Path, source: str) -> None:
    with children_of(cgroup) as made:
        for _ in range(2):
            with watching(cgroup, source) as watch:
                client = connected(lab, link, cgroup)[1]
                begun = made()
                wait_until(lambda: [note(watch)] == [""] and made() > begun + 200, 20, "children")  # noqa: B023
                is_told(watch, client, cgroup, source)


@pytest.mark.parametrize("source", SOURCES)
def test_a_child_that_is_made_again(lab: Lab, link: Link, cgroup: Path, source: str) -> None:
    child = lab.cgroup("watched/child")
    with watching(cgroup, source) as watch:
        remove(child)
        watch.tick()
        child.mkdir()
        is_told(watch, connected(lab, link, child)[1], child, source)
        assert note(watch) == ""


@pytest.mark.parametrize("by", LEGACY)
def test_a_program_that_would_be_silenced(lab: Lab, link: Link, cgroup: Path, by: str) -> None:
    """Somebody's program has the new directory for itself: ours waits, says so, and asks nothing of its sockets."""
    with Watch(cgroup) as watch:
        remove(cgroup)
        cgroup.mkdir()
        other = Traffic(lab.popen(None, [BCC_PYTHON, "-I", str(TUNER), str(cgroup), "--by", by, "--flags", "0"]))
        number = other.expect("ready")
        told = note(watch)
        assert f"tuner (id {number}) holds {cgroup} for itself" in told
        assert "is not attached to" in told
        client = connected(lab, link, cgroup)[1]
        assert watch.open(client.port)["origin"] == "listed"
        assert watch.flags(client.port) == 0
        assert attached_to(cgroup) == [int(number)]
        other.tell("leave")
        other.expect("left")
        assert "attached again" in note(watch)
        is_told(watch, connected(lab, link, cgroup)[1], cgroup, "descriptors")


def killed(watch: Watch) -> None:
    process = watch.source.attached.helper
    assert process is not None
    process.process.kill()
    process.process.wait()


HELPERLESS: dict[str, tuple[dict[str, Any], Callable[[Watch], None], str]] = {
    "none": ({"helper": False}, lambda watch: None, "there is no helper"),
    "gone": ({}, killed, "the helper is gone"),
}


@pytest.mark.parametrize("reader", ["descriptors", "sock_diag"])
@pytest.mark.parametrize("how", HELPERLESS)
def test_without_a_helper_it_says_what_to_do(lab: Lab, cgroup: Path, how: str, reader: str) -> None:
    options, end, words = HELPERLESS[how]
    with Watch(cgroup, reader=reader, **options) as watch:
        end(watch)
        remove(cgroup)
        assert "was removed at" in note(watch)
        cgroup.mkdir()
        told = note(watch)
        assert words in told
        assert "start tcptop-ops again" in told
        with (
            lab.inside(cgroup),
            socket.create_server(("127.0.0.1", 0)) as door,
            socket.create_connection(door.getsockname()) as near,
        ):
            assert watch.open(near.getsockname()[1])["origin"] == "listed"
    assert attached_to(cgroup) == []


@pytest.mark.parametrize("source", ["auto", "sockdiag"])
def test_the_screen_says_so(cgroup: Path, source: str) -> None:
    """The monitor has given up root by then."""
    with started("--cgroup", str(cgroup), "--source", source, "-d", "0.5") as monitor:
        monitor.wait_for_picture()
        remove(cgroup)
        monitor.wait_for("waiting for it to be made again")
        cgroup.mkdir()
        monitor.wait_for("it was removed and made again at")
        wait_until(lambda: len(attached_to(cgroup)) == (source != "sockdiag"), what="being attached")
        monitor.process.kill()
        wait_until(lambda: attached_to(cgroup) == [], what="nothing being attached")
