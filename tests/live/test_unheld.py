"""Sockets that no descriptor shows: each kind is found at each read, once, and as ``ss`` has it."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf import proc_walk
from tcptop_ops.host.namespaces import NamespaceAccess, widest
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.enums import STATE_NAMES, State
from tcptop_ops.model.records import OWNER, Records
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.unheld import UnheldReader
from tests.live.watch import HOLDERS, program
from tests.support.lab import Lab
from tests.support.leftovers import NETNS, wait_until
from tests.support.netns import in_netns, run
from tests.support.witness import ss_sockets

TCP_LINGER2 = 8  # linux/tcp.h
IPPROTO_MPTCP = 262
LONG_S = 119  # of FIN-WAIT-2, as longer than TIME-WAIT a whole socket is kept for it (tcp_rcv_state_process())
LOOPBACKS = ["127.0.0.1", "::1"]
WITHOUT_ROWS = {"TIME-WAIT", "SYN-RECV", "UNCONN"}
Pair = tuple[socket.socket, socket.socket]


class Place:
    """A namespace of the test's own, a reader, and sockets there."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab, self.ns, self.other = lab, lab.namespace("unheld"), lab.namespace("beside")
        self.stack = stack
        self.reach: NamespaceAccess = widest()
        stack.callback(self.reach.close)
        self.reader = UnheldReader(self.reach)
        stack.callback(self.reader.close)
        self.every = EveryNamespace(self.reach)  # what others hold is held, too
        stack.callback(self.every.close)

    @staticmethod
    def number(ns: str) -> int:
        return (NETNS / ns).stat().st_ino

    def door(self, address: str, ns: str = "", protocol: int = 0) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        there = in_netns(ns or self.ns, lambda: socket.socket(family, socket.SOCK_STREAM, protocol))
        made = self.stack.enter_context(there)
        made.bind((address, 0))
        made.listen(9)
        return made

    def to(self, door: socket.socket, ns: str = "") -> socket.socket:
        there = in_netns(ns or self.ns, lambda: socket.socket(door.family, socket.SOCK_STREAM, door.proto))
        made = self.stack.enter_context(there)
        made.connect(door.getsockname())
        return made

    def pair(self, door: socket.socket) -> Pair:
        near = self.to(door)
        return near, self.stack.enter_context(door.accept()[0])

    def lose(self, port: int) -> None:
        """Lose what comes from this port."""
        rule = f"table inet t{port} {{ chain o {{ type filter hook output priority 0; tcp sport {port} drop; }}; }}"
        run(["nft", "-f", "-"], ns=self.ns, text=rule)

    def held(self) -> Records:
        """What a pass over descriptors tells: sockets whose inode some process holds, but for subflows of MPTCP."""
        inodes = np.unique(np.frombuffer(proc_walk.scan(), OWNER)["inode"])
        every = self.every.dump().sockets
        return gather(every, np.isin(every["inode"], inodes) & (every["mptcp"] == 0))

    def unheld(self) -> list[tuple[str, int, int]]:
        """State and ports of what a read finds here, sorted. Checks that each is there once, and as ss has it."""
        held = self.held()
        state = self.reader.read(held)
        found = {int(row["cookie"]): row for row in state.sockets if row["netns"] == self.number(self.ns)}
        assert len(found) == np.count_nonzero(state.sockets["netns"] == self.number(self.ns))
        theirs = {one.cookie: one for one in ss_sockets(self.ns) if one.state not in WITHOUT_ROWS}
        assert found.keys() == theirs.keys() - set(held["cookie"].tolist())
        for cookie, row in found.items():
            witness = theirs[cookie]
            assert (STATE_NAMES[row["state"]], row["lport"]) == (witness.state, witness.local_port)
        return sorted((STATE_NAMES[row["state"]], int(row["lport"]), int(row["rport"])) for row in found.values())


@pytest.fixture
def place(lab: Lab) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(lab, stack)


def ends(state: State, port: int, peer: int) -> tuple[str, int, int]:
    return STATE_NAMES[state], port, peer


def stays(place: Place, *wanted: tuple[str, int, int]) -> None:
    """It is found at the first read, and at the next ones."""
    for _ in range(3):
        assert place.unheld() == sorted(wanted)


@pytest.mark.parametrize("address", LOOPBACKS)
def test_what_waits_to_be_accepted(place: Place, address: str) -> None:
    door = place.door(address)
    port = door.getsockname()[1]
    assert place.unheld() == []
    near = [place.to(door).getsockname()[1] for _ in range(4)]
    stays(place, *(ends(State.ESTABLISHED, port, peer) for peer in near))
    accepted = [place.stack.enter_context(door.accept()[0]) for _ in range(3)]
    assert sorted(one.getpeername()[1] for one in accepted) == sorted(near[:3])
    stays(place, ends(State.ESTABLISHED, port, near[3]))


def fin_wait1(place: Place, door: socket.socket) -> tuple[str, int, int]:
    """It has data that the peer has no room for."""
    near, _ = place.pair(door)
    port = near.getsockname()[1]
    near.setblocking(False)
    with suppress(BlockingIOError):
        while near.send(bytes(1 << 16)):
            pass
    near.close()
    return ends(State.FIN_WAIT1, port, door.getsockname()[1])


def fin_wait2(place: Place, door: socket.socket) -> tuple[str, int, int]:
    """The peer does not close."""
    near, _ = place.pair(door)
    port = near.getsockname()[1]
    near.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, LONG_S)
    near.close()
    return ends(State.FIN_WAIT2, port, door.getsockname()[1])


def closing(place: Place, door: socket.socket) -> tuple[str, int, int]:
    """Its FIN is lost, its peer's comes: the peer stays in FIN-WAIT-1, held by a half-closed descriptor."""
    near, far = place.pair(door)
    port = near.getsockname()[1]
    place.lose(port)
    near.close()
    far.shutdown(socket.SHUT_WR)
    return ends(State.CLOSING, port, door.getsockname()[1])


def last_ack(place: Place, door: socket.socket) -> tuple[str, int, int]:
    """The acknowledgement of its FIN is lost."""
    near, far = place.pair(door)
    port = near.getsockname()[1]
    near.shutdown(socket.SHUT_WR)
    assert far.recv(1) == b""
    place.lose(port)
    far.close()
    return ends(State.LAST_ACK, door.getsockname()[1], port)


@pytest.mark.parametrize("made", [fin_wait1, fin_wait2, closing, last_ack])
@pytest.mark.parametrize("address", LOOPBACKS)
def test_orphans(place: Place, address: str, made: Callable[[Place, socket.socket], tuple[str, int, int]]) -> None:
    door = place.door(address)
    place.unheld()
    orphan = made(place, door)
    wait_until(lambda: ss_state(place, orphan) == orphan[0], what="the state")
    stays(place, orphan)


def ss_state(place: Place, of: tuple[str, int, int]) -> str:
    states = [one.state for one in ss_sockets(place.ns) if (one.local_port, one.peer_port) == of[1:]]
    return states[0] if states else ""


@pytest.mark.parametrize("address", LOOPBACKS)
def test_what_is_in_flight_between_processes(place: Place, address: str) -> None:
    door = place.door(address)
    near, _ = place.pair(door)
    port, listening = near.getsockname()[1], door.getsockname()[1]
    place.unheld()
    one, other = socket.socketpair()
    with one, other:
        socket.send_fds(one, [b"."], [near.fileno(), door.fileno()])
        near.close()
        door.close()
        stays(place, ends(State.ESTABLISHED, port, listening), ends(State.LISTEN, listening, 0))
        _, fds, _, _ = socket.recv_fds(other, 1, 2)
        for fd in fds:
            place.stack.enter_context(socket.socket(fileno=fd))
        stays(place)


def test_what_a_ring_of_io_uring_holds(place: Place, cgroup: Path) -> None:
    server = program(place.lab, place.ns, cgroup, "ring", of=HOLDERS)
    port = int(server.expect("port"))
    stays(place, ends(State.ESTABLISHED, port, server.port))


@pytest.mark.parametrize("address", LOOPBACKS)
def test_subflows_of_mptcp(place: Place, address: str) -> None:
    """Their descriptor is that of the whole connection."""
    try:
        door = place.door(address, protocol=IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"no MPTCP: {error.strerror}")
    near, _ = place.pair(door)
    port, listening = near.getsockname()[1], door.getsockname()[1]
    pair = ends(State.ESTABLISHED, port, listening), ends(State.ESTABLISHED, listening, port)
    stays(place, *pair, ends(State.LISTEN, listening, 0))


def test_a_listener_in_another_namespace_and_what_waits_there(place: Place) -> None:
    door = place.door("127.0.0.1", place.other)
    one, other = socket.socketpair()
    with one, other:
        place.to(door, place.other)
        socket.send_fds(one, [b"."], [door.fileno()])
        listening = door.getsockname()[1]
        door.close()
        for _ in range(3):
            held = place.held()
            found = place.reader.read(held).sockets
            mine = found[found["netns"] == place.number(place.other)]
            assert sorted(mine["state"].tolist()) == [State.ESTABLISHED, State.LISTEN]
            assert set(mine["lport"].tolist()) == {listening}
            assert not np.isin(mine["cookie"], held["cookie"]).any()


def test_handshakes_and_time_wait(place: Place) -> None:
    door = place.door("127.0.0.1")
    near, far = place.pair(door)
    near.close()
    far.close()
    place.lose(door.getsockname()[1])
    asking = place.stack.enter_context(in_netns(place.ns, socket.socket))
    asking.setblocking(False)
    asking.connect_ex(door.getsockname())
    number = place.number(place.ns)

    def told() -> tuple[int, int]:
        state = place.reader.read(place.held())
        waiting = state.half_open[state.half_open["netns"] == number]
        return int(np.count_nonzero(waiting["lport"] == door.getsockname()[1])), state.time_wait

    wait_until(lambda: told()[0] == 1 and told()[1] >= 1, what="a handshake and a socket in TIME-WAIT")


def test_none_of_many_is_missing_while_others_come_and_go(place: Place, cgroup: Path) -> None:
    door = place.door("127.0.0.1")
    waiting = {place.to(door).getsockname()[1] for _ in range(6)}
    server = place.lab.server(place.ns, "serve-echo", address="127.0.0.1", then="close", cgroup=cgroup)
    client = place.lab.traffic(place.ns, "short-connections", 3000, address="127.0.0.1", port=server.port)
    reads, port = 0, door.getsockname()[1]
    while client.process.poll() is None and reads < 40:
        held = place.held()
        found = place.reader.read(held).sockets
        here = found[(found["netns"] == place.number(place.ns)) & (found["lport"] == port)]
        assert Counter(here["rport"].tolist()) == Counter(waiting)
        assert not np.isin(found["cookie"], held["cookie"]).any()
        reads += 1
    assert reads > 3
