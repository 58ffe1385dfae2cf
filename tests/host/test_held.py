"""Which of several holders a socket belongs to: against a slow reference, and by hand."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.host.held import Held, Indices, Mask
from tcptop_ops.model.records import OWNER, Records

HELD = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(5, 6), st.integers(0, 1)), max_size=25)
Holder = tuple[int, int, int, int]
SERVER, WORKER, LEAKED, INETD = (10, 100, 3, 7), (11, 200, 3, 7), (12, 300, 3, 8), (13, 250, 0, 9)
"""Pid, start, descriptor, image."""


def descriptors(cookie: int, *holders: Holder) -> Records:
    made = np.zeros(len(holders), OWNER)
    for at, (pid, start, descriptor, image) in enumerate(holders):
        made[at]["cookie"], made[at]["inode"], made[at]["pid"], made[at]["start_ns"] = cookie, cookie, pid, start
        made[at]["fd"], made[at]["image"], made[at]["comm"] = descriptor, image, b"p%d" % pid
    return made


def owner(accepted: bool, caller: int, *holders: Holder) -> int:
    held = Held(descriptors(5, *holders), "cookie")
    found, known = held.of(
        np.array([5], "u8"), np.array([caller], "u4"), lambda rows: np.full(len(rows), accepted, np.bool_)
    )
    assert known.tolist() == [True]
    assert found["holders"].tolist() == [len({holder[0] for holder in holders})]
    return int(found["pid"][0])


@pytest.mark.parametrize(
    ("holders", "dialled", "accepted"),
    [
        ([SERVER], 10, 10),
        ([SERVER, WORKER], 10, 11),  # it forks after accept(), and keeps a copy
        ([SERVER, LEAKED], 10, 10),
        ([SERVER, WORKER, LEAKED], 10, 11),
        ([WORKER, LEAKED], 11, 11),
        ([LEAKED], 12, 12),  # who else
        ([SERVER, INETD], 10, 13),  # as standard input
        ([SERVER, (14, 400, 9, 8)], 10, 14),  # handed over: another number
        ([(0xFFFFFFF0, 100, 3, 7), (11, 100, 3, 7)], 11, 0xFFFFFFF0),  # started in one tick: the lower number first
    ],
)
def test_one_of_several(holders: list[Holder], dialled: int, accepted: int) -> None:
    for order in (holders, holders[::-1]):
        assert owner(False, 0, *order) == dialled
        assert owner(True, 0, *order) == accepted
    assert owner(True, 9, *holders) == accepted, "who called and does not hold it is not meant"


def test_who_called_is_meant_while_it_holds_it() -> None:
    assert owner(False, 11, SERVER, WORKER, LEAKED) == 11
    assert owner(True, 10, SERVER, WORKER) == 10
    assert owner(False, 9, SERVER, WORKER) == 10


@pytest.mark.parametrize("key", ["cookie", "inode"])
@given(held=HELD)
def test_against_a_slow_reference(key: str, held: list[tuple[int, int, int, int]]) -> None:
    """The start of a process rises against its number; odd sockets were accepted; one of four called."""
    rows = np.concatenate(
        [np.zeros(0, OWNER), *(descriptors(one, (pid, 1000 - pid, fd, image * pid)) for one, pid, fd, image in held)]
    )
    by_socket: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    for one, pid, fd, image in sorted(held, key=lambda row: (row[0], row[1], row[2])):
        by_socket[one].setdefault(pid, (fd, image * pid))
    wanted = {}
    for one, holders in by_socket.items():
        oldest = max(holders)
        its = holders[oldest]
        workers = [pid for pid, (fd, image) in holders.items() if fd != its[0] or image == its[1]]
        wanted[one] = 2 if 2 in holders else min(workers) if one % 2 else oldest
    made = Held(rows, key)
    assert made.keys.tolist() == sorted(by_socket)
    asked = np.arange(1, 8, dtype="u8")

    def are_accepted(which: Indices) -> Mask:
        found: Mask = asked[which] % 2 == 1
        return found

    found, known = made.of(asked, np.full(7, 2, "u4"), are_accepted)
    assert asked[known].tolist() == sorted(by_socket)
    if not any(len({row[2:] for row in held if row[:2] == pair}) > 1 for pair in {row[:2] for row in held}):
        assert dict(zip(asked[known].tolist(), found["pid"].tolist(), strict=True)) == wanted
    assert found["holders"].tolist() == [len(by_socket[one]) for one in sorted(by_socket)]
