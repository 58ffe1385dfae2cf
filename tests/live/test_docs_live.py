"""What README and the pages tell a user to type does what it says: each command, as written, of the real program.

Those of docs/scripts.md are run by test_scripts_live.py, by a shell; queries by test_recording.py.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcptop_ops.cli.arguments import read
from tcptop_ops.errors import Failed
from tcptop_ops.recording.demo import PATH as DEMO
from tcptop_ops.recording.reader import RecordingReader
from tests.live.ahead import Ahead
from tests.live.started import PROGRAM, ROOT, Started, started
from tests.support.documents import PAGES, commands
from tests.support.leftovers import wait_until
from tests.support.scraping import answers, free_port

PATIENCE_S = 30
ELSEWHERE = {"scripts.md"}
TYPED = list(dict.fromkeys(each for page in PAGES if page.name not in ELSEWHERE for each in commands(page.read_text())))
FILE = r"FILE|/tmp/trouble\.tcptop"
ENDS_BY_ITSELF = ("explain", "print_config", "doctor", "once", "iterations", "fail_if")


@dataclass(frozen=True)
class Place:
    """What stands here for the files, ports and cgroups of the pages."""

    cgroup: Path
    file: Path
    port: int

    def words(self, typed: str) -> list[str]:
        """What is typed, of this place; ten minutes are three ticks."""
        told = re.sub(FILE, str(self.file), typed)
        told = re.sub(r"\b(NAME|CAUSE)\b", "loss", told)
        told = re.sub(r"(192\.0\.2\.7:)?\b9464\b", f"127.0.0.1:{self.port}", told)
        told = told.replace("/system.slice", str(self.cgroup)).replace("-n 600", "-n 3")
        words = shlex.split(told)
        played = "--replay" in words or "--demo" in words
        return [*words, *([] if played or "--cgroup" in words else ["--cgroup", str(self.cgroup)])]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"


def ticks_of(path: Path) -> int:
    """How many can be read so far."""
    with suppress(Failed), closing(RecordingReader(str(path))) as reader:
        return len(list(reader.snapshots()))
    return 0


def run_to_its_end(words: list[str], given: argparse.Namespace) -> str:
    argv = [sys.executable, *PROGRAM, "-d", "0.2", *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    allowed = (0, 4) if given.fail_if else (0,)
    assert done.returncode in allowed, done.stderr
    assert done.returncode == 4 or done.stderr == ""
    return done.stdout


def endless(words: list[str], place: Place, given: argparse.Namespace) -> None:
    """An output that goes on until it is stopped."""
    argv = [sys.executable, *PROGRAM, "-d", "0.2", *words]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline()
            if given.metrics:
                wait_until(lambda: answers(place.url), PATIENCE_S, "an answer")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.stdout.read()


def on_the_screen(words: list[str], place: Place, given: argparse.Namespace) -> None:
    with started("-d", "0.2", *words) as monitor:
        monitor.wait_for_picture()
        if given.metrics:
            wait_until(lambda: answers(place.url), PATIENCE_S, "an answer")
        if given.record and not given.record_if:
            wait_until(lambda: ticks_of(place.file) > 1, PATIENCE_S, "two ticks in the file")
        quit_with_q(monitor)


def quit_with_q(monitor: Started) -> None:
    monitor.press("q")
    assert monitor.process.wait(PATIENCE_S) == 0, monitor.text()[-2000:]


def type_it(typed: str, place: Place) -> None:
    """Run a command, and see that it does what it should."""
    words = place.words(typed)
    given = read(words)
    if given.replay:
        shutil.copy(DEMO, place.file)
    if any(getattr(given, name) for name in ENDS_BY_ITSELF):
        out = run_to_its_end(words, given)
        assert out.strip() or given.fail_if
        if given.json:
            assert all(json.loads(line)["connections"] for line in out.splitlines())
    elif given.json or given.csv or given.batch:
        endless(words, place, given)
    else:
        on_the_screen(words, place, given)
    if given.record and not given.record_if:
        assert ticks_of(place.file) > 1, "what was there is kept at the end"


@pytest.fixture(scope="module")
def ahead(busy: Path, request: pytest.FixtureRequest) -> Iterator[Ahead[None]]:
    def work(typed: str) -> None:
        with tempfile.TemporaryDirectory(prefix="tct-") as made:
            Path(made).chmod(0o777)  # the program gives up root
            type_it(typed, Place(busy, Path(made) / "trouble.tcptop", free_port()))

    with closing(Ahead(request, "typed", work)) as made:
        yield made


@pytest.mark.parametrize("typed", TYPED)
def test_a_command_does_what_it_says(typed: str, ahead: Ahead[None]) -> None:
    ahead.of(typed)


def test_each_kind_is_told() -> None:
    """The substitutions above are of words that the pages still use."""
    for told in ("FILE", "NAME", "CAUSE", "9464", "192.0.2.7:", "/system.slice", "-n 600", "/tmp/trouble"):
        assert any(told in typed for typed in TYPED), told
