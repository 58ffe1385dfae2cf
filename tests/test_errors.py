"""What is told where the system has no room for more."""

from __future__ import annotations

import errno
import threading

import pytest

from tcptop_ops.errors import LIMITS_HINT, NO_THREAD, exhausted


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "there is not enough memory"),
        (OSError(errno.EMFILE, "Too many open files"), "a limit was reached: Too many open files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "a limit was reached: Cannot allocate memory"),
        (RuntimeError(NO_THREAD), "no thread can be started"),
    ],
)
def test_a_limit_is_told_in_a_line(error: Exception, told: str) -> None:
    found = exhausted(error)
    assert found is not None
    assert (found.message, found.hint, found.exit_code) == (told, LIMITS_HINT, 1)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), RuntimeError("else"), ValueError()])
def test_what_is_no_limit_is_none(error: Exception) -> None:
    assert exhausted(error) is None


def test_python_says_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are the only sign; a stack that can't be had is refused alike."""
    before = threading.stack_size()
    try:
        threading.stack_size(1 << 46)
        with pytest.raises(RuntimeError) as raised:
            threading.Thread(target=int).start()
        assert exhausted(raised.value) is not None
    finally:
        threading.stack_size(before)
