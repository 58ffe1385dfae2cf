"""What a source of snapshots is, and the one that stands in for another."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot


class EndOfSource(Exception):
    """A recording has come to its end: there are no more snapshots."""


class Source(Protocol):
    """A source of snapshots. It is used by one thread."""

    name: str  # as --source has it

    def poll(self) -> Snapshot:
        """Return the present snapshot. Its arrays are written again at the second next call.

        Raises Failed when the kernel can no longer be asked; EndOfSource at the end of a recording.
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


class AnnotatedSource:
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
