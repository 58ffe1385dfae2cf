"""Standard output and standard error: what is written there, and what happens when nobody reads."""

from __future__ import annotations

import os
import sys

from tcptop_ops.errors import Failed, TcptopError

PORTION = 1 << 16
"""Characters that are written at a time: a signal is answered in between."""


def require_stdout() -> None:
    """Raise Failed where the descriptor was closed before the start (``>&-``)."""
    if sys.stdout is None:
        raise Failed("standard output is closed", "> /dev/null throws the output away")


def write_out(text: str) -> None:
    """Write to standard output, at once. Raises BrokenPipeError where the reader has gone, Failed on a full disk."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise Failed(f"cannot write to standard output: {error.strerror}", "write to another file or pipe") from error


def tell(error: TcptopError) -> int:
    """Print to standard error what happened, and in a second line what to do. Return the exit status."""
    print(f"tcptop-ops: {one_line(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {one_line(error.hint)}", file=sys.stderr)
    return error.exit_code


def one_line(text: str) -> str:
    """Return the text without what would break the line or control the terminal: a path may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def silence_stdout() -> None:
    """Send standard output nowhere: when nobody reads, the flush at exit must neither complain nor wait."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
