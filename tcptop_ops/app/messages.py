"""What other threads tell the application: each of these is posted from a thread, and handled in the event loop."""

from __future__ import annotations

from textual.message import Message

from tcptop_ops.errors import TcptopError


class Published(Message):
    """There is a view to take. Newer ones replace it until it is taken: frames are left out, not queued."""


class Died(Message):
    """The source has failed, and the thread has ended."""

    def __init__(self, error: TcptopError) -> None:
        """Set up with what went wrong."""
        super().__init__()
        self.error = error


class Alarmed(Message):
    """The last minutes are worth saving."""

    def __init__(self, why: str) -> None:
        """Set up with the reason, in words."""
        super().__init__()
        self.why = why


class NamesCame(Message):
    """There are more names, or fewer."""


class CloseTried(Message):
    """The kernel was asked to close a connection."""

    def __init__(self, who: str, error: TcptopError | None) -> None:
        """Set up with the connection, in words, and with why it was not closed; None: it was."""
        super().__init__()
        self.who = who
        self.error = error


class Stopped(Message):
    """The recording that is played has come to its end."""
