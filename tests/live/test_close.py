"""Closing a connection: the one that is meant and no other, with both sources; and nothing where it was not allowed."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tcptop_ops.errors import Failed, Unsupported
from tcptop_ops.host.namespaces import widest
from tcptop_ops.model.records import Records
from tcptop_ops.sources.base import Source
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tests.live.terminal import terminal
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns

PATIENCE_S = 20
SO_COOKIE = 57  # asm-generic/socket.h


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


class Pair(NamedTuple):
    """Both ends of a connection."""

    near: socket.socket
    far: socket.socket

    def talk(self) -> None:
        """A byte each way."""
        for one, other in ((self.near, self.far), (self.far, self.near)):
            one.send(b"x")
            assert other.recv(1) == b"x"

    @property
    def port(self) -> int:
        """The near end's."""
        port: int = self.near.getsockname()[1]
        return port

    def is_reset(self) -> None:
        """Near, its process is told that it was aborted; far, the peer that it was reset (tcp_abort(), tcp_reset())."""
        with pytest.raises(ConnectionAbortedError):
            self.near.recv(1)
        with pytest.raises(ConnectionResetError):
            self.far.recv(1)


class Crowd:
    """Connections of this very process, between two namespaces, to one listener."""

    def __init__(self, link: Link, family: int, bound: str, to: str) -> None:
        self._link, self._family, self._to = link, family, to
        self._made: list[socket.socket] = []
        self.door = in_netns(link.b.ns, lambda: self._make(family))
        self.door.bind((bound, 0))
        self.door.listen()

    def _make(self, family: int) -> socket.socket:
        made = socket.socket(family)
        made.settimeout(PATIENCE_S)
        self._made.append(made)
        return made

    def pair(self) -> Pair:
        near = in_netns(self._link.a.ns, lambda: self._make(self._family))
        near.connect((self._to, self.door.getsockname()[1]))
        far = self.door.accept()[0]
        far.settimeout(PATIENCE_S)
        self._made.append(far)
        return Pair(near, far)

    def close(self) -> None:
        for one in self._made:
            one.close()


FAMILIES = ("ipv4", "ipv6", "mapped")


@pytest.fixture(params=FAMILIES)
def crowd(lab: Lab, link: Link, cgroup: Path, request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """In the cgroup that is watched."""
    kinds = {
        "ipv4": (socket.AF_INET, link.b.ipv4, link.b.ipv4),
        "ipv6": (socket.AF_INET6, "::", link.b.ipv6),
        "mapped": (socket.AF_INET6, "::", f"::ffff:{link.b.ipv4}"),
    }
    with lab.inside(cgroup), closing(Crowd(link, *kinds[getattr(request, "param", "ipv4")])) as made:
        yield made


def sockdiag_source(may_close: bool) -> SockDiagSource:
    reach = widest(may_close=may_close)
    return SockDiagSource(EveryNamespace(reach), None, reach)


@pytest.fixture(params=["sockops", "sockdiag"])
def source(request: pytest.FixtureRequest, cgroup: Path) -> Iterator[Source]:
    """One that may close."""
    if request.param == "sockdiag":
        with closing(sockdiag_source(may_close=True)) as made:
            yield made
    else:
        with Watch(cgroup, may_close=True) as watch:
            yield watch.source


def row(source: Source, one: socket.socket) -> Records:
    """Its SOCKET row."""
    cookie = int.from_bytes(one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
    sockets = source.poll().sockets
    [at] = np.flatnonzero(sockets["cookie"] == cookie)
    found: Records = sockets[at].copy()
    return found


def test_one_of_two_is_closed(crowd: Crowd, source: Source) -> None:
    meant, other = crowd.pair(), crowd.pair()
    meant.talk()
    sock = row(source, meant.near)
    source.close_connection(sock)
    meant.is_reset()
    other.talk()
    crowd.pair().talk()
    with pytest.raises(Failed, match="gone already"):
        source.close_connection(sock)
    other.talk()


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
def test_the_accepted_end_can_be_closed_too(crowd: Crowd, source: Source) -> None:
    meant, other = crowd.pair(), crowd.pair()
    source.close_connection(row(source, meant.far))
    Pair(meant.far, meant.near).is_reset()
    other.talk()


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
def test_another_life_with_the_same_addresses_is_spared(crowd: Crowd, source: Source) -> None:
    pair = crowd.pair()
    sock = row(source, pair.near)
    sock["cookie"] += 1
    with pytest.raises(Failed, match="gone already"):
        source.close_connection(sock)
    pair.talk()


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
def test_a_listener_is_not_closed(crowd: Crowd, source: Source) -> None:
    with pytest.raises(Unsupported, match="listener"):
        source.close_connection(row(source, crowd.door))
    crowd.pair().talk()


def test_one_that_waits_for_an_answer_is_closed(lab: Lab, link: Link, cgroup: Path, source: Source) -> None:
    lab.black_hole(link.b.ns, 9)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=9, cgroup=cgroup)

    def waiting() -> Records:
        sockets = source.poll().sockets
        found: Records = sockets[(sockets["lport"] == client.port) & (sockets["rport"] == 9)].copy()
        return found

    wait_until(lambda: len(waiting()) == 1, what="the SYN")
    source.close_connection(waiting()[0])
    assert client.expect("failed") == "ECONNABORTED"


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
def test_without_the_option_nothing_is_closed(crowd: Crowd, cgroup: Path) -> None:
    pair = crowd.pair()
    with Watch(cgroup) as watch:
        with pytest.raises(Failed, match="not allowed") as refused:
            watch.source.close_connection(row(watch.source, pair.near))
        assert "--allow-close" in refused.value.hint
    with closing(sockdiag_source(may_close=False)) as polled, pytest.raises(Failed, match="not allowed"):
        polled.close_connection(row(polled, pair.near))
    pair.talk()


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
def test_without_a_helper_nothing_is_closed(crowd: Crowd, cgroup: Path) -> None:
    pair = crowd.pair()
    with Watch(cgroup, may_close=True, helper=False) as watch, pytest.raises(Unsupported, match="no helper"):
        watch.source.close_connection(row(watch.source, pair.near))
    pair.talk()


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
@pytest.mark.parametrize("options", [("--cgroup",), ("--source", "sockdiag")], ids=["sockops", "sockdiag"])
def test_the_key_closes_what_it_asked_about(crowd: Crowd, lab: Lab, cgroup: Path, options: tuple[str, ...]) -> None:
    """The real screen, root given up; the option is needed for it."""
    meant, other = crowd.pair(), crowd.pair()
    where = (*options, str(cgroup)) if options == ("--cgroup",) else options
    wanted = ("--no-config", "-f", f"local = {meant.near.getsockname()[0]}:{meant.port}", *where)
    with terminal(f"{lab.prefix}-without", *wanted) as screen:
        screen.wait_for(lambda lines: any("1 of 1" in line for line in lines), "the row")
        screen.press("K")
        screen.wait_for(lambda lines: "--allow-close" in lines[2], "how to get it")
    meant.talk()
    with terminal(lab.prefix, *wanted, "--allow-close") as screen:
        screen.wait_for(lambda lines: any("1 of 1" in line for line in lines), "the row")
        screen.press("K")
        asked = screen.wait_for(lambda lines: any("close this connection?" in line for line in lines), "the question")
        assert any(f":{meant.port} -> " in line for line in asked)
        meant.talk()
        screen.press("n")
        screen.wait_for(lambda lines: "nothing was closed" in lines[2], "that nothing was closed")
        meant.talk()
        screen.press("K")
        screen.wait_for(lambda lines: any("close this connection?" in line for line in lines), "the question")
        screen.press("y")
        screen.wait_for(lambda lines: lines[2].startswith("closed: "), "that it is closed")
    meant.is_reset()
    other.talk()


@pytest.mark.parametrize("crowd", ["ipv4"], indirect=True)
def test_a_closed_row_says_how_it_ended(crowd: Crowd, cgroup: Path) -> None:
    """By a reset, though it was ours."""
    with Watch(cgroup, may_close=True) as watch:
        pair = crowd.pair()  # of older ones only kernels with adoption tell it
        watch.source.close_connection(row(watch.source, pair.near))
        told = watch.closed(pair.port)
        assert told["end"] == "reset"
        wait_until(lambda: not watch.lists(pair.port), PATIENCE_S)
