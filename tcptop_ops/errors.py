"""Errors that a user can do something about: told in one line with a hint, each kind with its own exit status."""

from __future__ import annotations


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
