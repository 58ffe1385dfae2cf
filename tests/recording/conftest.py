"""A recording to play."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.recordings import record, world


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    shots = [world(second) for second in (0, 1, 2, 4, 5)]
    record(tmp_path / "r", shots)
    return tmp_path / "r"
