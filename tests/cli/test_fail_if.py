"""--fail-if: exit status 4 after the tick that matched was printed; what matched is told on standard error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tcptop_ops.cli import main
from tcptop_ops.cli.arguments import parse
from tcptop_ops.host.signals import Stop
from tcptop_ops.sources import open
from tests.support.fakes import FakeSource, flow, snapshot

BAD = {"rto_us": 800_000, "name": b"back\x1b[31mup", "pid": 77}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeSource]:
    """The sources that are handed out, in place of the kernel."""
    sources: list[FakeSource] = []
    monkeypatch.setattr(Stop, "at_signals", lambda stop: stop)
    monkeypatch.setattr(open, "open_source", lambda *_, **__: sources[0])
    monkeypatch.setattr(main, "begin_early", lambda *_: None)
    return sources


def third_tick_is_bad() -> FakeSource:
    calm = [flow(1), flow(2)]
    worse = [flow(1), flow(2, **BAD), flow(3, **BAD, local=("10.0.0.1", 999))]
    return FakeSource([snapshot(0, calm), snapshot(1, calm), snapshot(2, calm), snapshot(3, worse), snapshot(4, worse)])


def run(*argv: str) -> int:
    return main.main(["-d", "0.1", *argv])


@pytest.mark.parametrize("output", ["--json", "--csv", "--batch"])
def test_it_ends_after_the_first_tick_that_matches(
    output: str, opened: list[FakeSource], capsys: pytest.CaptureFixture[str]
) -> None:
    opened.append(third_tick_is_bad())
    assert run(output, "--fail-if", "rto_us > 500ms") == 4
    out, err = capsys.readouterr()
    assert opened[0].polls == 4
    assert opened[0].closed
    assert out.count("31mup") == 2, "the tick that matched was printed"
    assert err.splitlines()[0] == "tcptop-ops: 2 connections match: rto_us > 500ms"
    assert err.splitlines()[1].startswith("worst: back\\x1b[31mup 77 10.0.0.1:")
    assert len(err.splitlines()) == 2


def test_without_an_output_it_says_nothing_else(opened: list[FakeSource], capsys: pytest.CaptureFixture[str]) -> None:
    opened.append(third_tick_is_bad())
    assert run("--fail-if", "rto_us > 500ms and lport = 999") == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tcptop-ops: 1 connection matches: rto_us > 500ms and lport = 999\nworst: ")


@pytest.mark.parametrize("limit", [["--once"], ["-n", "2"]])
def test_where_nothing_matches_in_time_it_is_fine(
    limit: list[str], opened: list[FakeSource], capsys: pytest.CaptureFixture[str]
) -> None:
    opened.append(third_tick_is_bad())
    assert run("--json", "--fail-if", "rto_us > 500ms", *limit) == 0
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (int(limit[-1].replace("--once", "1")), "")


def test_the_baseline_does_not_count(opened: list[FakeSource], capsys: pytest.CaptureFixture[str]) -> None:
    opened.append(FakeSource([snapshot(0, [flow(1, **BAD)]), snapshot(1, [flow(2)])]))
    assert run("--once", "--fail-if", "rto_us > 500ms") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shown", "status"), [(["-f", "lport = 999"], 4), (["-f", "lport = 998"], 0), (["-p", "1"], 0)]
)
def test_only_what_is_shown_is_asked(
    shown: list[str], status: int, opened: list[FakeSource], capsys: pytest.CaptureFixture[str]
) -> None:
    opened.append(third_tick_is_bad())
    assert run("--json", "-n", "4", "--fail-if", "rto_us > 500ms", *shown) == status
    rows: list[Any] = [json.loads(line)["connections"] for line in capsys.readouterr().out.splitlines()]
    assert [len(each) for each in rows] == ([0, 0, 1] if status else [0] * 4)


def test_groups_do_not_hide_a_connection(opened: list[FakeSource], capsys: pytest.CaptureFixture[str]) -> None:
    opened.append(third_tick_is_bad())
    assert run("--csv", "-g", "state", "--fail-if", "lport = 999") == 4
    assert "1 connection matches" in capsys.readouterr().err


def test_a_wrong_expression_is_told_before_anything_starts(
    opened: list[FakeSource], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "--fail-if", "rto_us >") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tcptop-ops: filter: ")


def test_it_opens_no_screen() -> None:
    for argv, output in (([], "none"), (["--json"], "json"), (["--csv"], "csv"), (["-b"], "batch")):
        found = parse(["--fail-if", "rto > 3", *argv])
        assert found is not None
        assert found.output == output
        assert found.fail_if is not None
        assert found.fail_if.text == "rto > 3"
