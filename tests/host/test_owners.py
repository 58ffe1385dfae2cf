"""Whose a socket is, by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tcptop_ops.host.owners import QUEUED, Owners
from tcptop_ops.model.enums import Direction, OwnerKind, State
from tcptop_ops.model.records import EVENTS, OWNER, SOCKET, Records

CUT = b"fifteen-letters"


def descriptors(*rows: tuple[int, int, int, bytes]) -> Records:
    """OWNER rows: cookie, pid, start, comm."""
    made = np.zeros(len(rows), OWNER)
    for at, (cookie, pid, start, comm) in enumerate(rows):
        made[at]["cookie"], made[at]["inode"], made[at]["pid"] = cookie, cookie + 1000, pid
        made[at]["start_ns"], made[at]["comm"] = start, comm
    return made


def sockets(*cookies: int) -> Records:
    made = np.zeros(len(cookies), SOCKET)
    made["cookie"] = cookies
    made["inode"] = made["cookie"] + 1000
    return made


def events(*rows: tuple[int, bytes]) -> Records:
    made = np.zeros(len(rows), EVENTS)
    for at, (pid, comm) in enumerate(rows):
        made[at]["pid"], made[at]["comm"], made[at]["owner"] = pid, comm, OwnerKind.CALLER
    return made


def owners(full_name: Callable[[int, int, bytes], bytes] = lambda *_: b"") -> Owners:
    """Kernel threads are those called kworker."""
    return Owners(full_name, lambda _, comm: comm == b"kworker")


def silent(count: int) -> Records:
    return np.zeros(count, EVENTS)


def test_holders_before_callers() -> None:
    made = owners()
    rows = descriptors((5, 10, 1, b"master"), (5, 11, 2, b"worker"), (5, 11, 2, b"worker"), (7, 10, 1, b"master"))
    made.learn(rows, sockets(5, 7, 9))
    told = events((0, b""), (77, b"nobody"), (0, b""), (78, b"curl"))
    told["direction"] = Direction.IN
    found = made.assign(sockets(9, 7, 5, 4), told)
    assert found["pid"].tolist() == [0, 10, 11, 78]
    assert found["name"].tolist() == [b"", b"master", b"worker", b"curl"]
    assert found["holders"].tolist() == [0, 1, 2, 0]
    assert found["how"].tolist() == [OwnerKind.UNKNOWN, OwnerKind.HOLDER, OwnerKind.HOLDER, OwnerKind.CALLER]


def test_descriptors_without_a_cookie_are_joined_by_inode() -> None:
    made = owners()
    rows = descriptors((5, 10, 1, b"one"))
    rows["cookie"] = 0
    made.learn(rows, sockets(5))
    assert made.assign(sockets(5, 6), silent(2))["pid"].tolist() == [10, 0]
    without = sockets(5)
    without["inode"] = 0
    assert made.assign(without, silent(1))["pid"].tolist() == [0]


def test_kernel_threads_own_nothing() -> None:
    found = owners().assign(sockets(1, 2), events((7, b"kworker"), (8, b"curl")))
    assert (found["pid"].tolist(), found["name"].tolist()) == ([0, 8], [b"", b"curl"])


def listener_and_child(netns: int = 1, lport: int = 80) -> Records:
    """A listener that process 10 holds, and a connection that nobody has accepted."""
    made = sockets(1, 2)
    made["state"], made["netns"], made["lport"] = [State.LISTEN, State.ESTABLISHED], [1, netns], [80, lport]
    made["family"] = 10
    made["inode"][1] = 0
    return made


def test_until_it_is_accepted_it_is_the_listeners() -> None:
    made = owners()
    both = listener_and_child()
    made.learn(descriptors((1, 10, 1, b"nginx")), both)
    found = made.assign(both, silent(2))
    assert (found["pid"].tolist(), found["name"].tolist()) == ([10, 10], [b"nginx"] * 2)
    assert found["how"].tolist() == [OwnerKind.HOLDER, OwnerKind.LISTENER]
    closed = made.assign_closed(both[1:], silent(1))
    assert (closed["pid"].tolist(), closed["how"].tolist()) == ([10], [OwnerKind.LISTENER])


@pytest.mark.parametrize(("netns", "lport"), [(2, 80), (1, 81)])
def test_a_listener_elsewhere_is_not_meant(netns: int, lport: int) -> None:
    made = owners()
    both = listener_and_child(netns, lport)
    made.learn(descriptors((1, 10, 1, b"nginx")), both)
    assert made.assign(both, silent(2))["pid"].tolist() == [10, 0]


def test_a_cut_name_is_asked_for_once() -> None:
    asked: list[tuple[int, int]] = []

    def full_name(pid: int, start_ns: int, _: bytes) -> bytes:
        asked.append((pid, start_ns))
        return b"" if pid == 12 else CUT + b"-and-more"

    made = owners(full_name)
    rows = descriptors((1, 11, 5, CUT), (2, 12, 6, CUT), (3, 11, 5, b"short"))
    for _ in range(2):
        made.learn(rows, sockets(1, 2, 3))
    assert made.assign(sockets(1, 2, 3), silent(3))["name"].tolist() == [CUT + b"-and-more", CUT, b"short"]
    assert asked == [(11, 5), (12, 6)]


def test_nothing_to_own() -> None:
    made = owners()
    made.learn(descriptors(), sockets())
    assert len(made.assign(sockets(), events())) == 0
    assert made.assign(sockets(1), events((0, b"")))["pid"].tolist() == [0]


def test_when_to_look_again() -> None:
    made = owners()
    assert made.is_current(sockets())
    assert not made.is_current(sockets(1))
    made.learn(descriptors((1, 10, 1, b"x")), sockets(1, 2))
    assert made.is_current(sockets(1))
    assert not made.is_current(sockets(1, 2)), "its descriptor may not have been there yet"
    made.learn(descriptors((1, 10, 1, b"x")), sockets(1, 2))
    assert made.is_current(sockets(1, 2))  # nobody was found to hold 2: asking again would not help
    assert not made.is_current(sockets(1, 2, 3))
    unborn = sockets(4)
    unborn["inode"] = 0
    assert made.is_current(unborn)  # no descriptor: not worth a look


def group(*queues: int, waiting: int = 2) -> tuple[Records, Records]:
    """Listeners of one address with this much in their queues, held by 10, 11 and on; and what waits there."""
    made = sockets(*range(1, len(queues) + 1 + waiting))
    made["family"], made["netns"], made["lport"] = 10, 1, 80
    made["state"][: len(queues)], made["state"][len(queues) :] = State.LISTEN, State.ESTABLISHED
    made["recv_q"][: len(queues)] = queues
    made["inode"][len(queues) :] = 0
    held = descriptors(*((at + 1, 10 + at, 1, b"w%d" % at) for at in range(len(queues))))
    return made, held


def told_waiting(made: Owners, both: Records) -> list[tuple[int, bytes, int]]:
    found = made.assign(both, silent(len(both)))[both["inode"] == 0]
    return [(int(row["pid"]), bytes(row["name"]), int(row["how"])) for row in found]


def test_the_only_queue_that_is_not_empty() -> None:
    both, held = group(0, 2, 0)
    made = owners()
    made.learn(held, both)
    assert told_waiting(made, both) == [(11, b"w1", OwnerKind.LISTENER)] * 2


@pytest.mark.parametrize("queues", [(1, 1), (0, 1), (0, 0)])
def test_where_it_is_not_clear_nobody_is_named(queues: tuple[int, ...]) -> None:
    both, held = group(*queues)
    made = owners()
    made.learn(held, both)
    assert told_waiting(made, both) == [(0, b"", OwnerKind.UNKNOWN)] * 2


def test_one_name_of_several_processes() -> None:
    both, held = group(1, 1)
    held["comm"] = b"nginx"
    made = owners()
    made.learn(held, both)
    assert told_waiting(made, both) == [(0, b"nginx", OwnerKind.LISTENER)] * 2
    held["pid"] = 10
    made.learn(held, both)
    assert told_waiting(made, both) == [(10, b"nginx", OwnerKind.LISTENER)] * 2


def test_the_queues_themselves_tell_and_it_is_remembered() -> None:
    both, held = group(1, 1)
    made = Owners(lambda *_: b"", lambda *_: False, follows_queues=True)
    made.learn(held, both)
    assert made.is_current(both)
    told_waiting(made, both)
    assert not made.is_current(both), "descriptors are worth a look"
    queued = descriptors((4, 10, 1, b"w0"), (3, 11, 1, b"w1"))
    queued["inode"], queued["fd"] = [1, 2], QUEUED
    made.learn(np.concatenate([held, queued]), both)
    named = [(11, b"w1", OwnerKind.LISTENER), (10, b"w0", OwnerKind.LISTENER)]
    assert told_waiting(made, both) == named
    assert made.is_current(both)
    made.learn(held, both)
    assert told_waiting(made, both) == named


def orphan(cookie: int = 1) -> Records:
    made = sockets(cookie)
    made["inode"], made["state"] = 0, State.FIN_WAIT1
    return made


def test_an_orphan_is_nobodys_and_what_closed_keeps_its_owner() -> None:
    made = owners()
    made.learn(descriptors((1, 10, 7, b"nginx")), sockets(1))
    assert made.assign(sockets(1), silent(1))["pid"].tolist() == [10]
    made.learn(descriptors(), sockets())
    for _ in range(3):
        [row] = made.assign(orphan(), silent(1))
        assert (int(row["pid"]), bytes(row["name"]), int(row["how"])) == (0, b"nginx", OwnerKind.FORMER)
    assert len(made.assign(sockets(), silent(0))) == 0
    gone = orphan()
    gone["state"] = State.CLOSE
    [row] = made.assign_closed(gone, events((77, b"other")))
    assert (int(row["pid"]), bytes(row["name"]), int(row["how"])) == (10, b"nginx", OwnerKind.HOLDER)


def test_who_closed_it_names_an_orphan_that_nobody_was_seen_to_hold() -> None:
    [row] = owners().assign(orphan(), events((8, b"curl")))
    assert (int(row["pid"]), bytes(row["name"]), int(row["how"])) == (0, b"curl", OwnerKind.FORMER)
    [row] = owners().assign(orphan(), silent(1))
    assert (int(row["pid"]), bytes(row["name"]), int(row["how"])) == (0, b"", OwnerKind.UNKNOWN)


def test_the_name_of_a_caller_is_whole_too() -> None:
    made = owners(lambda pid, start, comm: CUT + b"-and-more" if (pid, start, comm) == (7, 0, CUT) else b"")
    found = made.assign(sockets(1, 2), events((7, CUT), (8, CUT)))
    assert found["name"].tolist() == [CUT + b"-and-more", CUT]


def test_of_several_holders_the_direction_decides() -> None:
    """An accepted connection is told by its direction or, where that is not known, by a listener at its address."""
    door, came, dialled = 1, 2, 3
    made_of = sockets(door, came, dialled)
    made_of["state"], made_of["lport"], made_of["family"] = [State.LISTEN, 1, 1], [80, 80, 40000], 10
    rows = descriptors(*((one, pid, pid, b"p") for one in (door, came, dialled) for pid in (10, 11)))
    made = owners()
    made.learn(rows, made_of)
    assert made.assign(made_of, silent(3))["pid"].tolist() == [10, 11, 10]
    told = events((11, b"p"), (0, b""), (11, b"p"))
    told["direction"] = [Direction.LISTEN, Direction.IN, Direction.OUT]
    assert made.assign(made_of, told)["pid"].tolist() == [11, 11, 11]
