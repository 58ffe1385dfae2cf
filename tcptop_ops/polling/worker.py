"""What feeds the screen from a thread of its own, whether it polls a source or plays a recording."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from tcptop_ops.errors import Failed, TcptopError, exhausted
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records

ResultCallback = Callable[[TcptopError | None], object]
"""Is called with what went wrong, or with None where nothing did."""


class Worker(Protocol):
    """Makes ticks in a thread of its own, from ``start`` until ``stop`` or an error.

    All methods may be called from any thread, at any time.
    """

    def start(self) -> None:
        """Start the thread. Once."""
        ...

    def stop(self) -> None:
        """End the thread and wait for it: it wakes at once, and finishes at most the poll that it is in."""
        ...

    def set_delay(self, delay_s: float) -> None:
        """Change the time between ticks, counted from the last one."""
        ...

    def watch(self, cookie: int) -> None:
        """Look closer at this connection (0: at none), at once."""
        ...

    def measure(self, on: bool) -> None:
        """Have the source measure what it costs in the kernel, from the next poll on."""
        ...

    def close_connection(self, sock: Records, tell: ResultCallback) -> None:
        """Have the connection of this SOCKET row closed; then poll at once.

        ``tell`` is called in the worker's thread, with what went wrong or None; never, once the worker has failed.
        """
        ...

    def poll_now(self) -> None:
        """Poll at once; the next tick comes one delay later."""
        ...


Feed = Callable[[Callable[[Flows], None], Callable[[TcptopError], None], float], Worker]
"""Makes the worker of a screen, of what takes its ticks, what hears that it failed, and the delay in seconds.

Both are called in the worker's thread; the second at most once, as the last call.
"""


class WorkerThread:
    """A thread that runs one function until that returns, and reports what the function raises."""

    def __init__(self, work: Callable[[], None], fail: Callable[[TcptopError], None]) -> None:
        """Take the function, which has to return soon after ``is_stopping``, and what hears of its error."""
        self._work = work
        self._fail = fail
        self._stopping = threading.Event()
        self.wake = threading.Event()
        """Set whenever the function should look what is asked of it; the function clears it."""
        self.thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def is_stopping(self) -> bool:
        """Return whether ``stop`` was called."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Start the thread. Once."""
        self.thread.start()

    def stop(self) -> None:
        """Wake the function, and wait for the end of the thread, unless it is the one that calls."""
        self._stopping.set()
        self.wake.set()
        if self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # the thread's last words: without them the screen would stand still, silently
            self._fail(as_failure(error))


def as_failure(error: Exception) -> TcptopError:
    """Return the error as one that can be told in one line; one that was not foreseen becomes the cause of it."""
    if isinstance(error, TcptopError):
        return error
    if (reached := exhausted(error)) is not None:
        return reached
    failure = Failed(f"{type(error).__name__}: {error}", "this is a bug in tcptop-ops: please report it")
    failure.__cause__ = error
    return failure
