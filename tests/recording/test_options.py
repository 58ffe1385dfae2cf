"""The command line: options of recording and playing, and the program that plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tcptop_ops.cli.arguments import parse
from tcptop_ops.errors import Usage


@pytest.mark.parametrize(
    "argv",
    [
        ["--record-for", "5m"],
        ["--record-size", "50M"],
        ["--record-if", "rto > 3", "--json"],
        ["--speed", "2"],
        ["--record", "f", "--replay", "g"],
        ["--replay", "g", "--cgroup", "/a"],
        ["--replay", "g", "--allow-close"],
        ["--record", "f", "--record-for", "0"],
        ["--record", "f", "--record-for", "5 weeks"],
        ["--record", "f", "--record-size", "10k"],
        ["--record", "f", "--record-size", "large"],
        ["--record", "f", "--record-if", "nope > 3"],
        ["--replay", "f", "--speed", "0"],
        ["--replay", "f", "--speed", "fast"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(argv: list[str]) -> None:
    with pytest.raises(Usage) as error:
        parse(argv)
    assert error.value.message
    assert error.value.hint


def test_a_right_command_line() -> None:
    found = parse(["--record", "f", "--record-for", "5m", "--record-size", "50MB", "--record-if", "rto > 3"])
    assert found is not None
    assert (found.record, found.record_for_s, found.record_size) == ("f", 300.0, 50_000_000)
    assert found.record_if is not None
    assert found.record_if.text == "rto > 3"
    found = parse(["--replay", "f", "--speed", "max"])
    assert found is not None
    assert (found.replay, found.speed) == ("f", 0.0)


def program(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tcptop_ops", *argv], text=True, capture_output=True, timeout=60, check=False
    )


def test_the_program_plays_it(recorded: Path) -> None:
    """Without root, bcc or a kernel; faster than it was."""
    done = program("--replay", str(recorded), "--speed", "max", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tick["tick"] for tick in told] == [1, 2, 3, 4]
    assert (told[0]["host"], told[0]["kernel"], told[0]["source"]) == ("web-3", "6.18.0", "fake")
    assert len(told[0]["connections"]) >= 20
    done = program("--replay", str(recorded.parent / "none"), "--json")
    assert done.returncode == 2
    assert done.stderr.startswith("tcptop-ops: cannot replay ")
    assert done.stderr.count("\n") == 2
