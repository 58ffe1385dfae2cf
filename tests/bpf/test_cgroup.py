"""Where cgroup v2 is, and which directories are cgroups in it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.bpf import cgroup
from tcptop_ops.errors import TcptopError, Unsupported, Usage

UNIFIED = """\
21 26 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID = """\
32 22 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
33 32 0:29 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
34 32 0:30 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
"""
LEGACY = HYBRID.replace("cgroup2 cgroup2", "cgroup cgroup")


@pytest.mark.parametrize(
    ("text", "mounts"),
    [
        (UNIFIED, ["/sys/fs/cgroup"]),
        (HYBRID, ["/sys/fs/cgroup/unified"]),
        (LEGACY, []),
        ("", []),
        (HYBRID + UNIFIED, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]),
        (UNIFIED.replace("/sys/fs/cgroup", r"/mnt/a\040b\011c\134d"), ["/mnt/a b\tc\\d"]),
        (UNIFIED.replace("shared:9 ", ""), ["/sys/fs/cgroup"]),
        (UNIFIED.replace("shared:9 ", "shared:9 master:1 propagate_from:2 "), ["/sys/fs/cgroup"]),
        (UNIFIED.replace("/sys/fs/cgroup", "/sys/\x85\u2028fs"), ["/sys/\x85\u2028fs"]),
        ("1 2 0:1 / /a rw - tmpfs cgroup2 rw\n", []),
        (UNIFIED.replace(" / /sys/fs", " /web /sys/fs") + HYBRID, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]),
        (HYBRID + UNIFIED.replace(" / /sys/fs", " /../.. /sys/fs"), ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]),
    ],
)
def test_mount_points(text: str, mounts: list[str]) -> None:
    assert cgroup.parse_mountinfo(text) == mounts


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=4))
def test_any_mount_point_reads_back(paths: list[str]) -> None:
    """Written as the kernel does: show_mountinfo() escapes space, tab, newline and backslash."""
    text = ""
    for path in paths:
        escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)
        text += f"30 22 0:26 / /{escaped} rw shared:9 - cgroup2 none rw\n"
    assert cgroup.parse_mountinfo(text) == ["/" + path for path in paths]


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a few cgroups in it that /proc/self/mountinfo says is the mount."""
    top = tmp_path / "cg root"
    for name in ("", "web.slice", "web.slice/nginx.service", "db.slice"):
        (top / name).mkdir(parents=True)
        (top / name / "cgroup.procs").touch()
    (top / "not a cgroup").mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(f"30 22 0:26 / {str(top).replace(' ', chr(92) + '040')} rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(cgroup, "MOUNTINFO", table)
    return top


def test_the_root(mount: Path) -> None:
    assert cgroup.root() == str(mount)
    assert cgroup.resolve(None) == (str(mount), str(mount))


def test_a_mount_under_another_file_system(mount: Path) -> None:
    hidden = mount.parent / "hidden"
    hidden.mkdir()
    table = mount.parent / "mountinfo"
    table.write_text(f"29 22 0:26 / {hidden} rw - cgroup2 cgroup2 rw\n" + table.read_text())
    assert cgroup.root() == str(mount)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """/proc/self/mountinfo says that cgroup v2 is not mounted."""
    table = tmp_path / "legacy"
    table.write_text(LEGACY)
    monkeypatch.setattr(cgroup, "MOUNTINFO", table)
    cgroup._unmounted.cache_clear()
    yield
    cgroup._unmounted.cache_clear()


@pytest.mark.usefixtures("nowhere")
def test_no_cgroup_v2_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(cgroup, "_detached_mount", refuse)
    with pytest.raises(Unsupported, match=r"not mounted.*Operation not permitted") as error:
        cgroup.resolve(None)
    assert "--source sockdiag" in error.value.hint


@pytest.mark.usefixtures("nowhere")
def test_a_thread_that_is_refused_tells_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_SYS_FSOPEN", 0xFFFF)  # as before 5.2
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Unsupported, match=re.escape(os.strerror(errno.ENOSYS))):
        cgroup.root()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("nowhere")
def test_a_mount_without_a_place(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made once, and named by its descriptor; a cgroup in it is found without leaving it."""
    monkeypatch.setattr(cgroup, "MOUNTINFO", mount.parent / "legacy")
    made: list[int] = []

    def open_once() -> int:
        made.append(os.open(mount, os.O_RDONLY | os.O_DIRECTORY))
        return made[-1]

    monkeypatch.setattr(cgroup, "_detached_mount", open_once)
    try:
        top = cgroup.root()
        assert top == f"/proc/{os.getpid()}/fd/{made[0]}"
        assert cgroup.is_unmounted(top)
        assert not cgroup.is_unmounted(str(mount))
        assert cgroup.resolve(None) == (top, top)
        for path in ("web.slice/nginx.service", "/web.slice/nginx.service/", "//db.slice/../web.slice/nginx.service"):
            assert cgroup.resolve(path) == (f"{top}/web.slice/nginx.service", top)
        assert cgroup.resolve("/") == (top, top)
        assert cgroup.resolve("../..") == (top, top)
        for path in ("", "nope", "not a cgroup", str(mount / "web.slice"), "web.slice/cgroup.procs"):
            with pytest.raises(Usage) as error:
                cgroup.resolve(path)
            assert "/proc/PID/cgroup" in error.value.hint
        number = os.stat(mount / "db.slice").st_ino
        assert cgroup.Paths(top).learn({number})[number] == "/db.slice"
        assert len(made) == 1
    finally:
        for fd in made:
            os.close(fd)


def test_the_hosts_tree_or_a_part_of_it(mount: Path) -> None:
    assert not cgroup.is_part(str(mount))
    assert cgroup.note(str(mount)) == ""
    (mount / "cgroup.events").touch()
    assert cgroup.is_part(str(mount))
    assert "only its sockets" in cgroup.note(str(mount))


@pytest.mark.parametrize("path", ["web.slice/nginx.service", "/web.slice/nginx.service", "//web.slice//nginx.service/"])
def test_a_path_below_the_mount(mount: Path, path: str) -> None:
    assert cgroup.resolve(path) == (str(mount / "web.slice" / "nginx.service"), str(mount))


def test_an_absolute_path(mount: Path) -> None:
    wanted = (str(mount / "db.slice"), str(mount))
    assert cgroup.resolve(str(mount / "db.slice")) == wanted
    assert cgroup.resolve(str(mount / "web.slice" / ".." / "db.slice")) == wanted


def test_a_path_relative_to_the_working_directory(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mount / "web.slice")
    assert cgroup.resolve("nginx.service")[0] == str(mount / "web.slice" / "nginx.service")


def test_paths_outside_the_mount(mount: Path) -> None:
    """Each has a file of the right name, so that only where it lies tells."""
    outside = mount.parent / "outside"
    beside = Path(str(mount) + "-beside")
    for directory in (outside, beside):
        directory.mkdir()
        (directory / "cgroup.procs").touch()
    (mount / "link").symlink_to(outside)
    for path in (str(outside), str(beside), "../outside", str(mount / "link"), "link", "web.slice/../../outside"):
        with pytest.raises(Usage) as error:
            cgroup.resolve(path)
        assert error.value.message == f"no cgroup {path}"
        assert str(mount) in error.value.hint


@pytest.mark.parametrize("path", ["nope", "/", "not a cgroup", "web.slice/cgroup.procs", "x" * 5000])
def test_what_is_no_cgroup(mount: Path, path: str) -> None:
    if path == "/":  # of the mount
        assert cgroup.resolve(path) == (str(mount), str(mount))
        return
    with pytest.raises(TcptopError):
        cgroup.resolve(path)


def test_paths_by_id(mount: Path) -> None:
    ids = {name: os.stat(mount / name).st_ino for name in ("", "web.slice", "web.slice/nginx.service")}
    paths = cgroup.Paths(str(mount))
    assert paths.learn({0}) == {}
    names = paths.learn({ids["web.slice/nginx.service"], 0})
    assert names[ids["web.slice/nginx.service"]] == "/web.slice/nginx.service"
    assert names[ids[""]] == "/"


def test_a_new_cgroup_is_looked_up_and_one_that_is_gone_only_once(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cgroup.Paths(str(mount))
    paths.learn({os.stat(mount).st_ino})
    late = mount / "late.slice"
    late.mkdir()
    number = os.stat(late).st_ino
    assert paths.learn({number})[number] == "/late.slice"
    gone = 2**63
    assert gone not in paths.learn({gone, number})

    def refuse(_: str) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr(os, "walk", refuse)
    assert gone not in paths.learn({gone, number, 0})
