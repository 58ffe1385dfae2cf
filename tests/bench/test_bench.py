"""The harness of the benchmarks: medians, ratios, what it refuses, what it says of a failure. Nothing here is timed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import load, peers
from tests.bench.against import QUICK, Comparison, Plan, added, kept
from tests.bench.builds import Build, Values, both, compared, more
from tests.bench.figures import Figure, Line, Nonsense, Note, as_data, figure, markdown, nonsense, number, ratios, row
from tests.bench.setting import HOLDER, ROOT, Setting
from tests.bench.tick import whole


def test_a_figure_is_the_median_and_half_of_all_values_are_in_its_spread() -> None:
    one = Figure("a tick", "ms", (9.0, 1.0, 2.0, 3.0, 100.0))
    assert one.median == 3.0
    assert one.spread == (2.0, 9.0)


def test_one_value_has_no_spread() -> None:
    assert Figure("memory", "MB", (7.0,)).spread == (7.0, 7.0)


@pytest.mark.parametrize(
    ("unit", "value", "budget", "met"),
    [
        ("ms", 11.0, 12.0, True),
        ("ms", 12.0, 12.0, True),
        ("ms", 13.0, 12.0, False),
        ("ratio", 0.99, 0.98, True),
        ("ratio", 0.97, 0.98, False),
        ("times", 9.0, 10.0, False),
        ("fold", 9.0, 10.0, True),
        ("ms", 13.0, None, None),
    ],
)
def test_a_budget_of_a_ratio_is_a_lower_bound_of_all_else_an_upper_one(
    unit: str, value: float, budget: float | None, met: bool | None
) -> None:
    assert Figure("", unit, (value,), budget).met is met


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("ms", ()),
        ("ms", (1.0, math.nan)),
        ("ms", (math.inf,)),
        ("ms", (1.0, -0.1)),
        ("ratio", (0.0, 0.0)),
        ("ratio", (3.1, 3.2, 1.0)),
        ("times", (0.0,)),
    ],
)
def test_what_can_not_be_is_refused(unit: str, values: tuple[float, ...]) -> None:
    assert nonsense(Figure("it", unit, values))
    with pytest.raises(Nonsense, match="it: "):
        figure("it", unit, values)


@pytest.mark.parametrize(
    ("unit", "values"), [("ms", (0.0,)), ("ratio", (3.0,)), ("ratio", (0.5, 9.0, 1.0)), ("points", (-1.0,))]
)
def test_what_can_be_is_not(unit: str, values: tuple[float, ...]) -> None:
    assert figure("it", unit, values).values == values


def test_a_budget_that_is_missed_is_no_nonsense() -> None:
    assert figure("it", "ms", [13.0], 12.0).met is False


def test_a_ratio_is_of_a_pair() -> None:
    assert ratios([90.0, 50.0], [100.0, 200.0]) == [0.9, 0.25]


@pytest.mark.parametrize(
    ("with_it", "without"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [0.0]), ([2.0, -1.0], [1.0, 1.0])]
)
def test_runs_that_are_no_pairs_or_did_nothing_make_no_ratio(with_it: list[float], without: list[float]) -> None:
    with pytest.raises(Nonsense):
        ratios(with_it, without)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.2345, "1.234"), (0.98765, "0.988")]
)
def test_numbers_are_as_long_as_they_tell_something(value: float, text: str) -> None:
    assert number(value) == text


def test_a_row_tells_median_spread_number_and_budget() -> None:
    line = row(Figure("a tick", "ms", (1.0, 2.0, 30.0), 12.0))
    assert line.split() == ["a", "tick", "2.000", "ms", "1.500", "to", "16.0", "3", "<=", "12", "met"]
    assert row(Figure("a rate", "ratio", (0.5,), 0.98)).endswith(">= 0.98 MISSED")
    assert row(Note("nothing was there")) == "  nothing was there"


def test_the_table_of_the_page_has_a_line_for_each_figure_and_then_the_notes() -> None:
    lines: list[Line] = [Note("iftop: not installed"), Figure("a tick", "ms", (1.0, 2.0), 12.0)]
    assert list(markdown({"tick": lines})) == [
        "| what | median | half of them | n | budget |",
        "| --- | --- | --- | --- | --- |",
        "| tick: a tick | 1.500 ms | 1.250 to 1.750 | 2 | <= 12 met |",
        "",
        "- `tick`: iftop: not installed",
    ]


def test_json_has_every_value() -> None:
    data = as_data(Figure("a tick", "ms", (1.0, 2.0), 12.0))
    assert json.loads(json.dumps(data)) == {
        "what": "a tick",
        "unit": "ms",
        "median": 1.5,
        "low": 1.25,
        "high": 1.75,
        "values": [1.0, 2.0],
        "budget": 12.0,
        "met": True,
    }
    assert as_data(Note("why")) == {"note": "why"}


def test_names_are_taken_in_the_order_of_the_table() -> None:
    assert bench.chosen([]) == list(bench.BENCHMARKS)
    assert bench.chosen(["tick", "traffic"]) == ["traffic", "tick"]
    with pytest.raises(SystemExit, match="no benchmark tock"):
        bench.chosen(["tick", "tock"])


def _measure(name: str) -> Iterator[Line]:
    yield figure("first", "ms", [1.0])
    if name == "crash":
        raise OSError("gone")
    if name == "nonsense":
        yield figure("second", "ratio", [0.0])


def _none(_: str) -> Iterator[Line]:
    return iter(())


def test_a_failure_is_told_and_the_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    results, failed = bench.run(["crash", "nonsense", "fine"], _measure)
    assert {name: len(lines) for name, lines in results.items()} == {"crash": 1, "nonsense": 1, "fine": 1}
    assert failed == {"crash": "OSError: gone", "nonsense": "second: a ratio of 0.000"}
    assert capsys.readouterr().out.count("FAILED") == 2


def test_a_benchmark_without_a_line_has_failed() -> None:
    assert bench.run(["empty"], _none)[1] == {"empty": "nothing was measured"}


@pytest.mark.parametrize(("measure", "status"), [("fine", 0), ("nonsense", 1), ("crash", 1)])
def test_the_exit_status_tells_of_a_failure(
    measure: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bench, "measured", lambda name, setting: _measure(measure))
    written = tmp_path / "cost.json"
    assert bench.main(["--quick", "--json", str(written), "tick"]) == status
    found = json.loads(written.read_text())
    assert [line["what"] for line in found["results"]["tick"]] == ["first"]
    assert bool(found["failed"]) == bool(status)
    assert {"kernel", "processor", "cores", "command"} <= set(found)


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="not root"):
        bench.main(["tick"])


def test_each_name_is_a_benchmark() -> None:
    for name in bench.BENCHMARKS:
        assert callable(import_module(f"tests.bench.{name}").measure)


def test_fewer_runs_with_quick() -> None:
    assert Setting(quick=False).of(7, 3) == 7
    assert Setting(quick=True).of(7, 3) == 3


def test_without_a_compiler_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "COMPILERS", ("no-such-compiler",))
    with load.built() as program:
        assert program is None


@pytest.mark.skipif(load.compiler() is None, reason=load.NO_COMPILER)
@pytest.mark.parametrize(
    ("server", "mode", "connections"),
    [("echo", "rr", 1), ("echo", "mixed", 64), ("echo", "crr", 1), ("sink", "bulk", 1), ("sink", "bulk", 64)],
)
def test_the_load_generator_does_something_each_time_it_is_told(server: str, mode: str, connections: int) -> None:
    pipe = subprocess.PIPE
    with load.built() as program:
        assert program is not None
        serve = [str(program), "serve", server, "127.0.0.1", "-1"]
        with subprocess.Popen(serve, text=True, stdin=pipe, stdout=pipe) as serving:
            assert serving.stdin
            assert serving.stdout
            port = serving.stdout.readline().split()[1]
            words = [str(program), "drive", mode, "127.0.0.1", port, str(connections), "-1"]
            driven = subprocess.run(words, input="10\n10\n", capture_output=True, text=True, timeout=60, check=True)
            serving.stdin.close()
            assert serving.wait(60) == 0
    ready, *done = driven.stdout.splitlines()
    assert ready == "ready 0"
    assert [line.split()[0] for line in done] == ["done", "done"]
    assert min(int(number) for line in done for number in line.split()[1:]) > 0


def test_a_peer_that_is_not_there_says_why() -> None:
    assert "not installed" in str(peers.why_not(peers.Peer(("no-such-tool",), (), False, b"")))


def test_a_peer_that_compiles_needs_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "KERNEL_TREE", tmp_path / "build")
    monkeypatch.setattr(peers, "KHEADERS", tmp_path / "kheaders")
    assert "headers" in str(peers.why_not(peers.Peer(("sh",), (), True, b"")))
    assert peers.why_not(peers.Peer(("sh",), (), False, b"")) is None
    (tmp_path / "build").mkdir()
    assert peers.why_not(peers.Peer(("sh",), (), True, b"")) is None


def test_a_whole_tick_has_every_step_and_the_helper() -> None:
    cost = {"poll cpu": 1.0, "tracker cpu": 2.0, "findings cpu": 3.0, "view cpu": 4.0, "helper cpu": 5.0}
    assert whole(cost | {"poll wall": 100.0, "rows": 1000.0}) == 15.0


OLD, NEW = Build("old", Path("/old")), Build("new", Path("/new"))


def test_every_other_round_begins_with_the_new_build() -> None:
    assert [build.name for build in Comparison((OLD, NEW), Plan()).each(3)] == [
        "old",
        "new",
        "new",
        "old",
        "old",
        "new",
    ]


def test_two_builds_are_compared_round_by_round() -> None:
    found = Values([100.0, 200.0], [40.0, 50.0])
    old, new, share = compared("it", "ms", found, 0.35)
    assert (old.values, new.values) == ((100.0, 200.0), (40.0, 50.0))
    assert (share.unit, share.values, share.met) == ("fold", (0.4, 0.25), True)
    with pytest.raises(Nonsense):
        list(compared("it", "ms", Values([1.0], [])))


def test_what_is_more_is_told_in_percent_of_a_core() -> None:
    old, new = more("it", Values([60.0], [13.0]), Values([10.0], [12.0]), 0.3)
    assert (old.values, old.budget) == ((5.0,), None)
    assert (new.values, new.met) == ((0.1,), True)


def test_what_is_kept_of_a_rate_and_what_a_connection_takes_more() -> None:
    rates = Values([(900.0, 1000.0)], [(950.0, 1000.0)])
    old, new = kept("it", rates, 0.93)
    assert (old.values, old.met, new.values, new.met) == ((0.9,), None, (0.95,), True)
    old, new = added(load.SHORT, "loopback", Values([(50_000.0, 100_000.0)], [(110_000.0, 100_000.0)]))
    assert old.values[0] == pytest.approx(10_000.0)
    assert new.values == (0.0,), "noise makes none faster"


def test_budgets_are_for_the_whole_plan() -> None:
    assert Plan().budget(0.4) == 0.4
    assert QUICK.budget(0.4) is None


def test_what_talks_is_measured_by_the_old_build_at_rest() -> None:
    cpu = {0: Values([400.0], [100.0]), 10_000: Values([800.0], [200.0])}
    mb = Values([300.0], [150.0])
    told = Comparison((OLD, NEW), Plan())._told(cpu, mb, mb, [4000.0])
    lines = {one.what: one for one in told if isinstance(one, Figure)}
    talking = "100,000 sockets, 10,000 of them talking, CPU a second: new / old"
    assert (lines[talking].values, lines[talking].met) == ((0.25,), None)
    assert (lines[f"{talking} at rest"].values, lines[f"{talking} at rest"].met) == ((0.5,), True)
    assert lines["100,000 sockets, at rest, CPU a second: new / old"].met
    assert lines["100,000 sockets: ss -tinp takes so many times as much as a second of new"].met
    assert lines["100,000 sockets, program and helper, resident memory: new / old"].met


def test_a_clone_is_of_its_commit_and_goes() -> None:
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    with both("HEAD") as (old, new):
        told = subprocess.run(
            ["git", "-C", str(old.root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        assert told.stdout == head.stdout
        assert new.root == ROOT
        assert (old.root / "tcptop_ops").is_dir()
    assert not old.root.exists()
    with pytest.raises(SystemExit, match="no build of nothing"), both("nothing"):
        pass


def test_without_a_commit_or_with_an_unknown_part_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit, match="which commit"):
        bench.run_against([], quick=True)
    with pytest.raises(SystemExit, match="no part tock"):
        bench.run_against(["HEAD", "tock"], quick=True)


def test_holders_talk_as_they_are_told() -> None:
    argv = [sys.executable, "-I", str(HOLDER), "20"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "ready 21\n"
        for line in ("10", "0", "100"):
            holder.stdin.write(f"{line}\n")
            holder.stdin.flush()
        holder.stdin.close()
        assert holder.wait(10) == 0
