"""The other end of each connection: case by case, and against a slow reference over random histories."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.model.enums import State
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.partners import Partners, other_ends, partners_of
from tcptop_ops.tracking.slots import Slots
from tests.support.fakes import flow, records

Place = tuple[str, int]
A, B = ("10.0.0.1", 40000), ("10.0.0.2", 80)


def rows(*ends: tuple[Place, Place, int] | tuple[Place, Place, int, State]) -> Records:
    """SOCKET rows: local end, remote end, namespace, state."""
    made = []
    for cookie, (local, peer, netns, *state) in enumerate(ends, 1):
        more: dict[str, Any] = {"netns": netns, "state": state[0] if state else State.ESTABLISHED}
        made.append(flow(cookie, local=local, peer=peer, **more))
    return records(made)[0]


@pytest.mark.parametrize(
    ("one", "other", "spaces", "found"),
    [
        (A, B, (1, 2), True),  # veth, a bridge
        (A, B, (1, 1), True),  # two addresses of one namespace
        (("2001:db8::1", 40000), ("2001:db8::2", 80), (1, 2), True),
        (("fe80::1", 40000), ("fe80::2", 80), (1, 2), True),
        (("::ffff:10.0.0.1", 40000), B, (1, 2), True),
        (("127.0.0.1", 40000), ("127.0.0.1", 80), (1, 1), True),
        (("127.0.0.1", 40000), ("127.0.0.1", 80), (1, 2), False),
        (("127.0.0.2", 40000), ("127.3.0.1", 80), (1, 2), False),
        (("::ffff:127.0.0.1", 40000), ("127.0.0.1", 80), (1, 1), True),
        (("127.0.0.1", 40000), ("10.0.0.1", 80), (1, 1), True),
        (("127.0.0.1", 40000), ("10.0.0.1", 80), (1, 2), False),
        (("::1", 40000), ("::1", 80), (1, 1), True),
        (("::1", 40000), ("::1", 80), (1, 2), False),
        (("10.0.0.1", 40000), ("10.0.0.1", 80), (1, 1), True),
        (("10.0.0.1", 40000), ("10.0.0.1", 80), (1, 2), False),
        (("10.0.0.1", 80), ("10.0.0.2", 80), (1, 2), True),
    ],
)
def test_two_ends(one: Place, other: Place, spaces: tuple[int, int], found: bool) -> None:
    sockets = rows((one, other, spaces[0]), (other, one, spaces[1]))
    assert partners_of(sockets).tolist() == ([1, 0] if found else [-1, -1])


@pytest.mark.parametrize("state", [State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSE_WAIT, State.LAST_ACK, State.CLOSING])
def test_ends_that_are_closing(state: State) -> None:
    assert partners_of(rows((A, B, 1, state), (B, A, 2))).tolist() == [1, 0]


def test_what_has_no_other_end() -> None:
    listener = (("0.0.0.0", 80), ("0.0.0.0", 0), 2, State.LISTEN)
    to_itself = (A, A, 1)
    behind_nat = [(A, ("192.0.2.1", 80), 1), (B, ("10.0.0.254", 40000), 2)]
    assert (partners_of(rows(listener, listener, to_itself, *behind_nat)) == -1).all()
    attempt = (A, B, 1, State.SYN_SENT)
    assert partners_of(rows(attempt, (B, A, 2))).tolist() == [-1, -1]
    assert partners_of(rows()).tolist() == []
    assert partners_of(rows((A, B, 1))).tolist() == [-1]


def test_of_several_only_what_is_certain() -> None:
    everywhere = [(A, B, 1), (B, A, 2), (A, B, 3), (B, A, 4)]
    assert partners_of(rows(*everywhere)).tolist() == [-1, -1, -1, -1]
    assert partners_of(rows(*everywhere[:3])).tolist() == [-1, -1, -1]
    # Where one namespace has both ends, nothing leaves it; and then the other two are left.
    assert partners_of(rows((A, B, 1), (B, A, 1), *everywhere[2:])).tolist() == [1, 0, 3, 2]
    assert partners_of(rows((A, B, 1), (B, A, 1), (A, B, 3))).tolist() == [1, 0, -1]
    # Bound to two devices of one namespace, the same addresses and ports may be there twice.
    assert partners_of(rows((A, B, 1), (A, B, 1), (B, A, 1))).tolist() == [-1, -1, -1]
    loopback: tuple[Place, Place] = (("127.0.0.1", 4000), ("127.0.0.1", 80))
    many = [(one, other, netns) for netns in (1, 2, 3) for one, other in (loopback, loopback[::-1])]
    assert partners_of(rows(*many)).tolist() == [1, 0, 3, 2, 5, 4]


def test_other_ends_among_others() -> None:
    asked = rows((A, B, 1), (B, A, 2), (A, ("10.0.0.3", 80), 1))
    among = rows((("10.0.0.9", 1), B, 1), (("10.0.0.3", 80), A, 5))
    which, at = other_ends(asked, among)
    assert (which.tolist(), at.tolist()) == ([2], [1])


PLACES: list[Place] = [
    (address, port) for address in ("127.0.0.1", "10.0.0.1", "10.0.0.2", "::1", "2001:db8::1") for port in (80, 81)
]
CONNECTION = st.tuples(
    st.sampled_from(PLACES),
    st.sampled_from(PLACES),
    st.integers(1, 3),
    st.sampled_from([State.ESTABLISHED, State.SYN_SENT, State.FIN_WAIT1]),
)


def slowly(told: list[tuple[Place, Place, int, State]]) -> list[int]:
    """The same with loops."""
    by_ends: dict[tuple[Place, Place], list[int]] = defaultdict(list)
    for at, (local, remote, _, state) in enumerate(told):
        if local != remote and state != State.SYN_SENT:
            by_ends[local, remote].append(at)
    found = [-1] * len(told)
    for inside in (True, False):
        free = {ends: [at for at in some if found[at] < 0] for ends, some in by_ends.items()}
        for (local, remote), some in free.items():
            stays = local[0] == remote[0] or any(ipaddress.ip_address(end[0]).is_loopback for end in (local, remote))
            for at in some:
                ours, theirs = some, free.get((remote, local), [])
                if inside or stays:
                    ours, theirs = ([one for one in part if told[one][2] == told[at][2]] for part in (ours, theirs))
                if len(ours) == len(theirs) == 1:
                    found[at] = theirs[0]
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 12), CONNECTION), max_size=12), max_size=6))
def test_against_a_slow_reference(history: list[list[tuple[int, tuple[Place, Place, int, State]]]]) -> None:
    """A cookie that stays may have other ends: a socket that connects anew keeps its own."""
    partners, slots = Partners(), Slots()
    for tick in history:
        told = dict(tick)
        sockets = rows(*told.values())
        sockets["cookie"] = list(told)
        new = slots.assign(sockets["cookie"])
        places = slots.of_rows
        expected = slowly(list(told.values()))
        # Other addresses, while the ports are the same, are a new life, which the tracker tells.
        new |= True
        assert partners.update(sockets, sockets["state"], places, new).tolist() == expected
        assert partners.update(sockets, sockets["state"], places, np.zeros(len(new), np.bool_)).tolist() == expected
        assert partners_of(sockets).tolist() == expected


def test_what_is_remembered() -> None:
    """The same array where nothing changed; other ports, or an attempt that is established, are noticed."""
    partners, slots = Partners(), Slots()

    def update(sockets: Records) -> Any:
        new = slots.assign(sockets["cookie"])
        places = slots.of_rows
        return partners.update(sockets, sockets["state"], places, new)

    sockets = rows((A, B, 1, State.SYN_SENT), (B, A, 2), (("10.0.0.7", 5), ("10.0.0.8", 6), 1))
    assert update(sockets).tolist() == [-1, -1, -1]
    sockets["state"][0] = State.ESTABLISHED
    found = update(sockets.copy())
    assert found.tolist() == [1, 0, -1]
    sockets["retransmits"] = 3
    sockets["state"][1] = State.CLOSE_WAIT
    assert update(sockets.copy()) is found
    moved = sockets.copy()
    moved["lport"][0] += 1
    assert update(moved).tolist() == [-1, -1, -1]
    assert update(sockets).tolist() == [1, 0, -1]
    assert update(sockets[[2, 1, 0]]).tolist() == [-1, 2, 1]
    assert update(sockets[1:]).tolist() == [-1, -1]
    assert update(sockets[:0]).tolist() == []
