"""Everything that can go wrong in a way a user can do something about: one line, a hint, an exit status."""

from __future__ import annotations


class TcptopError(Exception):
    """An error to be told in one line. ``hint`` says what to do; ``exit_code`` is the status of the process."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(TcptopError):
    """It failed while running."""

    exit_code = 1


class Usage(TcptopError):
    """The command line is wrong."""

    exit_code = 2


class Unsupported(TcptopError):
    """This host or this user can't do it; the hint is the remedy."""

    exit_code = 3
