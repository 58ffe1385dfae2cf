"""The settings file from outside: the program as a process of a user of its own home. Polled: no root, no BPF."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tcptop_ops.cli.main import settings_of
from tcptop_ops.config.settings import Settings
from tcptop_ops.config.toml_text import commented_defaults, parse
from tests.support.error_output import assert_told

DRIVER = """
import pwd, sys
home = sys.argv.pop(1)
pwd.getpwuid = lambda uid: pwd.struct_passwd(("", "", uid, 1, "", home, ""))
from tcptop_ops.cli.main import main
sys.exit(main())
"""
"""The program, where this is the home of every user: root's is the password file's, whatever HOME says."""


def run(home: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("SUDO_UID", "DOAS_UID", "XDG_CONFIG_HOME")
    }
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER, str(home), *argv],
        env=kept | {"HOME": str(home), "TCPTOP_NO_CONFIG": ""} | environment,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def placed(home: Path, text: str) -> Path:
    path = home / ".config/tcptop-ops/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


ONCE = ("--source", "sockdiag", "--once", "-d", "0.1")


def titles(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return next(
        line for line in done.stdout.splitlines()[1:] if not line.startswith("!")
    ).split()  # findings stand above


def test_the_file_counts_and_the_command_line_beats_it(home: Path) -> None:
    placed(home, "columns = ['state', 'cookie']\nwindow = 60\n")
    assert titles(run(home, "--batch", *ONCE)) == ["STATE", "COOKIE"]
    assert titles(run(home, "--batch", *ONCE, "-c", "cookie")) == ["COOKIE"]
    assert titles(run(home, "--batch", *ONCE, "-c", "-state")) == ["COOKIE"]
    windows = [json.loads(run(home, "--json", *ONCE, *more).stdout)["window_s"] for more in ((), ("-w", "30"))]
    assert windows == [60, 30]


@pytest.mark.parametrize(("argv", "environment"), [(("--no-config",), {}), ((), {"TCPTOP_NO_CONFIG": "1"})])
def test_it_can_be_left_unread(home: Path, argv: tuple[str, ...], environment: dict[str, str]) -> None:
    placed(home, "nonsense")
    assert json.loads(run(home, "--json", *ONCE, *argv, **environment).stdout)["window_s"] == 20


def test_what_is_wrong_in_it_is_wrong_usage(home: Path) -> None:
    path = placed(home, "# mine\n\ncolums = 'all'\n")
    done = run(home, "--json", *ONCE)
    assert_told(done.returncode, done.stderr, 2, "config.toml line 3: no setting 'colums'")
    assert done.stderr.endswith("hint: did you mean columns?\n")
    path.write_text('"\\u001b[2J\\n" = 1')
    done = run(home, "--json", *ONCE)
    assert_told(done.returncode, done.stderr, 2, "config.toml line 1: no setting ")
    assert "\x1b" not in done.stderr


def test_a_fifo_is_not_waited_for(home: Path) -> None:
    path = placed(home, "")
    path.unlink()
    os.mkfifo(path)
    done = run(home, "--json", *ONCE)
    assert_told(done.returncode, done.stderr, 2, "config.toml is not a regular file")


def test_what_needs_no_settings_does_not_read_them(home: Path) -> None:
    placed(home, "nonsense")
    for option in ("--print-config", "--help"):
        assert run(home, option).returncode == 0
    assert run(home, "--explain", "rto").returncode == 0


def test_the_printed_file_is_taken(home: Path) -> None:
    done = run(home, "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == commented_defaults()
    placed(home, done.stdout)
    assert parse(done.stdout) == Settings()
    assert titles(run(home, "--batch", *ONCE)) == titles(run(home, "--batch", *ONCE, "--no-config"))


def test_tomlkit_is_imported_only_where_there_is_a_file(home: Path) -> None:
    probe = DRIVER.replace(
        "sys.exit(main())",
        "from tcptop_ops.cli.main import settings_of\nsettings_of(False)\nprint('tomlkit' in sys.modules)",
    )
    for text, found in (("", "False\n"), ("delay = 2\n", "True\n")):
        if text:
            placed(home, text)
        argv = [sys.executable, "-c", probe, str(home)]
        env = os.environ | {"TCPTOP_NO_CONFIG": ""}
        assert subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout == found


def test_unread_it_is_saved_to_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("", "", os.geteuid(), 1, "", str(home), ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    for name in ("SUDO_UID", "DOAS_UID", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    path = placed(home, "nonsense")
    assert settings_of(skip=True) == Settings()
    assert settings_of(skip=True).path == path
