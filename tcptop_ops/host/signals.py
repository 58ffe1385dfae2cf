"""SIGINT, SIGTERM and SIGHUP for the outputs without a screen: they end the loop, even while a write blocks."""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask the program to end."""

GRACE_S = 1.0
"""How long a write may block after a signal, until it is interrupted; a second signal interrupts it at once."""


class Interrupted(Exception):
    """A write was interrupted: after a signal, nobody read what was being written."""


class Stop:
    """A flag that a signal sets and a loop waits for.

    In place of ``threading.Event``, whose ``set`` takes a lock: the interrupted thread may hold it, and a handler that
    waits for it would never return. ``set`` here writes a byte into a pipe.
    """

    def __init__(self) -> None:
        """Open the pipe, which is never closed: there is one Stop in a process."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._is_set = self._writing = False

    def set(self) -> None:
        """Set the flag and wake ``wait``. Safe in a signal handler."""
        self._is_set = True
        with suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait until the flag is set, for ``seconds`` at most; return whether it is."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(math.ceil(max(seconds, 0.0) * 1000))
        return self._is_set

    def at_signals(self) -> Stop:
        """Install handlers that set the flag for the signals in ENDING, and return this object.

        A signal that is ignored stays ignored, as nohup(1) expects. SIGALRM is used for the end of GRACE_S.
        """
        signal.signal(signal.SIGALRM, self._out_of_patience)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._asked)
        return self

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let signals end a write in this context: GRACE_S after the first it raises Interrupted, a second at once."""
        self._writing = True
        try:
            if self._is_set:
                signal.setitimer(signal.ITIMER_REAL, GRACE_S)
            yield
        finally:
            self._writing = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        again = self._is_set
        self.set()
        if again:
            self._out_of_patience(number, frame)
        elif self._writing:
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)

    def _out_of_patience(self, _number: int, _frame: FrameType | None) -> None:
        if self._writing:
            raise Interrupted
