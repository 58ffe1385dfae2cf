"""At which listener a connection came in: by hand, and as the kernel's own order of looking has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.model.enums import State
from tcptop_ops.model.listeners import Listeners, among
from tcptop_ops.model.records import SOCKET, Records
from tests.support.fakes import packed

V4, V6 = 2, 10


def rows(*bound: tuple[Any, ...]) -> Records:
    """Family, address, port, then perhaps device and namespace."""
    made = np.zeros(len(bound), SOCKET)
    for at, (family, address, port, *rest) in enumerate(bound):
        made[at]["family"], made[at]["laddr"], made[at]["lport"] = family, packed(address), port
        made[at]["ifindex"] = rest[0] if rest else 0
        made[at]["netns"] = rest[1] if len(rest) > 1 else 1
    return made


DOORS = rows(
    (V4, "10.0.0.1", 80),
    (V4, "0.0.0.0", 80),
    (V6, "::", 80),
    (V6, "2001:db8::1", 80),
    (V4, "0.0.0.0", 80, 7),
    (V6, "::", 81),
    (V4, "0.0.0.0", 80, 0, 2),
)


@pytest.mark.parametrize(
    ("came", "door"),
    [
        ((V4, "10.0.0.1", 80), 0),
        ((V4, "10.0.0.2", 80), 1),
        ((V6, "10.0.0.1", 80), 2),  # IPv4 packets to an IPv6 socket
        ((V6, "2001:db8::1", 80), 3),
        ((V6, "2001:db8::2", 80), 2),
        ((V4, "10.0.0.2", 80, 7), 4),
        ((V4, "10.0.0.1", 80, 7), 0),  # the address decides before the device
        ((V4, "10.0.0.2", 80, 8), 1),
        ((V6, "10.9.9.9", 81), 5),
        ((V4, "10.9.9.9", 81), None),  # its listener had an IPv4 socket, and is gone
        ((V4, "10.0.0.1", 80, 0, 2), 6),
        ((V4, "10.0.0.1", 80, 0, 3), None),
        ((V4, "10.0.0.1", 82), None),
    ],
)
def test_the_listener_of_an_address(came: tuple[Any, ...], door: int | None) -> None:
    listeners = Listeners(DOORS)
    assert listeners.of(rows(came)).tolist() == [-1 if door is None else listeners.group[door]]


def test_listeners_of_one_address_are_a_group() -> None:
    listeners = Listeners(rows((V4, "0.0.0.0", 80), (V4, "10.0.0.1", 80), (V4, "0.0.0.0", 80)))
    assert len(listeners) == 2
    assert listeners.group[0] == listeners.group[2] != listeners.group[1]
    assert listeners.groups_of(rows((V4, "10.0.0.1", 80), (V4, "10.0.0.2", 80))).tolist() == [listeners.group[1], -1]


def test_none() -> None:
    assert among(DOORS).of(DOORS).tolist() == [-1] * len(DOORS)
    listening = DOORS.copy()
    listening["state"] = State.LISTEN
    assert among(listening).of(DOORS[:0]).tolist() == []
