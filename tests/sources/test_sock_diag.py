"""Questions to sock_diag: what real answers say, checked against ss and getsockopt, and what a refusal says."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, UNKNOWN_U32
from tcptop_ops.sources import netlink
from tcptop_ops.sources.inet_diag import REQUEST, DumpBuffer
from tcptop_ops.sources.sock_diag import ALL_STATES, SockDiag, refusal, request
from tests.support.against_ss import as_ss
from tests.support.leftovers import wait_until
from tests.support.sock_diag import FULL, FakeNetlink, Opened, diag, failure, is_same, packed, rate_of, row_of, split
from tests.support.witness import parse_ss


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


@pytest.mark.skipif(shutil.which("ss") is None, reason="no ss")
def test_the_same_as_ss(opened: Opened, real: SockDiag) -> None:
    mine = {os.fstat(sock.fileno()).st_ino for sock in opened.sockets}
    said = subprocess.run(["ss", "-tinemOHa"], text=True, capture_output=True, check=True).stdout
    from_ss = {each.inode: each for each in map(parse_ss, said.splitlines())}
    rows = {int(row["inode"]): row for row in real.dump().sockets if int(row["inode"]) in mine}
    assert rows.keys() == mine
    for inode, row in rows.items():
        assert as_ss(row, from_ss[inode]) == {}


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


def test_each_socket_asked_for_alone_is_as_in_a_dump(opened: Opened, real: SockDiag) -> None:
    dump = real.dump()
    wanted = gather(dump.sockets, np.isin(dump.sockets["inode"], [os.fstat(s.fileno()).st_ino for s in opened.sockets]))
    wanted = gather(wanted, np.arange(300) % len(wanted))
    found = real.ask(wanted, DumpBuffer()).sockets
    names = set(found.dtype.names or ()) - {"last_sent_us", "last_received_us", "last_ack_received_us", "timer_us"}
    for name in names:
        assert np.array_equal(found[name], wanted[name]), name


def test_who_has_another_cookie_is_not_meant(opened: Opened, real: SockDiag) -> None:
    wanted = real.dump().sockets[:3].copy()
    wanted["cookie"] += 1 << 40
    assert len(real.ask(wanted, DumpBuffer()).sockets) == 0


class Narrow(FakeNetlink):
    """Has room for three answers."""

    def send(self, request: bytes) -> None:
        """Answer each request of a datagram."""
        self.asked += 1
        self.room = 3 if len(request) <= 3 * REQUEST.itemsize else 0
        for _ in range(len(request) // REQUEST.itemsize):
            self.waiting.extend(self.datagrams)

    def recv_into(self, room: memoryview, length: int, flags: int) -> int:
        """Fail where more answers came than there is room for."""
        if not self.room:
            raise OSError(errno.ENOBUFS, "no room")
        return super().recv_into(room, length, flags)


def test_fewer_are_asked_at_once_where_there_is_room_for_few_answers(captured: list[bytes]) -> None:
    one = next(message for message in split(captured) if message[17] == State.ESTABLISHED)
    fake = Narrow(one)
    found = SockDiag(cast(socket.socket, fake)).ask(np.zeros(20, SOCKET), DumpBuffer())
    assert len(found.sockets) == 20
    assert fake.asked > 7
