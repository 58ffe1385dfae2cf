"""A recording as a Source, for the outputs without a screen. Needs no root, no kernel, no Linux."""

from __future__ import annotations

from dataclasses import replace

from tcptop_ops.errors import Failed, Unsupported
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.sources.base import EndOfSource

LONGEST_PAUSE_S = 3600.0
"""Between two ticks, however far apart they were recorded."""


class ReplaySource:
    """A Source that plays a recording once, at its own pace."""

    name = "replay"

    def __init__(self, path: str, speed: float = 1.0) -> None:
        """Open a file; ``speed``: how many times as fast; 0: without waiting.

        Raises Usage or Failed, also where not one snapshot can be read.
        """
        self._reader = RecordingReader(path)
        self._speed = speed
        self._coming = self._reader.snapshots()
        self._lost = 0
        self._now: Snapshot | None = None
        self._next = self._readable()
        if self._next is None:
            self._reader.close()
            raise unreadable(path, self._lost)

    @property
    def host(self) -> HostDescription:
        """The host that was recorded."""
        return self._reader.host

    def _readable(self) -> Snapshot | None:
        for snapshot in self._coming:
            if snapshot is not None:
                return snapshot
            self._lost += 1
        return None

    def poll(self) -> Snapshot:
        """Return the next snapshot. Raises EndOfSource at the end."""
        if self._next is None:
            raise EndOfSource
        now = self._next
        self._now, self._next = now, self._readable()
        return replace(now, notes=(*now.notes, lost(self._lost))) if self._lost else now

    @property
    def pace_s(self) -> float:
        """Seconds from the last poll to the one after it."""
        if self._now is None or self._next is None or not self._speed:
            return 0.0
        return gap_s(self._now, self._next) / self._speed

    def drain(self) -> None:
        """Do nothing: nothing waits to be drained."""

    def watch(self, cookie: int) -> None:
        """Do nothing: a recording holds the details of what was watched then."""

    def measure(self, on: bool) -> None:
        """Do nothing: there is no program that could be measured."""

    def close_connection(self, sock: Records) -> None:
        """Raise Unsupported: there is no connection."""
        raise cannot_close()

    def close(self) -> None:
        """See Source."""
        self._reader.close()


def gap_s(now: Snapshot, after: Snapshot) -> float:
    """Return the seconds from one tick to the next, as they were recorded."""
    return min(max(0.0, (after.now_ns - now.now_ns) / 1e9), LONGEST_PAUSE_S)


def lost(ticks: int) -> str:
    """Return the note about ticks that can't be read."""
    return f"{ticks} ticks of the recording can't be read"


def unreadable(path: str, ticks: int) -> Failed:
    """Return the error where not one tick can be read."""
    return Failed(f"{path} is damaged: not one of its {ticks} ticks can be read")


def cannot_close() -> Unsupported:
    """Return the error where a connection of a recording is to be closed."""
    return Unsupported("a connection of a recording can't be closed", "without --replay, on its own host")
