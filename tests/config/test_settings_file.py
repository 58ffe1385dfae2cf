"""The settings file: where it is, how it is read and replaced, and with whose rights."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.config import settings_file
from tcptop_ops.config.settings import Settings
from tcptop_ops.config.toml_text import parse
from tcptop_ops.errors import Failed, TcptopError, Usage
from tcptop_ops.host.privilege import User
from tests.support.settings_files import EVERYTHING, OTHER_ID, mode, placed


def test_where_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_file.where() == home / ".config/tcptop-ops/config.toml"
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_ID)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert settings_file.where() == Path("/x/tcptop-ops/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # to be ignored, says the XDG specification
    monkeypatch.setenv("HOME", "/y")
    assert settings_file.where() == Path("/y/.config/tcptop-ops/config.toml")
    monkeypatch.delenv("HOME")
    assert settings_file.where() == home / ".config/tcptop-ops/config.toml"


def test_roots_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {0: "/root", OTHER_ID: "/home/other"}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("", "", uid, 7, "", homes[uid], "")))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/tmp/evil")
    monkeypatch.setenv("HOME", "/tmp/evil")
    monkeypatch.setenv("SUDO_UID", str(OTHER_ID))
    assert settings_file.where() == Path("/home/other/.config/tcptop-ops/config.toml")
    assert settings_file.owner() == User(OTHER_ID, 7, "")
    for caller in ("0", "-1", "x", ""):
        monkeypatch.setenv("SUDO_UID", caller)
        assert settings_file.where() == Path("/root/.config/tcptop-ops/config.toml")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert settings_file.where() is None
    assert settings_file.load(None) == Settings()
    with pytest.raises(Failed, match="no home"):
        settings_file.save(None, Settings())


def test_no_file_is_the_defaults(home: Path) -> None:
    path = settings_file.where()
    assert settings_file.load(path) == Settings()
    assert settings_file.load(path).path == path
    (home / ".config").write_text("a file where a directory belongs")
    assert settings_file.load(path) == Settings()


def test_a_file_is_read(home: Path) -> None:
    assert settings_file.load(placed(home, EVERYTHING)) == parse(EVERYTHING)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "config.toml is not a regular file"),
        (os.mkfifo, "config.toml is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "config.toml is not a regular file"),
        (lambda path: path.symlink_to(path), "config.toml can't be read: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"#" * (64 << 10) + b"#"), "config.toml is too large: more than 64 KiB"),
        (lambda path: path.write_bytes(b"# a\n# b\n# \xff"), "config.toml line 3: not UTF-8"),
        (lambda path: path.write_text("\n\nnope"), "config.toml line 3: not TOML"),
    ],
    ids=["directory", "FIFO", "device", "loop", "large", "Latin-1", "TOML"],
)
def test_what_can_not_be_read(home: Path, make: Any, message: str) -> None:
    path = placed(home)
    path.unlink()
    make(path)
    for attempt in (lambda: settings_file.load(path), lambda: settings_file.save(path, Settings(delay=2))):
        with pytest.raises(TcptopError) as error:
            attempt()
        assert message in error.value.message
        assert error.value.hint


def test_a_file_of_the_greatest_size(home: Path) -> None:
    assert settings_file.load(placed(home, b"#" * (64 << 10))) == Settings()


def test_it_is_made_for_its_user_alone(home: Path) -> None:
    path = settings_file.where()
    assert path is not None
    before = os.umask(0)
    try:
        settings_file.save(path, Settings(delay=2.0))
    finally:
        os.umask(before)
    assert path.read_text() == "delay = 2.0\n"
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)
    assert settings_file.load(path) == Settings(delay=2.0)
    assert os.listdir(path.parent) == ["config.toml"]


def test_it_is_replaced_at_once(home: Path) -> None:
    """Who reads it meanwhile has the old one, whole."""
    path = placed(home, "delay = 3\n")
    with open(path) as reader:
        settings_file.save(path, Settings(delay=2.0))
        assert reader.read() == "delay = 3\n"
    assert path.read_text() == "delay = 2.0\n"


def test_a_link_stays_one(home: Path) -> None:
    path = placed(home)
    path.unlink()
    target = home / "dotfiles/tcptop.toml"
    target.parent.mkdir()
    target.write_text("# kept\n")
    path.symlink_to("../../dotfiles/tcptop.toml")
    settings_file.save(path, Settings(theme="dark"))
    assert path.is_symlink()
    assert target.read_text() == '# kept\ntheme = "dark"\n'


def test_nothing_is_written_where_nothing_differs(home: Path) -> None:
    path = placed(home, "delay = 2\n")
    before = path.stat()
    settings_file.save(path, Settings(delay=2.0))
    assert path.stat() == before
    (home / "empty").mkdir()
    settings_file.save(home / "empty/config.toml", Settings())
    assert os.listdir(home / "empty") == []


def test_what_others_wrote_meanwhile_stays(home: Path) -> None:
    path = placed(home, "delay = 2\n")
    settings_file.update(path, {"theme": "dark"})
    assert parse(path.read_text()) == Settings(delay=2.0, theme="dark")


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_one(home: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = placed(home, "delay = 3\n")
    monkeypatch.setattr(os, refused, full)
    with pytest.raises(Failed, match=r"can't be saved to .*: No space left on device"):
        settings_file.save(path, Settings())
    assert path.read_text() == "delay = 3\n"
    assert os.listdir(path.parent) == ["config.toml"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")


@needs_root
def test_it_is_read_with_the_rights_of_its_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What root alone may read is not read through somebody's link; afterwards root is root again."""
    for directory in (home, *home.parents):
        if directory.stat().st_uid == 0 and not mode(directory) & 1:
            directory.chmod(mode(directory) | 0o011)
    secret = home / "secret"
    secret.write_text("a secret")
    secret.chmod(0o600)
    path = placed(home)
    path.unlink()
    path.symlink_to(secret)
    path.parent.chmod(0o755)
    path.parent.parent.chmod(0o755)
    with pytest.raises(Usage, match="line 1: not TOML"):
        settings_file.load(path)
    monkeypatch.setattr(settings_file, "owner", lambda: User(OTHER_ID, OTHER_ID, "other"))
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    with pytest.raises(Usage) as error:
        settings_file.load(path)
    assert error.value.message == "config.toml can't be read: Permission denied"
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    with pytest.raises(Failed, match="not saved by root"):
        settings_file.save(path, Settings(delay=2.0))
    assert secret.read_text() == "a secret"


@needs_root
@pytest.mark.parametrize("call", ["setgroups", "setegid", "seteuid"])
def test_root_that_can_not_become_its_user_reads_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refused(_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = placed(home, "delay = 2\n")
    monkeypatch.setattr(settings_file, "owner", lambda: User(OTHER_ID, OTHER_ID, "other"))
    monkeypatch.setattr(os, call, refused)
    with pytest.raises(Usage, match="can't be read as its owner: Operation not permitted"):
        settings_file.load(path)
    path.unlink()
    assert settings_file.load(path) == Settings()
    monkeypatch.undo()
    assert os.getegid() == os.getgid()
