"""A Textual driver that counts the bytes it writes and never blocks on a slow terminal."""

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
"""Bytes waiting to be written above which drawing is suspended: about one tick on a large screen."""

CHUNK = 1024
"""Maximum number of bytes per write(2)."""

LAST_WORDS_S = 1.0
"""Maximum seconds to write what remains at the end: a blocked terminal must not keep the program from exiting."""


class Cropped(ChopsUpdate):
    """An update of only the changed cells; Textual's own begins at the left edge of their widget."""

    def render_segments(self, console: Console) -> str:
        """Return the escape sequences and cells to write."""
        found = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is not None and start < stop:
                    there = Control.move_to(start, y).segment.text
                    found.append(there + strip.crop(start - x, stop - x).render(console))
        return "".join(found)


def cropped(update: RenderableType | None) -> RenderableType | None:
    """Return a partial update reduced to the changed cells; anything else unchanged."""
    if not isinstance(update, ChopsUpdate):
        return update
    return Cropped(update.chops, update.spans, update.chop_ends)


class TerminalWriter(WriterThread):
    """A thread that writes to the terminal at its pace.

    ``full`` and ``drained`` are called alternately, from any thread.
    """

    def __init__(self, file: IO[str], full: Callable[[], None], drained: Callable[[], None]) -> None:
        """Take the terminal, and what to call when more than FULL bytes wait (``full``) and when none do."""
        super().__init__(file)
        self._fd = file.fileno()
        self._full, self._drained = full, drained
        self._chunks: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._is_full = self._ending = False
        self.waiting = 0
        self.written = 0

    def write(self, text: str) -> None:
        """Queue text for writing; never blocks."""
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
        """Write queued text until ``stop`` is called and all is written, or the terminal is gone."""
        with suppress(OSError):  # EIO: the terminal is gone
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
        """End the thread once all is written, or after LAST_WORDS_S."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self.join(LAST_WORDS_S)


class Hangup:
    """Calls ``gone``, from a thread of its own, once one of some terminals hangs up. SIGHUP alone is not enough.

    The kernel sends SIGHUP to the session whose controlling terminal it was, but not to processes below ``su -c``,
    which starts a session without one (tty_vhangup(), __tty_hangup_session_signal()).
    """

    def __init__(self, fds: set[int], gone: Callable[[], None]) -> None:
        """Take the file descriptors of the terminals and the callback, and start the thread."""
        self._gone = gone
        self._over, self._close_to_end = os.pipe()
        self._poll = select.poll()
        for fd in fds:
            self._poll.register(fd, 0)  # POLLHUP and POLLERR are always reported
        self._poll.register(self._over, 0)
        self._thread = threading.Thread(target=self._wait, name="hangup", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        found = dict(self._poll.poll())
        if self._over not in found and any(event & (select.POLLHUP | select.POLLERR) for event in found.values()):
            self._gone()

    def close(self) -> None:
        """Stop watching and join the thread; not to be called from that thread."""
        os.close(self._close_to_end)
        self._thread.join()
        os.close(self._over)


class TerminalDriver(LinuxDriver):
    """A driver that posts messages when the output is slower than drawing, and when the terminal is gone."""

    _hangup: Hangup | None = None

    class Gone(Message):
        """The terminal is gone."""

    class Full(Message):
        """More than FULL bytes wait to be written: stop drawing."""

    class Drained(Message):
        """No bytes wait any more: draw again."""

    @property
    def written(self) -> int:
        """Bytes written to the terminal so far."""
        return self._writer_thread.written if isinstance(self._writer_thread, TerminalWriter) else 0

    def start_application_mode(self) -> None:
        """Start as Textual does, then replace its writer thread and watch for a hangup."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self._writer_thread is not None and self._file is not None:
            self._writer_thread.stop()
            self._writer_thread = TerminalWriter(self._file, self._tell_full, self._tell_drained)
            self._writer_thread.start()
            self._hangup = Hangup({self.fileno, self._file.fileno()}, self._tell_gone)

    def stop_application_mode(self) -> None:
        """Stop watching for a hangup, then stop as Textual does."""
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
        """Report clicks and the wheel only: motion is not used, and each report would be sent over the line."""
        if self._mouse:
            self.write("\x1b[?1000h\x1b[?1006h")  # SET_VT200_MOUSE, SET_SGR_EXT_MODE_MOUSE

    def _disable_mouse_support(self) -> None:
        if self._mouse:
            self.write("\x1b[?1000l\x1b[?1006l")
