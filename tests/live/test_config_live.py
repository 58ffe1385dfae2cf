"""Whose settings are read under sudo, and with whose rights; and who writes them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcptop_ops.config.settings import Settings
from tcptop_ops.config.toml_text import parse
from tests.live.started import ROOT, started
from tests.support.leftovers import wait_until

UID = 12345
CALLER = {"SUDO_UID": str(UID), "SUDO_GID": str(UID), "SUDO_USER": "caller", "HOME": "/root"}
WITH_PASSWD = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"')
"""In a mount namespace of its own, with another file in the place of /etc/passwd."""

WITHOUT_SCREEN = ("--source", "sockdiag", "--once", "-d", "0.1", "--batch")


class Caller:
    """A user who is only in a password file of the test's own, with a home."""

    def __init__(self, top: Path) -> None:
        self.home = top / "home"
        self.passwd = top / "passwd"
        self.file = self.home / ".config/tcptop-ops/config.toml"
        self.file.parent.mkdir(parents=True)
        self.passwd.write_text(f"{Path('/etc/passwd').read_text()}caller:x:{UID}:{UID}::{self.home}:/bin/sh\n")
        for path in (self.home, *self.file.relative_to(self.home).parents):
            os.chown(self.home / path, UID, UID)

    @property
    def before(self) -> tuple[str, ...]:
        """The words that start a program where this user exists."""
        return (*WITH_PASSWD, str(self.passwd))

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """The program, as if this user had called sudo."""
        return subprocess.run(
            [*self.before, sys.executable, "-m", "tcptop_ops", *argv],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]} | CALLER,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def caller() -> Iterator[Caller]:
    """Not below pytest's own directory, where root alone may go."""
    with tempfile.TemporaryDirectory(prefix=f"tct-{os.getpid()}-") as top:
        os.chmod(top, 0o755)
        yield Caller(Path(top))


def test_the_calling_users_file_is_read(caller: Caller) -> None:
    caller.file.write_text("columns = ['state', 'cookie']\n")
    done = caller.run(*WITHOUT_SCREEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split() == ["STATE", "COOKIE"]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_root_alone_may_read_is_refused(caller: Caller, kind: str) -> None:
    secret = caller.home / "secret"
    secret.write_text("root:$y$j9T$: a secret")
    secret.chmod(0o600)
    if kind == "link":
        caller.file.symlink_to(secret)
    else:
        secret.rename(caller.file)
    for front in (WITHOUT_SCREEN, ("--json", "--once", "-d", "0.1")):
        done = caller.run(*front)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("tcptop-ops: config.toml can't be read: Permission denied\nhint: ")
        assert "secret" not in done.stderr
    caller.file.chmod(0o644)
    assert caller.run(*WITHOUT_SCREEN).stderr.startswith("tcptop-ops: config.toml line 1: not TOML")


def test_a_directory_that_the_user_may_not_enter(caller: Caller) -> None:
    os.chown(caller.file.parent, 0, 0)
    caller.file.parent.chmod(0o700)
    assert "can't be read: Permission denied" in caller.run(*WITHOUT_SCREEN).stderr


def test_the_screen_saves_as_the_calling_user(caller: Caller, cgroup: Path) -> None:
    caller.file.write_text("# mine\ntheme = 'light'\n")
    os.chown(caller.file, UID, UID)
    with started(
        "--cgroup", str(cgroup), "-d", "1", environment=CALLER | {"TCPTOP_NO_CONFIG": ""}, before=caller.before
    ) as monitor:
        monitor.wait_for_picture()
        monitor.press_each(["x", "w"])
        monitor.wait_for("saved in ")
        wait_until(lambda: "sort" in caller.file.read_text(), what="the new setting")
        monitor.press("q")
        assert monitor.process.wait(20) == 0
    text = caller.file.read_text()
    assert text.startswith("# mine\ntheme = 'light'\n")
    assert parse(text) == Settings(theme="light", sort="retrans_win:desc")
    found = caller.file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (UID, UID, 0o600)


def test_nothing_is_written_where_the_user_may_not(caller: Caller, cgroup: Path) -> None:
    """The file of root's in a directory of root's, though root started it all."""
    os.chown(caller.file.parent, 0, 0)
    caller.file.write_text("# root's\n")
    with started(
        "--cgroup", str(cgroup), "-d", "1", environment=CALLER | {"TCPTOP_NO_CONFIG": ""}, before=caller.before
    ) as monitor:
        monitor.wait_for_picture()
        monitor.press_each(["x", "w"])
        monitor.wait_for("can't be saved")
        monitor.press("q")
        assert monitor.process.wait(20) == 0
    assert caller.file.read_text() == "# root's\n"
    assert os.listdir(caller.file.parent) == ["config.toml"]
