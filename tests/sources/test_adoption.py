"""Whom adoption asks, and what it makes of the answers."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from numpy.typing import NDArray

from tcptop_ops.bpf.attach import ALL_FLAGS, EVENT_FLAGS
from tcptop_ops.errors import Unsupported
from tcptop_ops.model.enums import FlagRequest, State
from tcptop_ops.model.records import EVENTS, OWNER, SOCKET, UNKNOWN_U32, Records
from tcptop_ops.sources import adoption
from tcptop_ops.sources.adoption import Adoption, Wish, asks, lacking, to_strip

RTT = 8
WISH = Wish(birth_flags=ALL_FLAGS, watched=0, reads_flags=True, adopts=True)


def sockets(*cookies: int, flags: int = 0, state: int = State.ESTABLISHED) -> Records:
    made = np.zeros(len(cookies), SOCKET)
    made["cookie"], made["cb_flags"], made["state"], made["inode"] = cookies, flags, state, 1
    return made


def events(count: int, first_ns: int = 0, found: int = 0) -> Records:
    made = np.zeros(count, EVENTS)
    made["first_ns"], made["found"] = first_ns, found
    return made


def held(*rows: tuple[int, int, int]) -> Records:
    made = np.zeros(len(rows), OWNER)
    for at, row in enumerate(rows):
        made["cookie"][at], made["pid"][at], made["fd"][at] = row
    return made


class Kernel:
    """Answers with what it is told to, 0 else, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Records] = []
        self.errors: dict[int, int] = {}
        self.refuses: Exception | None = None

    def __call__(self, asked: Records) -> NDArray[np.int32]:
        if self.refuses:
            raise self.refuses
        self.asked.append(asked)
        return np.array([self.errors.get(int(cookie), 0) for cookie in asked["cookie"]], np.int32)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("tcptop_ops.sources.adoption.time.monotonic", lambda: now[0])
    return now


def test_new_ones_come_first_and_no_listener_gets_the_per_packet_flags() -> None:
    there = sockets(1, 2, 3, 4, 5, flags=EVENT_FLAGS)
    there["state"][[1, 4]] = State.LISTEN, State.CLOSE
    known = events(5)
    known["first_ns"][0] = 1
    found, flags = lacking(there, known, Wish(ALL_FLAGS, 1, reads_flags=True, adopts=True))
    assert (found.tolist(), flags.tolist()) == ([1, 2, 3, 0], [EVENT_FLAGS] * 3 + [ALL_FLAGS])
    found, flags = lacking(there, known, Wish(ALL_FLAGS, 2, reads_flags=True, adopts=True))
    assert (found.tolist(), flags.tolist()) == ([1, 2, 3], [EVENT_FLAGS] * 3)


def test_flags_that_are_not_told_are_not_missed() -> None:
    known = events(1, first_ns=1)
    assert lacking(sockets(1), known, WISH)[0].tolist() == [0]
    assert lacking(sockets(1), known, Wish(ALL_FLAGS, 0, reads_flags=False, adopts=True))[0].tolist() == []
    waiting = sockets(1)
    waiting["inode"] = 0
    assert lacking(waiting, events(1), WISH)[0].tolist() == [], "no descriptor leads to it"


def test_only_ours_are_stripped_of_those_that_are_older() -> None:
    there = sockets(1, 2, 3, 4, flags=EVENT_FLAGS | RTT)
    known = events(4, first_ns=5)
    known["found"][1], known["first_ns"][2], known["first_ns"][3] = RTT, 9, 0
    assert to_strip(there, known, before_ns=9).tolist() == [1]


def test_each_try_is_at_another_holder() -> None:
    rows = held((1, 10, 3), (2, 10, 4), (1, 11, 3), (1, 12, UNKNOWN_U32), (0, 13, 5))
    cookies, flags = np.array([2, 1, 9], "u8"), np.full(3, EVENT_FLAGS, "u4")
    for tries, pid in ((0, 10), (1, 11), (2, 10)):
        found = asks(cookies, flags, np.full(3, tries), rows)
        assert found[["cookie", "pid", "fd"]].tolist() == [(2, 10, 4), (1, pid, 3)]


def test_one_that_is_done_is_not_asked_again_and_one_that_is_refused_neither(
    kernel: Kernel, clock: list[float]
) -> None:
    kernel.errors = {2: errno.EPERM, 3: errno.ESTALE, 4: errno.EAGAIN}
    there, rows = sockets(1, 2, 3, 4), held(*((cookie, 10 * cookie, 5) for cookie in (4, 3, 2, 1)))
    known = events(4)
    adopter = Adoption(kernel)
    assert adopter.tend(there, known, WISH, lambda: rows)
    assert kernel.asked[0]["pid"].tolist() == [10, 20, 30, 40], "process by process"
    known["first_ns"][0], there["cb_flags"][0] = 1, EVENT_FLAGS
    assert "1 open socket is not adopted" in adopter.note
    for _ in range(5):
        assert not adopter.tend(there, known, WISH, lambda: rows)
    again = [asked["cookie"].tolist() for asked in kernel.asked[1:]]
    assert again == [[3, 4], [3, 4], [4], [4], [4]]
    adopter.tend(sockets(1), events(1, first_ns=1), WISH, lambda: rows)
    assert adopter.note == "", "it is gone"


def test_whom_no_descriptor_leads_to_is_looked_for_now_and_then(kernel: Kernel, clock: list[float]) -> None:
    looks = []

    def descriptors() -> Records:
        looks.append(1)
        return held()

    adopter = Adoption(kernel)
    for _ in range(3):
        assert not adopter.tend(sockets(1), events(1), WISH, descriptors)
    assert (len(looks), kernel.asked) == (1, [])
    clock[0] += adoption.REST_S
    adopter.tend(sockets(1), events(1), WISH, descriptors)
    assert len(looks) == 2


def test_per_packet_flags_go_once_and_when_there_is_a_holder(kernel: Kernel, clock: list[float]) -> None:
    adopter = Adoption(kernel)
    there, known = sockets(1, 2, flags=ALL_FLAGS), events(2, first_ns=5)
    adopter.strip(there, known, before_ns=9)
    adopter.tend(there, known, WISH, lambda: held((1, 10, 3)))
    adopter.tend(there, known, WISH, lambda: held((1, 10, 3), (2, 11, 3)))
    adopter.tend(there, known, WISH, lambda: held((1, 10, 3), (2, 11, 3)))
    assert [asked["cookie"].tolist() for asked in kernel.asked] == [[1], [2]]
    assert {int(what) for asked in kernel.asked for what in asked["what"]} == {FlagRequest.STRIP}
    assert {int(before) for asked in kernel.asked for before in asked["before_ns"]} == {9}


def test_without_adoption_nobody_is_asked(kernel: Kernel) -> None:
    wish = Wish(ALL_FLAGS, 0, reads_flags=True, adopts=False)
    assert not Adoption(kernel).tend(sockets(1), events(1), wish, lambda: held((1, 10, 3)))
    assert kernel.asked == []


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "it is busy"), Unsupported("the helper is gone")])
def test_what_cannot_be_attached_is_said_and_tried_later(kernel: Kernel, clock: list[float], error: Exception) -> None:
    adopter = Adoption(kernel)
    kernel.refuses = error
    rows = held((1, 10, 3))
    assert not adopter.tend(sockets(1), events(1), WISH, lambda: rows)
    assert adopter.note.startswith("open sockets are not adopted: ")
    kernel.refuses = None
    assert not adopter.tend(sockets(1), events(1), WISH, lambda: rows)
    clock[0] += adoption.REST_S
    assert adopter.tend(sockets(1), events(1), WISH, lambda: rows)
    assert adopter.note == ""
