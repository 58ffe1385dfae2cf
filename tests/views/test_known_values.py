"""No value that means "not known" leaves as a number: every field in turn says so, in every state, at every way out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops import text
from tcptop_ops.filters.compiler import compile
from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.records import EVENTS, INFINITE_SSTHRESH, SOCKET, TOO_LONG, UNKNOWN_U32, UNKNOWN_U64, unknown_of
from tcptop_ops.outputs import csv_rows, text_table
from tcptop_ops.outputs.json_lines import json_object
from tcptop_ops.outputs.openmetrics import Metrics, Own
from tcptop_ops.sources.inet_diag import INFO, info_end
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import OUTPUT
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.group_keys import GROUP_KEYS
from tcptop_ops.views.view import Spec, View, make
from tests.support.fakes import BOOT_NS, finals, flow, snapshot
from tests.support.json_schema import FILE, validate

TIMES = ("last_sent_us", "last_received_us", "last_ack_received_us", "timer_us")

FIELDS = [
    *(
        (name, unknown_of(dtype[name]))
        for dtype in (SOCKET, EVENTS)
        for name in dtype.names or ()
        if dtype[name].kind == "u" and dtype[name].itemsize >= 4 and name != "cookie"
    ),
    *((name, TOO_LONG) for name in TIMES),
    ("ssthresh", INFINITE_SSTHRESH),
]
"""Fields, and what they say where the kernel did not tell."""

STATES = [state for state in State if state <= State.CLOSING]

TOLD = {
    UNKNOWN_U32,
    UNKNOWN_U32 - 1,
    UNKNOWN_U64,
    TOO_LONG,
    INFINITE_SSTHRESH,
    *(round(UNKNOWN_U32 / unit, 3) for unit in (1e3, 1e6)),
    *(round(UNKNOWN_U64 / unit, 3) for unit in (1.0, 1e3, 1e6)),
}
"""As which numbers they would leave."""

USED = {"srtt_us": 900, "bytes_acked": 77, "options": 8, "delivered": 9, "data_segs_in": 9, "data_segs_out": 99}


def rows(origin: Origin) -> list[dict[str, Any]]:
    """Return a row for every field and every state in which the field says that it is not known."""
    events = {"first_ns": BOOT_NS} if origin != Origin.LISTED else {"first_ns": 0, "direction": Direction.UNKNOWN}
    return [
        flow(cookie, **USED | {"origin": origin, "state": state} | events | {name: sentinel})
        for cookie, (state, (name, sentinel)) in enumerate(((s, f) for s in STATES for f in FIELDS), 1)
    ]


@cache
def ticked(origin: Origin) -> Flows:
    """Return a tick of which every field of all rows, live and closed, says in one of them that it is not known."""
    tracker = Tracker()
    live = rows(origin)
    ends = [row | {"cookie": row["cookie"] + 100_000, "state": State.CLOSE} for row in live]
    before = {"total_rto": 0, "drops": 5}
    tracker.update(snapshot(0, [flow(row["cookie"], **before) for row in [*live, *ends]]))
    closed = finals(ends, BOOT_NS + 1_000_000_000)
    closed["ending"]["from_state"] = [row["state"] for row in live]
    return tracker.update(snapshot(1, live, closed))


def view_of(flows: Flows, **spec: Any) -> View:
    return make(flows, Spec(columns=OUTPUT, **spec))


def numbers(told: Any) -> Iterator[float]:
    """Yield all numbers in an object of JSON."""
    if isinstance(told, dict):
        for value in told.values():
            yield from numbers(value)
    elif isinstance(told, list):
        for value in told:
            yield from numbers(value)
    elif isinstance(told, (int, float)) and not isinstance(told, bool):
        yield told


ORIGINS = pytest.mark.parametrize("origin", list(Origin))


@ORIGINS
def test_json(origin: Origin) -> None:
    told = json_object(view_of(ticked(origin)), HostDescription("h", "k"), {})
    assert len(told["connections"]) == 2 * len(STATES) * len(FIELDS)
    assert not {(name, row[name]) for row in told["connections"] for name in row if row[name] in TOLD}
    assert not TOLD & set(numbers(told))
    assert all(math.isfinite(number) and number >= 0 for number in numbers(told))
    some = told["connections"][:: len(told["connections"]) // 50]
    validate(json.loads(json.dumps(told | {"connections": some, "self": OWN_OF_SCHEMA}, allow_nan=False)))


OWN_OF_SCHEMA = {"cpu_pct": 0.0, "rss_bytes": 0, "view_ms": 0.0, "poll_ms": 0.0}


TEXTS = {
    write(value)
    for number in (UNKNOWN_U32, UNKNOWN_U32 - 1, UNKNOWN_U64, TOO_LONG)
    for value in (number, number / 1e3, number / 1e6)
    for write in (text.duration, text.si, text.count, str)
}
"""What they would be called in words."""

BAD = (
    {"retrans_segs": 50, "rto_events": 5, "retransmits": 3, "backoff": 3, "unacked": 5, "lost": 5, "srtt_us": 900_000},
    {"unacked": 0, "notsent": 9999, "snd_wnd": 0, "probes": 4, "backoff": 4, "timer": 4},
    {"recv_q": 99_999, "rcv_wnd": 0},
    {"busy_us": 900_000, "unacked": 30, "delivered": 500, "srtt_us": 400_000, "min_rtt_us": 1000},
)
"""Rows of which there is something to say."""


EVERY_KERNEL_TELLS = {"recv_q", *(name for name in INFO.names or () if info_end(name) <= 104)}
"""A member of struct inet_diag_msg, and those that struct tcp_info always had: rules may rely on them."""


WHO = {"cookie", "state", "origin"}


@pytest.mark.parametrize("bad", BAD)
@ORIGINS
def test_words(origin: Origin, bad: dict[str, Any]) -> None:
    """Evidence and findings, of rows that are bad, do not quote a field that is not known."""
    fields = [one for one in FIELDS if one[0] in (SOCKET.names or ()) and one[0] not in EVERY_KERNEL_TELLS]
    given = [(state, name, sentinel) for state in STATES for name, sentinel in fields]
    many = [
        flow(cookie, **USED | bad | {"state": state, "origin": origin, name: sentinel})
        for cookie, (state, name, sentinel) in enumerate(given, 1)
    ]
    tracker = Tracker()
    as_told = {name for name, _ in fields}
    tracker.update(snapshot(0, [flow(**{name: row[name] for name in row if name in as_told | WHO}) for row in many]))
    for second in range(1, 4):
        flows = tracker.update(snapshot(second, many))
    told = json_object(view_of(flows), HostDescription("h", "k"), {})
    for row, (_, name, sentinel) in zip(told["connections"], sorted_by(told["connections"], given), strict=True):
        words = set(row["evidence"].replace(",", " ").split())
        assert not TEXTS & words, (name, sentinel, row["evidence"])
    assert not TEXTS & {word for finding in told["findings"] for word in finding["text"].split()}


def sorted_by(connections: list[dict[str, Any]], given: list[Any]) -> list[Any]:
    """Return what each of these connections was given."""
    return [given[row["cookie"] - 1] for row in connections]


@ORIGINS
def test_csv_and_table(origin: Origin) -> None:
    view = view_of(ticked(origin))
    cells = {cell for line in csv.reader(StringIO(csv_rows.rows(view))) for cell in line}
    assert not {str(number) for number in TOLD} & cells
    assert "nan" not in cells
    table = text_table.table(view, None)
    assert not {"4294967295", "4.3G", "4.29G", "18E", "nan", "inf"} & set(table.split())


@ORIGINS
@pytest.mark.parametrize("key", [key for key in GROUP_KEYS if key != "none"])
def test_groups(origin: Origin, key: str) -> None:
    """A sum, a mean or a greatest of groups is made of what is known alone."""
    flows = ticked(origin)
    groups = make(flows, Spec(group=key)).groups
    assert groups is not None
    for column in COLUMNS:
        if column.is_number:
            values = groups.column(column)
            most = column.most * len(flows) if column.group.how == "sum" else column.most
            assert np.all(np.isnan(values) | (values <= most)), column.id


@ORIGINS
def test_filters_and_order(origin: Origin) -> None:
    """What is not known is neither more nor less than anything, and comes last in either order."""
    flows = ticked(origin)
    for column in COLUMNS:
        if not column.is_number or column.screen_only:
            continue
        known = ~np.isnan(flows.column(column.read))
        beyond = compile(f"{column.id} >= 0 or {column.id} != 7")
        matched = np.concatenate([beyond.mask(part, flows) for part in (flows.live, flows.closed)])
        assert not (matched & ~known).any(), column.id
        for falling in (True, False):
            order = make(flows, Spec(sort=column, falling=falling)).order
            assert not np.diff(known[order].astype("i1")).clip(0).any(), column.id


@ORIGINS
def test_metrics(origin: Origin) -> None:
    for family in Metrics().add(ticked(origin), Own(0.0, 0)):
        for _, value in family.series:
            if isinstance(value, float):
                assert math.isfinite(value)
                assert round(value) not in TOLD, family.name


def test_the_schema_lets_none_of_them_pass() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    row = json.loads(FILE.read_text())["properties"]["connections"]["items"]["properties"]
    for column in OUTPUT:
        if not column.is_number:
            continue
        of_field = jsonschema.Draft202012Validator(row[column.id])
        assert of_field.is_valid(None)
        assert not of_field.is_valid(-1), column.id
        assert not of_field.is_valid(UNKNOWN_U64), column.id
        if "bytes" not in column.id and not column.id.endswith(("_s", "_ms")):
            assert not of_field.is_valid(UNKNOWN_U32), column.id


def test_a_column_that_the_source_lacks_has_no_value_anywhere() -> None:
    flows = ticked(Origin.NEW)
    for column in COLUMNS:
        without = replace(flows, snapshot=replace(flows.snapshot, missing=frozenset({column.id})))
        values = without.column(column.read)
        assert np.isnan(values).all() if values.dtype.kind == "f" else not any(values.tolist()), column.id


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(STATES),
    st.sampled_from(list(Origin)),
    st.dictionaries(st.sampled_from(FIELDS), st.booleans(), max_size=8),
)
def test_several_at_once(state: State, origin: Origin, unknown: dict[tuple[str, int], bool]) -> None:
    fields = dict(USED) | {name: sentinel for (name, sentinel), on in unknown.items() if on}
    tracker = Tracker()
    tracker.update(snapshot(0, [flow(1, state=state, origin=origin)]))
    flows = tracker.update(snapshot(1, [flow(1, **fields | {"state": state, "origin": origin})]))
    for column in COLUMNS:
        (value,) = flows.column(column.read).tolist()
        if column.is_number:
            assert math.isnan(value) or column.least <= value <= column.most, column.id
        column.show(value)
        assert column.plain(value) not in TOLD, column.id


def test_a_final_record_that_was_lost() -> None:
    """The kernel told the end of a connection and none of its figures, which are zeros then."""
    closed = finals([flow(9, family=0, cwnd=0, mss=0, srtt_us=0, min_rtt_us=0)], BOOT_NS + 1_000_000_000)
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    flows = tracker.update(snapshot(1, [], closed))
    for name in ("family", "cwnd", "mss", "min_rtt_us", "idle_s", "recv_q", "bytes_acked", "snd_wnd"):
        assert math.isnan(flows.column(find(name).read)[0]), name


def test_before_the_peer_has_answered() -> None:
    """The kernel's first guesses are no measurements."""
    young = flow(1, state=State.SYN_SENT, srtt_us=0, rttvar_us=250_000, snd_wnd=0, last_sent_us=10**10)
    tracker = Tracker()
    tracker.update(snapshot(0, [young]))
    flows = tracker.update(snapshot(1, [young], finals([young | {"cookie": 2}], BOOT_NS, from_state=State.SYN_SENT)))
    for name in ("rttvar_us", "snd_wnd", "idle_s", "srtt_us"):
        assert np.isnan(flows.column(find(name).read)).all(), name


def test_a_listener_that_closed() -> None:
    gone = finals([flow(1, cwnd=10, mss=536, last_sent_us=10**10)], BOOT_NS, from_state=State.LISTEN)
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    flows = tracker.update(snapshot(1, [], gone))
    for name in ("cwnd", "mss", "idle_s", "rto_events", "bytes_acked"):
        assert math.isnan(flows.column(find(name).read)[0]), name


def test_timeouts_that_nobody_counts() -> None:
    """A kernel before 6.7, of a connection without callbacks; those that callbacks tell of are counted."""
    listed = flow(1, first_ns=0, origin=Origin.LISTED, total_rto=UNKNOWN_U32, total_rto_ms=UNKNOWN_U32)
    tracker = Tracker()
    tracker.update(snapshot(0, [listed, flow(2)]))
    flows = tracker.update(snapshot(1, [listed, flow(2, rto_events=3)]))
    for name, wanted in (("rto_events", 3), ("rto_win", 3), ("stall_ms", 0)):
        first, second = flows.column(find(name).read).tolist()
        assert math.isnan(first), name
        assert second == wanted, name
