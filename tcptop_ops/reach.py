"""How far the monitor reaches: into the network namespaces of the host, without privilege of its own.

Something is asked of a namespace by somebody inside it. That is the helper, which goes there with privilege; or threads
that entered while there was some, for the namespaces of that moment; or, with none at all, only one's own is reached.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np

from tcptop_ops.bpf import helper
from tcptop_ops.bpf.child import HELPER, Child, end, interpreters, is_privileged, start
from tcptop_ops.bpf.syscall import create_iterator
from tcptop_ops.errors import Unsupported
from tcptop_ops.snapshot import OWNER, Records

STACK_BYTES = 256 << 10


class Reach(Protocol):
    """Namespaces are told by inode number. Used by one thread."""

    own: int
    note: str  # what is not reached, and why; "" where everything is

    def namespaces(self) -> set[int]:
        """Those that exist now, as far as they are reached; one's own is among them."""
        ...

    def iterator(self, namespace: int, link: int) -> int:
        """A descriptor to read one pass from. Raises OSError, Unsupported for one that is gone."""
        ...

    def diag(self, namespace: int) -> socket.socket:
        """A netlink socket of sock_diag that speaks for it. Raises OSError, Unsupported for one that is gone."""
        ...

    def devices(self, namespace: int) -> dict[int, str]:
        """Names of its network devices by index. Raises OSError, Unsupported for one that is gone."""
        ...

    def neighbours(self, below_too: bool) -> list[dict[str, Any]]:
        """The other sock_ops programs of our cgroup, those above it and, if asked, below it.

        Raises OSError, Unsupported where nobody may ask.
        """
        ...

    def statistics(self) -> int:
        """A descriptor that keeps the BPF statistics on while it is open. Raises OSError or Unsupported."""
        ...

    def descriptors(self) -> Records:
        """OWNER rows without cookies from a scan of /proc, where there is no iterator."""
        ...

    def close(self) -> None:
        """Let go. May be called twice."""
        ...


def own_namespace() -> int:
    """The inode number of this process's network namespace."""
    return os.stat(helper.OWN).st_ino


def scan_descriptors() -> Records:
    """See Reach.descriptors: what this user is shown. Costs five times the iterator."""
    return np.frombuffer(helper.scan(), OWNER)


class Inside:
    """A thread that lives in a network namespace, and does there what it is asked to."""

    def __init__(self, namespaces: helper.Namespaces, inode: int) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(namespaces, inode), name=f"netns-{inode}", daemon=True)
        entered: Future[Any] = Future()
        self._entered = entered
        before = threading.stack_size(STACK_BYTES)
        try:
            self._thread.start()
        finally:
            threading.stack_size(before)
        entered.result()

    def _run(self, namespaces: helper.Namespaces, inode: int) -> None:
        try:
            namespaces.enter(inode)
            self._entered.set_result(None)
        except OSError as error:
            self._entered.set_exception(error)
            return
        while (asked := self._asked.get()) is not None:
            work, answer = asked
            try:
                answer.set_result(work())
            except OSError as error:
                answer.set_exception(error)

    def do(self, work: Callable[[], Any]) -> Any:
        """Its result. Raises OSError."""
        answer: Future[Any] = Future()
        self._asked.put((work, answer))
        return answer.result()

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join()


class Alone:
    """Without a helper: the namespaces that could be entered at the start, a thread in each."""

    def __init__(self) -> None:
        found = helper.Namespaces()
        self.own = found.own
        self._threads: dict[int, Inside] = {}
        try:
            found.refresh()
            denied = self._enter(found)
        finally:
            found.close()
        self.note = "only this network namespace is seen: others take root" if denied else ""
        if self._threads:
            self.note = "network namespaces that appear later are not seen: there is no helper"

    def _enter(self, found: helper.Namespaces) -> bool:
        """True if there are some that may not be entered."""
        for inode in found.fds.keys() - {found.own}:
            try:
                self._threads[inode] = Inside(found, inode)
            except OSError:
                return True
        return False

    def namespaces(self) -> set[int]:
        """See Reach."""
        return {self.own, *self._threads}

    def _do(self, namespace: int, work: Callable[[], Any]) -> Any:
        return work() if namespace == self.own else self._threads[namespace].do(work)

    def iterator(self, namespace: int, link: int) -> int:
        """See Reach."""
        return int(self._do(namespace, lambda: create_iterator(link)))

    def diag(self, namespace: int) -> socket.socket:
        """See Reach."""
        opened: socket.socket = self._do(namespace, helper.open_diag)
        return opened

    def devices(self, namespace: int) -> dict[int, str]:
        """See Reach."""
        return dict(self._do(namespace, socket.if_nameindex))

    def neighbours(self, below_too: bool) -> list[dict[str, Any]]:
        """See Reach."""
        raise Unsupported(self.note)

    def statistics(self) -> int:
        """See Reach."""
        raise Unsupported("only the helper can have the kernel measure")

    def descriptors(self) -> Records:
        """See Reach."""
        return scan_descriptors()

    def close(self) -> None:
        """See Reach."""
        while self._threads:
            self._threads.popitem()[1].close()


class Helped:
    """Through the helper. When it is gone, one's own namespace is still there."""

    def __init__(self, process: Any, connection: socket.socket) -> None:
        self._process, self._connection = process, connection
        self.own = own_namespace()
        self.note = ""

    def _ask(self, what: int, namespace: int = 0, argument: int = 0, sockid: bytes = b"") -> tuple[bytes, list[int]]:
        """Data and descriptors. Raises OSError as the helper met it, Unsupported where it is gone."""
        if self.note:
            raise Unsupported(self.note)
        try:
            self._connection.sendall(helper.REQUEST.pack(what, argument, namespace, sockid))
            return self._answer()
        except (ConnectionError, TimeoutError) as error:
            self.note = "the helper is gone: other network namespaces are no longer seen"
            raise Unsupported(self.note) from error

    def _answer(self) -> tuple[bytes, list[int]]:
        head, fds, _, _ = socket.recv_fds(self._connection, helper.REPLY.size, 1, socket.MSG_CMSG_CLOEXEC)
        head += self._whole(helper.REPLY.size - len(head))
        status, size = helper.REPLY.unpack(head)
        data = self._whole(size)
        if status:
            raise OSError(status, os.strerror(status))
        return data, list(fds)

    def _whole(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self._connection.recv(min(size - len(data), 1 << 20))
            if not more:
                raise ConnectionResetError
            data += more
        return bytes(data)

    def namespaces(self) -> set[int]:
        """See Reach."""
        try:
            data, _ = self._ask(helper.NAMESPACES)
        except Unsupported:
            return {self.own}
        return {self.own, *np.frombuffer(data, "u8").tolist()}

    def iterator(self, namespace: int, link: int) -> int:
        """See Reach. The helper has the link of the TCP iterator alone."""
        return create_iterator(link) if namespace == self.own else self._ask(helper.ITERATE, namespace)[1][0]

    def diag(self, namespace: int) -> socket.socket:
        """See Reach. Who uses it still needs privilege to close a connection (netlink_ns_capable())."""
        if namespace == self.own:
            return helper.open_diag()
        return socket.socket(fileno=self._ask(helper.DIAG, namespace)[1][0])

    def devices(self, namespace: int) -> dict[int, str]:
        """See Reach."""
        if namespace == self.own:
            return dict(socket.if_nameindex())
        return {int(index): name for index, name in json.loads(self._ask(helper.DEVICES, namespace)[0]).items()}

    def descriptors(self) -> Records:
        """See Reach."""
        try:
            return np.frombuffer(self._ask(helper.SCAN)[0], OWNER)
        except Unsupported:
            return scan_descriptors()

    def neighbours(self, below_too: bool) -> list[dict[str, Any]]:
        """The other sock_ops programs that share sockets with ours. Raises OSError or Unsupported."""
        found: list[dict[str, Any]] = json.loads(self._ask(helper.NEIGHBOURS, argument=int(below_too))[0])
        return found

    def statistics(self) -> int:
        """A descriptor that keeps the BPF statistics on while it is open. Raises OSError or Unsupported."""
        return self._ask(helper.STATISTICS)[1][0]

    def close_connection(self, namespace: int, family: int, sockid: bytes) -> None:
        """Close a connection by its exact cookie (in ``sockid``, a struct inet_diag_sockid).

        Raises OSError (EPERM where it was not asked for at the start, ENOENT for one that is gone) or Unsupported.
        """
        self._ask(helper.CLOSE, namespace, family, sockid)

    def close(self) -> None:
        """See Reach. The helper takes back the callback flags, if there are any, and ends."""
        end(self._process, self._connection)


def of_child(child: Child) -> Helped:
    """What the loader became."""
    return Helped(child.process, child.connection)


def widest(want_helper: bool = True, may_close: bool = False) -> Reach:
    """For a source without BPF: a helper of its own where there is privilege for one, and somebody to run it."""
    found = interpreters()
    if want_helper and is_privileged() and found:
        return Helped(*start(found[0], HELPER, "1" if may_close else "0"))
    return Alone()
