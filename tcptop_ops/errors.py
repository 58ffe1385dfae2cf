"""Errors that a user can do something about: told in one line with a hint, each kind with its own exit status."""

from __future__ import annotations

import errno

LIMITS_HINT = "look at the limits of this user and service: ulimit -a, pids.max, memory.max"
"""What to do where the system has no room for another process, thread, descriptor or page."""


class TcptopError(Exception):
    """An error that ends the program, or an action, with a message. ``exit_code``: the exit status of the process."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        """Take the message, one line, and a hint that says what to do about it, "" for none."""
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(TcptopError):
    """Something failed while the program was running."""

    exit_code = 1


class Usage(TcptopError):
    """The command line is wrong."""

    exit_code = 2


class Unsupported(TcptopError):
    """This host does not support it, or this user may not do it; the hint says how to change that."""

    exit_code = 3


def exhausted(error: Exception) -> TcptopError | None:
    """Return what to tell of an error for want of memory, descriptors or threads; None for any other error."""
    if isinstance(error, MemoryError):
        return Failed("there is not enough memory", LIMITS_HINT)
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return Failed(f"a limit was reached: {error.strerror}", LIMITS_HINT)
    if isinstance(error, RuntimeError) and str(error) == NO_THREAD:
        return Failed("no thread can be started", LIMITS_HINT)
    return None


NO_THREAD = "can't start new thread"
"""What the RuntimeError says (Modules/_threadmodule.c)."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
