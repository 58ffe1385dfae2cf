"""The outputs as scripts use them, of the real program: every example of docs/scripts.md, the schema, and pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.live.ahead import Ahead
from tests.live.started import ROOT
from tests.support.json_schema import validate

DOC = ROOT / "docs" / "scripts.md"
EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL)
OUTPUTS = ("--json", "--csv", "--batch")
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def needs_jq() -> None:
    if shutil.which("jq") is None:
        if os.environ.get("TCPTOP_REQUIRE_LIVE") == "1":
            pytest.fail("live tests are required, but: jq is not installed")
        pytest.skip("live: jq is not installed")


def words(cgroup: Path) -> list[str]:
    return [sys.executable, "-m", "tcptop_ops", "--cgroup", str(cgroup), "-d", "0.2"]


def run_example(example: str, cgroup: Path, work: Path) -> subprocess.CompletedProcess[str]:
    """By a shell that finds this program under its name, watching this cgroup."""
    commands = work / "bin"
    commands.mkdir()
    shim = commands / "tcptop-ops"
    shim.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {shlex.join(words(cgroup))} "$@"\n')
    shim.chmod(0o755)
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", example],
        cwd=work,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 8
    assert all("tcptop" in example for example in EXAMPLES)


SILENT = {"> flows.csv", "closed_s < 1", ".findings[]", "rto > 3"}
"""Examples that may print nothing here: what they tell does not happen, or goes to a file."""


@pytest.fixture(scope="module")
def ahead(
    busy: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ahead[tuple[subprocess.CompletedProcess[str], Path]]]:
    """Examples that were run, and where."""
    places = {example: tmp_path_factory.mktemp("example") for example in EXAMPLES}

    def work(example: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        return run_example(example, busy, places[example]), places[example]

    with closing(Ahead(request, "example", work)) as made:
        yield made


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: " ".join(example.split())[:60])
def test_an_example_does_what_it_says(
    example: str, ahead: Ahead[tuple[subprocess.CompletedProcess[str], Path]]
) -> None:
    done, place = ahead.of(example)
    assert done.returncode == 0, done.stderr
    if not any(part in example for part in SILENT):
        assert done.stdout.strip(), done.stderr
    if "--fail-if" not in example:
        assert done.stderr == ""
    if "flows.csv" in example:
        rows = list(csv.DictReader(io.StringIO((place / "flows.csv").read_text())))
        assert {"time", "process", "raddr", "srtt_us", "retrans_win", "tx_bytes_per_s"} == set(rows[0])


def test_what_examples_print(busy: Path, tmp_path: Path) -> None:
    """The one that counts by address: jq's sum is what the objects say."""
    [example] = [each for each in EXAMPLES if "group_by(.raddr)" in each]
    found = json.loads(run_example(example, busy, tmp_path).stdout)
    assert sum(row["connections"] for row in found) >= 2
    assert all(set(row) == {"raddr", "connections", "again"} for row in found)


def test_real_output_is_what_the_schema_says(busy: Path) -> None:
    done = subprocess.run(
        [*words(busy), "--json", "-n", "3"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    ticks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ticks) == 3
    for tick in ticks:
        assert tick["callbacks"]
        assert tick["connections"]
        validate(tick)


def test_polled_output_is_what_the_schema_says() -> None:
    argv = [sys.executable, "-m", "tcptop_ops", "--source", "sockdiag", "--json", "--once", "-d", "0.1"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    validate(json.loads(done.stdout))


@contextmanager
def endless(cgroup: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*words(cgroup), *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_tick_is_there_at_once_and_a_reader_may_go_away(output: str, busy: Path) -> None:
    with endless(busy, output) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):  # few bytes: they would never come, were they held back until a block is full
            assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("output", ["--json", None])
def test_a_check_ends_at_the_first_tick_that_matches(output: str | None, busy: Path) -> None:
    options = ["--fail-if", "retr > 0", *([output] if output else [])]
    with endless(busy, *options) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4
    assert bool(out) == bool(output)
    lines = err.splitlines()
    assert lines[0] == "tcptop-ops: 1 connection matches: retr > 0"
    assert lines[1].startswith("worst: python")
    assert len(lines) == 2


def test_a_check_that_finds_nothing(busy: Path) -> None:
    done = subprocess.run(
        [*words(busy), "--fail-if", "retr > 1000000", "-n", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
