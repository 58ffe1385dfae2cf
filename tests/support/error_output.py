"""What the program tells on standard error when it refuses."""

from __future__ import annotations


def assert_told(status: int, stderr: str, wanted: int, message: str) -> None:
    """Assert one line of what happened, one of what to do, nothing else, and the exit status."""
    lines = stderr.splitlines()
    assert len(lines) == 2, stderr
    assert lines[0].startswith("tcptop-ops: ")
    assert message in lines[0]
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > len("hint: ")
    assert all(c == "\n" or c.isprintable() for c in stderr)
    assert status == wanted
