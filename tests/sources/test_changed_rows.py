"""Which sockets tell something else than at the last pass."""

from __future__ import annotations

import numpy as np
import pytest

from tcptop_ops.model.records import SOCKET
from tcptop_ops.sources.changed_rows import GOES_ON, changed_rows
from tests.support.fakes import flow, records


@pytest.mark.parametrize("count", [3, 5000])
def test_every_field_counts_but_what_goes_on_with_time(count: int) -> None:
    before, _, _ = records([flow(cookie + 1) for cookie in range(count)])
    for name in SOCKET.names or ():
        if name == "cookie":
            continue
        now = before.copy()
        now[name][count // 2] = b"x" if name == "cc" else 77
        assert changed_rows(now, before).tolist() == ([] if name in GOES_ON else [count // 2]), name
    assert changed_rows(before.copy(), before).tolist() == []


def test_in_another_order_with_some_that_came_and_went() -> None:
    before, _, _ = records([flow(cookie) for cookie in range(1, 3001)])
    now, _, _ = records([flow(cookie) for cookie in (9000, *range(3000, 10, -1))])
    now["cwnd"][5] += 1
    assert changed_rows(now, before).tolist() == [0, 5]
    assert changed_rows(now, before[:0]).tolist() == np.arange(len(now)).tolist()
    assert changed_rows(now[:0], before).tolist() == []
