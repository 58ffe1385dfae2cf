"""Which addresses this host's namespaces have."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
import pytest

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespace_addresses import KEPT_S, NamespaceAddresses, addresses, worth_asking
from tcptop_ops.host.namespaces import InProcessAccess
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records
from tests.support.fakes import flow, packed, records


def waiting(netns: int = 1, port: int = 80, retransmits: int = 1) -> dict[str, Any]:
    peer = ("10.0.0.2", port)
    return flow(1, state=State.SYN_SENT, peer=peer, netns=netns, retransmits=retransmits)


def listening(netns: int = 2, port: int = 80) -> dict[str, Any]:
    return flow(2, state=State.LISTEN, local=("0.0.0.0", port), peer=("0.0.0.0", 0), netns=netns)


def rows(*flows: dict[str, Any]) -> Records:
    return records(list(flows))[0]


def test_only_what_may_be_dialled_is_asked() -> None:
    assert worth_asking(rows(waiting(), listening())) == {1, 2}
    assert worth_asking(rows(waiting(), listening(), listening(3), listening(4, 81))) == {1, 2, 3}
    assert worth_asking(rows(waiting(), listening(4, 81))) == set()
    assert worth_asking(rows(waiting(retransmits=0), listening())) == set()
    assert worth_asking(rows(flow(1), listening())) == set()
    assert worth_asking(np.zeros(0, SOCKET)) == set()


def test_the_kernel_tells_of_loopback() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        found = list(addresses(asked))
    assert (1, bytes(packed("127.0.0.1"))) in found


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


class Answering:
    """A route socket that answers with these datagrams."""

    def __init__(self, *datagrams: bytes) -> None:
        self._datagrams = list(datagrams)

    def send(self, request: bytes) -> None:
        assert struct.unpack_from("=IH", request) == (len(request), 22)

    def recv(self, _: int) -> bytes:
        return self._datagrams.pop(0)


def told(*datagrams: bytes) -> list[tuple[int, bytes]]:
    return list(addresses(Answering(*datagrams)))  # type: ignore[arg-type]


def test_an_answer_in_parts() -> None:
    mine, peers, six = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), bytes(packed("2001:db8::1"))
    link = struct.pack("=BBBBI", 2, 32, 0, 0, 7) + attribute(1, peers) + attribute(2, mine) + attribute(3, b"ppp0\0")
    other = struct.pack("=BBBBI", 10, 64, 0, 0, 8) + attribute(1, six)
    strange = struct.pack("=BBBBI", 5, 64, 0, 0, 8) + attribute(1, b"x")
    done = message(3, bytes(4))
    found = told(message(20, link), message(20, other) + message(20, strange), done)
    assert found == [(7, bytes(packed("10.0.0.1"))), (8, six)]


def test_an_error() -> None:
    with pytest.raises(PermissionError):
        told(message(2, struct.pack("=i", -1)))


class Gone(InProcessAccess):
    """Namespace 2 can't be entered any more."""

    def route(self, namespace: int) -> socket.socket:
        if namespace == 2:
            raise Unsupported("the helper is gone")
        return super().route(self.own)


def test_it_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("tcptop_ops.host.namespace_addresses.time.monotonic", lambda: now[0])
    asked: list[int] = []

    class Counting(Gone):
        def route(self, namespace: int) -> socket.socket:
            asked.append(namespace)
            return super().route(namespace)

    access = Counting()
    known = NamespaceAddresses(access)
    found = known.read(rows(waiting(), listening()))
    assert set(found["netns"].tolist()) == {1}
    assert packed("127.0.0.1") in found["address"].tolist()
    known.read(rows(waiting(), listening()))
    assert sorted(asked) == [1, 2]
    now[0] += KEPT_S
    known.read(rows(waiting(), listening()))
    assert sorted(asked) == [1, 1, 2, 2]
    assert len(known.read(rows(listening()))) == 0
    access.close()
