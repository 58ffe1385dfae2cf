"""Names of network namespaces. The files of /proc/PID/ns stand in for those that namespaces are bound to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcptop_ops.bpf.helper import OWN
from tcptop_ops.host import namespace_names
from tcptop_ops.host.namespace_names import READ_S, NamespaceNames


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    made = (tmp_path / "run", tmp_path / "docker")
    for place in made:
        place.mkdir()
    return made


OURS = os.stat(OWN).st_ino


def test_read_now_and_then(places: tuple[Path, Path]) -> None:
    clock = Clock()
    names = NamespaceNames(tuple(map(str, places)), clock)
    assert names.read() == {}
    (places[1] / "default").symlink_to(OWN)
    clock.now += READ_S - 1
    assert names.read() == {}
    clock.now += 1
    first = names.read()
    assert first == {OURS: "default"}
    for name in ("web", "api"):
        (places[0] / name).symlink_to(OWN)
    clock.now += READ_S
    assert names.read() == {OURS: "api"}, "the first place's, the first of it"
    assert first == {OURS: "default"}
    names.close()
    names.close()


def test_a_file_that_waits_for_its_namespace_has_none(places: tuple[Path, Path]) -> None:
    (places[0] / "empty").touch()
    (places[0] / "broken").symlink_to("/nowhere")
    names = NamespaceNames((str(places[0]),))
    assert names.read() == {}
    names.close()


def test_places_that_are_not_there(tmp_path: Path) -> None:
    names = NamespaceNames((str(tmp_path / "nope"),))
    assert names.read() == {}
    names.close()


def test_a_directory_that_is_closed_later(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As Docker's is for who has given up root: read by the descriptor that was opened before."""
    (places[1] / "box").symlink_to(OWN)
    names = NamespaceNames((str(places[1]),))
    listed = namespace_names._listed

    def closed(directory: str | int, fd: int | None) -> dict[int, str]:
        if fd is None:
            raise PermissionError
        return listed(directory, fd)

    monkeypatch.setattr(namespace_names, "_listed", closed)
    assert names.read() == {OURS: "box"}
    names.close()
