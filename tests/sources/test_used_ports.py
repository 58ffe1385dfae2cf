"""Local ports counted by destination: what takes one, and what can be used again."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.enums import State
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import Records
from tcptop_ops.sources.used_ports import UsedPorts, used
from tests.support.fakes import flow, records

YOUNG, OLD = 59_500_000, 30_000_000
DOOR = ("10.0.0.2", 443)


def limits(**told: int) -> Records:
    row = np.zeros(1, NETNS)
    for name, value in ({"netns": 7, "port_low": 40000, "port_high": 40009, "tw_reuse": 2} | told).items():
        row[name] = value
    return row


def sockets(count: int, first: int = 40000, local: str = "10.0.0.1", **rest: Any) -> Records:
    made = [flow(n, netns=7, local=(local, first + n), **{"peer": DOOR} | rest) for n in range(count)]
    found: Records = records(made)[0]
    return found


def waiting(count: int, timer_us: int = OLD, **rest: Any) -> Records:
    return sockets(count, state=State.TIME_WAIT, timer_us=timer_us, **rest)


def counts(found: Records) -> list[tuple[int, int, int]]:
    return [(int(one["rport"]), int(one["time_wait"]), int(one["open"])) for one in found]


def test_open_ones_and_those_in_time_wait_are_counted_together() -> None:
    assert counts(used(limits(), waiting(3), sockets(5, 40003))) == [(443, 3, 5)]
    assert counts(used(limits(), waiting(3), sockets(4, 40003))) == []


def test_what_can_be_used_again_is_left_out() -> None:
    none = sockets(0)
    near: dict[str, Any] = {"local": "127.0.0.1", "peer": ("127.0.0.1", 443)}
    six: dict[str, Any] = {"local": "::1", "peer": ("::1", 443)}
    assert counts(used(limits(), waiting(10), none)) == [(443, 10, 0)]
    assert counts(used(limits(tw_reuse=1), waiting(10), none)) == []
    assert counts(used(limits(tw_reuse=1), waiting(10, YOUNG), none)) == [(443, 10, 0)]
    for loopback in (near, six):
        assert counts(used(limits(), waiting(10, **loopback), none)) == []
        assert counts(used(limits(), waiting(10, YOUNG, **loopback), none)) == [(443, 10, 0)]
        assert counts(used(limits(tw_reuse=0), waiting(10, **loopback), none)) == [(443, 10, 0)]


def test_other_ports_addresses_and_namespaces_do_not_count() -> None:
    none = sockets(0)
    assert counts(used(limits(), none, sockets(10, 50000))) == []
    assert counts(used(limits(), none, np.concatenate([sockets(5), sockets(5, 40005, local="10.0.0.9")]))) == []
    elsewhere = sockets(10)
    elsewhere["netns"] = 8
    assert counts(used(limits(), none, elsewhere)) == []
    assert counts(used(limits(), none, sockets(10, state=State.LISTEN))) == []


def test_one_that_becomes_crowded_is_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the others rest, and it is told no longer than it is crowded."""
    counter, asked = UsedPorts(cast(NamespaceAccess, None)), []

    def count(_: UsedPorts, namespace: int, row: Records, live: Records) -> Records:
        asked.append(namespace)
        return used(row, live[:0], live)

    monkeypatch.setattr(UsedPorts, "_count", count)
    monkeypatch.setattr("tcptop_ops.sources.used_ports.COUNT_REST", 1e9)
    first, second = limits(), limits()
    second["netns"] = 8
    here, there = sockets(10), sockets(10)
    there["netns"] = 8
    assert counts(counter.read(first, here)) == [(443, 0, 10)]
    both = np.concatenate([here, there])
    for _ in range(2):
        assert len(counter.read(np.concatenate([first, second]), both)) == 2
    assert asked == [7, 8]
    assert len(counter.read(np.concatenate([first, second]), here)) == 1
