"""What an iterator says, read into a buffer that grows."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from tcptop_ops.bpf.record_buffer import RecordBuffer
from tcptop_ops.model.records import OWNER, Records


def said(rows: Records) -> int:
    """A descriptor that says these rows."""
    near, far = os.pipe()

    def write() -> None:
        with os.fdopen(far, "wb") as file:
            file.write(rows.tobytes())

    threading.Thread(target=write, daemon=True).start()
    return near


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_all_rows_are_there_however_often_it_grew(count: int) -> None:
    rows = np.zeros(count, OWNER)
    rows["cookie"] = np.arange(1, count + 1)
    buffer = RecordBuffer(OWNER, 8)
    for _ in range(2):
        assert buffer.filled_from(said(rows))["cookie"].tolist() == rows["cookie"].tolist()


def test_rows_are_appended() -> None:
    first, second = np.zeros(5, OWNER), np.zeros(20, OWNER)
    first["pid"], second["pid"] = 1, 2
    buffer = RecordBuffer(OWNER, 8)
    filled = buffer.read(said(second), buffer.read(said(first), 0))
    assert buffer.records["pid"][:filled].tolist() == [1] * 5 + [2] * 20
