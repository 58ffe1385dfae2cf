"""Which frames are key frames: the rule of every sequence of frames, in a file and in memory. Pure."""

from __future__ import annotations

KEY_EVERY = 60
"""Ticks from one key frame to the next, at most: so many are read to show any of them, or lost with one."""


class KeyFramePolicy:
    """Says of the next frame of a sequence whether it has to be a key frame, by the frames that were added before it.

    The first one is, then each KEY_EVERY-th; and before that, where the sequence is kept within a size, as soon as the
    frames since the last key frame take more than ``most_bytes``: they are dropped together.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        """Take the bytes after which another key frame is due; None: however large."""
        self._most_bytes = most_bytes
        self._count = self._bytes = 0  # since the last key frame, that one included

    @property
    def is_due(self) -> bool:
        """Whether the next frame has to be a key frame."""
        is_large = self._most_bytes is not None and self._bytes > self._most_bytes
        return self._count == 0 or self._count >= KEY_EVERY or is_large

    def add(self, size: int, is_key: bool) -> None:
        """Count a frame of this many bytes, which was made and kept."""
        self._count = 1 if is_key else self._count + 1
        self._bytes = size if is_key else self._bytes + size

    def restart(self) -> None:
        """Forget all frames: a new sequence begins."""
        self._count = self._bytes = 0
