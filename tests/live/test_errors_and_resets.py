"""What the rare tracepoints tell: the error that an application gets while its socket lives on, and resets."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tcptop_ops.bpf.attach import TRACEPOINTS
from tcptop_ops.model.enums import ResetSeen, State
from tcptop_ops.model.records import Records
from tests.live.watch import Watch
from tests.support.lab import End, Lab, Link
from tests.support.leftovers import MARK, wait_until
from tests.support.netns import in_netns, run

FAMILIES = (socket.AF_INET, socket.AF_INET6)
NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
REJECTED = {
    socket.AF_INET: ("icmp type host-unreachable", errno.EHOSTUNREACH),
    socket.AF_INET6: ("icmpv6 type admin-prohibited", errno.EACCES),
}
PORT = 7117
LINGER_0 = struct.pack("ii", 1, 0)

pytestmark = [pytest.mark.parametrize("family", FAMILIES, ids=NAMES.values()), pytest.mark.halved]


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", rate="100mbit")


def address(end: End, family: int) -> str:
    return end.ipv4 if family == socket.AF_INET else end.ipv6


def reject(ns: str, hook: str, family: int) -> None:
    """Reject connections to PORT, by ICMP, in a hook of a namespace."""
    rule = f"tcp dport {PORT} tcp flags & (syn | ack) == syn reject with {REJECTED[socket.AddressFamily(family)][0]}"
    chain = f"chain {hook} {{ type filter hook {hook} priority 0; policy accept; {rule}\n}}"
    run(["nft", "-f", "-"], ns=ns, text=f"table inet {MARK}reject {{\n{chain}\n}}\n")


def opened(lab: Lab, cgroup: Path, ns: str, family: int) -> socket.socket:
    """A socket of a namespace and of the cgroup that is watched; whoever connects it is this process."""
    with lab.inside(cgroup):
        return in_netns(ns, lambda: socket.socket(family, socket.SOCK_STREAM))


def told(watch: Watch, port: int) -> tuple[int, int, int | None]:
    """EVENTS.error and resets of the connection from this local port; ENDING.error, None of a live one."""
    flows = watch.tick()
    for rows in (flows.closed, flows.live):
        at = np.flatnonzero((rows.sockets["lport"] == port) & (rows.sockets["rport"] != 0))
        if len(at):
            events: Records = rows.events[at[-1]]
            ending = None if rows.endings is None else int(rows.endings["error"][at[-1]])
            return int(events["error"]), int(events["resets"]), ending
    raise AssertionError(f"no row with local port {port}")


def ended(watch: Watch, port: int) -> tuple[int, int, int | None]:
    """As ``told``, of a closed connection, waited for."""

    def there() -> tuple[int, int, int | None] | None:
        with suppress(AssertionError):
            found = told(watch, port)
            return found if found[2] is not None else None
        return None

    return wait_until(there, what=f"the end of the connection from port {port}")  # type: ignore[return-value]


def test_all_tracepoints_are_there(watch: Watch, family: int) -> None:
    fds = watch.source.attached.fds
    assert set(TRACEPOINTS) <= fds.keys()


@pytest.mark.parametrize("hook", ["output", "forward"])
@pytest.mark.parametrize("asks", [True, False], ids=["asks", "does-not-ask"])
def test_a_connect_that_this_host_rejects(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int, hook: str, asks: bool
) -> None:
    """The socket stays in SYN-SENT, and sk_err is 0 at the close."""
    assert link.router
    reject(link.a.ns if hook == "output" else link.router, hook, family)
    with closing(opened(lab, cgroup, link.a.ns, family)) as near:
        near.setblocking(False)
        assert near.connect_ex((address(link.b, family), PORT)) == errno.EINPROGRESS
        port = near.getsockname()[1]
        if family == socket.AF_INET:
            poller = select.poll()
            poller.register(near, select.POLLOUT)
            assert poller.poll(500) != []
            assert told(watch, port)[0] == REJECTED[socket.AddressFamily(family)][1]
            if asks:
                assert near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EHOSTUNREACH
    assert ended(watch, port) == (REJECTED[socket.AddressFamily(family)][1], 0, 0)


@pytest.mark.parametrize("hook", ["output", "input"])
def test_a_blocking_connect_that_is_rejected(
    lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int, hook: str
) -> None:
    """By this host's rule the first SYN is not told of; by the peer's, at once."""
    reject(link.a.ns if hook == "output" else link.b.ns, hook, family)
    code = REJECTED[socket.AddressFamily(family)][1]
    with closing(opened(lab, cgroup, link.a.ns, family)) as near:
        near.bind((address(link.a, family), 0))
        port = near.getsockname()[1]
        near.settimeout(None)
        with pytest.raises(OSError, match=r".") as refused:
            near.connect((address(link.b, family), PORT))
        assert refused.value.errno == code
    assert ended(watch, port) == (code, 0, code)


class Pair(NamedTuple):
    near: socket.socket
    far: socket.socket
    near_port: int


@pytest.fixture
def pair(lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int) -> Iterator[Pair]:
    """Both ends of a connection; the near one is watched. A byte of it waits at the near end."""
    with closing(in_netns(link.b.ns, lambda: socket.socket(family, socket.SOCK_STREAM))) as door:
        door.bind((address(link.b, family), PORT))
        door.listen()
        near = opened(lab, cgroup, link.a.ns, family)
        near.connect(door.getsockname())
        made = Pair(near, door.accept()[0], near.getsockname()[1])
        made.far.send(b"x")
        select.select([near], [], [])
        watch.tick()
        with made.near, made.far:
            yield made


def read(pair: Pair) -> None:
    assert pair.near.recv(1) == b"x"


def in_close_wait(pair: Pair) -> None:
    read(pair)
    pair.far.shutdown(socket.SHUT_WR)
    assert pair.near.recv(1) == b""


def half_closed(pair: Pair) -> None:
    read(pair)
    pair.near.shutdown(socket.SHUT_WR)
    assert pair.far.recv(1) == b""


def half_closed_with_data(pair: Pair) -> None:
    half_closed(pair)
    pair.far.send(b"y")
    select.select([pair.near], [], [])


def linger_0(pair: Pair) -> None:
    pair.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)


def send_on(sock: socket.socket) -> None:
    while True:
        sock.send(b"z")


@pytest.mark.parametrize(
    ("before", "lingers"),
    [
        (lambda pair: None, False),
        (read, True),
        (in_close_wait, True),
        (half_closed, True),
        (half_closed_with_data, False),
    ],
    ids=["unread", "linger-0", "close-wait-linger-0", "half-closed-linger-0", "half-closed-unread"],
)
def test_a_close_that_sends_a_reset(watch: Watch, pair: Pair, before: Callable[[Pair], None], lingers: bool) -> None:
    before(pair)
    if lingers:
        linger_0(pair)
    pair.near.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_on(pair.far)
    error, resets, at_close = ended(watch, pair.near_port)
    assert (error, resets, at_close) == (0, ResetSeen.SENT, 0)


def test_a_reset_that_is_received(watch: Watch, pair: Pair) -> None:
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    pair.far.close()
    assert ended(watch, pair.near_port) == (errno.ECONNRESET, ResetSeen.RECEIVED, errno.ECONNRESET)


def test_orderly_closes_have_neither(watch: Watch, pair: Pair) -> None:
    half_closed(pair)
    pair.far.send(b"y")
    pair.far.close()
    assert pair.near.recv(2) == b"y"
    assert pair.near.recv(1) == b""
    pair.near.close()
    assert ended(watch, pair.near_port) == (0, 0, 0)


def test_the_peer_closes_first(watch: Watch, pair: Pair) -> None:
    in_close_wait(pair)
    pair.near.close()
    pair.far.close()
    assert ended(watch, pair.near_port) == (0, 0, 0)


def test_a_refused_connect_and_a_listener(lab: Lab, link: Link, cgroup: Path, watch: Watch, family: int) -> None:
    """Stray segments are answered by resets in the listener's name: it is no row's fault."""
    with closing(opened(lab, cgroup, link.b.ns, family)) as door:
        door.bind((address(link.b, family), PORT))
        door.listen()
        near = opened(lab, cgroup, link.a.ns, family)
        near.bind((address(link.a, family), 0))
        port = near.getsockname()[1]
        with closing(near), pytest.raises(ConnectionRefusedError):
            near.connect((address(link.b, family), PORT + 1))
        assert ended(watch, port) == (errno.ECONNREFUSED, ResetSeen.RECEIVED, errno.ECONNREFUSED)
        flows = watch.tick()
        [at] = np.flatnonzero((flows.live.sockets["state"] == State.LISTEN) & (flows.live.sockets["lport"] == PORT))
        assert flows.live.events["resets"][at] == 0
