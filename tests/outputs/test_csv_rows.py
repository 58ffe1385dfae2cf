"""Comma-separated values: what another reader makes of them is what --json tells, whatever names the rows have."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.cli import front_ends, main
from tcptop_ops.host.signals import Stop
from tcptop_ops.model.flows import Flows
from tcptop_ops.outputs.csv_rows import header, rows
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.outputs.text_table import WIDEST
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, OUTPUT, parse_list
from tcptop_ops.views.view import Spec, View, make
from tests.support.fakes import HOSTILE, FakeSource, flow, scrambled, snapshot


def view_of(flows: Flows, columns: str = "all", **rest: Any) -> View:
    return make(flows, Spec(columns=parse_list(columns), sort=find("cookie"), falling=False, **rest))


def second_tick(*flows: dict[str, Any], **rest: Any) -> Flows:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    return tracker.update(snapshot(2, list(flows), **rest))


def read(text: str) -> list[list[str]]:
    assert text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_a_header_and_a_row() -> None:
    view = view_of(second_tick(flow(7, name=b'a "b", c', rto_us=204_000)), "cookie,process,rto_us,retr%,peer")
    assert header(view) == "time,cookie,process,rto_us,retrans_pct,peer\r\n"
    assert rows(view) == '2023-11-14T22:13:22.000Z,7,"a ""b"", c",204000,,10.0.0.2:443\r\n'


def test_values_are_those_of_json() -> None:
    flows = second_tick(flow(1, uid=33), flow(2, state=10), flow(3, name=b""), users={33: "www-data"})
    view = view_of(flows)
    names = read(header(view))[0]
    assert names == ["time", *(column.id for column in OUTPUT)]
    for line, row in zip(read(rows(view)), connections(view), strict=True):
        told = dict(zip(names[1:], line[1:], strict=True))
        assert told == {name: "" if row[name] is None else str(row[name]) for name in told}


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_every_row_is_one_harmless_line(seed: int) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(4, seed))
    names = {0: "\x1b]0;", 2**32 - 1: '\udc9b31m\r\n","'}
    flows = tracker.update(scrambled(4, seed + 1, 1, users=names, cgroups=names))
    text = rows(view_of(flows))
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert len(lines) == len(flows)
    assert all(" " <= c <= "~" for line in lines for c in line)
    assert {len(record) for record in read(text)} == {1 + len(OUTPUT)}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_attack(name: bytes) -> None:
    text = rows(view_of(second_tick(flow(1, name=name)), "process"))
    assert all(c in "\r\n" or " " <= c <= "~" for c in text)
    assert len(read(text)) == 1


def test_a_long_name_is_cut() -> None:
    text = rows(view_of(second_tick(flow(1, cgroup_id=5), cgroups={5: "/" + "x" * 5000}), "cgroup"))
    assert len(read(text)[0][1]) == WIDEST


def test_a_field_that_the_source_does_not_have_is_empty() -> None:
    flows = second_tick(flow(1, rto_us=5), missing=frozenset({"rto_us"}))
    assert read(rows(view_of(flows, "rto_us,cookie")))[0][1:] == ["", "1"]


def test_no_rows() -> None:
    assert rows(view_of(second_tick())) == ""


def test_groups_have_their_name_and_their_number_first() -> None:
    flows = second_tick(flow(1, retrans_segs=2), flow(2, retrans_segs=3), flow(3, name=b"ss,hd"))
    view = view_of(flows, "retrans_segs,peer", group="process")
    assert header(view) == "time,group,connections,retrans_segs,peer\r\n"
    assert sorted(line[1:] for line in read(rows(view))) == [
        ["nginx", "2", "5", "10.0.0.2:443"],
        ["ss,hd", "1", "0", "10.0.0.2:443"],
    ]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    """A source in place of the kernel: a connection that is there in every tick."""
    from tcptop_ops.sources import open

    made = FakeSource([snapshot(second, [flow(1)]) for second in range(4)])
    monkeypatch.setattr(Stop, "at_signals", lambda stop: stop)
    monkeypatch.setattr(open, "open_source", lambda *_, **__: made)
    monkeypatch.setattr(main, "begin_early", lambda *_: None)
    return made


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[list[str]]:
    assert main.main([*argv, "-d", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.rstrip("\r").split(",") for line in out.splitlines()]


def test_the_program_prints_the_header_once(played: FakeSource, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--csv", "-n", "3")
    assert lines[0] == ["time", *DEFAULT]
    assert [line[0][-7:] for line in lines[1:]] == ["21.000Z", "22.000Z", "23.000Z"]


def test_the_program_prints_the_columns_that_it_is_asked_for(
    played: FakeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, "--csv", "--once", "-c", "srtt,cookie")
    assert lines == [["time", "srtt_us", "cookie"], ["2023-11-14T22:13:21.000Z", "30000", "1"]]


def test_a_table_that_nobody_looks_at_has_all_columns(played: FakeSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--batch", "--once", "-d", "0.1"]) == 0
    titles = capsys.readouterr().out.splitlines()[1].split()
    assert titles == [column.title.split(" ")[0] for column in OUTPUT]
    assert played.closed


def test_a_table_on_a_terminal_has_what_fits(
    played: FakeSource, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = {}
    for width in (40, 80, 200):
        monkeypatch.setattr(front_ends, "terminal_width", lambda width=width: width)
        assert main.main(["--batch", "--once", "-d", "0.1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        titles[width] = lines[1].split()
    usual = [find(name).title.split(" ")[0] for name in DEFAULT]
    assert titles[40] == usual[: len(titles[40])]
    assert titles[200][: len(usual)] == usual
    assert len(titles[40]) < len(titles[80]) < len(titles[200])
