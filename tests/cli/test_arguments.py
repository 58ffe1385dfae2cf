"""The command line as plain data."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.bpf.attach import Options
from tcptop_ops.cli.arguments import Arguments, kernel_options, parse, parser, read
from tcptop_ops.config.settings import Settings
from tcptop_ops.errors import Usage
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, DEFAULT_SORT
from tcptop_ops.views.columns import COLUMNS


def parsed(*argv: str) -> Arguments:
    found = parse(list(argv))
    assert found is not None
    return found


def test_defaults() -> None:
    assert dataclasses.asdict(parsed()) | {"sort": None} == {
        "source": "auto",
        "delay_s": 1.0,
        "window_s": 20.0,
        "closed_s": 5.0,
        "sort": None,
        "falling": True,
        "columns": None,
        "group": "none",
        "mouse": True,
        "output": "screen",
        "iterations": None,
        "filter": None,
        "no_helper": False,
        "allow_close": False,
        "record": None,
        "record_for_s": None,
        "record_size": None,
        "record_if": None,
        "replay": None,
        "demo": False,
        "speed": 1.0,
        "fail_if": None,
        "metrics": None,
        "settings": dataclasses.asdict(Settings()),
    }
    assert parsed().sort is find(DEFAULT_SORT.partition(":")[0])


def test_everything() -> None:
    line = (
        "--source sockdiag --cgroup /a/b --callbacks every --map-size 1024 --no-adopt -d 0.1 -w 60"
        " -s srtt:asc -c peer,retr% --closed 0 --no-mouse --json -n 3 --no-helper --allow-close"
    )
    found = parsed(*line.split())
    assert (found.no_helper, found.allow_close) == (True, True)
    assert (found.source, found.mouse, found.output, found.iterations) == ("sockdiag", False, "json", 3)
    assert (found.delay_s, found.window_s, found.closed_s) == (0.1, 60, 0)
    assert (found.sort, found.falling) == (find("srtt_us"), False)
    assert found.columns == (find("peer"), find("retrans_pct"))


def test_other_ways_to_say_it() -> None:
    assert parsed("--once", "-b") == parsed("--batch", "--iterations", "1") == parsed("--once", "-n", "1", "-b")
    assert parsed("-d.5").delay_s == parsed("--delay=0.5").delay_s == 0.5


@pytest.mark.parametrize(
    "argv", [["-c", "-rto,+cwnd"], ["--columns", "-rto,+cwnd"], ["-c-rto,+cwnd"], ["--columns=-rto,+cwnd"]]
)
def test_columns_to_leave_out(argv: list[str]) -> None:
    wanted = [name for name in DEFAULT if name != "rto_win"] + ["cwnd"]
    assert [column.id for column in parsed(*argv).columns or ()] == wanted


def test_an_option_behind_columns_is_not_swallowed() -> None:
    with pytest.raises(Usage, match="expected one argument"):
        parse(["-c", "-b"])
    assert parsed("-c", "peer", "-b").output == "batch"


def test_version_needs_nothing_else() -> None:
    assert parse(["--version", "--source", "sockops"]) is None


WRONG = [
    ["-d", "0"],
    ["-d", "0.0999"],
    ["-d", "-1"],
    ["-d", "3601"],
    ["-d", "nan"],
    ["-d", "inf"],
    ["-d", "soon"],
    ["-d", ""],
    ["-d"],
    ["-w", "0.5"],
    ["-w", "86401"],
    ["--closed", "-1"],
    ["-n", "0"],
    ["-n", "-1"],
    ["-n", "1.5"],
    ["-n", "99999999999"],
    ["--map-size", "0"],
    ["--map-size", "many"],
    ["--source", "tcpdump"],
    ["--callbacks", "none"],
    ["--nope"],
    ["--delai", "1"],
    ["--dela", "1"],
    ["-x"],
    ["nginx"],
    ["--batch", "--json"],
    ["--once", "-n", "2"],
    ["-s", "nope"],
    ["-s", "srtt:up"],
    ["-s", ":desc"],
    ["-c", "nope"],
    ["-c", ""],
    ["-c", "peer,-rto"],
]


@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_a_wrong_command_line(argv: list[str]) -> None:
    with pytest.raises(Usage) as error:
        parse(argv)
    assert error.value.message
    assert error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-d", "0"], "argument -d/--delay: 0 is not between 0.1 and 3600 seconds"),
        (["-n", "x"], "argument -n/--iterations: 'x' is not a whole number"),
        (["--dela", "1"], "unrecognized arguments: --dela 1"),
        (["-s", "srt"], "no column 'srt'"),
    ],
)
def test_what_it_says(argv: list[str], message: str) -> None:
    with pytest.raises(Usage) as error:
        parse(argv)
    assert error.value.message == message


@given(
    st.lists(st.sampled_from(["-d", "-n", "-c", "-s", "-b", "--json", "--once", "1", "0", "peer", "+rto", "-rto", ""]))
)
def test_anything_is_read_or_refused(argv: list[str]) -> None:
    try:
        found = parse(argv)
    except Usage:
        return
    assert found is not None
    assert 0.1 <= found.delay_s <= 3600
    assert found.columns is None or found.columns


def test_help_tells_every_column_and_option() -> None:
    text = " ".join(parser().format_help().split())
    kernel = ("--cgroup", "--source", "--callbacks", "--map-size", "--no-adopt", "--no-helper", "--allow-close")
    for option in (*kernel, "--json", "--once", "--doctor", "--version"):
        assert option in text
    for column in COLUMNS:
        assert column.id in text
        assert column.alias in text


def test_filters() -> None:
    def text(*argv: str) -> str | None:
        found = parsed(*argv).filter
        return None if found is None else found.text

    assert text() is None
    assert text("-f", "srtt > 20ms") == text("--filter=srtt > 20ms") == "srtt > 20ms"
    assert text("-p", "7") == text("--pid=7") == "pid = 7"
    assert text("-p7,8") == text("-p", "7, 8") == "pid = 7 or pid = 8"
    assert text("-p7,8", "-f", "nginx or :443") == "(nginx or :443) and (pid = 7 or pid = 8)"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-f", ""], "filter: column 1: expected a field, a word, 'not' or '(', found the end"),
        (["-f", "srt > 5ms"], "filter: column 1: expected a field, found 'srt'"),
        (["-f", "a b", "-p", "1"], "filter: column 3: expected an operator, 'and', 'or' or the end, found 'b'"),
        (["-p", "nginx"], "argument -p/--pid: 'nginx' is not a whole number"),
        (["-p", "1,"], "argument -p/--pid: '' is not a whole number"),
        (["-p", "0"], "argument -p/--pid: 0 is not positive, or too large"),
    ],
)
def test_wrong_filters(argv: list[str], message: str) -> None:
    with pytest.raises(Usage) as error:
        parse(argv)
    assert error.value.message == message
    assert error.value.hint


def test_what_the_kernel_is_asked_for() -> None:
    assert kernel_options(read([])) == Options()
    given = read(["--cgroup", "/a/b", "--callbacks", "every", "--map-size", "1024", "--no-adopt"])
    assert kernel_options(given) == Options("/a/b", "every", 1024, adopt=False)
    given = read(["--no-helper", "--allow-close"])
    assert kernel_options(given) == Options(helper=False, may_close=True)
