"""A cgroup's directory that is removed and made again: what is attached, and what is said. Plain directories."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.errors import Unsupported
from tcptop_ops.sources.cgroup_follow import FOLLOWED, TOLD_S, CgroupMembers, FollowedCgroup

NOON = 1_800_000_000.0


class Kernel:
    """Attaches, or refuses by an error; every link is a descriptor of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.refusal: Exception | None = None
        self.links: list[int] = []
        self.now = NOON

    def attach(self) -> tuple[int, int]:
        if self.refusal is not None:
            raise self.refusal
        inode = os.stat(self.directory).st_ino
        self.links.append(os.open(os.devnull, os.O_RDONLY))
        return inode, self.links[-1]

    def clock(self) -> float:
        return self.now


@pytest.fixture
def service(tmp_path: Path) -> Path:
    made = tmp_path / "web.service"
    made.mkdir()
    return made


def make_again(directory: Path) -> int:
    """Another directory at the same path, and its inode number: one made early, so that the number is not the same."""
    other = directory.with_name("other")
    other.mkdir()
    if directory.exists():
        directory.rmdir()
    return other.rename(directory).stat().st_ino


def followed(service: Path, kernel: Kernel | None) -> FollowedCgroup:
    inode = os.stat(service).st_ino
    clock = kernel.clock if kernel else lambda: NOON
    return FollowedCgroup(str(service), str(service.parent), inode, kernel.attach if kernel else None, clock)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_nothing_happens(service: Path) -> None:
    kernel = Kernel(service)
    cgroup = followed(service, kernel)
    assert not cgroup.look()
    assert (cgroup.note, cgroup.attached, kernel.links) == ("", True, [])
    assert cgroup.ids == [os.stat(service).st_ino]


def test_removed_and_made_again(service: Path) -> None:
    kernel = Kernel(service)
    cgroup = followed(service, kernel)
    first = os.stat(service).st_ino
    elsewhere = service.rename(service.with_name("kept"))  # its number is not given to another
    assert not cgroup.look()
    assert not cgroup.attached
    gone = cgroup.note
    assert gone.startswith("cgroup /web.service was removed at ")
    kernel.now += 10
    assert not cgroup.look()
    assert cgroup.note == gone
    second = make_again(service)
    assert cgroup.look()
    assert (cgroup.ids, cgroup.attached, len(kernel.links)) == ([second, first], True, 1)
    assert cgroup.note.startswith("attached again to cgroup /web.service: it was removed and made again at ")
    assert not cgroup.look()
    kernel.now += TOLD_S + 1
    assert cgroup.note == ""
    cgroup.close()
    assert not is_open(kernel.links[0])
    elsewhere.rmdir()


def test_the_same_directory_comes_back(service: Path) -> None:
    cgroup = followed(service, Kernel(service))
    hidden = service.rename(service.with_name("hidden"))
    cgroup.look()
    hidden.rename(service)
    assert not cgroup.look()
    assert (cgroup.note, cgroup.attached) == ("", True)


def test_many_times(service: Path) -> None:
    """Few are remembered, and few links are kept open."""
    kernel = Kernel(service)
    cgroup = followed(service, kernel)
    made = []
    for _ in range(FOLLOWED + 3):
        made.append(make_again(service))
        assert cgroup.look()
    assert cgroup.ids[0] == made[-1]
    assert len(cgroup.ids) == FOLLOWED
    assert f"({len(made)} times so far)" in cgroup.note
    assert [is_open(link) for link in kernel.links[-FOLLOWED:]] == [True] * FOLLOWED
    cgroup.close()
    assert not is_open(kernel.links[-1])


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            Unsupported("the sock_ops program x (id 7) holds /a for itself", "wait"),
            "x (id 7) holds /a for itself: wait",
        ),
        (OSError(errno.EPERM, "Operation not permitted"), "the kernel refused: Operation not permitted"),
    ],
)
def test_refused_and_accepted_later(service: Path, refusal: Exception, words: str) -> None:
    kernel = Kernel(service)
    kernel.refusal = refusal
    cgroup = followed(service, kernel)
    second = make_again(service)
    assert cgroup.look(), "its sockets are wanted all the same"
    assert cgroup.ids[0] == second
    assert (cgroup.attached, cgroup.is_refused) == (False, True)
    assert words in cgroup.note
    assert "only polled" in cgroup.note
    kernel.now += TOLD_S + 1
    assert not cgroup.look()
    assert words in cgroup.note
    kernel.refusal = None
    cgroup.look()
    assert (cgroup.attached, cgroup.is_refused) == (True, False)
    cgroup.close()


def test_removed_again_while_it_is_attached_to(service: Path) -> None:
    kernel = Kernel(service)
    kernel.refusal = FileNotFoundError(errno.ENOENT, "gone")
    cgroup = followed(service, kernel)
    make_again(service)
    assert cgroup.look()
    assert "was removed at" in cgroup.note
    kernel.refusal = None
    cgroup.look()
    assert "attached again" in cgroup.note
    cgroup.close()


def test_nothing_to_attach(service: Path) -> None:
    cgroup = followed(service, None)
    make_again(service)
    assert cgroup.look()
    assert cgroup.note.startswith("following cgroup /web.service: it was removed and made again at ")


def test_members_are_those_of_all_directories_below_it(service: Path) -> None:
    below = service / "a" / "b"
    below.mkdir(parents=True)
    beside = service.with_name("beside")
    beside.mkdir()
    ids = np.array([os.stat(path).st_ino for path in (service, below, beside)] + [0], "u8")
    members = CgroupMembers(str(service))
    assert members.among(ids).tolist() == [True, True, False, False]
    assert members.among(ids[:0]).tolist() == []


def test_a_member_is_one_for_as_long_as_it_lives(service: Path) -> None:
    below = service / "a"
    below.mkdir()
    gone = np.array([os.stat(below).st_ino], "u8")
    members = CgroupMembers(str(service))
    assert members.among(gone).all()
    below.rename(service.with_name("kept"))
    assert members.among(gone).all()
    assert not members.among(gone[:0]).any()
    assert not members.among(gone).any(), "no socket had it meanwhile: it is another's"


def test_ids_are_compared_to_the_last_bit(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id has 64 bits: a generation, and the number (kernfs_node.id)."""
    number = 2**62 + 1
    monkeypatch.setattr(os, "stat", lambda _: os.stat_result((0, number, 0, 0, 0, 0, 0, 0, 0, 0)))
    assert CgroupMembers(str(service)).among(np.array([number, number - 1], "u8")).tolist() == [True, False]
