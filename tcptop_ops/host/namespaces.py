"""Access to the host's network namespaces, for a monitor that has no privilege of its own.

What is asked in a namespace must be asked from inside it: by the helper, which has the privilege to enter; or by
threads that entered before the privilege was dropped, for the namespaces of that moment. Without any privilege, only
this process's own namespace is reached.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf import helper, proc_walk
from tcptop_ops.bpf.loader_process import HELPER, LoaderProcess, interpreters, is_privileged, start
from tcptop_ops.errors import Unsupported
from tcptop_ops.host.helper_connection import HelperConnection, Process, with_room
from tcptop_ops.model.records import OWNER, Records

NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
START_AGAIN = "start tcptop-ops again"
STACK_BYTES = 256 << 10
"""Stack of a thread in a namespace: there may be many."""


class NamespaceAccess(Protocol):
    """Access to network namespaces, which are named by inode number. Used by one thread."""

    own: int  # the namespace of this process

    @property
    def note(self) -> str:
        """What is not reached, and why; "" where everything is."""
        ...

    def namespaces(self, thoroughly: bool = False) -> set[int]:
        """Return the namespaces that exist now and are reached; this process's own is among them.

        ``thoroughly``: look for those that only a thread or a mount keeps, too.
        """
        ...

    def diag(self, namespace: int) -> socket.socket:
        """Return a netlink socket that lists this namespace's sockets.

        Raises OSError, and Unsupported when the helper is gone.
        """
        ...

    def route(self, namespace: int) -> socket.socket:
        """Return a socket of rtnetlink that speaks for this namespace. Raises as ``diag``."""
        ...

    def devices(self, namespace: int) -> dict[int, str]:
        """Return the names of its network devices by interface index. Raises as ``diag``."""
        ...

    def counters(self, namespace: int) -> tuple[list[int], bytes]:
        """Return the descriptors of ``proc_walk.open_counters`` there, and its ``limits``. Raises as ``diag``.

        A descriptor can be read again and again, from its begin, and keeps the namespace alive as long as it is open.
        """
        ...

    def socket_counts(self, namespace: int) -> list[int]:
        """Return the descriptors of ``proc_walk.open_socket_counts`` there, which hold as those of ``counters``."""
        ...

    def limits(self, namespace: int) -> bytes:
        """Return the lines of ``proc_walk.limits`` of this namespace. Raises as ``diag``."""
        ...

    def neighbours(self, below_too: bool) -> list[dict[str, Any]]:
        """Return the other sock_ops programs attached to our cgroup, to those above it and, if asked, below it.

        As ``helper.neighbours`` describes them. Raises OSError, and Unsupported without a helper.
        """
        ...

    def attach_again(self) -> tuple[int, int]:
        """Attach our program to the directory that was made in place of our cgroup's, which was removed.

        Return the inode number of that directory, and the descriptor of a bpf_link, which attaches while it is open.
        Raises OSError, and Unsupported without a helper, or where the link would silence another's program.
        """
        ...

    def set_flags(self, asked: Records) -> NDArray[np.int32]:
        """Change the callback flags of sockets that others hold: FLAG_ASK rows, flag_setter.MOST_ASKED at most.

        Return an errno for each, 0 where it is done: as ``flag_setter.FlagSetter.work``, EAGAIN where no time was left.
        Raises OSError where the program that sets them can't be attached, and Unsupported where there is none.
        """
        ...

    def statistics(self) -> int:
        """Return a descriptor that keeps the kernel's BPF statistics on while it is open. Raises as ``neighbours``."""
        ...

    def descriptors(self) -> Records:
        """Return the descriptors of sockets by a scan of /proc: OWNER rows, their cookies 0."""
        ...

    def hidden_descriptors(self) -> Records:
        """Return those that are not in /proc/PID/fd alike: of threads with files of their own, and of io_uring."""
        ...

    def close(self) -> None:
        """End the helper or the threads. May be called twice."""
        ...


def beyond(count: int) -> str:
    """Return what to tell of so many namespaces that there are no descriptors or threads for; "" for none."""
    if not count:
        return ""
    which = "1 network namespace is" if count == 1 else f"{count:,} network namespaces are"
    return f"{which} not seen: too few descriptors or threads are allowed (ulimit -n, ulimit -u)"


def own_namespace() -> int:
    """Return the inode number of this process's network namespace."""
    return os.stat(helper.OWN).st_ino


def scan_descriptors() -> Records:
    """Scan /proc in this process (see Reach.descriptors) for what this user may see.

    It takes five times as long as a pass of the BPF iterator.
    """
    return np.frombuffer(proc_walk.scan(), OWNER)


def scan_hidden_descriptors() -> Records:
    """Scan /proc for what is not in /proc/PID/fd (see Reach.hidden_descriptors) and this user may see."""
    return np.frombuffer(proc_walk.hidden(), OWNER)


class NamespaceThread:
    """A thread that stays in another network namespace and runs callables there."""

    def __init__(self, namespaces: helper.Namespaces, inode: int) -> None:
        """Start the thread and wait until it has entered. Raises OSError where it may not, or the namespace is gone."""
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
        """Run ``work`` in the namespace and return its result. Raises the OSError that it raises."""
        answer: Future[Any] = Future()
        self._asked.put((work, answer))
        return answer.result()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._asked.put(None)
        self._thread.join()


class InProcessAccess:
    """A Reach without a helper: the namespaces that could be entered at the start, with a thread in each."""

    def __init__(self) -> None:
        """Enter all other namespaces that exist now; without privilege none."""
        found = helper.Namespaces()
        self.own = found.own
        self._threads: dict[int, NamespaceThread] = {}
        try:
            found.refresh()
            left = self._enter(found)
        finally:
            found.close()
        self._left_out = left + found.beyond
        self._without_room: set[int] = set()

    @property
    def note(self) -> str:
        """What is not reached, and why (see Reach)."""
        if not self._threads:
            return "only this network namespace is seen: others take root" if self._left_out else ""
        without = beyond(self._left_out + len(self._without_room))
        return without or "network namespaces that appear later are not seen: there is no helper"

    def _enter(self, found: helper.Namespaces) -> int:
        """Start a thread in each other namespace, up to the first that can't be; return how many were left out."""
        others = found.fds.keys() - {found.own}
        for inode in others:
            try:
                self._threads[inode] = NamespaceThread(found, inode)
            except (OSError, RuntimeError):  # it may not be entered; no thread can be started
                break
        return len(others) - len(self._threads)

    def namespaces(self, thoroughly: bool = False) -> set[int]:
        """Return this process's namespace and those entered at the start (see Reach)."""
        return {self.own, *self._threads}

    def _do(self, namespace: int, work: Callable[[], Any]) -> Any:
        if namespace == self.own:
            return work()
        if namespace not in self._threads:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._threads[namespace].do(work)

    def diag(self, namespace: int) -> socket.socket:
        """Open the socket in the thread of that namespace (see Reach)."""
        return self._open(namespace, helper.open_diag)

    def route(self, namespace: int) -> socket.socket:
        """Open the socket in the thread of that namespace (see Reach)."""
        return self._open(namespace, helper.open_route)

    def _open(self, namespace: int, opens: Callable[[], socket.socket]) -> socket.socket:
        """Open a socket there, if enough descriptors stay free; remember of which namespaces none found room."""
        try:
            opened = socket.socket(fileno=with_room([self._do(namespace, opens).detach()])[0])
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                self._without_room.add(namespace)
            raise
        self._without_room.discard(namespace)
        return opened

    def devices(self, namespace: int) -> dict[int, str]:
        """List the devices in the thread of that namespace (see Reach)."""
        return dict(self._do(namespace, socket.if_nameindex))

    def counters(self, namespace: int) -> tuple[list[int], bytes]:
        """Open the descriptors in the thread of that namespace (see Reach)."""
        fds, limits = self._do(namespace, lambda: (proc_walk.open_counters(), proc_walk.limits()))
        return with_room(fds), limits

    def socket_counts(self, namespace: int) -> list[int]:
        """Open the descriptors in the thread of that namespace (see Reach)."""
        found: list[int] = self._do(namespace, proc_walk.open_socket_counts)
        return found

    def limits(self, namespace: int) -> bytes:
        """Read them in the thread of that namespace (see Reach)."""
        return bytes(self._do(namespace, proc_walk.limits))

    def neighbours(self, below_too: bool) -> list[dict[str, Any]]:
        """Raise Unsupported: it takes privilege (see Reach)."""
        raise Unsupported(self.note)

    def attach_again(self) -> tuple[int, int]:
        """Raise Unsupported: it takes privilege (see Reach)."""
        raise Unsupported("there is no helper to attach with", START_AGAIN)

    def set_flags(self, asked: Records) -> NDArray[np.int32]:
        """Raise Unsupported: it takes privilege (see Reach)."""
        raise Unsupported("there is no helper to set flags", START_AGAIN)

    def statistics(self) -> int:
        """Raise Unsupported: it takes privilege (see Reach)."""
        raise Unsupported("only the helper can have the kernel measure")

    def descriptors(self) -> Records:
        """Scan /proc in this process (see Reach)."""
        return scan_descriptors()

    def hidden_descriptors(self) -> Records:
        """Scan /proc in this process (see Reach)."""
        return scan_hidden_descriptors()

    def close(self) -> None:
        """End the threads (see Reach)."""
        while self._threads:
            self._threads.popitem()[1].close()


class HelperAccess:
    """A Reach through the privileged helper process. When that is gone, only our own namespace is reached."""

    def __init__(self, process: Any, connection: socket.socket, again: Callable[[], Process] | None = None) -> None:
        """Take over a running helper, and our end of the socket pair that it serves (see HelperConnection)."""
        self._helper = HelperConnection((process, connection), again)
        self._ask = self._helper.ask
        self.own = own_namespace()
        self._found = {self.own}
        self._beyond = 0  # namespaces that the helper had no descriptor for
        self._without_room: set[int] = set()  # those that we had none for

    @property
    def note(self) -> str:
        """What is not reached, and why (see Reach)."""
        return self._helper.note or beyond(self._beyond + len(self._without_room))

    def namespaces(self, thoroughly: bool = False) -> set[int]:
        """Ask the helper, which finds those that are new, too (see Reach)."""
        try:
            data, _ = self._ask(helper.NAMESPACES, argument=int(thoroughly))
        except Unsupported:
            return {self.own} if self._helper.is_gone else set(self._found)
        self._beyond, *found = np.frombuffer(data, "u8").tolist()
        self._found = {self.own, *found}
        self._without_room &= self._found
        return set(self._found)

    def _open(self, what: int, namespace: int) -> int:
        """Return a descriptor that the helper opened; remember of which namespaces none found room here."""
        try:
            fds = with_room(self._ask(what, namespace)[1])
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                self._without_room.add(namespace)
            raise
        self._without_room.discard(namespace)
        return fds[0]

    def diag(self, namespace: int) -> socket.socket:
        """Open the socket, in another namespace through the helper (see Reach).

        It gives no privilege: to close connections the caller itself would need some (netlink_ns_capable()).
        """
        if namespace == self.own:
            return helper.open_diag()
        return socket.socket(fileno=self._open(helper.DIAG, namespace))

    def route(self, namespace: int) -> socket.socket:
        """Open the socket, in another namespace through the helper (see Reach)."""
        if namespace == self.own:
            return helper.open_route()
        return socket.socket(fileno=self._open(helper.ROUTE, namespace))

    def devices(self, namespace: int) -> dict[int, str]:
        """List the devices, those of another namespace through the helper (see Reach)."""
        if namespace == self.own:
            return dict(socket.if_nameindex())
        return {int(index): name for index, name in json.loads(self._ask(helper.DEVICES, namespace)[0]).items()}

    def counters(self, namespace: int) -> tuple[list[int], bytes]:
        """Open the descriptors, in another namespace through the helper (see Reach)."""
        if namespace == self.own:
            return proc_walk.open_counters(), proc_walk.limits()
        data, fds = self._ask(helper.COUNTERS, namespace, 1)
        return with_room(fds), data

    def socket_counts(self, namespace: int) -> list[int]:
        """Open the descriptors, in another namespace through the helper (see Reach)."""
        if namespace == self.own:
            return proc_walk.open_socket_counts()
        return self._ask(helper.COUNTERS, namespace, proc_walk.SOCKET_COUNTS_ALONE)[1]

    def limits(self, namespace: int) -> bytes:
        """Read them, in another namespace through the helper (see Reach)."""
        return proc_walk.limits() if namespace == self.own else self._ask(helper.COUNTERS, namespace)[0]

    def descriptors(self) -> Records:
        """Have the helper scan /proc; when it is gone, scan in this process (see Reach)."""
        try:
            return np.frombuffer(self._ask(helper.SCAN)[0], OWNER)
        except Unsupported:
            return scan_descriptors()

    def hidden_descriptors(self) -> Records:
        """Have the helper scan /proc; when it is gone, scan in this process (see Reach)."""
        try:
            return np.frombuffer(self._ask(helper.HIDDEN)[0], OWNER)
        except Unsupported:
            return scan_hidden_descriptors()

    def neighbours(self, below_too: bool) -> list[dict[str, Any]]:
        """Return the other sock_ops programs that share sockets with ours, as the helper finds them (see Reach)."""
        found: list[dict[str, Any]] = json.loads(self._ask(helper.NEIGHBOURS, argument=int(below_too))[0])
        return found

    def attach_again(self) -> tuple[int, int]:
        """Have the helper attach (see Reach)."""
        try:
            data, fds = self._ask(helper.ATTACH_AGAIN)
        except Unsupported as gone:
            raise Unsupported("the helper is gone, which attaches", START_AGAIN) from gone
        if fds:
            return helper.NUMBER.unpack(data)[0], fds[0]
        holds = json.loads(data)[0]
        raise Unsupported(
            f"the sock_ops program {holds['name']} (id {holds['id']}) holds {holds['where']} for itself",
            "it is attached as soon as that one is gone",
        )

    def set_flags(self, asked: Records) -> NDArray[np.int32]:
        """Have the helper set them (see Reach)."""
        return np.frombuffer(self._ask(helper.SET_FLAGS, argument=len(asked), behind=asked.tobytes())[0], np.int32)

    def statistics(self) -> int:
        """Return the descriptor, which the helper opens (see Reach)."""
        return self._ask(helper.STATISTICS)[1][0]

    def close_connection(self, namespace: int, family: int, sockid: bytes) -> None:
        """Close the connection that ``sockid`` names: a struct inet_diag_sockid with its cookie.

        Raises OSError (EPERM without --allow-close, ENOENT where it is gone), and Unsupported when the helper is gone.
        """
        self._ask(helper.CLOSE, namespace, family, sockid)

    def close(self) -> None:
        """Close the connection to the helper, which resets the callback flags that were set, if any, and exits."""
        self._helper.close()


def of_child(child: LoaderProcess) -> HelperAccess:
    """Return the Reach through a loader that has become the helper."""
    return HelperAccess(child.process, child.connection)


def widest(want_helper: bool = True, may_close: bool = False) -> NamespaceAccess:
    """Return the Reach for a source without BPF: through a helper of its own where possible, else without one.

    A helper takes privilege and a distribution's Python to run it. ``may_close``: let it close connections.
    """
    found = interpreters()
    if want_helper and is_privileged() and found:
        again = partial(start, found[0], HELPER, "1" if may_close else "0")
        return HelperAccess(*again(), again)
    return InProcessAccess()
