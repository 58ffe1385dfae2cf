"""Paths that swallow large packets, and what holds back small writes: several of each kind at once, by both sources."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.faults import HARMLESS
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns, run

pytestmark = pytest.mark.halved

SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
RATE = 1_000_000
LARGE = 60_000
"""Bytes, of which a send buffer has room for most."""


class Pair:
    """A connection over a link, from ``a`` to ``b``, both ends in this process."""

    def __init__(self, link: Link, family: str = "ipv4") -> None:
        self.link = link
        kind = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
        address = getattr(link.b, family)
        listener = in_netns(link.b.ns, lambda: socket.create_server((address, 0), family=kind))
        self.near = in_netns(link.a.ns, lambda: socket.create_connection(listener.getsockname()[:2]))
        self.far, _ = listener.accept()
        listener.close()
        self.near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        self.port = int(self.near.getsockname()[1])

    def write(self, size: int) -> None:
        """Give the kernel so many bytes, or what it has room for."""
        self.near.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.near.send(bytes(size))

    def small_then_large(self) -> None:
        """Send a request that is read, then more than fits into one segment."""
        self.write(500)
        assert len(self.far.recv(500, socket.MSG_WAITALL)) == 500
        self.write(LARGE)

    def close(self) -> None:
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Rows:
    """What the ticks told of each connection's near end."""

    def __init__(self, watch: Watch, pairs: dict[str, Pair]) -> None:
        self.watch, self.pairs = watch, pairs
        self.causes: dict[str, set[str]] = {name: set() for name in pairs}
        self.ticks = 0
        self.last: dict[str, dict[str, Any]] = {}

    def tick(self) -> dict[str, dict[str, Any]]:
        """Take one more, and return the row of each."""
        self.ticks += 1
        rows = {row["lport"]: row for row in self.watch.rows() if row["closed_s"] is None}
        for name, pair in self.pairs.items():
            if pair.port in rows:
                self.last[name] = rows[pair.port]
                self.causes[name].add(rows[pair.port]["cause"])
        return self.last


@pytest.fixture(params=["sockops", "polled"])
def everything(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Watch]:
    cgroup = lab.cgroup("watched")
    with Watch(cgroup, polled=request.param == "polled") as made, lab.inside(cgroup):
        yield made


@contextlib.contextmanager
def drained(pairs: list[Pair]) -> Iterator[None]:
    """Read at the far ends whatever comes, in a thread."""
    stop = threading.Event()

    def read() -> None:
        with selectors.DefaultSelector() as ready:
            for pair in pairs:
                pair.far.setblocking(False)
                ready.register(pair.far, selectors.EVENT_READ)
            while not stop.is_set():
                for key, _ in ready.select(0.05):
                    with contextlib.suppress(OSError):
                        assert isinstance(key.fileobj, socket.socket)
                        key.fileobj.recv(1 << 20)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def narrow(link: Link, mtu: int) -> None:
    """Let the router's link to ``b`` have a smaller MTU, of which it tells."""
    assert link.router
    device = run(["ip", "-n", link.router, "-o", "route", "get", link.b.ipv4]).split(" dev ")[1].split()[0]
    run(["ip", "-n", link.router, "link", "set", device, "mtu", str(mtu)])


def test_large_packets_that_vanish(lab: Lab, everything: Watch) -> None:
    """None of twins is ever named mtu: a path that is dead, one that loses, one whose router tells."""
    hole, split, cured, dead, lossy = (lab.link(f"a{n}", f"b{n}", offload=n == 1) for n in range(5))
    told, lost = (lab.link(f"a{n}", f"b{n}", offload=False, rate="100mbit") for n in (5, 6))
    run(["sysctl", "-qw", "net.ipv4.tcp_mtu_probing=1"], ns=cured.a.ns)
    pairs = {
        "plain": Pair(hole),
        "ipv6": Pair(hole, "ipv6"),
        "answered": Pair(hole),
        "offload": Pair(split),
        "cured": Pair(cured),
        "later": Pair(hole),
        "dead": Pair(dead),
        "lossy": Pair(lossy),
        "told": Pair(told),
        "no route": Pair(lost),
    }
    rows = Rows(everything, pairs)
    full_before = [pairs[name] for name in ("later", "dead", "lossy", "no route")]
    with contextlib.ExitStack() as closing:
        for pair in pairs.values():
            closing.callback(pair.close)
        wait_until(lambda: len(rows.tick()) == len(pairs), 15, what="namespaces that are new")
        with drained(full_before):
            for pair in full_before:
                pair.write(LARGE)
            wait_until(lambda: all(one["send_q"] == 0 for one in rows.tick().values()), what="all acknowledged")
            for link, most in ((hole, 1300), (split, 1000), (cured, 1400)):
                link.loss.longer_than(most)
            dead.loss.set(100)
            lossy.loss.every(10)
            narrow(told, 1300)
            assert lost.router
            run(["ip", "-n", lost.router, "route", "replace", "unreachable", lost.b.ipv4])
            for pair in full_before:
                pair.write(LARGE)
            for name in ("plain", "ipv6", "answered", "offload", "cured", "told"):
                pairs[name].small_then_large()
            closing.enter_context(drained([pairs["told"]]))
            expected = {
                **dict.fromkeys(("plain", "ipv6", "answered", "offload", "later"), ("mtu", "MTU")),
                "cured": ("mtu", "the kernel lowered the MSS from 1448 to"),
                **dict.fromkeys(("dead", "no route"), ("dead-peer", "nothing came back")),
            }

            def missing() -> dict[str, tuple[set[str], str]]:
                """What was told of those that a new tick does not name as expected."""
                for name in ("answered", "later"):
                    pairs[name].far.send(b"more")
                last = rows.tick()
                wrong = [
                    name
                    for name, (cause, word) in expected.items()
                    if last[name]["cause"] != cause or word not in last[name]["evidence"]
                ]
                return {name: (rows.causes[name], last[name]["evidence"]) for name in wrong}

            with contextlib.suppress(TimeoutError):  # what is missing tells more
                wait_until(lambda: not missing(), 20)
            assert missing() == {}
    for name in ("dead", "lossy", "told", "no route"):
        assert "mtu" not in rows.causes[name], rows.last[name]
    assert rows.causes["told"] <= HARMLESS, rows.last["told"]
    for name, size in (("plain", 1448), ("ipv6", 1428), ("offload", 1448)):
        assert f"MTU suspected: segments of {size} B never acknowledged" in rows.last[name]["evidence"]
        assert "net.ipv4.tcp_mtu_probing = 0" in rows.last[name]["evidence"]
    assert "MTU: segments of 1448 B never acknowledged, smaller ones are" in rows.last["answered"]["evidence"]
    assert "MTU: segments of 1448 B are no longer acknowledged, smaller ones are" in rows.last["later"]["evidence"]
    if everything.source.name == "sockops":
        assert "no route to host, told by ICMP" in rows.last["no route"]["evidence"]


def _requests(pair: Pair, nodelay: bool) -> None:
    """Write a header and a body, and wait for the answer, again and again until the connection is closed."""
    pair.near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    with contextlib.suppress(OSError):
        while True:
            pair.near.sendall(bytes(100))
            pair.near.sendall(bytes(200))
            pair.near.recv(1)


def _answers(pair: Pair) -> None:
    with contextlib.suppress(OSError):
        while len(pair.far.recv(300, socket.MSG_WAITALL)) == 300:
            pair.far.sendall(b"!")


def _endless(pair: Pair) -> None:
    with contextlib.suppress(OSError):
        while True:
            pair.near.sendall(bytes(LARGE))


def test_what_holds_back_writes_is_no_fault(lab: Lab, everything: Watch) -> None:
    """Nagle's algorithm, a pacing rate and TCP_CORK."""
    link = lab.link("a", "b")
    pairs = {name: Pair(link) for name in ("nagle", "nodelay", "paced", "corked", "bulk corked")}
    pairs["paced"].near.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, RATE)
    for name in ("corked", "bulk corked"):
        pairs[name].near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    threads = [
        threading.Thread(target=_requests, args=(pairs["nagle"], False)),
        threading.Thread(target=_requests, args=(pairs["nodelay"], True)),
        *(threading.Thread(target=_answers, args=(pairs[name],)) for name in ("nagle", "nodelay")),
        threading.Thread(target=_endless, args=(pairs["paced"],)),
    ]
    rows, limits = Rows(everything, pairs), {name: set[str]() for name in pairs}

    def told() -> bool:
        for name in ("corked", "bulk corked"):
            pairs[name].write(LARGE + 1 if name == "bulk corked" else 700)
        rows.tick()
        for name, row in rows.last.items():
            limits[name].add(row["limit"])
            assert (row["score"] or 0, row["cause"] in HARMLESS | {"unknown"}) == (0, True), (name, row["evidence"])
        return "nagle" in limits["nagle"] and "pacing" in limits["paced"] and rows.ticks > 12

    with contextlib.ExitStack() as closing, drained([pairs[name] for name in ("paced", "corked", "bulk corked")]):
        for thread in threads:
            thread.start()
            closing.callback(thread.join)
        for pair in pairs.values():
            closing.callback(pair.close)
        wait_until(told, 15, what="what limits them")
        closing.close()
    assert rows.last["paced"]["pacing_bytes_per_s"] == RATE
    assert not limits["nodelay"] & {"nagle", "pacing"}
    assert not (limits["corked"] | limits["bulk corked"]) & {"peer", "pacing", "nagle"}
