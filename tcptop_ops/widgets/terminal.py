"""The terminal as Textual drives it; what is written is counted, and a slow line is not waited for."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from rich.console import Console, RenderableType
from rich.control import Control
from textual._compositor import ChopsUpdate
from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

FULL = 4096
"""Bytes that wait to be written, from which no more are made: a tick's worth on a large screen."""

CHUNK = 1024
LAST_WORDS_S = 1.0
"""So long may the last bytes take: a terminal that stands still must not keep the program."""


class Cropped(ChopsUpdate):
    """An update that writes the cells that changed, where Textual's begins at the left edge of their widget."""

    def render_segments(self, console: Console) -> str:
        """Positions and cells, as the terminal takes them."""
        found = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is not None and start < stop:
                    there = Control.move_to(start, y).segment.text
                    found.append(there + strip.crop(start - x, stop - x).render(console))
        return "".join(found)


def cropped(update: RenderableType | None) -> RenderableType | None:
    """The same update, if it is a part of the screen, with no more than what changed."""
    if not isinstance(update, ChopsUpdate):
        return update
    return Cropped(update.chops, update.spans, update.chop_ends)


class Writer(WriterThread):
    """Writes in a thread, whatever the terminal's pace. ``full`` and ``drained`` are called in turn, in any thread."""

    def __init__(self, file: IO[str], full: Callable[[], None], drained: Callable[[], None]) -> None:
        super().__init__(file)
        self._fd = file.fileno()
        self._full, self._drained = full, drained
        self._chunks: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._is_full = self._ending = False
        self.waiting = 0
        self.written = 0

    def write(self, text: str) -> None:
        """Have it written: never waits."""
        data = text.encode("utf-8", "replace")
        with self._changed:
            self._chunks.append(data)
            self.waiting += len(data)
            tell = self.waiting > FULL and not self._is_full
            self._is_full |= tell
            self._changed.notify()
        if tell:
            self._full()

    def run(self) -> None:
        """Until the end is asked for, and all is written; or nobody is there any more."""
        with suppress(OSError):  # EIO: the terminal has gone
            while (data := self._next()) is not None:
                for at in range(0, len(data), CHUNK):
                    self._write(data[at : at + CHUNK])

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._chunks:
                if self._ending:
                    return None
                self._changed.wait()
            return self._chunks.popleft()

    def _write(self, data: bytes) -> None:
        while data:
            count = os.write(self._fd, data)
            data = data[count:]
            with self._changed:
                self.written += count
                self.waiting -= count
                tell = self._is_full and not self.waiting
                self._is_full &= not tell
            if tell:
                self._drained()

    def stop(self) -> None:
        """End, once what waits is written, or LAST_WORDS_S have passed."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self.join(LAST_WORDS_S)


class Hangup:
    """Calls ``gone``, in a thread, when one of these terminals is. SIGHUP does not tell everybody.

    It goes to the session whose controlling terminal it was: not to what runs below ``su -c``, which begins a session
    without one (tty_vhangup(), __tty_hangup_session_signal()).
    """

    def __init__(self, fds: set[int], gone: Callable[[], None]) -> None:
        self._gone = gone
        self._over, self._close_to_end = os.pipe()
        self._poll = select.poll()
        for fd in fds:
            self._poll.register(fd, 0)  # POLLHUP comes unasked
        self._poll.register(self._over, 0)
        self._thread = threading.Thread(target=self._wait, name="hangup", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        found = dict(self._poll.poll())
        if self._over not in found and any(event & (select.POLLHUP | select.POLLERR) for event in found.values()):
            self._gone()

    def close(self) -> None:
        """Look no more. Not from its own thread."""
        os.close(self._close_to_end)
        self._thread.join()
        os.close(self._over)


class Terminal(LinuxDriver):
    """A driver whose output can be slower than what is drawn, and that tells when the terminal is gone."""

    _hangup: Hangup | None = None

    class Gone(Message):
        """Nobody sees this any more."""

    class Full(Message):
        """More waits than is worth drawing on."""

    class Drained(Message):
        """Nothing waits any more."""

    @property
    def written(self) -> int:
        """Bytes to the terminal so far."""
        return self._writer_thread.written if isinstance(self._writer_thread, Writer) else 0

    def start_application_mode(self) -> None:
        """As Textual does; from then on with a writer of our own."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self._writer_thread is not None and self._file is not None:
            self._writer_thread.stop()
            self._writer_thread = Writer(self._file, self._tell_full, self._tell_drained)
            self._writer_thread.start()
            self._hangup = Hangup({self.fileno, self._file.fileno()}, self._tell_gone)

    def stop_application_mode(self) -> None:
        """As Textual does."""
        if self._hangup is not None:
            self._hangup.close()
            self._hangup = None
        super().stop_application_mode()

    def _tell_full(self) -> None:
        self._app.post_message(self.Full())

    def _tell_gone(self) -> None:
        self._app.post_message(self.Gone())

    def _tell_drained(self) -> None:
        self._app.post_message(self.Drained())

    def _enable_mouse_support(self) -> None:
        """Clicks and the wheel: nothing here follows the pointer, and its every motion would cross the line."""
        if self._mouse:
            self.write("\x1b[?1000h\x1b[?1006h")  # SET_VT200_MOUSE, SET_SGR_EXT_MODE_MOUSE

    def _disable_mouse_support(self) -> None:
        if self._mouse:
            self.write("\x1b[?1000l\x1b[?1006l")
