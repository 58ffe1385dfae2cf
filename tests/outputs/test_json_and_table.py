"""What leaves the program: valid JSON and harmless text, whatever the rows hold."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.diagnosis.host_figures import FIGURES
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.model import host_counters as host_model
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Finding, Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import COUNTERS
from tcptop_ops.outputs.json_lines import callbacks, connections, host_counters, json_line, json_object
from tcptop_ops.outputs.text_table import table
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import OUTPUT, parse_list
from tcptop_ops.views.view import Spec, View, make
from tests.support import bad_rows
from tests.support.fakes import BOOT_NS, HOSTILE, finals, flow, scrambled, snapshot

HOST = HostDescription("box", "6.12.0")
OWN = {"cpu_pct": 0.5, "rss_bytes": 1000, "view_ms": 0.1}
TOP = [
    "schema",
    "time",
    "host",
    "kernel",
    "source",
    "callbacks_mode",
    "interval_s",
    "window_s",
    "tick",
    "callbacks",
    "totals",
    "host_counters",
    "findings",
    "notes",
    "self",
    "connections",
]
TOTALS = [
    "connections",
    "by_state",
    "namespaces",
    "adopted",
    "untracked",
    "opened",
    "closed",
    "retrans_segs",
    "retrans_per_s",
    "rto_events",
    "rto_per_s",
    "tx_bytes_per_s",
    "rx_bytes_per_s",
]


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def loads(line: str) -> dict[str, Any]:
    """Strict: no NaN, no Infinity, no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    found: dict[str, Any] = json.loads(line, parse_constant=refuse, object_pairs_hook=once)
    return found


def view_of(flows: Flows, columns: str = "all") -> View:
    return make(flows, Spec(columns=parse_list(columns), sort=find("cookie"), falling=False))


def two_ticks(*flows: dict[str, Any], **rest: Any) -> Flows:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    return tracker.update(snapshot(2, list(flows), **rest))


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_json_is_valid_whatever_the_rows(seed: int) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(3, seed))
    names = {0: "root\x1b", 2**32 - 1: "\udcff"}
    flows = tracker.update(scrambled(3, seed + 1, 1, users=names, cgroups=names, notes=("\x1b[31m",)))
    line = json_line(view_of(flows), HOST, OWN)
    assert line.isascii()
    assert line.endswith("\n")
    assert all(0x20 <= ord(c) < 0x7F for c in line[:-1])
    rows = loads(line)["connections"]
    assert len(rows) == len(flows)
    for row in rows:
        assert list(row) == [*(column.id for column in OUTPUT), "evidence"]
        assert row["state"] is None or row["state"].isascii()


def test_the_object() -> None:
    flows = two_ticks(flow(1, bytes_acked=300), flow(2), opened=2, notes=("a note",), time_wait=3)
    found = loads(json_line(view_of(flows), HOST, OWN))
    assert list(found) == TOP
    assert list(found["totals"]) == TOTALS
    assert (found["schema"], found["time"]) == ("tcptop-ops/1", "2023-11-14T22:13:22.000Z")
    assert (found["host"], found["kernel"], found["source"], found["callbacks_mode"]) == (
        "box",
        "6.12.0",
        "fake",
        "all",
    )
    assert (found["interval_s"], found["window_s"], found["tick"]) == (2, 20, 1)
    assert found["totals"]["by_state"] == {"ESTAB": 2, "TIME-WAIT": 3}
    assert (found["totals"]["connections"], found["totals"]["opened"]) == (2, 2)
    assert found["totals"]["tx_bytes_per_s"] == 150
    assert (found["notes"], found["findings"]) == (["a note"], [])
    assert found["self"] == OWN | {"poll_ms": 0}
    assert [row["cookie"] for row in found["connections"]] == [1, 2]


def test_a_row() -> None:
    closed = finals([flow(9, states=1 << 9 | 1 << 8)], BOOT_NS + 1_500_000_000)
    flows = two_ticks(flow(1, uid=33, inode=2**64 - 2), users={33: "www-data"}, closed=closed)
    live, ended = connections(view_of(flows))
    assert live["inode"] == 2**64 - 2
    assert (live["peer"], live["raddr"], live["rport"]) == ("10.0.0.2:443", "10.0.0.2", 443)
    assert (live["user"], live["uid"], live["process"], live["pid"]) == ("www-data", 33, "nginx", 1000)
    assert (live["end"], live["closed_s"]) == (None, None)
    assert (ended["end"], ended["closed_s"]) == ("peer-closed", 0.5)


def test_calls_of_the_fifteen_operators() -> None:
    counters = np.zeros((), COUNTERS)
    counters["calls"] = np.arange(22) * 10
    found = callbacks(two_ticks(counters=counters))
    assert found is not None
    assert len(found) == 15
    assert found == {operator.name: operator.number * 10 for operator in OPERATORS}
    assert (found["TCP_CONNECT_CB"], found["WRITE_HDR_OPT_CB"]) == (30, 150)


def test_no_calls_where_no_program_counts() -> None:
    found = json_object(view_of(two_ticks(callbacks_mode="")), HOST, OWN)
    assert found["callbacks"] is None
    assert found["callbacks_mode"] is None


def test_what_the_source_can_not_tell_is_null() -> None:
    flows = two_ticks(flow(1, cwnd=10, pid=7), missing=frozenset({"cwnd", "pid"}))
    row = connections(view_of(flows))[0]
    assert (row["cwnd"], row["pid"]) == (None, None)
    assert row["mss"] == 1448
    body = table(view_of(flows, "pid,cwnd,mss"), None).splitlines()[2]
    assert body.split() == ["?", "?", "1448"]


def test_the_table() -> None:
    flows = two_ticks(flow(1, srtt_us=42_000), flow(2, name=b"postgres", peer=("2001:db8::7", 5432)))
    text = table(view_of(flows, "process,peer,srtt"), None)
    lines = text.splitlines()
    assert lines[0].endswith("fake | 2 sockets | ESTAB 2 | retr 0/s RTO 0/s | tx 0B/s rx 0B/s")
    assert lines[1:] == [
        "PROCESS   PEER                SRTT",
        "nginx     10.0.0.2:443        42ms",
        "postgres  [2001:db8::7]:5432  30ms",
        "",
    ]


def test_the_table_has_as_many_columns_as_fit() -> None:
    flows = two_ticks(flow(1), flow(2))
    whole = table(view_of(flows, "srtt,process,retr,peer"), None).splitlines()
    assert whole[1] == "SRTT  PROCESS  RETR  PEER"
    for width, shown in (
        (1, 1),
        (4, 4),
        (12, 4),
        (13, 13),
        (18, 13),
        (19, 19),
        (24, 19),
        (25, 25),
        (30, 30),
        (200, 200),
    ):
        found = table(view_of(flows, "srtt,process,retr,peer"), width).splitlines()
        assert found[0] == whole[0][:width], "the heading is cut"
        assert found[1:] == [line[:shown].rstrip() for line in whole[1:]], width


def test_no_rows() -> None:
    lines = table(view_of(two_ticks(), "peer,srtt"), 80).splitlines()
    assert lines[1:] == ["PEER  SRTT", ""]
    assert loads(json_line(view_of(two_ticks()), HOST, OWN))["connections"] == []


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_a_table_emits_no_escape_sequence(seed: int) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(3, seed))
    names = {0: "\x1b]0;", 2**32 - 1: "\udc9b31m\n"}
    flows = tracker.update(scrambled(3, seed + 1, 1, users=names, cgroups=names))
    text = table(view_of(flows), None)
    assert all(c == "\n" or " " <= c <= "~" for c in text)
    assert len(text.splitlines()) == 2 + len(flows) + 1


def test_names_that_attack_a_terminal() -> None:
    for name in HOSTILE:
        flows = two_ticks(flow(1, name=name))
        line = json_line(view_of(flows), HOST, OWN)
        assert loads(line)["connections"][0]["process"] == (name.decode("utf-8", "replace") or None)
        assert "\x1b" not in line + table(view_of(flows), None)


def test_the_figures_of_the_host() -> None:
    host, net = np.zeros(1, host_model.HOST), np.zeros(1, NETNS)
    host["orphans"], host["max_orphans"], host["files"] = 3, 400, 7
    net["netns"], net["out_segs"] = 9, 1000
    tracker = Tracker()
    flows = tracker.update(snapshot(0, [], host_counters=host, namespace_counters=net.copy()))
    net["out_segs"] += 100
    flows = tracker.update(snapshot(2, [], host_counters=host, namespace_counters=net))
    found = host_counters(flows)
    assert list(found) == [figure.name for figure in FIGURES]
    assert found["orphans"] == {"value": 3, "per_s": None, "limit": 400, "netns": None}
    assert found["open_files"] == {"value": 7, "per_s": None, "limit": None, "netns": None}
    assert found["segs_sent"] == {"value": 100, "per_s": 50.0, "limit": None, "netns": 9}
    assert found["accept_overflows"] == {"value": 0, "per_s": 0.0, "limit": None, "netns": None}
    assert found["tracked_connections"] == {"value": None, "per_s": None, "limit": None, "netns": None}


def test_what_is_not_known_of_the_host_is_null() -> None:
    found = host_counters(Tracker().update(snapshot(0, [])))
    assert {value for figure in found.values() for value in figure.values()} == {None}


def test_findings() -> None:
    rows = [bad_rows.row("not-closed", 20.0, pid=7, name=b"app", state=State.CLOSE_WAIT, state_s=130.0)] * 4
    flows = FindingsMemory().complete(bad_rows.tick(rows))
    found = json_object(make(flows, Spec()), HOST, OWN)
    assert found["findings"] == [
        {
            "text": "app 7 has not closed 4 sockets that their peers closed, the oldest since 2 min",
            "filter": "pid = 7 and score >= 10",
            "blame": "app",
            "rows": 4,
            "since": found["time"],
        }
    ]


def test_the_table_tells_findings_with_their_blame_above_the_columns() -> None:
    told = (Finding("6 of 6 flows to 10.2.0.0/29 lose", "port = 443", 6, "network"), Finding("\x1b[2J", "", 1))
    lines = table(view_of(replace(two_ticks(flow(1)), findings=told), "process,peer"), None).splitlines()
    assert lines[1:3] == ["! network: 6 of 6 flows to 10.2.0.0/29 lose (6 rows)", "! ?: \\x1b[2J (1 row)"]
    assert lines[3] == "PROCESS  PEER"
