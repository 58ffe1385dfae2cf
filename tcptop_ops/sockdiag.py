"""TCP sockets by sock_diag (INET_DIAG): requests, dumps into numpy rows, and a Source that needs no root and no BPF.

A request of type 18 (TCPDIAG_GETSOCK) makes inet_diag_dump_compat() (net/ipv4/inet_diag.c) list the sockets of both
families in one pass; SOCK_DIAG_BY_FAMILY refuses AF_UNSPEC.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
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
from tcptop_ops.model.arrays import distinct, find_sorted
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import COUNTERS, EVENTS, FINAL, OWNED, SOCKET, UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.processes import Users
from tcptop_ops.reach import Helped, Reach

NETLINK_SOCK_DIAG = 4
TCPDIAG_GETSOCK = 18  # also the type of the answers
NLM_F_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH

ALL_STATES = 0xFFF
"""Bit mask (1 << State) of all states. Request sockets (NEW_SYN_RECV) are listed with SYN_RECV."""

WITHOUT_TIME_WAIT = ALL_STATES & ~(1 << State.TIME_WAIT)
BUFFER = 4 << 20
"""Bytes of an answer that are received before they are made into rows."""

DATAGRAM = 64 << 10
"""Bytes to receive at once: netlink_dump() (net/netlink/af_netlink.c) puts at most 32 KiB into one datagram."""
RECEIVE = int(socket.MSG_DONTWAIT | socket.MSG_TRUNC)  # the latter: return the length even of what was cut

# Members of tcp_info that older kernels lack, and the columns that are empty without them.
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

    def dump(self, states: int = ALL_STATES, rows: Rows | None = None) -> Dump:
        """List the sockets in these states, and count those that get no rows (TIME-WAIT, SYN-RECV).

        The result's array is a part of ``rows``, if given, and is overwritten when that is used again.
        """
        rows = Rows() if rows is None else rows
        rows.cut(0)
        return self.add_to(rows, states)

    def add_to(self, rows: Rows, states: int = ALL_STATES) -> Dump:
        """List the sockets as ``dump`` does, but append them to ``rows``. An inconsistent dump is repeated twice."""
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
        """Count the sockets in TIME-WAIT without making rows of them."""
        found = Dump(np.zeros(0, SOCKET))
        for part in self._parts(request(1 << State.TIME_WAIT, 0), found):
            inetdiag.count(inetdiag.told_by(part, self._buffer), found)
        return found.time_wait

    def half_open(self) -> Records:
        """Return the request sockets, whose handshakes are not complete: SOCKET rows with addresses and ports only."""
        found = Dump(np.zeros(0, SOCKET))
        parts = self._parts(request(1 << State.SYN_RECV, 0), found)
        waiting = np.concatenate([np.zeros(0, SOCKET), *(inetdiag.half_open(part, self._buffer) for part in parts)])
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


def close_connection(reach: Reach | None, sock: Records) -> None:
    """Close exactly the connection of this SOCKET row, through the helper. Raises as ``Source.close_connection``."""
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
    """What lists the sockets for SockDiagSource: a SockDiag, or ``sweep.EveryNamespace``."""

    def dump(self, *, rows: Rows | None = None) -> Dump:
        """List all sockets. The result's array may be a part of ``rows``."""
        ...

    def half_open(self) -> Records:
        """Return the request sockets as SOCKET rows, addresses and ports only."""
        ...

    def devices(self, sockets: Records) -> Mapping[int, str]:
        """Return the names of the devices that these sockets are bound to, by ``device_keys``, as far as known."""
        ...

    def close(self) -> None:
        """Close the netlink sockets."""
        ...


@dataclass(frozen=True)
class _Poll:
    """The result of a poll, to compare the next one with."""

    sockets: Records  # SOCKET
    owners: Records  # OWNED, aligned with sockets
    order: NDArray[np.intp]  # indices that sort them by cookie

    @property
    def cookies(self) -> NDArray[np.uint64]:
        """The cookies, sorted."""
        found: NDArray[np.uint64] = self.sockets["cookie"][self.order]
        return found


class SockDiagSource:
    """A Source that only polls sock_diag, in the network namespaces that ``diag`` lists."""

    name = "sockdiag"

    def __init__(
        self, diag: Dumps | None = None, owners: Callable[[Records], Records] | None = None, reach: Reach | None = None
    ) -> None:
        """Take what lists the sockets (``diag``), by default a SockDiag of this process's namespace.

        ``owners`` returns OWNED rows for SOCKET rows; None: owners are not asked for. ``reach`` is closed at the end.
        """
        self._diag: Dumps = diag or SockDiag(netns=os.stat(OWN).st_ino)
        self._reach = reach
        self._owners = owners
        self._users = Users()
        self._paths = _cgroup_paths()
        self._rows = (Rows(), Rows())  # of the last poll, and of the one before, which is free again
        self._before: _Poll | None = None

    def poll(self) -> Snapshot:
        """Return the present snapshot (see Source). Its events are empty; sockets that are gone count as closed."""
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
            devices=self._diag.devices(found.sockets),
            poll_s=time.perf_counter() - start,
        )

    def _sorted(self, sockets: Records) -> _Poll:
        """Return the sockets with their owners and order, each socket once.

        If a bucket of the kernel's hash table changes between two parts of a dump, which resumes at a position in the
        bucket (cb->args[2] of inet_diag_dump_icsk()), a socket can be listed twice.
        """
        order = np.argsort(sockets["cookie"], kind="stable")
        cookies = sockets["cookie"][order]
        again = order[1:][cookies[1:] == cookies[:-1]]
        if len(again):
            return self._sorted(np.delete(sockets, again))
        owners = np.zeros(len(sockets), OWNED) if self._owners is None else self._owners(sockets)
        return _Poll(sockets, owners, order)

    def drain(self) -> None:
        """Do nothing: there is no ring buffer."""

    def watch(self, cookie: int) -> None:
        """Do nothing: there are no further details."""

    def measure(self, on: bool) -> None:
        """Do nothing: there is no BPF program."""

    def close_connection(self, sock: Records) -> None:
        """Close the connection of this row (see Source)."""
        close_connection(self._reach, sock)

    def close(self) -> None:
        """Close the netlink sockets and the reach."""
        self._diag.close()
        if self._reach is not None:
            self._reach.close()


def _cgroup_paths() -> cgroup.Paths | None:
    try:
        return cgroup.Paths(cgroup.root())
    except Unsupported:
        return None


def _gone(before: _Poll | None, now: _Poll) -> NDArray[np.intp]:
    """Return the indices of the last poll's rows whose sockets are no longer there, ascending."""
    if before is None:
        return np.zeros(0, np.intp)
    _, there = find_sorted(now.cookies, before.cookies)
    return np.sort(before.order[~there])


def _closed(before: _Poll | None, gone: NDArray[np.intp], now_ns: int) -> tuple[Records, Records]:
    """Return FINAL rows of the last poll's rows ``gone``, and their OWNED rows. How they ended is not known."""
    closed = np.zeros(len(gone), FINAL)
    if before is None:
        return closed, np.zeros(0, OWNED)
    closed["socket"] = before.sockets[gone]
    closed["ending"]["end_ns"] = now_ns
    closed["ending"]["error"] = UNKNOWN_U32
    closed["ending"]["from_state"] = closed["socket"]["state"]
    return closed, before.owners[gone]


def _limits(dump: Dump, owned: bool, named: bool) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the columns that stay empty, and the reasons, one line each.

    ``owned``: owners are asked for; ``named``: a cgroup v2 hierarchy was found.
    """
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
