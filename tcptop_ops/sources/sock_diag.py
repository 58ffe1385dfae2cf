"""INET_DIAG over netlink: dumps of sockets, and closing one."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf import kernel_offsets
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.host.namespaces import HelperAccess, NamespaceAccess
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.sources import inet_diag, netlink
from tcptop_ops.sources.inet_diag import Dump, DumpBuffer

NETLINK_SOCK_DIAG = 4


TCPDIAG_GETSOCK = 18  # also the type of the answers


NLM_F_REQUEST = 1


NLM_F_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH


ALL_STATES = 0xFFF
"""Bit mask (1 << State) of all states. Request sockets (NEW_SYN_RECV) are listed with SYN_RECV."""


WITHOUT_TIME_WAIT = ALL_STATES & ~(1 << State.TIME_WAIT)


PASSING = sum(1 << state for state in (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK, State.SYN_RECV))
"""Mask of the states of orphans and of handshakes."""


STAYING = sum(1 << state for state in (State.ESTABLISHED, State.SYN_SENT, State.CLOSE_WAIT, State.LISTEN))
"""Mask of the other states of sockets that are in the kernel's hashes."""


ASKED_AT_ONCE = 64
"""Questions in one datagram. Each answer takes 2,304 bytes of the 212,992 that may wait (net.core.rmem_default).

Where fewer may wait, the kernel says ENOBUFS, and half as many are asked at once.
"""


BUFFER = 4 << 20
"""Bytes of an answer that are received before they are made into rows."""


DATAGRAM = 64 << 10
"""Bytes to receive at once: netlink_dump() (net/netlink/af_netlink.c) puts at most 32 KiB into one datagram."""


RECEIVE = int(socket.MSG_DONTWAIT | socket.MSG_TRUNC)  # the latter: return the length even of what was cut


def request(states: int, extensions: int) -> bytes:
    """Return a request (struct nlmsghdr, struct inet_diag_req) for every socket in one of these states.

    ``states``: bit mask of 1 << State; ``extensions``: bit mask of 1 << attribute - 1, which attributes to send along.
    """
    body = struct.pack("=4B48xII", socket.AF_UNSPEC, 0, 0, extensions, states, 0)
    return struct.pack("=IHHII", 16 + len(body), TCPDIAG_GETSOCK, NLM_F_DUMP_REQUEST, 1, 0) + body


def open_socket() -> socket.socket:
    """Open a netlink socket of sock_diag, which belongs to the calling thread's network namespace for good.

    It lists that namespace's sockets even when a thread or process in another one uses it. Raises Unsupported.
    """
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    except OSError as error:
        raise Unsupported(f"no NETLINK_SOCK_DIAG socket: {error.strerror}", "a kernel with CONFIG_INET_DIAG") from error


def refusal(code: int) -> TcptopError:
    """Return (not raise) the error for an errno in the kernel's answer: Unsupported with a remedy, else Failed."""
    text = f"the kernel refuses to list TCP sockets: {os.strerror(code)}"
    if code == errno.ENOENT:
        return Unsupported(text, "modprobe tcp_diag")
    if code in (errno.EPERM, errno.EACCES):
        return Unsupported(text, "run it as root, or outside of this sandbox")
    return Failed(text)


def new_buffer() -> netlink.Bytes:
    """Return a buffer for answers. Several SockDiags may share one if they are asked one after the other."""
    return np.empty(BUFFER + netlink.SLACK, "u1")


class SockDiag:
    """Lists the sockets of one network namespace through a netlink socket, which it owns.

    All methods that ask the kernel raise Unsupported or Failed (see ``refusal``; Failed for a damaged answer).
    """

    def __init__(self, sock: socket.socket | None = None, netns: int = 0, buffer: netlink.Bytes | None = None) -> None:
        """Take over a netlink socket, or open one here. ``netns``: inode number that its rows get; 0: unknown."""
        self._socket = sock or open_socket()
        self._netns = netns
        self._buffer = new_buffer() if buffer is None else buffer
        self._view = memoryview(self._buffer.data)

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def dump(self, states: int = ALL_STATES, rows: DumpBuffer | None = None) -> Dump:
        """List the sockets in these states, and count those that get no rows (TIME-WAIT, SYN-RECV).

        The result's array is a part of ``rows``, if given, and is overwritten when that is used again.
        """
        rows = DumpBuffer() if rows is None else rows
        rows.cut(0)
        return self.add_to(rows, states)

    def add_to(self, rows: DumpBuffer, states: int = ALL_STATES) -> Dump:
        """List the sockets as ``dump`` does, but append them to ``rows``. An inconsistent dump is repeated twice."""
        start = len(rows)
        for _ in range(3):
            rows.cut(start)
            found = Dump(rows.all(start), packs_ecn=kernel_offsets.packs_ecn)
            for part in self._parts(request(states, inet_diag.EXTENSIONS), found):
                inet_diag.take(part, self._buffer, rows, found)
            found.sockets = rows.all(start)
            if not found.interrupted:
                break
        found.sockets["netns"] = self._netns
        return found

    def ask(self, sockets: Records, rows: DumpBuffer) -> Dump:
        """Append to ``rows`` what these SOCKET rows, found by address and cookie, are now; those gone are left out.

        See ``inet_diag.requests`` for listeners. A question costs six times as much as a socket of a dump does.
        """
        start = len(rows)
        found = Dump(rows.all(start), packs_ecn=kernel_offsets.packs_ecn)
        asked = inet_diag.requests(sockets, TCPDIAG_GETSOCK, NLM_F_REQUEST)
        parts = [asked[at : at + ASKED_AT_ONCE] for at in range(0, len(asked), ASKED_AT_ONCE)][::-1]  # the next is last
        while parts:
            try:
                self._ask(parts[-1].tobytes())
                answer = netlink.messages(self._buffer, *self._receive())
            except OSError as error:
                half = len(parts[-1]) // 2
                if error.errno != errno.ENOBUFS or not half:
                    raise refusal(error.errno or errno.EIO) from error
                parts[-1:] = [parts[-1][half:], parts[-1][:half]]
                continue
            del parts[-1]
            inet_diag.take(answer.take(answer.header["type"] == TCPDIAG_GETSOCK), self._buffer, rows, found)
        found.sockets = rows.all(start)
        found.sockets["netns"] = self._netns
        return found

    def add_passing(self, rows: DumpBuffer) -> tuple[Dump, Records]:
        """Append the sockets in PASSING to ``rows``, and return the request sockets as ``half_open`` does."""
        start = len(rows)
        found = Dump(rows.all(start), packs_ecn=kernel_offsets.packs_ecn)
        waiting = [np.zeros(0, SOCKET)]
        for part in self._parts(request(PASSING, inet_diag.EXTENSIONS), found):
            inet_diag.take(part, self._buffer, rows, found)
            waiting += [inet_diag.half_open(part, self._buffer)] if found.syn_recv else []
        found.sockets, half_open = rows.all(start), np.concatenate(waiting)
        found.sockets["netns"] = half_open["netns"] = self._netns
        return found, half_open

    def others(self, told_of: NDArray[np.uint64]) -> Records:
        """Return the sockets in STAYING that are not among these cookies, which are sorted.

        SOCKET rows with addresses, ports, state, cookie and cgroup only: no struct tcp_info is asked for.
        """
        parts = self._parts(request(STAYING, 0), Dump(np.zeros(0, SOCKET)))
        found = np.concatenate([np.zeros(0, SOCKET), *(inet_diag.others(p, self._buffer, told_of) for p in parts)])
        found["netns"] = self._netns
        return found

    def count_time_wait(self) -> int:
        """Count the sockets in TIME-WAIT without making rows of them."""
        found = Dump(np.zeros(0, SOCKET))
        for part in self._parts(request(1 << State.TIME_WAIT, 0), found):
            inet_diag.count(inet_diag.told_by(part, self._buffer), found, part, self._buffer)
        return found.time_wait

    def time_wait(self) -> Records:
        """Return the sockets in TIME-WAIT: SOCKET rows with addresses, ports and ``timer_us``, how long they stay."""
        states = 1 << State.TIME_WAIT | 1 << State.FIN_WAIT2  # a FIN-WAIT-2 that no process holds can be one
        parts = self._parts(request(states, 0), Dump(np.zeros(0, SOCKET)))
        found = np.concatenate([np.zeros(0, SOCKET), *(inet_diag.time_wait(part, self._buffer) for part in parts)])
        found["netns"] = self._netns
        return found

    def half_open(self) -> Records:
        """Return the request sockets, whose handshakes are not complete: SOCKET rows with addresses and ports only."""
        found = Dump(np.zeros(0, SOCKET))
        parts = self._parts(request(1 << State.SYN_RECV, inet_diag.EXTENSIONS), found)
        waiting = np.concatenate([np.zeros(0, SOCKET), *(inet_diag.half_open(part, self._buffer) for part in parts)])
        waiting["netns"] = self._netns
        return waiting

    def devices(self, _sockets: Records) -> dict[int, str]:
        """Return no names: a netlink socket of sock_diag tells none, and may belong to another namespace."""
        return {}

    def _parts(self, asked: bytes, found: Dump) -> Iterator[netlink.Messages]:
        """Send a request and yield the answer in parts, whose bytes are overwritten when the next one is asked for.

        ``found.interrupted`` is set if the kernel says that the list is inconsistent.
        """
        try:
            self._ask(asked)
            done = False
            while not done:
                part = netlink.messages(self._buffer, *self._receive())
                done = _ended(part, self._buffer)
                found.interrupted |= bool((part.header["flags"] & netlink.NLM_F_DUMP_INTR).any())
                yield part.take(part.header["type"] == TCPDIAG_GETSOCK)
        except OSError as error:
            raise refusal(error.errno or errno.EIO) from error

    def _ask(self, asked: bytes) -> None:
        """Send a request. The rest of an earlier answer is read and dropped first, else the kernel answers EBUSY."""
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(1, socket.MSG_DONTWAIT)
        self._socket.send(asked)

    def _receive(self) -> tuple[list[int], list[int]]:
        """Receive datagrams until the buffer is full or none is left; return where each begins and ends in it.

        It never waits: netlink_recvmsg() continues a dump while it returns a datagram, so the next is queued already.
        """
        begins: list[int] = []
        ends: list[int] = []
        position = 0
        with suppress(BlockingIOError):
            while position + DATAGRAM <= BUFFER:
                room = self._view[position : position + DATAGRAM]
                length = self._socket.recv_into(room, DATAGRAM, RECEIVE)
                if not 0 < length <= DATAGRAM:
                    raise netlink.damaged(f"a datagram of {length} bytes")
                begins.append(position)
                ends.append(position + length)
                position += length + 7 & ~7
        if not begins:
            raise netlink.damaged("it has no end")
        return begins, ends


def _ended(part: netlink.Messages, buffer: netlink.Bytes) -> bool:
    """Return whether the answer ends in this part. Raises the error that NLMSG_ERROR or NLMSG_DONE reports."""
    kind = part.header["type"]
    last = part.take((kind == netlink.NLMSG_DONE) | (kind == netlink.NLMSG_ERROR))
    for begin, end in zip(last.begin, last.end, strict=True):
        (code,) = struct.unpack("=i", buffer[begin + 16 : begin + 20].tobytes()) if end - begin >= 20 else (0,)
        if code:
            raise refusal(-code) if -4096 < code < 0 else netlink.damaged(f"error {code}")  # MAX_ERRNO is 4095
    return len(last.begin) > 0


def sockid(sock: Records) -> bytes:
    """Return the struct inet_diag_sockid of a SOCKET row: ports, addresses, device, and cookie.

    With the cookie it means this very socket, not a later one with the same addresses and ports.
    """
    at = 12 if sock["family"] == socket.AF_INET else 0
    ends = (bytes(sock[name])[at:].ljust(16, b"\0") for name in ("laddr", "raddr"))
    cookie = int(sock["cookie"])
    ports = struct.pack(">HH", int(sock["lport"]), int(sock["rport"]))
    return ports + b"".join(ends) + struct.pack("=III", int(sock["ifindex"]), cookie & 0xFFFFFFFF, cookie >> 32)


NOT_CLOSED = {
    errno.ENOENT: "it is gone already",
    errno.ESTALE: "it is gone already: another socket has its port",
    errno.EPERM: "that is not allowed",
    errno.EOPNOTSUPP: "this kernel can't (it was built without CONFIG_INET_DIAG_DESTROY)",
}
"""Why SOCK_DESTROY fails, by errno.

From sock_diag_destroy(), inet_diag_find_one_icsk(), sock_diag_check_cookie() and tcp_abort().
"""


def close_connection(reach: NamespaceAccess | None, sock: Records) -> None:
    """Close exactly the connection of this SOCKET row, through the helper. Raises as ``Source.close_connection``."""
    if not isinstance(reach, HelperAccess):
        raise Unsupported("there is no helper that could", "it takes root, and no --no-helper")
    if sock["state"] == State.LISTEN:
        raise Unsupported("a listener is no connection")
    try:
        reach.close_connection(int(sock["netns"]), int(sock["family"]), sockid(sock))
    except OSError as error:
        why = NOT_CLOSED.get(error.errno or 0, os.strerror(error.errno or errno.EIO))
        raise Failed(why, "--allow-close allows it" if error.errno == errno.EPERM else "") from error
