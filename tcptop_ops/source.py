"""What a source of snapshots is, and the choice of the one that this host supports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from tcptop_ops.errors import Unsupported
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot

if TYPE_CHECKING:
    from tcptop_ops.bpf.attach import Options, Pending


Opened = TypeVar("Opened")


class Over(Exception):
    """A recording has come to its end: there are no more snapshots."""


class Source(Protocol):
    """A source of snapshots. It is used by one thread."""

    name: str  # as --source has it

    def poll(self) -> Snapshot:
        """Return the present snapshot. Its arrays are written again at the second next call.

        Raises Failed when the kernel can no longer be asked; Over at the end of a recording.
        """
        ...

    def drain(self) -> None:
        """Empty the kernel's ring buffer before it overflows; called at least four times a second between polls."""
        ...

    def watch(self, cookie: int) -> None:
        """Gather the details (``story``, ``seen``) of this connection from the next poll on; 0: of none."""
        ...

    def measure(self, on: bool) -> None:
        """Switch the kernel's measurement of the program's run time on or off; does nothing where it has none."""
        ...

    def close_connection(self, sock: Records) -> None:
        """Close the connection of this SOCKET row, found by cookie and network namespace. Its peer gets a reset.

        Raises Failed where it is gone or --allow-close was not given; Unsupported where this source can close none.
        """
        ...

    def close(self) -> None:
        """Detach and release everything. May be called twice."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A source that itself decides when it is polled, such as a recording."""

    @property
    def pace_s(self) -> float:
        """Seconds from the last poll to the next one; 0: at once."""
        ...


class Noted:
    """A source whose snapshots carry a further note, such as why it stands in for another one."""

    def __init__(self, source: Source, note: str) -> None:
        """Wrap ``source``; ``note``, one line, comes first among the notes of each snapshot."""
        self._source = source
        self._note = note
        self.name = source.name

    def poll(self) -> Snapshot:
        """Poll, and add the note (see Source)."""
        snapshot = self._source.poll()
        return replace(snapshot, notes=(self._note, *snapshot.notes))

    def drain(self) -> None:
        """Pass on (see Source)."""
        self._source.drain()

    def watch(self, cookie: int) -> None:
        """Pass on (see Source)."""
        self._source.watch(cookie)

    def measure(self, on: bool) -> None:
        """Pass on (see Source)."""
        self._source.measure(on)

    def close_connection(self, sock: Records) -> None:
        """Pass on (see Source)."""
        self._source.close_connection(sock)

    def close(self) -> None:
        """Pass on (see Source)."""
        self._source.close()


def open_source(name: str, options: Options, pending: Pending | None = None) -> Source:
    """Open the source of this name, and drop root: what still needs privilege is done by the helper.

    "auto" is sockops or, where that is unsupported, sockdiag with a note that says why. ``pending``: what
    ``launch.begin`` returned. Raises Unsupported, Usage or Failed.
    """
    from tcptop_ops.privilege import give_up

    source = _open(name, options, pending)
    kept = give_up()
    return Noted(source, kept) if kept else source


def without_root(source: Opened) -> Opened:
    """Drop root, and return ``source``: one that is open already and needs no privilege, such as a recording."""
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
