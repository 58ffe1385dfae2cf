"""What still needs privilege once the monitor has given it up. Of the standard library, with
``proc_walk`` and ``helper_process`` beside it.

The loader executes it in its own place, and then LLVM is gone; without BPF the monitor starts it. It answers fixed-size
requests over the socket pair (argv[1], its descriptor) and does nothing else. At the end of the pair, which is the
monitor's end however it came about, it takes back the callback flags that were set for it, and exits.

A request is REQUEST: what, an argument, a network namespace (inode number), and the socket meant by CLOSE. An answer is
REPLY: an errno or 0, and how many bytes follow it. A descriptor comes with it by SCM_RIGHTS.
"""

from __future__ import annotations

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

NAMESPACES, DIAG, DEVICES, SCAN, STATISTICS, CLOSE, NEIGHBOURS, COUNTERS, ATTACH_AGAIN, HIDDEN, ROUTE = range(1, 12)
SET_FLAGS = 12
REQUEST = struct.Struct("=IIQ56s")
REPLY = struct.Struct("=iI")
NUMBER = struct.Struct("=Q")
MET = struct.Struct("=QQIIBBB21x")
"""fields.MET, a row of the iterator of descriptors: cookie, inode, pid, fd, kind, state, cb_flags."""
MET_SOCKET, LISTEN = 0, 10  # Met.SOCKET, State.LISTEN

DETACHED_WITHIN_S = TAKEN_BACK_WITHIN_S = 2.0
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
flag_setter = beside("flag_setter")
kernel_calls = beside("kernel_calls")
bpf, words, checked, link = kernel_calls.bpf, kernel_calls.words, kernel_calls.checked, kernel_calls.link


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
    return int(bpf(kernel_calls.BPF_ITER_CREATE, words(link, 0)))


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
    """What the monitor attached: links of the iterators (-1: none), programs, and where in the tree of cgroups."""

    def __init__(self, fds: dict[str, int], cgroup: str, root: str) -> None:
        """Take descriptors by name, which stay their owner's, and directories."""
        self._files, self._adoption = fds.get("bpf_iter__task_file", -1), fds.get("adoption", -1)
        self._fd = fds["program"]
        self._program = kernel_calls.program_id(self._fd)
        self._cgroup, self._root = cgroup, root
        self._adopts_in = cgroup
        self._flags = self._flag_setter(fds["setter"]) if self._adoption >= 0 else None

    def set_flags(self, asked: bytes) -> bytes:
        """Answer rows of FLAG_ASK as ``FlagSetter.answer``. Raises OSError, EPERM where this kernel can't."""
        if self._flags is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return bytes(self._flags.answer(asked))

    def take_back(self, before_ns: int) -> None:
        """Have the flags taken back as ``FlagSetter.take_back`` does, those of all sockets. Raises OSError.

        The program is attached to the root for it: sockets outlive the directory that they were made in, to which
        nothing can be attached any more. It obeys for those alone that have a row of ours.
        """
        if self._flags is not None and self._files >= 0:
            self._adopts_in = self._root
            self._flags.take_back(self._held, before_ns, time.monotonic() + TAKEN_BACK_WITHIN_S)

    def _flag_setter(self, setter: int) -> Any:
        token = int.from_bytes(os.urandom(8), sys.byteorder)
        key, value = ctypes.c_uint32(0), ctypes.create_string_buffer(flag_setter.SETTER.pack(token, 0))
        bpf(
            kernel_calls.BPF_MAP_UPDATE_ELEM,
            bytearray(struct.pack("=IIQQQ", setter, 0, ctypes.addressof(key), ctypes.addressof(value), 0)),
        )
        return flag_setter.FlagSetter(self._attach_adoption, token)

    def _attach_adoption(self) -> int:
        """Return a link by which adoption.c is called in our cgroup. Raises OSError, EBUSY: another's would not be."""
        for where in kernel_calls.ancestors(self._adopts_in, self._root):
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
            try:
                ids, flags = kernel_calls.programs_at(fd, kernel_calls.BPF_CGROUP_SETSOCKOPT)
                if ids and not flags & kernel_calls.BPF_F_ALLOW_MULTI:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            finally:
                os.close(fd)
        fd = os.open(self._adopts_in, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return int(link(self._adoption, fd, kernel_calls.BPF_CGROUP_SETSOCKOPT))
        finally:
            os.close(fd)

    def _held(self) -> Iterator[tuple[int, int, int]]:
        """Cookie, pid and descriptor of the TCP sockets that have flags, listeners first. Raises OSError."""
        with open(create_iterator(self._files), "rb", buffering=0) as one_pass:
            rows = b"".join(iter(lambda: one_pass.read(1 << 16), b""))
        found: dict[int, tuple[bool, int, int]] = {}
        for cookie, _, pid, fd, kind, state, flags in MET.iter_unpack(rows):
            if kind == MET_SOCKET and cookie and flags:
                found.setdefault(cookie, (state != LISTEN, pid, fd))
        for cookie, (_, pid, fd) in sorted(found.items(), key=lambda each: each[1]):
            yield cookie, pid, fd

    def others(self, below_too: bool = True) -> list[dict[str, Any]]:
        """Return the sock_ops programs that share sockets with ours. Raises OSError."""
        found = kernel_calls.neighbours(self._cgroup, self._root, below_too)
        return [program for program in found if program["id"] != self._program]

    def attach_again(self) -> tuple[bytes, list[int]]:
        """Inode of the cgroup's new directory and a link to it; or what would be silenced by one. Raises OSError."""
        alone = [each for each in self.others(below_too=False) if not each["flags"] & kernel_calls.BPF_F_ALLOW_MULTI]
        if alone:
            return json.dumps(alone).encode(), []
        fd = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return NUMBER.pack(os.fstat(fd).st_ino), [link(self._fd, fd, kernel_calls.BPF_CGROUP_SOCK_OPS)]
        finally:
            os.close(fd)

    def wait_until_detached(self) -> None:
        """Wait until the program is gone: the monitor's descriptors are being closed, and one may be the last."""
        patience = time.monotonic() + DETACHED_WITHIN_S
        while time.monotonic() < patience:
            if all(
                program["id"] != self._program for program in kernel_calls.neighbours(self._cgroup, self._root, False)
            ):
                return
            time.sleep(0.01)


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
        except ConnectionError:
            raise
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

    def _behind(self, count: int) -> bytes:
        """Return the rows that follow a request. Raises ConnectionError where that is none of the monitor's."""
        size = count * flag_setter.ASK.size
        rows = self._connection.recv(size, socket.MSG_WAITALL) if 0 < count <= flag_setter.MOST_ASKED else b""
        if len(rows) != size or not rows:
            raise ConnectionResetError
        return rows

    def _do_with_program(self, attached: ProgramWatch, what: int, argument: int) -> tuple[bytes, list[int]]:
        if what == SET_FLAGS:
            return attached.set_flags(self._behind(argument)), []
        if what == NEIGHBOURS:
            return json.dumps(attached.others(bool(argument))).encode(), []
        return attached.attach_again()

    def _do(self, what: int, argument: int, namespace: int, sockid: bytes) -> tuple[bytes | bytearray, list[int]]:
        """Return data and descriptors of the answer. Raises OSError."""
        if what == NAMESPACES:
            self.namespaces.refresh(bool(argument))
            return b"".join(map(NUMBER.pack, [self.namespaces.beyond, *self.namespaces.fds])), []
        if what in (SCAN, HIDDEN):
            return proc_walk.scan() if what == SCAN else proc_walk.hidden(), []
        if what == STATISTICS:
            return b"", [bpf(kernel_calls.BPF_ENABLE_STATS, words(0))]
        if what in (NEIGHBOURS, ATTACH_AGAIN, SET_FLAGS) and self._attached:
            return self._do_with_program(self._attached, what, argument)
        answered = {DIAG: True, ROUTE: True, DEVICES: True, COUNTERS: True, CLOSE: self._may_close}
        if not answered.get(what):
            raise OSError(errno.EPERM, "not among what is answered")
        self.namespaces.enter(namespace)
        if what == DEVICES:
            return json.dumps(dict(socket.if_nameindex())).encode(), []
        if what == COUNTERS:
            limits, descriptors = proc_walk.counters(argument)
            return limits, descriptors
        if what == CLOSE:
            destroy(argument, sockid[:48])
        asked = {DIAG: open_diag, ROUTE: open_route}.get(what)
        return b"", [asked().detach()] if asked else []


def take_back_flags(attached: ProgramWatch) -> None:
    """Take our flags off each socket, once our program is detached.

    Another program may live by a flag that we set too: beside one, only those go that it would be called for at each
    packet, and only from sockets that it can't have asked for them.
    """
    attached.wait_until_detached()
    before_ns = min((program["loaded_ns"] for program in attached.others()), default=0)
    attached.take_back(before_ns)


def main(argv: list[str]) -> int:
    """``SOCKET MAY_CLOSE [DESCRIPTORS CGROUP ROOT]``: JSON, descriptors by name; directories."""
    process.outlast_the_monitor()
    process.give_memory_back()
    process.raise_limit()
    connection, may_close = socket.socket(fileno=int(argv[0])), argv[1] == "1"
    process.go_on_when_asked(connection)
    process.confine()
    attached = ProgramWatch(json.loads(argv[2]), *argv[3:5]) if len(argv) > 2 else None
    helper = Helper(connection, may_close, attached)
    try:
        helper.serve()
    finally:
        if attached:
            take_back_flags(attached)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
