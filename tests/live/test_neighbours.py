"""Beside other sock_ops programs: what they do to the traffic, and what they are called for, with us and without us.

Traffic runs in the innermost of three cgroups, the monitor watches the one in the middle, and the other program
(``tuner.py``) is attached to any of them. What it does is read off the wire, by a packet socket of the test's own.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from tcptop_ops.bpf.attach import ALL_FLAGS, EVENT_FLAGS, RETIRE_AFTER
from tcptop_ops.errors import Failed, Unsupported
from tcptop_ops.explain.operators import OPERATORS
from tests.live.conftest import BCC_PYTHON
from tests.live.watch import Watch
from tests.support.lab import START_LIMIT, End, Lab, Link, Traffic
from tests.support.leftovers import wait_until
from tests.support.netns import LabError, in_netns
from tests.support.witness import ss_socket

TUNER = Path(__file__).with_name("tuner.py")
SYN_RTO_MS, OPTION = 300, 253  # what tuner.py answers and writes
DEFAULT_SYN_RTO_MS = 1000  # TCP_TIMEOUT_INIT
HOLE = 4444
EXCHANGES = 3 * RETIRE_AFTER

RTT, WRITE = 8, 64  # BPF_SOCK_OPS_*_CB_FLAG
UNASKED = {"RTO_CB", "RETRANS_CB", "STATE_CB"}
CERTAIN = {
    "RWND_INIT",
    "NEEDS_ECN",
    "TCP_CONNECT_CB",
    "TCP_LISTEN_CB",
    "ACTIVE_ESTABLISHED_CB",
    "PASSIVE_ESTABLISHED_CB",
}
SOON = 5.0  # seconds

ETH_P_ALL, ETH_HEADER, PACKET_OUTGOING = 3, 14, 4
SO_TIMESTAMPNS = 35
SYN, ACK, ECE, CWR = 2, 16, 64, 128
PLACES = ("above", "same", "below")
SHARING, LEGACY = ("link", "multi"), ("override", "none")


@dataclass(frozen=True)
class Packet:
    """A TCP segment on the wire. ``port`` is ours: the peer's, elsewhere, may be the same. ``options``: their kinds."""

    time_ns: int  # the kernel's
    outgoing: bool
    port: int
    flags: int
    window: int
    options: tuple[int, ...]


def parse(frame: bytes, time_ns: int, outgoing: bool) -> Packet | None:
    """An Ethernet frame; None for what is not TCP over IPv4."""
    ip = frame[ETH_HEADER:]
    if frame[12:14] != b"\x08\x00" or ip[9] != socket.IPPROTO_TCP:
        return None
    tcp = ip[4 * (ip[0] & 15) : struct.unpack_from("!H", ip, 2)[0]]
    source, target, _, _, offset, flags, window = struct.unpack_from("!HHIIBBH", tcp)
    port = source if outgoing else target
    return Packet(time_ns, outgoing, port, flags, window, kinds(tcp[20 : 4 * (offset >> 4)]))


def kinds(options: bytes) -> tuple[int, ...]:
    """The kinds of TCP options (RFC 9293, 3.1), padding left out."""
    found = []
    while options and options[0] != 0:
        size = 1 if options[0] == 1 else options[1]
        if options[0] != 1:
            found.append(options[0])
        options = options[size:]
    return tuple(found)


class Capture:
    """What crosses a device of the lab, in both directions, from the entry on."""

    def __init__(self, end: End) -> None:
        self._socket = in_netns(
            end.ns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((end.device, ETH_P_ALL))
        self._socket.setblocking(False)
        self._packets: list[Packet] = []

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def of(self, port: int) -> list[Packet]:
        """The packets from or to this port on our side so far."""
        while (packet := self._next()) is not None:
            self._packets += packet
        return [packet for packet in self._packets if packet.port == port]

    def _next(self) -> list[Packet] | None:
        """One more, or none that matters; None: no more."""
        try:
            frame, ancillary, _, (_, _, kind, *_) = self._socket.recvmsg(1 << 16, 64)
        except BlockingIOError:
            return None
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        packet = parse(frame, seconds * 1_000_000_000 + nanoseconds, kind == PACKET_OUTGOING)
        return [packet] if packet else []


class Tuner:
    """The other program, attached to a cgroup until ``leave``."""

    def __init__(self, lab: Lab, cgroup: Path, by: str = "link", flags: int = 0, *options: str) -> None:
        words = [str(TUNER), str(cgroup), "--by", by, "--flags", str(flags), *options]
        self.traffic = Traffic(lab.popen(None, [BCC_PYTHON, "-I", *words]))
        self.id = int(self.traffic.expect("ready"))

    def calls(self) -> Counter[str]:
        """By operator, those that were called at all."""
        self.traffic.tell("counts")
        counts = json.loads(self.traffic.expect("counts"))
        return Counter({operator.name: counts[operator.number] for operator in OPERATORS if counts[operator.number]})

    def leave(self) -> None:
        self.traffic.tell("leave")
        self.traffic.expect("left")


@dataclass(frozen=True)
class Effect:
    """What a peer sees, and ``ss``: of a connection with ``exchanges``, and of one whose SYNs nobody answers."""

    syn_rto_ms: float
    early: bool  # the SYN was sent again before the default timeout
    windows: tuple[int, int]  # in the SYN and in the SYN-ACK
    ecn: tuple[int, int]  # ECE and CWR in both
    option: frozenset[tuple[str, bool]]  # which packets carry it, and which do not


@pytest.fixture
def link(lab: Lab) -> Link:
    made = lab.link("near", "far", offload=False)
    lab.black_hole(made.b.ns, HOLE)
    return made


@pytest.fixture
def places(lab: Lab) -> dict[str, Path]:
    """Three cgroups, one in the other: the monitor's is the one in the middle."""
    return {name: lab.cgroup(path) for name, path in zip(PLACES, ("a", "a/b", "a/b/c"), strict=True)}


@contextmanager
def tuner(lab: Lab, cgroup: Path, by: str = "link", flags: int = 0, *options: str) -> Iterator[Tuner]:
    """Attached for a while."""
    made = Tuner(lab, cgroup, by, flags, *options)
    try:
        yield made
    finally:
        made.leave()


def effect(lab: Lab, link: Link, cgroup: Path) -> Effect:
    """Make traffic in the cgroup, and read what is seen of it."""
    with Capture(link.a) as capture:
        hanging = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=HOLE, cgroup=cgroup)
        wait_until(lambda: capture.of(hanging.port), what="a SYN")
        witness = ss_socket(link.a.ns, local_port=hanging.port)
        server, client = exchanged(lab, link, cgroup, then="close")
        server.expect("done")
        first, again = wait_until(lambda: retried(capture, hanging.port), what="a SYN again")
        hanging.end()
        server.end()
        packets = capture.of(client.port)
    assert witness is not None
    [syn] = [packet for packet in packets if packet.flags & (SYN | ACK) == SYN]
    [syn_ack] = [packet for packet in packets if packet.flags & (SYN | ACK) == SYN | ACK]
    return Effect(
        syn_rto_ms=witness.value("rto"),
        early=again.time_ns - first.time_ns < DEFAULT_SYN_RTO_MS * 1_000_000,
        windows=(syn.window, syn_ack.window),
        ecn=(syn.flags & (ECE | CWR), syn_ack.flags & (ECE | CWR)),
        option=frozenset((what(packet), OPTION in packet.options) for packet in packets),
    )


def what(packet: Packet) -> str:
    direction = "out" if packet.outgoing else "in"
    return f"{direction} SYN" if packet.flags & SYN else direction


def retried(capture: Capture, port: int) -> list[Packet]:
    """The first two SYNs, once they are there."""
    syns = capture.of(port)[:2]
    return syns if len(syns) == 2 else []


def exchanged(lab: Lab, link: Link, cgroup: Path, then: str = "hold") -> tuple[Traffic, Traffic]:
    """A server, and a client that has sent EXCHANGES bytes to it and got them back: more than flags retire after."""
    server = lab.server(link.b.ns, "serve-echo", address=link.b.ipv4, cgroup=cgroup, then=then)
    client = lab.client(
        link.a.ns, "exchange", EXCHANGES, address=link.b.ipv4, port=server.port, cgroup=cgroup, then=then
    )
    client.expect("done")
    return server, client


def connected(lab: Lab, link: Link, cgroup: Path) -> tuple[Traffic, Traffic]:
    """A server and a client with a connection, on which nothing was sent yet."""
    server = lab.server(link.b.ns, address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("done")
    server.expect("accepted")
    return server, client


def effect_and_calls(lab: Lab, link: Link, cgroup: Path, other: Tuner) -> tuple[Effect, Counter[str]]:
    """The effect of some traffic, and what the other program was called for by it."""
    before = other.calls()
    seen = effect(lab, link, cgroup)
    return seen, other.calls() - before


def marked(packets: list[Packet]) -> int:
    """How many carry the option."""
    return sum(OPTION in packet.options for packet in packets)


def test_the_monitor_alone_leaves_no_trace(lab: Lab, link: Link, places: dict[str, Path]) -> None:
    """And the other program does, in everything that is looked at."""
    bare = effect(lab, link, places["below"])
    assert (bare.syn_rto_ms, bare.early, bare.ecn) == (DEFAULT_SYN_RTO_MS, False, (0, 0))
    assert not any(carries for _, carries in bare.option)
    with Watch(places["same"], callbacks="every"):
        assert effect(lab, link, places["below"]) == bare
    with tuner(lab, places["same"], "link", RTT | WRITE, "--option"):
        tuned = effect(lab, link, places["below"])
    assert (tuned.syn_rto_ms, tuned.early, tuned.ecn) == (SYN_RTO_MS, True, (ECE | CWR, ECE))
    assert all(own < usual for own, usual in zip(tuned.windows, bare.windows, strict=True))
    assert tuned.option == {("out SYN", True), ("in SYN", False), ("out", True), ("in", True)}


BEFORE = [
    *((by, place, ()) for by in SHARING for place in ("same", "below")),
    *((by, "below", ()) for by in LEGACY),
    *((by, "above", ()) for by in SHARING),
    *(("link", place, ("--late",)) for place in ("same", "below")),
]


@pytest.mark.halved
@pytest.mark.parametrize(("first", "place", "options"), BEFORE)
def test_one_that_was_there_before_us(
    lab: Lab, link: Link, places: dict[str, Path], first: str, place: str, options: tuple[str, ...]
) -> None:
    with tuner(lab, places[place], first, RTT | WRITE, "--option", *options) as other:
        without, calls_without = effect_and_calls(lab, link, places["below"], other)
        with Watch(places["same"]) as watch:
            assert watch.source.attached.callbacks == "events"
            assert [neighbour["id"] for neighbour in watch.source.attached.neighbours] == [other.id]
            assert "beside other sock_ops programs: tuner" in watch.tick().snapshot.notes
            seen, calls = effect_and_calls(lab, link, places["below"], other)
        assert seen == without
        same_calls(calls, calls_without)
        assert calls.keys() - calls_without.keys() == UNASKED


def same_calls(calls: Counter[str], without: Counter[str]) -> None:
    """As often where the number is certain; and not retired where each exchange calls twice."""
    assert {name: calls[name] for name in CERTAIN} == {name: without[name] for name in CERTAIN}
    assert calls["TIMEOUT_INIT"] > 0
    for name in ("RTT_CB", "HDR_OPT_LEN_CB", "WRITE_HDR_OPT_CB"):
        assert min(calls[name], without[name]) >= 2 * EXCHANGES - 1


@pytest.mark.parametrize("place", ["above", "same"])
@pytest.mark.parametrize("by", LEGACY)
def test_one_that_would_be_silenced_or_is_alone_by_choice(
    lab: Lab, link: Link, places: dict[str, Path], by: str, place: str
) -> None:
    """Our link in a cgroup below one with ALLOW_OVERRIDE would succeed, and silence it."""
    with tuner(lab, places[place], by) as other:
        with pytest.raises(Unsupported) as refusal:
            Watch(places["same"])
        told = refusal.value.message
        assert f"tuner (id {other.id})" in told
        assert told.endswith(f" {places[place]} for itself")
        assert "BPF_F_ALLOW_MULTI" in refusal.value.hint
        calls_before = other.calls()
        connected(lab, link, places["below"])
        assert (other.calls() - calls_before)["TCP_CONNECT_CB"] == 1


AFTER = [
    *((by, "below") for by in (*SHARING, *LEGACY)),
    *((by, place) for by in SHARING for place in ("above", "same")),
]


@pytest.mark.halved
@pytest.mark.parametrize(("by", "place"), AFTER)
def test_one_that_came_after_us(lab: Lab, link: Link, places: dict[str, Path], by: str, place: str) -> None:
    with Watch(places["same"]) as watch, tuner(lab, places[place], by, RTT | WRITE, "--option") as other:
        assert watch.source.attached.callbacks == "all"
        watch.tick()
        seen, calls = effect_and_calls(lab, link, places["below"], other)
        watch.source.close()
        without, calls_without = effect_and_calls(lab, link, places["below"], other)
        assert seen == without
        same_calls(calls, calls_without)


@pytest.mark.parametrize("by", LEGACY)
def test_a_legacy_attach_to_our_very_cgroup_is_refused_while_we_are_there(
    lab: Lab, places: dict[str, Path], by: str
) -> None:
    """By the kernel (__cgroup_bpf_attach: the flags of a cgroup's attachments must agree); afterwards it succeeds."""
    with Watch(places["same"]), pytest.raises(LabError, match="refused EPERM"):
        Tuner(lab, places["same"], by)
    with tuner(lab, places["same"], by) as other:
        assert other.calls() == {}


@pytest.mark.parametrize("by", LEGACY)
def test_we_make_way_for_a_legacy_attach_above_ours(lab: Lab, link: Link, places: dict[str, Path], by: str) -> None:
    """The kernel accepts it, and it would be silent in our cgroup for as long as we are there."""
    with Watch(places["same"]) as watch, tuner(lab, places["above"], by) as other:
        with pytest.raises(Failed, match=rf"made way for the sock_ops program tuner \(id {other.id}\)"):
            watch.tick()
        watch.source.close()
        connected(lab, link, places["below"])
        assert other.calls()["TCP_CONNECT_CB"] == 1


@pytest.mark.halved
@pytest.mark.parametrize("late", ["--late", ""])
@pytest.mark.parametrize("overwrite", ["--overwrite", ""])
def test_the_flags_that_it_set_stay(lab: Lab, link: Link, places: dict[str, Path], late: str, overwrite: str) -> None:
    options = [option for option in (late, overwrite) if option]
    with tuner(lab, places["same"], "link", RTT, *options) as other, Watch(places["same"]) as watch:
        server, client = exchanged(lab, link, places["below"])
        assert watch.flags(client.port) & ~EVENT_FLAGS == watch.flags(server.port) & ~EVENT_FLAGS == RTT
        watch.source.close()
        calls = other.calls()
        client.tell("send 1")
        client.expect("sent")
        wait_until(lambda: other.calls()["RTT_CB"] > calls["RTT_CB"], what="an RTT sample without us")


def test_it_is_asked_to_write_nothing_on_our_account(lab: Lab, link: Link, places: dict[str, Path]) -> None:
    """It writes whenever it is asked, but asks for nothing: with three flags, nobody asks it."""
    with tuner(lab, places["same"], "link", 0, "--option") as other, Watch(places["same"]) as watch:
        seen, calls = effect_and_calls(lab, link, places["below"], other)
        assert not any(carries for _, carries in seen.option)
        assert not calls.keys() & {"HDR_OPT_LEN_CB", "WRITE_HDR_OPT_CB", "PARSE_HDR_OPT_CB", "RTT_CB"}
        assert watch.source.attached.callbacks == "events"


def test_one_that_came_after_us_is_asked_for_few_packets(lab: Lab, link: Link, places: dict[str, Path]) -> None:
    """Our seven flags at a birth ask it too, until they retire."""
    with Watch(places["same"]), tuner(lab, places["same"], "link", 0, "--option"), Capture(link.a) as capture:
        _, client = exchanged(lab, link, places["below"])
        packets = capture.of(client.port)
        for outgoing in (True, False):
            assert marked([packet for packet in packets if packet.outgoing == outgoing]) <= RETIRE_AFTER
        assert marked(packets[2 * RETIRE_AFTER :]) == 0
        assert len(packets) > 4 * RETIRE_AFTER


def test_soon_it_is_not_asked_at_all(lab: Lab, link: Link, places: dict[str, Path]) -> None:
    with Watch(places["same"]) as watch, tuner(lab, places["same"], "link", 0, "--option"), Capture(link.a) as capture:

        def unmarked() -> bool:
            watch.tick()
            _, client = exchanged(lab, link, places["below"])
            return marked(capture.of(client.port)) == 0

        wait_until(unmarked, SOON, "a connection without the option")


@pytest.mark.needs("HAVE_ADOPTION")
def test_nor_when_we_have_left(lab: Lab, link: Link, places: dict[str, Path]) -> None:
    with Watch(places["same"]) as watch:
        _, client = connected(lab, link, places["below"])
        assert watch.flags(client.port) == ALL_FLAGS
        with tuner(lab, places["same"], "link", 0, "--option"):
            watch.tick()
            watch.source.close()
            with Capture(link.a) as capture:
                client.tell("send 1")
                client.expect("sent")
                wait_until(lambda: len(capture.of(client.port)) >= 2, what="a segment and its ACK")
                assert marked(capture.of(client.port)) == 0


@pytest.mark.parametrize("leaves", ["first", "second"])
def test_two_monitors(lab: Lab, link: Link, places: dict[str, Path], leaves: str) -> None:
    cgroup = places["same"]
    with Watch(cgroup) as first, Watch(cgroup) as second:
        assert (first.source.attached.callbacks, second.source.attached.callbacks) == ("all", "events")
        assert [n["id"] for n in second.source.attached.neighbours] == [first.source.attached.program_id]
        _, client = connected(lab, link, places["below"])
        for watch in (first, second):
            assert watch.tick().totals.opened == 2, "both ends"
            assert watch.open(client.port)["origin"] == "new"
        leaving, staying = (first, second) if leaves == "first" else (second, first)
        leaving.source.close()
        assert staying.flags(client.port) & EVENT_FLAGS == EVENT_FLAGS
        server, young = connected(lab, link, places["below"])
        assert staying.tick().totals.opened == 2
        assert staying.flags(young.port) & EVENT_FLAGS == EVENT_FLAGS
        for each in (client, young):
            each.tell("close")
            assert staying.closed(each.port)["end"] == "closed"
        server.tell("close")
        assert staying.closed(server.port)["end"] == "peer-closed"


def test_a_legacy_attach_ends_with_its_process(lab: Lab, places: dict[str, Path]) -> None:
    """Of the tests' own program: the kernel would keep it for ever."""
    other = Tuner(lab, places["same"], "multi")
    other.traffic.process.send_signal(signal.SIGTERM)
    assert other.traffic.process.wait(START_LIMIT) == 0
    with Watch(places["same"]) as watch:
        assert watch.source.attached.neighbours == ()
