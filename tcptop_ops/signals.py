"""SIGINT, SIGTERM and SIGHUP where there is no screen: the loop ends, even one that is stuck in writing."""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 1.0
"""So long has a reader to take what is being written; a second signal does not wait."""


class Interrupted(Exception):
    """A signal came while something was being written, and nobody took it."""


class Stop:
    """Set by a signal.

    No ``threading.Event``: its ``set`` takes a lock that the thread may hold which the signal interrupts. Here it is
    one byte into a pipe.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._is_set = self._writing = False

    def set(self) -> None:
        """From a signal handler too."""
        self._is_set = True
        with suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Until it is set, at most this long. True if it is."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(math.ceil(max(seconds, 0.0) * 1000))
        return self._is_set

    def at_signals(self) -> Stop:
        """Be set by what asks a program to end; one that is ignored already stays so: nohup(1)."""
        signal.signal(signal.SIGALRM, self._out_of_patience)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._asked)
        return self

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is done within may be cut short after a signal: raises Interrupted."""
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
