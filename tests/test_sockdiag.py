"""sock_diag dumps: what real ones say, checked against ss, getsockopt and a slow reader; and any other bytes at all."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops import netlink
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.inetdiag import INFO, Dump, info_end
from tcptop_ops.snapshot import OWNED, SOCKET, UNKNOWN_U32, Records, State, Timer
from tcptop_ops.sockdiag import ALL_STATES, SockDiag, SockDiagSource, open_socket, refusal, request
from tests.lab import wait_until
from tests.witness import SsSocket, parse_ss

DONE = struct.pack("=IHHIIi", 20, netlink.NLMSG_DONE, 2, 1, 0, 0)
FULL = 1 << 6 | 1 << 1 | 1 << 3  # SKMEMINFO, INFO, CONG


class FakeNetlink:
    """Answers each request with the same datagrams."""

    def __init__(self, *datagrams: bytes) -> None:
        self.datagrams = datagrams
        self.waiting: deque[bytes] = deque()
        self.asked = 0

    def send(self, _request: bytes) -> None:
        self.asked += 1
        self.waiting.extend(self.datagrams)

    def recv(self, length: int, _flags: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft()[:length]

    def recv_into(self, room: memoryview, length: int, flags: int) -> int:
        if not self.waiting:
            raise BlockingIOError
        whole = len(self.waiting[0])
        data = self.recv(length, flags)
        room[: len(data)] = data
        return whole

    def close(self) -> None:
        self.waiting.clear()


def diag(*datagrams: bytes) -> SockDiag:
    return SockDiag(cast(socket.socket, FakeNetlink(*datagrams)))


def capture() -> list[bytes]:
    """The datagrams of a real dump that told no socket twice: where others come and go meanwhile, one may."""
    while True:
        found = capture_once()
        cookies = [message[60:68] for message in split(found)[:-1] if message[17] != State.TIME_WAIT]
        if len(set(cookies)) == len(cookies):
            return found


def capture_once() -> list[bytes]:
    with open_socket() as asking:
        asking.send(request(ALL_STATES, FULL))
        found: list[bytes] = []
        while not found or struct.unpack_from("=H", found[-1], 4)[0] != netlink.NLMSG_DONE:
            found.append(asking.recv(1 << 16))
        return found


class Opened:
    """A few sockets on loopback: IPv4, IPv6, mapped, a listener with a queue, half-closed, with data unread."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.listener = self._listen(socket.AF_INET, "127.0.0.1")
        self.pairs = [self._pair(self.listener, socket.AF_INET) for _ in range(3)]
        self.kept = self._stack.enter_context(socket.create_connection(self.listener.getsockname()))  # never accepted
        self._pairs_of_ipv6()
        self.pairs[1][0].sendall(b"unread")
        self.pairs[2][0].shutdown(socket.SHUT_WR)
        assert self.pairs[2][1].recv(1) == b""
        for client, server in self.pairs[:1] + self.pairs[3:]:
            client.sendall(b"x" * 54321)
            self._read(server, 54321)

    def _pairs_of_ipv6(self) -> None:
        try:
            listener = self._listen(socket.AF_INET6, "::")
        except OSError:
            return  # a host without IPv6
        self.pairs.append(self._pair(listener, socket.AF_INET6, "::1"))
        self.pairs.append(self._pair(listener, socket.AF_INET, "127.0.0.1"))  # mapped, on the server's side

    def _listen(self, family: int, address: str) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        listener.listen(7)
        return listener

    def _pair(
        self, listener: socket.socket, family: int, address: str = "127.0.0.1"
    ) -> tuple[socket.socket, socket.socket]:
        client = self._stack.enter_context(socket.socket(family))
        client.connect((address, listener.getsockname()[1]))
        return client, self._stack.enter_context(listener.accept()[0])

    @staticmethod
    def _read(sock: socket.socket, count: int) -> None:
        while count:
            count -= len(sock.recv(count))

    @property
    def sockets(self) -> list[socket.socket]:
        return [self.listener, self.kept, *(sock for pair in self.pairs for sock in pair)]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(stack)


@pytest.fixture(scope="module")
def captured(opened: Opened) -> list[bytes]:
    assert opened.sockets
    return capture()


@pytest.fixture
def real() -> Iterator[SockDiag]:
    made = SockDiag(netns=77)
    yield made
    made.close()


def row_of(dump: Dump, sock: socket.socket) -> Any:
    """The row of one of the test's own sockets, by inode."""
    (found,) = dump.sockets[dump.sockets["inode"] == os.fstat(sock.fileno()).st_ino]
    return found


def row_of_port(sockets: Records, port: int) -> Any:
    """The one row with this local port."""
    (found,) = sockets[sockets["lport"] == port]
    return found


def packed(address: str) -> bytes:
    six = ":" in address
    return socket.inet_pton(socket.AF_INET6, address if six else f"::ffff:{address}")


def is_same(one: Records, two: Records) -> bool:
    """Field by field: what pads a record is nobody's."""
    return len(one) == len(two) and all(np.array_equal(one[name], two[name]) for name in SOCKET.names or ())


def test_addresses_ports_family_and_the_like(opened: Opened, real: SockDiag) -> None:
    dump = real.dump()
    for sock in opened.sockets:
        row = row_of(dump, sock)
        assert row["family"] == sock.family
        assert (bytes(row["laddr"]), row["lport"]) == (packed(sock.getsockname()[0]), sock.getsockname()[1])
        assert row["netns"] == 77
        assert row["uid"] == os.getuid()
        assert (
            row["cc"].decode() == sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        )
        assert row["cookie"] == struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE
        if sock is not opened.listener:
            assert (bytes(row["raddr"]), row["rport"]) == (packed(sock.getpeername()[0]), sock.getpeername()[1])
    assert len({int(row_of(dump, sock)["cookie"]) for sock in opened.sockets}) == len(opened.sockets)


def test_queues_and_states(opened: Opened, real: SockDiag) -> None:
    dump = real.dump()
    listener = row_of(dump, opened.listener)
    assert (listener["state"], listener["recv_q"], listener["send_q"]) == (State.LISTEN, 1, 7)
    assert (listener["sacked"], listener["min_rtt_us"]) == (0, UNKNOWN_U32)
    assert row_of(dump, opened.pairs[1][1])["recv_q"] == len(b"unread")
    assert row_of(dump, opened.pairs[1][1])["bytes_received"] == len(b"unread")
    closing_side = opened.pairs[2][0]
    assert wait_until(lambda: row_of(real.dump(), closing_side)["state"] == State.FIN_WAIT2, what="the ACK of the FIN")
    assert row_of(dump, opened.pairs[2][1])["state"] == State.CLOSE_WAIT
    assert row_of(dump, opened.pairs[0][0])["bytes_acked"] == 54321 + 1  # and the SYN


def test_only_the_states_asked_for(opened: Opened, real: SockDiag) -> None:
    assert opened.sockets
    assert set(real.dump(1 << State.LISTEN).sockets["state"].tolist()) == {State.LISTEN}


# Of struct tcp_info, include/uapi/linux/tcp.h: where, and how. What moves with time is left out.
TCP_INFO = {
    "state": (0, "B"),
    "retransmits": (2, "B"),
    "options": (5, "B"),
    "wscale": (6, "B"),
    "rto_us": (8, "I"),
    "mss": (16, "I"),
    "rcv_mss": (20, "I"),
    "unacked": (24, "I"),
    "srtt_us": (68, "I"),
    "rttvar_us": (72, "I"),
    "ssthresh": (76, "I"),
    "cwnd": (80, "I"),
    "reordering": (88, "I"),
    "retrans_segs": (100, "I"),
    "bytes_acked": (120, "Q"),
    "bytes_received": (128, "Q"),
    "segs_out": (136, "I"),
    "segs_in": (140, "I"),
    "notsent": (144, "I"),
    "min_rtt_us": (148, "I"),
    "data_segs_in": (152, "I"),
    "data_segs_out": (156, "I"),
    "busy_us": (168, "Q"),
    "delivered": (192, "I"),
    "bytes_sent": (200, "Q"),
    "snd_wnd": (228, "I"),
    "rcv_wnd": (232, "I"),
    "total_rto": (240, "H"),
}


def test_the_same_as_getsockopt(opened: Opened, real: SockDiag) -> None:
    dump = real.dump()
    rates = 0
    for sock in opened.sockets[1:]:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
        row = row_of(dump, sock)
        for name, (offset, kind) in TCP_INFO.items():
            if offset + struct.calcsize(kind) <= len(info):
                assert row[name] == struct.unpack_from(f"={kind}", info, offset)[0], name
        (rate,) = struct.unpack_from("=Q", info, 160)
        assert rate_of(row) == pytest.approx(rate, rel=1e-6)
        assert row["app_limited"] == info[7] & 1
        rates += rate > 0
    assert rates


def rate_of(row: Any) -> float:
    """What a reader of these rows makes of them, bytes a second."""
    interval = int(row["rate_interval_us"])
    return int(row["rate_delivered"]) * int(row["mss"]) * 1e6 / interval if interval else 0.0


@pytest.mark.skipif(shutil.which("ss") is None, reason="no ss")
def test_the_same_as_ss(opened: Opened, real: SockDiag) -> None:
    mine = {os.fstat(sock.fileno()).st_ino for sock in opened.sockets}
    said = subprocess.run(["ss", "-tinemOHa"], text=True, capture_output=True, check=True).stdout
    from_ss = {each.inode: each for each in map(parse_ss, said.splitlines())}
    rows = {int(row["inode"]): row for row in real.dump().sockets if int(row["inode"]) in mine}
    assert rows.keys() == mine
    for inode, row in rows.items():
        assert as_ss(row, from_ss[inode]) == {}


SS_NUMBERS = {  # of ss; ours; how many of ours make one of theirs
    "rtt": ("srtt_us", 1000),
    "rttvar": ("rttvar_us", 1000),
    "rto": ("rto_us", 1000),
    "mss": ("mss", 1),
    "rcvmss": ("rcv_mss", 1),
    "cwnd": ("cwnd", 1),
    "unacked": ("unacked", 1),
    "retrans_now": ("retrans_out", 1),
    "retrans_total": ("retrans_segs", 1),
    "lost": ("lost", 1),
    "sacked": ("sacked", 1),
    "dsack_dups": ("dsack_dups", 1),
    "reord_seen": ("reord_seen", 1),
    "rcv_ooopack": ("ooo_in", 1),
    "notsent": ("notsent", 1),
    "segs_out": ("segs_out", 1),
    "segs_in": ("segs_in", 1),
    "data_segs_out": ("data_segs_out", 1),
    "data_segs_in": ("data_segs_in", 1),
    "bytes_sent": ("bytes_sent", 1),
    "bytes_acked": ("bytes_acked", 1),
    "bytes_received": ("bytes_received", 1),
    "delivered": ("delivered", 1),
    "delivered_ce": ("delivered_ce", 1),
    "snd_wnd": ("snd_wnd", 1),
}
SS_STATES = {"ESTAB": 1, "SYN-SENT": 2, "FIN-WAIT-1": 4, "FIN-WAIT-2": 5, "CLOSE-WAIT": 8, "LAST-ACK": 9, "LISTEN": 10}


def as_ss(row: Any, said: SsSocket) -> dict[str, tuple[object, object]]:
    """Where a row and ss differ: ours, theirs."""
    pairs: dict[str, tuple[object, object]] = {
        name: (pytest.approx(row[ours] / scale, abs=0.0011), said.value(name))
        for name, (ours, scale) in SS_NUMBERS.items()
        if ours != "rttvar_us" or row["srtt_us"]  # without samples ss leaves out both
    }
    pairs["state"] = (int(row["state"]), SS_STATES.get(said.state))
    pairs["queues"] = ((int(row["recv_q"]), int(row["send_q"])), (said.recv_q, said.send_q))
    pairs["ports"] = ((int(row["lport"]), int(row["rport"])), (said.local_port, said.peer_port))
    pairs["identity"] = ((int(row["cookie"]), int(row["inode"])), (said.cookie, said.inode))
    pairs["cc"] = (row["cc"].decode(), said.congestion)
    pairs["limited"] = (bool(row["app_limited"]), "app_limited" in said.flags)
    if "ssthresh" in said.numbers:
        pairs["ssthresh"] = (int(row["ssthresh"]), said.value("ssthresh"))
    if row["state"] != State.LISTEN and row["min_rtt_us"] != UNKNOWN_U32:
        pairs["minrtt"] = (pytest.approx(row["min_rtt_us"] / 1000, abs=0.0011), said.value("minrtt"))
    pairs["wscale"] = (
        (row["wscale"] & 15, row["wscale"] >> 4),
        (said.value("snd_wscale"), said.value("rcv_wscale")),
    )
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def split(datagrams: list[bytes]) -> list[bytes]:
    """The single messages."""
    found = []
    for data in datagrams:
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("=I", data, at)
            found.append(data[at : at + length])
            at += length + 3 & ~3
    return found


def read_slowly(message: bytes) -> dict[int, bytes]:
    """The attributes of one message."""
    found, at = {}, 88
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        found[kind & 0x3FFF] = message[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def with_attributes(message: bytes, attributes: dict[int, bytes]) -> bytes:
    """The message with these attributes instead of its own."""
    body = message[16:88]
    for kind, data in attributes.items():
        body += struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
    return struct.pack("=I", 16 + len(body)) + message[4:16] + body


def test_as_a_slow_reader(captured: list[bytes]) -> None:
    rows = {int(row["cookie"]): row for row in diag(*captured).dump().sockets}
    told = 0
    for message in split(captured)[:-1]:
        found = read_slowly(message)
        if message[17] in (State.SYN_RECV, State.TIME_WAIT) or message[18] == 3:
            continue
        row = rows[struct.unpack_from("=Q", message, 60)[0]]
        told += 1
        assert row["state"] == message[17]
        assert row["cc"] == found[4].rstrip(b"\0")
        assert row["drops"] == struct.unpack_from("=I", found[7], 32)[0]
        assert row["cgroup_id"] == (struct.unpack("=Q", found[21])[0] if 21 in found else 0)
        assert row["retrans_segs"] == struct.unpack_from("=I", found[2], 100)[0]
        assert row["last_sent_us"] == min(1000 * struct.unpack_from("=I", found[2], 44)[0], UNKNOWN_U32 - 1)
        assert row["last_rtt_us"] == UNKNOWN_U32
    assert told == len(rows) > 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_however_messages_are_cut_into_datagrams_rows_are_the_same(captured: list[bytes], data: st.DataObject) -> None:
    single = split(captured)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(single) - 1))))
    chunks = [b"".join(single[a:b]) for a, b in zip([0, *cuts], [*cuts, len(single)], strict=True)]
    assert is_same(diag(*chunks).dump().sockets, diag(*captured).dump().sockets)


def test_more_than_the_buffer_holds(captured: list[bytes]) -> None:
    whole = diag(*captured).dump().sockets
    sockets = captured[:-1] * (2 * (4 << 20) // len(captured[0]) + 1)
    many = diag(*sockets, DONE).dump()
    assert len(many.sockets) == len(whole) * len(sockets) // len(captured[:-1])
    assert is_same(many.sockets[-len(whole) :], whole)


@pytest.mark.parametrize("known", [*range(104, INFO.itemsize, 4), INFO.itemsize, INFO.itemsize + 8])
def test_a_tcp_info_of_another_size(captured: list[bytes], known: int) -> None:
    message = next(m for m in split(captured) if len(m) > 88 and m[17] == State.ESTABLISHED)
    found = read_slowly(message)
    longer = found[2] + bytes(300)
    (whole,) = diag(with_attributes(message, found | {2: longer[: INFO.itemsize]}), DONE).dump().sockets
    short = diag(with_attributes(message, found | {2: longer[:known]}), DONE).dump()
    (row,) = short.sockets
    assert short.info_bytes == min(known, INFO.itemsize)
    for name in set(SOCKET.names or ()) & set(INFO.names or ()):
        unknown = UNKNOWN_U32 if SOCKET[name].itemsize == 4 else 0
        assert row[name] == (whole[name] if info_end(name) <= known or name == "state" else unknown), name
    assert row["lport"] == whole["lport"]


def test_without_any_attribute(captured: list[bytes]) -> None:
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    (row,) = diag(with_attributes(message, {}), DONE).dump().sockets
    assert (row["cc"], row["drops"], row["cwnd"], row["bytes_sent"]) == (b"", UNKNOWN_U32, UNKNOWN_U32, 0)


def test_mptcp_is_told_by_the_ulp(captured: list[bytes]) -> None:
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    found = read_slowly(message)
    for name, expected in ((b"mptcp\0", 1), (b"tls\0", 0), (b"mptc\0", 0)):
        nested = struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4)
        (row,) = diag(with_attributes(message, found | {19: nested}), DONE).dump().sockets
        assert row["mptcp"] == expected


@given(rate=st.integers(0, 10**12), mss=st.integers(536, 65535))
def test_the_rate_survives(captured: list[bytes], rate: int, mss: int) -> None:
    message = next(m for m in split(captured) if len(m) > 88 and m[17] == State.ESTABLISHED)
    found = read_slowly(message)
    info = bytearray(found[2])
    struct.pack_into("=I", info, 16, mss)
    struct.pack_into("=Q", info, 160, rate)
    (row,) = diag(with_attributes(message, found | {2: bytes(info)}), DONE).dump().sockets
    slowest = mss * 1e6 / UNKNOWN_U32  # one segment in 71 minutes
    assert rate_of(row) == pytest.approx(rate, rel=1e-6) if rate > slowest or rate == 0 else rate_of(row) < 2 * slowest


def changed(message: bytes, **fields: int) -> bytes:
    """The message with another state (1 byte at 17), timer (18) or time left (ms, 4 bytes at 68)."""
    data = bytearray(message)
    data[17], data[18] = fields.get("state", data[17]), fields.get("timer", data[18])
    struct.pack_into("=I", data, 68, fields.get("expires", 0))
    return bytes(data)


def test_time_wait_and_syn_recv_are_counted_without_rows(captured: list[bytes]) -> None:
    whole = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    bare = with_attributes(whole, {})
    waits = [changed(bare, state=State.TIME_WAIT, timer=3), changed(bare, state=State.FIN_WAIT2, timer=3)]
    requests = [changed(bare, state=State.SYN_RECV, timer=1)] * 3
    fake = diag(b"".join([*waits, whole, *requests]), changed(whole, state=State.FIN_WAIT2), DONE)
    dump = fake.dump()
    assert (dump.time_wait, dump.syn_recv, dump.interrupted) == (2, 3, False)
    assert dump.sockets["state"].tolist() == [State.ESTABLISHED, State.FIN_WAIT2]
    assert fake.count_time_wait() == 2


@pytest.mark.parametrize(("expires", "left"), [(200, 200_000), (7_200_000, UNKNOWN_U32 - 1), (0xFFFFFFF0, 0)])
def test_time_left_of_a_timer(captured: list[bytes], expires: int, left: int) -> None:
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    (row,) = diag(changed(message, timer=2, expires=expires), DONE).dump().sockets
    assert (row["timer"], row["timer_us"]) == (Timer.KEEPALIVE, left)


def test_the_timer_of_a_delayed_ack(captured: list[bytes]) -> None:
    """Its number, 5 of Linux 7.1 and later, is that of a loss probe where the TCP iterator tells."""
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    (row,) = diag(changed(message, timer=5, expires=40), DONE).dump().sockets
    assert (row["timer"], row["timer_us"]) == (Timer.DELACK, 40_000)


def failure(code: int) -> bytes:
    return struct.pack("=IHHIIi", 36, netlink.NLMSG_ERROR, 0, 1, 0, -code) + bytes(16)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EPERM, Unsupported), (errno.EACCES, Unsupported), (errno.ENOENT, Unsupported), (errno.EINVAL, Failed)],
)
def test_refusals(code: int, kind: type[TcptopError]) -> None:
    end = struct.pack("=IHHIIi", 20, netlink.NLMSG_DONE, 2, 1, 0, -code)
    for answer in (failure(code), end):
        with pytest.raises(kind, match=os.strerror(code)) as raised:
            diag(answer).dump()
        assert bool(raised.value.hint) == (kind is Unsupported)
    assert refusal(code).message.count("\n") == 0


@given(st.integers(-(2**31), 2**31 - 1).filter(bool))
def test_any_error_number(number: int) -> None:
    with pytest.raises(TcptopError):
        diag(struct.pack("=IHHIIi", 20, netlink.NLMSG_DONE, 2, 1, 0, number)).dump()


def test_an_interrupted_dump_is_repeated_but_not_for_ever(captured: list[bytes]) -> None:
    marked = bytearray(captured[0])
    marked[6] |= netlink.NLM_F_DUMP_INTR
    fake = FakeNetlink(bytes(marked), *captured[1:])
    dump = SockDiag(cast(socket.socket, fake)).dump()
    assert (fake.asked, dump.interrupted) == (3, True)
    assert is_same(dump.sockets, diag(*captured).dump().sockets)


def test_the_rest_of_an_answer_is_thrown_away(opened: Opened, real: SockDiag) -> None:
    assert opened.sockets
    inner = cast(Any, real)._socket
    inner.send(request(ALL_STATES, FULL))
    assert len(real.dump().sockets) > 0
    assert real.dump().sockets["lport"].tolist() == real.dump().sockets["lport"].tolist()


def test_a_closed_socket_is_an_error_with_a_message() -> None:
    closed = SockDiag()
    closed.close()
    with pytest.raises(Failed, match="Bad file descriptor"):
        closed.dump()


@pytest.mark.parametrize("datagrams", [(), (b"",), (b"\0" * 16,), (b"\xff" * 400,), (bytes(70_000),), (DONE[:10],)])
def test_answers_without_sense(datagrams: tuple[bytes, ...]) -> None:
    with pytest.raises(Failed, match="damaged"):
        diag(*datagrams).dump()


def survives(datagrams: list[bytes]) -> None:
    """Rows, or an error that can be told; for both kinds of questions."""
    for ask in (SockDiag.dump, SockDiag.count_time_wait):
        with suppress(TcptopError):
            ask(diag(*datagrams))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_real_dump_with_bytes_changed(captured: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(captured[0][:8000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    survives([bytes(whole), *captured[1:]])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_real_dump_with_headers_changed(captured: list[bytes], data: st.DataObject) -> None:
    """Lengths and types, of messages and attributes: where a reader goes astray."""
    single = [bytearray(message) for message in split(captured)]
    for _ in range(data.draw(st.integers(1, 4))):
        message = data.draw(st.sampled_from(single))
        places = [0, 2, 4, 16, 17, 18, *range(88, len(message) - 1, 4), *range(90, len(message) - 1, 4)]
        at = data.draw(st.sampled_from([place for place in places if place + 2 <= len(message)]))
        struct.pack_into("=H", message, at, data.draw(st.integers(0, 0xFFFF)))
    survives([b"".join(map(bytes, single[:-1])), bytes(single[-1])])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_real_dump_cut_and_repeated(captured: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(captured)[:20_000]
    pieces = []
    for _ in range(data.draw(st.integers(1, 5))):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        pieces.append(whole[start:stop])
    survives(pieces)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes(datagrams: list[bytes]) -> None:
    survives(datagrams)
    survives([*datagrams, DONE])


def test_the_source(opened: Opened) -> None:
    with closing(SockDiagSource()) as source:
        watch(source, opened)


def watch(source: SockDiagSource, opened: Opened) -> None:
    first = source.poll()
    assert opened.listener.getsockname()[1] in first.sockets["lport"]
    assert (first.source, first.opened, len(first.closed)) == ("sockdiag", 0, 0)
    assert len(first.sockets) == len(first.events) == len(first.owners)
    assert (first.owners.dtype, first.counters.shape) == (OWNED, ())
    assert set(first.sockets["netns"].tolist()) == {os.stat("/proc/self/ns/net").st_ino}
    assert first.users[os.getuid()] == pwd.getpwuid(os.getuid()).pw_name
    assert {"end", "direction", "pid"} <= first.missing
    assert all("\n" not in note for note in first.notes)
    kept = first.sockets.copy()
    with socket.create_connection(opened.listener.getsockname()) as client:
        inode = os.fstat(client.fileno()).st_ino
        second = source.poll()
        assert is_same(first.sockets, kept)  # until the poll after this one
        assert inode in second.sockets["inode"]
        assert second.opened >= 2
    server, _ = opened.listener.accept()  # the one that was never accepted; after it comes ours
    server.close()
    opened.listener.accept()[0].close()
    third = source.poll()
    (gone,) = third.closed[third.closed["socket"]["inode"] == inode]
    assert (gone["ending"]["from_state"], gone["ending"]["error"]) == (State.ESTABLISHED, UNKNOWN_U32)
    assert gone["ending"]["end_ns"] == third.now_ns
    source.drain()


class Script:
    """Dumps one after the other, in place of a SockDiag."""

    def __init__(self, *dumps: Dump) -> None:
        self.dumps = deque(dumps)

    def dump(self, **_rows: object) -> Dump:
        return self.dumps.popleft()

    def devices(self, _sockets: Records) -> dict[int, str]:
        return {}

    def close(self) -> None:
        pass


def rows(*cookies: int, state: State = State.ESTABLISHED) -> Records:
    made = np.zeros(len(cookies), SOCKET)
    made["cookie"], made["state"], made["lport"] = cookies, state, [cookie + 1000 for cookie in cookies]
    return made


def owned(sockets: Records) -> Records:
    found = np.zeros(len(sockets), OWNED)
    found["pid"] = sockets["lport"]
    return found


@given(st.lists(st.sets(st.integers(1, 30)), min_size=2, max_size=6))
def test_opened_and_closed_add_up(polls: list[set[int]]) -> None:
    source = SockDiagSource(cast(SockDiag, Script(*(Dump(rows(*cookies)) for cookies in polls))))
    before = polls[0]
    assert source.poll().opened == 0
    for cookies in polls[1:]:
        snapshot = source.poll()
        assert set(snapshot.closed["socket"]["cookie"].tolist()) == before - cookies
        assert snapshot.opened == len(cookies - before)
        before = cookies


def test_a_poll_that_fails_leaves_the_last_snapshot_as_it_is(captured: list[bytes]) -> None:
    fake = FakeNetlink(*captured)
    source = SockDiagSource(SockDiag(cast(socket.socket, fake)))
    first = source.poll()
    kept = first.sockets.copy()
    message = next(m for m in split(captured) if len(m) > 88)
    fake.datagrams = (message[:17] + b"\x01\x00" + message[19:], failure(errno.EINVAL))
    for _ in range(2):
        with pytest.raises(Failed):
            source.poll()
    assert is_same(first.sockets, kept)
    fake.datagrams = tuple(captured)
    assert (source.poll().opened, len(source.poll().closed)) == (0, 0)


def test_what_comes_and_goes_between_polls() -> None:
    last = rows(9, 2, state=State.CLOSE_WAIT)
    dumps = Dump(rows(3, 1, 2)), Dump(last, time_wait=4), Dump(rows())
    source = SockDiagSource(cast(SockDiag, Script(*dumps)), owned)
    source.poll()
    second = source.poll()
    assert second.closed["socket"]["cookie"].tolist() == [3, 1]
    assert second.closed["socket"]["lport"].tolist() == [1003, 1001]
    assert second.closed_owners is not None
    assert second.closed_owners["pid"].tolist() == [1003, 1001]
    assert (second.opened, second.time_wait) == (1, 4)
    third = source.poll()
    assert third.closed["ending"]["from_state"].tolist() == [State.CLOSE_WAIT] * 2
    assert third.opened == 0


def test_a_socket_told_twice_counts_once() -> None:
    source = SockDiagSource(cast(SockDiag, Script(Dump(rows(5, 3, 5, 1, 3)), Dump(rows(5, 3, 1, 7, 7)))))
    assert source.poll().sockets["cookie"].tolist() == [5, 3, 1]
    second = source.poll()
    assert (second.sockets["cookie"].tolist(), second.opened, len(second.closed)) == ([5, 3, 1, 7], 1, 0)


def test_owners_are_asked_for_where_given() -> None:
    snapshot = SockDiagSource(cast(SockDiag, Script(Dump(rows(5, 3)))), owned).poll()
    assert snapshot.owners["pid"].tolist() == [1005, 1003]
    assert not {"pid", "process"} & snapshot.missing


def test_what_older_kernels_do_not_tell_is_missing() -> None:
    old = Dump(rows(1), info_bytes=104)
    notes = SockDiagSource(cast(SockDiag, Script(old))).poll()
    assert {"cgroup", "bytes_acked", "rto_events", "delivery_bytes_per_s", "rcv_wnd"} <= notes.missing
    assert any("104 bytes" in note for note in notes.notes)
    now = SockDiagSource(cast(SockDiag, Script(replace(old, info_bytes=INFO.itemsize, cgroups=True)))).poll()
    assert not {"bytes_acked", "rto_events"} & now.missing
