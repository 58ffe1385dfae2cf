"""TCP sockets as INET_DIAG tells them: whole dumps into numpy rows, with no root and no BPF.

One message of type 18 (TCPDIAG_GETSOCK) makes inet_diag_dump_compat() (net/ipv4/inet_diag.c) walk the sockets of both
families in one pass; SOCK_DIAG_BY_FAMILY refuses AF_UNSPEC.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import inetdiag, netlink
from tcptop_ops.bpf import cgroup
from tcptop_ops.bpf.helper import OWN
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.inetdiag import Dump, Rows
from tcptop_ops.processes import Users
from tcptop_ops.reach import Helped, Reach
from tcptop_ops.snapshot import COUNTERS, EVENTS, FINAL, OWNED, SOCKET, UNKNOWN_U32, Records, Snapshot, State, distinct

NETLINK_SOCK_DIAG = 4
TCPDIAG_GETSOCK = 18  # the type of the answers, too
NLM_F_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH

ALL_STATES = 0xFFF
"""Every state of sockets in the hash tables. A request socket (NEW_SYN_RECV) comes with SYN_RECV."""

WITHOUT_TIME_WAIT = ALL_STATES & ~(1 << State.TIME_WAIT)
BUFFER = 4 << 20
DATAGRAM = 64 << 10
"""Bytes: more than netlink_dump() (net/netlink/af_netlink.c) ever puts into one datagram, 32 KiB."""
RECEIVE = int(socket.MSG_DONTWAIT | socket.MSG_TRUNC)  # the latter: return the whole length

# Columns that a younger member of tcp_info feeds; where it is missing, so are they.
_FED = {
    "bytes_acked": ("bytes_acked", "tx_bytes_per_s"),
    "bytes_received": ("bytes_received", "rx_bytes_per_s"),
    "min_rtt_us": ("min_rtt_us",),
    "notsent": ("notsent",),
    "delivery_rate": ("delivery_bytes_per_s",),
    "data_segs_out": ("retrans_pct",),
    "busy_us": ("busy_pct",),
    "rwnd_limited_us": ("rwnd_limited_pct",),
    "sndbuf_limited_us": ("sndbuf_limited_pct",),
    "dsack_dups": ("dsack_dups",),
    "reord_seen": ("reord_seen",),
    "ooo_in": ("ooo_in",),
    "snd_wnd": ("snd_wnd",),
    "rcv_wnd": ("rcv_wnd",),
    "total_rto": ("rto_events", "rto_win"),
}


def request(states: int, extensions: int) -> bytes:
    """struct nlmsghdr and struct inet_diag_req: every socket in one of these states (bits 1 << State)."""
    body = struct.pack("=4B48xII", socket.AF_UNSPEC, 0, 0, extensions, states, 0)
    return struct.pack("=IHHII", 16 + len(body), TCPDIAG_GETSOCK, NLM_F_DUMP_REQUEST, 1, 0) + body


def open_socket() -> socket.socket:
    """A netlink socket that speaks for the network namespace of the calling thread, also when handed to another."""
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    except OSError as error:
        raise Unsupported(f"no NETLINK_SOCK_DIAG socket: {error.strerror}", "a kernel with CONFIG_INET_DIAG") from error


def refusal(code: int) -> TcptopError:
    """What an errno in the kernel's answer means."""
    text = f"the kernel refuses to list TCP sockets: {os.strerror(code)}"
    if code == errno.ENOENT:
        return Unsupported(text, "modprobe tcp_diag")
    if code in (errno.EPERM, errno.EACCES):
        return Unsupported(text, "run it as root, or outside of this sandbox")
    return Failed(text)


def new_buffer() -> netlink.Bytes:
    """What answers are received into; several SockDiags that are asked one after the other may share one."""
    return np.empty(BUFFER + netlink.SLACK, "u1")


class SockDiag:
    """Dumps through one netlink socket, which it owns. ``netns``: what rows say of their namespace (inode number)."""

    def __init__(self, sock: socket.socket | None = None, netns: int = 0, buffer: netlink.Bytes | None = None) -> None:
        self._socket = sock or open_socket()
        self._netns = netns
        self._buffer = new_buffer() if buffer is None else buffer
        self._view = memoryview(self._buffer.data)

    def close(self) -> None:
        self._socket.close()

    def dump(self, states: int = ALL_STATES, rows: Rows | None = None) -> Dump:
        """Every socket in these states, and the counts of those that have no rows.

        The array belongs to ``rows`` where given: it holds until that is used again.
        """
        rows = Rows() if rows is None else rows
        rows.cut(0)
        return self.add_to(rows, states)

    def add_to(self, rows: Rows, states: int = ALL_STATES) -> Dump:
        """The same, behind what is in ``rows`` already."""
        start = len(rows)
        for _ in range(3):
            rows.cut(start)
            found = Dump(rows.all(start))
            for part in self._parts(request(states, inetdiag.EXTENSIONS), found):
                inetdiag.take(part, self._buffer, rows, found)
            found.sockets = rows.all(start)
            if not found.interrupted:
                break
        found.sockets["netns"] = self._netns
        return found

    def count_time_wait(self) -> int:
        """How many sockets are in TIME-WAIT, without the cost of rows."""
        found = Dump(np.zeros(0, SOCKET))
        for part in self._parts(request(1 << State.TIME_WAIT, 0), found):
            inetdiag.count(inetdiag.told_by(part, self._buffer), found)
        return found.time_wait

    def half_open(self) -> Records:
        """The request sockets, as SOCKET rows with addresses and ports: whose handshakes are not done."""
        found = Dump(np.zeros(0, SOCKET))
        parts = self._parts(request(1 << State.SYN_RECV, 0), found)
        waiting = np.concatenate([np.zeros(0, SOCKET), *(inetdiag.half_open(part, self._buffer) for part in parts)])
        waiting["netns"] = self._netns
        return waiting

    def _parts(self, asked: bytes, found: Dump) -> Iterator[netlink.Messages]:
        """Ask, and give the answer in parts. The buffer is written again after each."""
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
        """Send a request, after the rest of an answer that nobody read to its end: until then the kernel says EBUSY."""
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(1, socket.MSG_DONTWAIT)
        self._socket.send(asked)

    def _receive(self) -> tuple[list[int], list[int]]:
        """Read until the buffer is full, or nothing is left: where each datagram begins and ends.

        It never waits: netlink_recvmsg() goes on with a dump as it hands over a datagram, so the next is there already.
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
    """Whether the answer ends here. Raises what the kernel says went wrong: in an error, or at the end of a dump."""
    kind = part.header["type"]
    last = part.take((kind == netlink.NLMSG_DONE) | (kind == netlink.NLMSG_ERROR))
    for begin, end in zip(last.begin, last.end, strict=True):
        (code,) = struct.unpack("=i", buffer[begin + 16 : begin + 20].tobytes()) if end - begin >= 20 else (0,)
        if code:
            raise refusal(-code) if -4096 < code < 0 else netlink.damaged(f"error {code}")  # MAX_ERRNO is 4095
    return len(last.begin) > 0


def sockid(sock: Records) -> bytes:
    """struct inet_diag_sockid of a SOCKET row: ports, addresses, device, and the cookie that makes it exact."""
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
"""What SOCK_DESTROY says: sock_diag_destroy(), inet_diag_find_one_icsk(), sock_diag_check_cookie(), tcp_abort()."""


def close_connection(reach: Reach | None, sock: Records) -> None:
    """Close the connection of this SOCKET row, and no other. Raises Failed or Unsupported, in a few words."""
    if not isinstance(reach, Helped):
        raise Unsupported("there is no helper that could", "it takes root, and no --no-helper")
    if sock["state"] == State.LISTEN:
        raise Unsupported("a listener is no connection")
    try:
        reach.close_connection(int(sock["netns"]), int(sock["family"]), sockid(sock))
    except OSError as error:
        why = NOT_CLOSED.get(error.errno or 0, os.strerror(error.errno or errno.EIO))
        raise Failed(why, "--allow-close allows it" if error.errno == errno.EPERM else "") from error


class Dumps(Protocol):
    """What SockDiagSource asks."""

    def dump(self, *, rows: Rows | None = None) -> Dump:
        """All sockets. The array may belong to ``rows``."""
        ...

    def half_open(self) -> Records:
        """Who waits in SYN-RECV."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


@dataclass(frozen=True)
class _Poll:
    """What a poll found. ``order`` sorts by cookie."""

    sockets: Records
    owners: Records
    order: NDArray[np.intp]

    @property
    def cookies(self) -> NDArray[np.uint64]:
        """In order."""
        found: NDArray[np.uint64] = self.sockets["cookie"][self.order]
        return found


class SockDiagSource:
    """A Source that runs on dumps alone, for the network namespaces that ``diag`` speaks for.

    ``owners``: tells whose the sockets are (OWNED, a row a socket). ``reach``: closed at the end.
    """

    name = "sockdiag"

    def __init__(
        self, diag: Dumps | None = None, owners: Callable[[Records], Records] | None = None, reach: Reach | None = None
    ) -> None:
        self._diag: Dumps = diag or SockDiag(netns=os.stat(OWN).st_ino)
        self._reach = reach
        self._owners = owners
        self._users = Users()
        self._paths = _cgroup_paths()
        self._rows = (Rows(), Rows())  # those of the last poll, and of the one before: these are free again
        self._before: _Poll | None = None

    def poll(self) -> Snapshot:
        """What the kernel says now. Raises Failed when it no longer can."""
        start = time.perf_counter()
        dump = self._diag.dump(rows=self._rows[1])
        now, now_ns = time.time(), time.monotonic_ns()
        found = self._sorted(dump.sockets)
        gone = _gone(self._before, found)
        closed, closed_owners = _closed(self._before, gone, now_ns)
        opened = len(found.sockets) - len(self._before.sockets) + len(gone) if self._before else 0
        missing, notes = _limits(dump, self._owners is not None, self._paths is not None)
        self._rows, self._before = self._rows[::-1], found
        return Snapshot(
            time=now,
            now_ns=now_ns,
            source=self.name,
            sockets=found.sockets,
            events=np.zeros(len(found.sockets), EVENTS),
            owners=found.owners,
            closed=closed,
            closed_owners=closed_owners,
            counters=np.zeros((), COUNTERS),
            opened=opened,
            time_wait=dump.time_wait,
            syn_recv=dump.syn_recv,
            half_open=self._diag.half_open() if dump.syn_recv else dump.sockets[:0],
            namespaces=max(1, len(distinct(found.sockets["netns"]))),
            missing=missing,
            notes=(*notes, self._reach.note) if self._reach and self._reach.note else notes,
            users=self._users.learn(found.sockets["uid"]),
            cgroups=self._paths.learn(set(distinct(found.sockets["cgroup_id"]).tolist())) if self._paths else {},
            poll_s=time.perf_counter() - start,
        )

    def _sorted(self, sockets: Records) -> _Poll:
        """Each socket once: where a bucket of the hash changes during a pass, it can be told twice (cb->args[2])."""
        order = np.argsort(sockets["cookie"], kind="stable")
        cookies = sockets["cookie"][order]
        again = order[1:][cookies[1:] == cookies[:-1]]
        if len(again):
            return self._sorted(np.delete(sockets, again))
        owners = np.zeros(len(sockets), OWNED) if self._owners is None else self._owners(sockets)
        return _Poll(sockets, owners, order)

    def drain(self) -> None:
        """Nothing waits here."""

    def watch(self, cookie: int) -> None:
        """Nothing more is known of any."""

    def measure(self, on: bool) -> None:
        """There is no program."""

    def close_connection(self, sock: Records) -> None:
        """See Source."""
        close_connection(self._reach, sock)

    def close(self) -> None:
        self._diag.close()
        if self._reach is not None:
            self._reach.close()


def _cgroup_paths() -> cgroup.Paths | None:
    try:
        return cgroup.Paths(cgroup.root())
    except Unsupported:
        return None


def _gone(before: _Poll | None, now: _Poll) -> NDArray[np.intp]:
    """The rows of the last poll whose sockets are no longer there."""
    if before is None or not len(now.sockets):
        return np.arange(len(before.sockets) if before else 0)
    old, new = before.cookies, now.cookies
    there = new[np.minimum(np.searchsorted(new, old), len(new) - 1)] == old
    return np.sort(before.order[~there])


def _closed(before: _Poll | None, gone: NDArray[np.intp], now_ns: int) -> tuple[Records, Records]:
    """These rows as they last were (FINAL), and their owners. How they ended is not known."""
    closed = np.zeros(len(gone), FINAL)
    if before is None:
        return closed, np.zeros(0, OWNED)
    closed["socket"] = before.sockets[gone]
    closed["ending"]["end_ns"] = now_ns
    closed["ending"]["error"] = UNKNOWN_U32
    closed["ending"]["from_state"] = closed["socket"]["state"]
    return closed, before.owners[gone]


def _limits(dump: Dump, owned: bool, named: bool) -> tuple[frozenset[str], tuple[str, ...]]:
    """The columns that stay empty, and why, a line each reason."""
    missing = {"direction", "end", "connect_ms", "age_s", "last_rtt_us", "stall_ms"}
    notes = [
        "sockdiag sees what is open at a tick: not who opened it or when, how it ended, or what came between ticks"
    ]
    if not owned:
        missing |= {"pid", "process"}
        notes.append("whose the sockets are is not asked for")
    if not named or (not dump.cgroups and len(dump.sockets)):
        missing |= {"cgroup", "service"}
        notes.append("cgroups are not known: it takes cgroup v2, mounted, and Linux 5.8")
    unfed = {
        column for name, columns in _FED.items() if inetdiag.info_end(name) > dump.info_bytes for column in columns
    }
    if unfed:
        notes.append(f"this kernel's tcp_info has {dump.info_bytes} bytes and lacks {', '.join(sorted(unfed))}")
    return frozenset(missing | unfed), tuple(notes)
