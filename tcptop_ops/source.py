"""Whatever can be asked for the next Snapshot, and which of them this host can offer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from tcptop_ops.errors import Unsupported
from tcptop_ops.snapshot import Records, Snapshot

if TYPE_CHECKING:
    from tcptop_ops.bpf.launch import Options, Pending


Opened = TypeVar("Opened")


class Over(Exception):
    """A source that is no kernel has no more snapshots."""


class Source(Protocol):
    """A source of snapshots. It is used by one thread."""

    name: str

    def poll(self) -> Snapshot:
        """What the kernel says now. Raises Failed when it no longer can; Over at the end of a recording."""
        ...

    def drain(self) -> None:
        """Take in what can't wait for the next poll: called between two, at least four times a second."""
        ...

    def watch(self, cookie: int) -> None:
        """Look closer at this connection from the next poll on; 0: at none."""
        ...

    def measure(self, on: bool) -> None:
        """Have the kernel measure what the program costs, or no longer. Does nothing where that can't be."""
        ...

    def close_connection(self, sock: Records) -> None:
        """Close the connection of this SOCKET row, by its cookie, in its network namespace: its peer gets a reset.

        Raises Failed where it is gone, or that was not allowed at the start; Unsupported where it can't be done.
        """
        ...

    def close(self) -> None:
        """Leave the kernel as it was. May be called twice."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A source that says itself when it is to be polled."""

    @property
    def pace_s(self) -> float:
        """From the last poll to the next one; 0: at once."""
        ...


class Noted:
    """A source that stands in for another one: each of its snapshots says why."""

    def __init__(self, source: Source, note: str) -> None:
        self._source = source
        self._note = note
        self.name = source.name

    def poll(self) -> Snapshot:
        """See Source."""
        snapshot = self._source.poll()
        return replace(snapshot, notes=(self._note, *snapshot.notes))

    def drain(self) -> None:
        """See Source."""
        self._source.drain()

    def watch(self, cookie: int) -> None:
        """See Source."""
        self._source.watch(cookie)

    def measure(self, on: bool) -> None:
        """See Source."""
        self._source.measure(on)

    def close_connection(self, sock: Records) -> None:
        """See Source."""
        self._source.close_connection(sock)

    def close(self) -> None:
        """See Source."""
        self._source.close()


def open_source(name: str, options: Options, pending: Pending | None = None) -> Source:
    """The source of this name; for "auto" sockops, and sockdiag with a note of the reason where that can't be.

    Privilege ends here: what still needs some was handed over, or is the helper's. ``pending``: what ``launch.begin``
    returned. Raises Unsupported, Usage or Failed.
    """
    from tcptop_ops.privilege import give_up

    source = _open(name, options, pending)
    kept = give_up()
    return Noted(source, kept) if kept else source


def without_root(source: Opened) -> Opened:
    """What is open already, and never needed root: what is left of it ends here."""
    from tcptop_ops.privilege import give_up

    give_up()
    return source


def _open(name: str, options: Options, pending: Pending | None) -> Source:
    if name == "sockdiag":
        return _sockdiag(options)
    from tcptop_ops.bpf.source import SockOpsSource

    try:
        return SockOpsSource(options, pending)
    except Unsupported as reason:
        if name == "sockops" or options.cgroup is not None:
            raise
        hint = f" ({reason.hint})" if reason.hint else ""
        return Noted(_sockdiag(options), f"polled only: {reason.message}{hint}")


def _sockdiag(options: Options) -> Source:
    from tcptop_ops.processes import polled_owners
    from tcptop_ops.reach import widest
    from tcptop_ops.sockdiag import SockDiagSource
    from tcptop_ops.sweep import EveryNamespace

    reach = widest(options.helper, options.may_close)
    return SockDiagSource(EveryNamespace(reach), polled_owners(reach.descriptors), reach)
