"""The story of a connection, against a packet capture of the test's own."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcptop_ops.model.enums import Happening, RetransClass, State
from tcptop_ops.model.records import Records
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until
from tests.support.netns import in_netns

NEAR_S = 0.010
SO_TIMESTAMPNS_NEW = 64  # include/uapi/asm-generic/socket.h
FIN, SYN, RST, ACK = 1, 2, 4, 16
SENT = 1_000  # bytes: one segment
ETHERNET, PACKET_OUTGOING, ETH_P_ALL = 14, 4, 3  # what leaves is told to those alone who want all


@dataclass(frozen=True)
class Packet:
    """A TCP packet as the device saw it. ``at``: CLOCK_MONOTONIC, seconds."""

    at: float
    out: bool
    flags: int
    seq: int
    ack: int
    payload: int


@contextmanager
def capture(ns: str, device: str, port: int) -> Iterator[list[Packet]]:
    """Packets from and to this local port, as they come; stamped by the kernel."""
    found: list[Packet] = []
    sniffer = in_netns(ns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
    sniffer.bind((device, ETH_P_ALL))
    sniffer.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
    sniffer.settimeout(0.2)
    over = threading.Event()
    thread = threading.Thread(target=listen, args=(sniffer, port, found, over), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        sniffer.close()


def listen(sniffer: socket.socket, port: int, found: list[Packet], over: threading.Event) -> None:
    while not over.is_set():
        try:
            data, ancillary, _, address = sniffer.recvmsg(65536, 128)
        except TimeoutError:
            continue
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        at = seconds + nanoseconds / 1e9 - (time.time() - time.monotonic())
        packet = parse(data[ETHERNET:], at, address[2] == PACKET_OUTGOING, port)
        if packet:
            found.append(packet)


def parse(data: bytes, at: float, out: bool, port: int) -> Packet | None:
    header = (data[0] & 15) * 4
    if data[0] >> 4 != 4 or data[9] != socket.IPPROTO_TCP:
        return None
    source, target, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", data, header)
    if port not in (source, target):
        return None
    payload = int.from_bytes(data[2:4], "big") - header - (offset >> 4) * 4
    return Packet(at, out, flags & (FIN | SYN | RST | ACK), seq, ack, payload)


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def story_of(watch: Watch, cookie: int) -> Records:
    watch.source.watch(cookie)
    return watch.tick().snapshot.story


def times(story: Records, kind: Happening) -> list[float]:
    return [float(at) / 1e9 for at in story["first_ns"][story["kind"] == kind]]


def test_a_scripted_connection_reads_back_as_it_was(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    """A SYN sent again, the handshake, two timeouts at least, recovery, close: nobody looked while it happened."""
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    with capture(link.a.ns, link.a.device, server.port) as packets:
        link.loss.set(100)
        client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
        wait_until(lambda: sum(p.out and p.flags == SYN for p in packets) == 2, 10, "a SYN sent again")
        link.loss.set(0)
        client.expect("connected", 10)
        link.loss.set(100)
        client.tell(f"send {SENT}")
        wait_until(lambda: int(watch.events(client.port)["rto_events"]) >= 3, 10, "a timeout of the data")
        link.loss.set(0)
        wait_until(lambda: any(not p.out and p.flags & ACK and p.ack == p_end(packets) for p in packets), 10)
        client.tell("close")
        cookie = int(watch.closed(client.port)["cookie"])
        [story] = wait_until(lambda: story_if_over(watch, cookie), what="the end of the story")
    check(story, packets)


def p_end(packets: list[Packet]) -> int:
    """The acknowledgement that all data arrived."""
    return next((p.seq + p.payload for p in packets if p.out and p.payload), -1) & 0xFFFFFFFF


def story_if_over(watch: Watch, cookie: int) -> list[Records]:
    story = story_of(watch, cookie)
    return [story] if times(story, Happening.CLOSE) else []


def check(story: Records, packets: list[Packet]) -> None:
    kinds = [Happening(kind) for kind in story["kind"]]
    stamps = story["first_ns"].tolist()
    assert stamps == sorted(stamps)
    syns = [p.at for p in packets if p.out and p.flags == SYN]
    answered = next(p.at for p in packets if not p.out and p.flags == SYN | ACK)
    data = [p.at for p in packets if p.out and p.payload]
    arrived = next(p.at for p in packets if not p.out and p.flags == ACK and p.ack == p_end(packets))
    finished = next(p.at for p in packets if p.out and p.flags & FIN)
    assert near(times(story, Happening.CONNECT), syns[:1])
    timeouts = times(story, Happening.RTO)
    in_syn = len(syns) - 1
    assert near(timeouts[:in_syn], syns[1:])
    assert near(times(story, Happening.ESTABLISHED), [answered])
    again = data[1:]
    probes = int(story["times"][story["detail"] == RetransClass.PROBE].sum())
    assert near(timeouts[in_syn:], again[probes:])
    assert len(timeouts) - in_syn >= 2
    numbers = story["a"][story["kind"] == Happening.RTO].tolist()
    assert numbers == [*range(1, in_syn + 1), *range(1, len(timeouts) - in_syn + 1)]
    assert near(times(story, Happening.RECOVERED), [arrived])
    left = (story["kind"] == Happening.STATE) & (story["a"] == State.ESTABLISHED) & (story["b"] == State.FIN_WAIT1)
    assert near([float(at) / 1e9 for at in story["first_ns"][left]], [finished])
    assert kinds[0] == Happening.CONNECT
    assert kinds[-1] == Happening.CLOSE
    order = [Happening.CONNECT, Happening.RTO, Happening.ESTABLISHED, Happening.RECOVERED, Happening.CLOSE]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)


def near(told: list[float], captured: list[float]) -> bool:
    assert len(told) == len(captured), (told, captured)
    apart = [abs(one - other) for one, other in zip(told, captured, strict=True)]
    assert max(apart) < NEAR_S, apart
    return True


def test_a_healthy_connection_has_no_story_until_somebody_looks(
    lab: Lab, link: Link, cgroup: Path, watch: Watch
) -> None:
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("connected")
    cookie = int(watch.open(client.port)["cookie"])
    assert len(story_of(watch, cookie)) == 0
    watch.tick()
    client.tell(f"send {SENT}")
    client.expect("sent")
    [story] = wait_until(lambda: [s] if len(s := story_of(watch, cookie)) else [], what="the story to open")
    assert [Happening(kind) for kind in story["kind"][:2]] == [Happening.CONNECT, Happening.ESTABLISHED]
    counted = watch.flows.snapshot.seen[1]["calls"]
    assert counted.sum() > 0
    assert (counted <= watch.flows.snapshot.counters["calls"]).all()
    watch.source.watch(0)
    assert not watch.tick().snapshot.seen[1]["calls"].any()
