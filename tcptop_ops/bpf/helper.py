"""What still needs privilege once the monitor has given it up. Of the standard library, with
``proc_walk`` and ``helper_process`` beside it.

The loader executes it in its own place, and then LLVM is gone; without BPF the monitor starts it. It answers fixed-size
requests over the socket pair (argv[1], its descriptor) and does nothing else. At the end of the pair, which is the
monitor's end however it came about, it takes back the callback flags that were set for it, and exits.

A request is REQUEST: what, an argument, a network namespace (inode number), and the socket meant by CLOSE. An answer is
REPLY: an errno or 0, and how many bytes follow it. A descriptor comes with it by SCM_RIGHTS.
"""

from __future__ import annotations

import array
import ctypes
import errno
import importlib.util
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

NAMESPACES, ITERATE, DIAG, DEVICES, SCAN, STATISTICS, CLOSE, NEIGHBOURS, COUNTERS, ATTACH_AGAIN, HIDDEN, ROUTE = range(
    1, 13
)
SOCKET_COUNTS = 2  # argument of COUNTERS: descriptors of ``proc_walk.open_socket_counts`` alone
REQUEST = struct.Struct("=IIQ56s")
REPLY = struct.Struct("=iI")
NUMBER = struct.Struct("=Q")
BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD = 16, 13, 15
BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_LINK_CREATE, BPF_ENABLE_STATS, BPF_ITER_CREATE = 1, 2, 28, 32, 33
BPF_CGROUP_SOCK_OPS = 3
BPF_F_ALLOW_MULTI = 2
SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
MAX_PROGRAMS = 64

PASS_CLEAR, PASS_STRIP = 2, 4  # of IteratorPass
CONTROL = struct.Struct("=QIIQI4x64s")  # fields.CONTROL: the value of the map ``control``
DETACHED_WITHIN_S = 2.0
CLONE_NEWNET = 0x40000000
OWN = "/proc/self/ns/net"
OF_THREAD = "/proc/thread-self/ns/net"

NETLINK_SOCK_DIAG, SOCK_DESTROY, NLM_F_REQUEST_ACK = 4, 21, 5
NO_COOKIE = b"\xff" * 8  # INET_DIAG_NOCOOKIE, twice: whichever socket has these addresses

SPARE = 16
"""Descriptors that namespaces leave free: for answers, and for what is opened for a moment."""

libc = ctypes.CDLL(None, use_errno=True)


def beside(name: str) -> Any:
    """Return a module that stands beside this script: an isolated interpreter does not look there."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


proc_walk = beside("proc_walk")
process = beside("helper_process")


# --- bpf(2)


def bpf(command: int, attr: bytearray) -> int:
    """Call bpf(2) with a command and its attributes; return its result. Raises OSError."""
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    return checked(libc.syscall(SYS_BPF[os.uname().machine], command, ctypes.byref(buffer), len(attr)))


def checked(result: int) -> int:
    """Make a system call and return its result. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)


def words(*values: int, size: int = 64) -> bytearray:
    """Return an attr of 32-bit words, padded with zeros."""
    return bytearray(array.array("I", values).tobytes().ljust(size, b"\0"))


def link(program: int, target: int, kind: int) -> int:
    """Return a descriptor of a new bpf_link, which attaches while it is open. Raises OSError."""
    return bpf(BPF_LINK_CREATE, words(program, target, kind))


def programs_at(cgroup: int) -> tuple[list[int], int]:
    """Return the ids of the sock_ops programs attached to this cgroup itself, and the flags of their attachment."""
    ids = (ctypes.c_uint32 * MAX_PROGRAMS)()
    attr = words(cgroup, BPF_CGROUP_SOCK_OPS)
    attr[16:24] = ctypes.addressof(ids).to_bytes(8, sys.byteorder)
    attr[24:28] = MAX_PROGRAMS.to_bytes(4, sys.byteorder)
    bpf(BPF_PROG_QUERY, attr)
    count = int.from_bytes(attr[24:28], sys.byteorder)
    return list(ids[:count]), int.from_bytes(attr[12:16], sys.byteorder)


def program_info(fd: int) -> bytes:
    """struct bpf_prog_info of a program. Raises OSError."""
    info = bytearray(256)
    attr = words(fd, len(info))
    attr[8:16] = ctypes.addressof((ctypes.c_char * len(info)).from_buffer(info)).to_bytes(8, sys.byteorder)
    bpf(BPF_OBJ_GET_INFO_BY_FD, attr)
    return bytes(info)


def program_id(fd: int) -> int:
    """Return the number of a program. Raises OSError."""
    return int.from_bytes(program_info(fd)[4:8], sys.byteorder)


def program_by_id(program_id: int) -> dict[str, Any]:
    """Its name, or "?", and when it was loaded: CLOCK_MONOTONIC, ns; 0 where that is not told."""
    try:
        fd = bpf(BPF_PROG_GET_FD_BY_ID, words(program_id))
    except OSError:
        return {"id": program_id, "name": "?", "loaded_ns": 0}
    try:
        info = program_info(fd)
    finally:
        os.close(fd)
    name = info[64:80].split(b"\0")[0].decode(errors="replace") or "?"
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return {"id": program_id, "name": name, "loaded_ns": int.from_bytes(info[40:48], sys.byteorder) - asleep_ns}


def ancestors(cgroup: str, root: str) -> list[str]:
    """Return the cgroup and all above it, up to the mount's root."""
    chain = [cgroup]
    while chain[-1] != root and len(chain[-1]) > len(root):
        chain.append(os.path.dirname(chain[-1]))
    return chain


def neighbours(cgroup: str, root: str, below_too: bool = True) -> list[dict[str, Any]]:
    """Return the sock_ops programs that share sockets with us: of the cgroup, above, and below it. Raises OSError."""
    found = []
    below = [path for path, _, _ in os.walk(cgroup)][1:] if below_too else []
    for where in ancestors(cgroup, root) + below:
        try:
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            ids, flags = programs_at(fd)
        except FileNotFoundError:
            continue  # removed meanwhile
        finally:
            os.close(fd)
        above = where not in below
        found += [program_by_id(i) | {"where": where, "flags": flags, "above": above} for i in ids]
    return found


# --- network namespaces


class Namespaces:
    """The namespaces found so far, each kept open by a descriptor: ``fds`` by inode number, one's own first.

    A namespace lives through the processes in it, or through a file bound to it below /run/netns (ip-netns(8)); some
    by what ``proc_walk.hidden_namespaces`` finds, which takes longer. ``refresh`` lets go of one that nothing else
    holds. A process that hides its namespace is passed over. ``beyond``: those that there is no descriptor for.
    """

    def __init__(self) -> None:
        """Begin with the namespace of this process."""
        own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        self.own = os.fstat(own).st_ino
        self.fds: dict[int, int] = {self.own: own}
        self.beyond = 0
        self._hidden: dict[int, str] = {}

    def refresh(self, thoroughly: bool = True) -> None:
        """Look for namespaces that came and went; for those that are hidden only where it is to be done thoroughly."""
        seen = self._at(proc_walk.namespaces())
        self._hidden = self._at(proc_walk.hidden_namespaces() if thoroughly else iter(self._hidden.values()))
        seen = self._hidden | seen
        for inode in [i for i in self.fds if i not in seen and i != self.own]:
            os.close(self.fds.pop(inode))
        self.beyond = 0
        for inode, path in seen.items():
            if inode not in self.fds:
                self._open(inode, path)

    def _at(self, paths: Iterator[str]) -> dict[int, str]:
        """Return the first path to each namespace, by inode number."""
        seen: dict[int, str] = {}
        nsfs = os.fstat(self.fds[self.own]).st_dev
        for path in paths:
            try:
                found = os.stat(path)
            except OSError:
                continue  # the process ended meanwhile, or it may not be looked at
            if found.st_dev == nsfs:  # below /run/netns a plain file waits for its namespace to be mounted on it
                seen.setdefault(found.st_ino, path)
        return seen

    def _open(self, inode: int, path: str) -> None:
        try:
            fd = self._unmounted(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.beyond += error.errno in (errno.EMFILE, errno.ENFILE)
            return
        if os.fstat(fd).st_ino == inode and fd < os.sysconf("SC_OPEN_MAX") - SPARE:
            self.fds[inode] = fd
        else:
            self.beyond += os.fstat(fd).st_ino == inode
            os.close(fd)

    def _unmounted(self, fd: int) -> int:
        """Return a descriptor of the same namespace that does not keep the mount busy by which it was opened."""
        if libc.setns(fd, CLONE_NEWNET):
            return fd  # it may not be entered
        try:
            return os.open(OF_THREAD, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
            self.enter(self.own)

    def enter(self, inode: int) -> None:
        """Move this thread into it (setns(2)). Raises OSError: ENOENT for one that is not known."""
        if inode not in self.fds:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        checked(libc.setns(self.fds[inode], CLONE_NEWNET))

    def close(self) -> None:
        """Close the descriptors of all namespaces."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}


# --- what is done inside one, or for all


def open_diag(protocol: int = NETLINK_SOCK_DIAG) -> socket.socket:
    """Return a netlink socket, by default of sock_diag, which speaks for the namespace that it was opened in."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def open_route() -> socket.socket:
    """Return a socket of rtnetlink, alike."""
    return open_diag(socket.NETLINK_ROUTE)


def create_iterator(link: int) -> int:
    """Return a descriptor to read one pass from. Raises OSError."""
    return bpf(BPF_ITER_CREATE, words(link, 0))


def destroy(family: int, sockid: bytes) -> None:
    """Close a connection (SOCK_DESTROY): ``sockid`` is a struct inet_diag_sockid, cookie included. Raises OSError."""
    if family not in (socket.AF_INET, socket.AF_INET6) or sockid[40:48] == NO_COOKIE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + sockid
    with open_diag() as diag:
        diag.send(struct.pack("=IHHII", 16 + len(body), SOCK_DESTROY, NLM_F_REQUEST_ACK, 1, 0) + body)
        answer = diag.recv(4096)
    refused = -struct.unpack_from("=i", answer, 16)[0]
    if refused:
        raise OSError(refused, os.strerror(refused))


# --- the service


class ProgramWatch:
    """What the monitor attached: the TCP iterator's link (-1: none), what steers it, the program, cgroups."""

    def __init__(self, link: str, control: str, program: str, cgroup: str, root: str) -> None:
        """Take the words of the command line."""
        self.link, self._control, self._fd = int(link), int(control), int(program)
        self._program = program_id(self._fd)
        self._cgroup, self._root = cgroup, root

    def others(self, below_too: bool = True) -> list[dict[str, Any]]:
        """Return the sock_ops programs that share sockets with ours. Raises OSError."""
        found = neighbours(self._cgroup, self._root, below_too)
        return [program for program in found if program["id"] != self._program]

    def attach_again(self) -> tuple[bytes, list[int]]:
        """Inode of the cgroup's new directory and a link to it; or what would be silenced by one. Raises OSError."""
        alone = [each for each in self.others(below_too=False) if not each["flags"] & BPF_F_ALLOW_MULTI]
        if alone:
            return json.dumps(alone).encode(), []
        fd = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return NUMBER.pack(os.fstat(fd).st_ino), [link(self._fd, fd, BPF_CGROUP_SOCK_OPS)]
        finally:
            os.close(fd)

    def wait_until_detached(self) -> None:
        """Wait until the program is gone: the monitor's descriptors are being closed, and one may be the last."""
        patience = time.monotonic() + DETACHED_WITHIN_S
        while time.monotonic() < patience:
            if all(program["id"] != self._program for program in neighbours(self._cgroup, self._root, False)):
                return
            time.sleep(0.01)

    def steer(self, what: int, born_before_ns: int = 0) -> None:
        """Set what the next passes of the iterator do. Raises OSError."""
        key, value = ctypes.c_uint32(0), ctypes.create_string_buffer(CONTROL.size)
        attr = struct.pack("=IIQQQ", self._control, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
        bpf(BPF_MAP_LOOKUP_ELEM, bytearray(attr))
        CONTROL.pack_into(value, 0, 0, what, 1, born_before_ns, 0, CONTROL.unpack(value)[-1])
        bpf(BPF_MAP_UPDATE_ELEM, bytearray(attr))


class Helper:
    """Answers requests. ``may_close``: whether CLOSE was asked for; ``attached``: None without BPF."""

    def __init__(self, connection: socket.socket, may_close: bool, attached: ProgramWatch | None) -> None:
        """Take ``connection``: to the monitor, from which requests come."""
        self._connection, self._may_close, self._attached = connection, may_close, attached
        self.namespaces = Namespaces()

    def serve(self) -> None:
        """Until the monitor is gone."""
        with suppress(ConnectionError):
            while len(request := self._connection.recv(REQUEST.size, socket.MSG_WAITALL)) == REQUEST.size:
                self._answer(request)

    def _answer(self, request: bytes) -> None:
        status = 0
        data: bytes | bytearray = b""
        fds: list[int] = []
        try:
            data, fds = self._do(*REQUEST.unpack(request))
        except OSError as error:
            status = error.errno or errno.EIO
        except MemoryError:
            status = errno.ENOMEM
        finally:
            with suppress(OSError):
                self.namespaces.enter(self.namespaces.own)
        try:
            socket.send_fds(self._connection, [REPLY.pack(status, len(data))], fds)
            self._connection.sendall(data)
        finally:
            for fd in fds:
                os.close(fd)

    def _do(self, what: int, argument: int, namespace: int, sockid: bytes) -> tuple[bytes | bytearray, list[int]]:
        """Return data and descriptors of the answer. Raises OSError."""
        if what == NAMESPACES:
            self.namespaces.refresh(bool(argument))
            return b"".join(map(NUMBER.pack, [self.namespaces.beyond, *self.namespaces.fds])), []
        if what in (SCAN, HIDDEN):
            return proc_walk.scan() if what == SCAN else proc_walk.hidden(), []
        if what == STATISTICS:
            return b"", [bpf(BPF_ENABLE_STATS, words(0))]
        if what in (NEIGHBOURS, ATTACH_AGAIN) and self._attached:
            others = json.dumps(self._attached.others(bool(argument))).encode()
            return (others, []) if what == NEIGHBOURS else self._attached.attach_again()
        iterates = self._attached is not None and self._attached.link >= 0
        answered = {DIAG: True, ROUTE: True, DEVICES: True, COUNTERS: True, CLOSE: self._may_close, ITERATE: iterates}
        if not answered.get(what):
            raise OSError(errno.EPERM, "not among what is answered")
        self.namespaces.enter(namespace)
        if what == ITERATE and self._attached:
            return b"", [create_iterator(self._attached.link)]
        if what == DEVICES:
            return json.dumps(dict(socket.if_nameindex())).encode(), []
        if what == COUNTERS and argument == SOCKET_COUNTS:
            return b"", proc_walk.open_socket_counts()
        if what == COUNTERS:
            return proc_walk.limits(), proc_walk.open_counters() if argument else []
        if what == CLOSE:
            destroy(argument, sockid[:48])
        asked = {DIAG: open_diag, ROUTE: open_route}.get(what)
        return b"", [asked().detach()] if asked else []


def take_back_flags(namespaces: Namespaces, attached: ProgramWatch) -> None:
    """One pass in every namespace that takes our flags off each socket, once our program is detached.

    Another program may live by a flag that we set too: beside one, only those go that it would be called for at each
    packet, and only from sockets that it can't have asked for them.
    """
    attached.wait_until_detached()
    others = attached.others()
    if others:
        attached.steer(PASS_STRIP, min(program["loaded_ns"] for program in others))
    else:
        attached.steer(PASS_CLEAR)
    namespaces.refresh()
    for inode in list(namespaces.fds):
        with suppress(OSError):
            namespaces.enter(inode)
            with open(create_iterator(attached.link), "rb", buffering=0) as one_pass:
                while one_pass.read(1 << 16):
                    pass


def main(argv: list[str]) -> int:
    """``SOCKET MAY_CLOSE [LINK CONTROL PROGRAM CGROUP ROOT]``: descriptors, directories."""
    process.outlast_the_monitor()
    process.give_memory_back()
    process.raise_limit()
    connection, may_close = socket.socket(fileno=int(argv[0])), argv[1] == "1"
    process.go_on_when_asked(connection)
    process.confine()
    attached = ProgramWatch(*argv[2:7]) if len(argv) > 2 else None
    helper = Helper(connection, may_close, attached)
    try:
        helper.serve()
    finally:
        if attached and attached.link >= 0:
            take_back_flags(helper.namespaces, attached)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
