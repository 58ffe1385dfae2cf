"""Whose a socket is: against a slow reference, and by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.host.owners import Held, Owners
from tcptop_ops.model.enums import OwnerKind, State
from tcptop_ops.model.records import EVENTS, OWNER, SOCKET, Records

HELD = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), max_size=25)
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


def owners(full_name: Callable[[int, int], bytes] = lambda *_: b"") -> Owners:
    """Kernel threads are those called kworker."""
    return Owners(full_name, lambda _, comm: comm == b"kworker")


def silent(count: int) -> Records:
    return np.zeros(count, EVENTS)


@pytest.mark.parametrize("key", ["cookie", "inode"])
@given(held=HELD)
def test_the_youngest_process_holds_it(key: str, held: list[tuple[int, int]]) -> None:
    """Descriptors (socket, process); the start of a process rises against its number."""
    rows = descriptors(*((cookie, pid, 1000 - pid, b"p%d" % pid) for cookie, pid in held))
    by_socket: dict[int, set[int]] = defaultdict(set)
    for at, (_, pid) in enumerate(held):
        by_socket[int(rows[key][at])].add(pid)
    found = Held(rows, key)
    assert found.keys.tolist() == sorted(by_socket)
    assert found.owned["pid"].tolist() == [min(by_socket[socket]) for socket in sorted(by_socket)]
    assert found.owned["name"].tolist() == [b"p%d" % min(by_socket[socket]) for socket in sorted(by_socket)]
    assert found.owned["holders"].tolist() == [len(by_socket[socket]) for socket in sorted(by_socket)]


def test_holders_before_callers() -> None:
    made = owners()
    rows = descriptors((5, 10, 1, b"master"), (5, 11, 2, b"worker"), (5, 11, 2, b"worker"), (7, 10, 1, b"master"))
    made.learn(rows, sockets(5, 7, 9))
    found = made.assign(sockets(9, 7, 5, 4), events((0, b""), (77, b"nobody"), (0, b""), (78, b"curl")))
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

    def full_name(pid: int, start_ns: int) -> bytes:
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
