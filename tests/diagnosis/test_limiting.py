"""Small writes that wait for an acknowledgement, and what only looks like them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.case import MEMORY
from tcptop_ops.diagnosis.limiting import held_by_nagle, often_held, remember_nagle
from tcptop_ops.model.enums import State
from tests.support.fakes import flow, records

HELD: dict[str, Any] = {"notsent": 200, "send_q": 300, "unacked": 1, "snd_wnd": 65_535}


@pytest.mark.parametrize(
    ("told", "held"),
    [
        ({}, True),
        ({"nonagle": 8}, True),
        ({"nonagle": 8 | 1}, False),  # TCP_NODELAY
        ({"nonagle": 8 | 2}, False),  # TCP_CORK
        ({"notsent": 1448, "send_q": 1548}, False),
        ({"notsent": 1447, "send_q": 1547}, True),
        ({"unacked": 0, "send_q": 200}, False),
        ({"send_q": 200 + 1448}, False),  # behind a full segment
        ({"snd_wnd": 299}, False),
        ({"snd_wnd": 300}, True),
        ({"unacked": 10, "send_q": 1200}, False),  # cwnd is 10
        ({"retransmits": 1}, False),
        ({"ca_state": 3}, False),
        ({"state": State.LISTEN}, False),
    ],
)
def test_a_small_write_waits(told: dict[str, Any], held: bool) -> None:
    sockets, _, _ = records([flow(1, **HELD | told)])
    assert held_by_nagle(sockets).tolist() == [held]


def test_once_is_a_coincidence() -> None:
    held, free = records([flow(1, **HELD), flow(2)])[0], records([flow(1), flow(2)])[0]
    memory = np.zeros(2, MEMORY)
    for sockets, often in ((held, False), (free, False), (held, True), *[(free, True)] * 5, (free, False)):
        remember_nagle(memory, sockets, np.flatnonzero(sockets["notsent"]))
        assert often_held(memory).tolist() == [often, False]
