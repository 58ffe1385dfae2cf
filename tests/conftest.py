"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")  # a helper that asserts tells as much as a test does
settings.register_profile("no deadline", deadline=None)  # a time is measured in a benchmark, never asserted
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the screen looks like is not the business of whoever runs the tests."""
    for name in ("NO_COLOR", "COLORFGBG", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("TCPTOP_NO_CONFIG", "1")
