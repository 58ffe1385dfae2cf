"""The table of columns: names and specs, figures computed by hand, and any bits that the kernel might tell."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.errors import Usage
from tcptop_ops.model.enums import Direction, Origin, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import INFINITE_SSTHRESH, TOO_LONG, UNKNOWN_U32, UNKNOWN_U64, UNLIMITED_RATE
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME, find
from tcptop_ops.views.column_sets import DEFAULT, OUTPUT, WIDER, parse_list, parse_sort
from tcptop_ops.views.columns import COLUMNS
from tests.support.fakes import BOOT_NS, finals, flow, scrambled, snapshot

ALIASES = {
    "cmd": "command",
    "srtt": "srtt_us",
    "rtt": "last_rtt_us",
    "age": "age_s",
    "idle": "idle_s",
    "retr": "retrans_win",
    "retr%": "retrans_pct",
    "rto": "rto_win",
    "tx": "tx_bytes_per_s",
    "rx": "rx_bytes_per_s",
    "delivery": "delivery_bytes_per_s",
    "pacing": "pacing_bytes_per_s",
}
LISTENER: dict[str, Any] = {"state": State.LISTEN, "local": ("10.0.0.1", 80), "peer": ("0.0.0.0", 0)}


def flows_of(*flows: dict[str, Any], **rest: Any) -> Flows:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    return tracker.update(snapshot(2, list(flows), **rest))


def plain(name: str, /, *, users: Any = None, cgroups: Any = None, **fields: Any) -> Any:
    """The JSON value of a column, for one connection."""
    flows = flows_of(flow(1, **fields), users=users or {}, cgroups=cgroups or {})
    column = find(name)
    return column.plain(flows.column(column.read).tolist()[0])


def shown(name: str, /, **fields: Any) -> str:
    flows = flows_of(flow(1, **fields))
    column = find(name)
    return column.show(flows.column(column.read).tolist()[0])


def test_a_namespace_is_shown_by_its_name() -> None:
    """On the screen; outputs have the number."""
    flows = flows_of(flow(1), namespace_names={7: "web", 8: "a\x1b[2J"})
    column = find("netns")
    assert [column.shower(flows)(number) for number in (7, 8, 9, 0)] == ["web", "a\\x1b[2J", "9", "-"]
    assert column.plain(7) == 7
    unnamed = flows_of(flow(1))
    assert column.shower(unnamed)(7) == "7"
    assert find("inode").shower(flows)(7) == "7"


def test_ids_and_aliases_are_unique() -> None:
    names = [column.id for column in COLUMNS] + [column.alias for column in COLUMNS if column.alias]
    assert len(set(names)) == len(names) == len(COLUMNS_BY_NAME)
    assert {column.alias: column.id for column in COLUMNS if column.alias} == ALIASES
    for name in (*DEFAULT, *WIDER):
        assert find(name).id == name


@pytest.mark.parametrize(("alias", "id"), ALIASES.items())
def test_an_alias_is_its_column(alias: str, id: str) -> None:
    assert find(alias) is find(id)


@pytest.mark.parametrize(("name", "hint"), [("srt", "srtt"), ("retrans_wi", "retrans_win"), ("", ""), ("§§§", "")])
def test_an_unknown_column(name: str, hint: str) -> None:
    with pytest.raises(Usage) as error:
        find(name)
    assert error.value.message == f"no column {name!r}"
    assert f"did you mean {hint}?" == error.value.hint if hint else error.value.hint.startswith("columns: cookie ")


def ids(spec: str) -> list[str]:
    return [column.id for column in parse_list(spec, ("process", "peer", "srtt_us"))]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("cwnd", ["cwnd"]),
        ("peer, srtt ,retr%", ["peer", "srtt_us", "retrans_pct"]),
        ("srtt,srtt_us,peer", ["srtt_us", "peer"]),
        (",peer,", ["peer"]),
        ("+cwnd", ["process", "peer", "srtt_us", "cwnd"]),
        ("+cwnd,-peer", ["process", "srtt_us", "cwnd"]),
        ("-srtt", ["process", "peer"]),
        ("-cwnd", ["process", "peer", "srtt_us"]),
        ("+peer", ["process", "srtt_us", "peer"]),
        ("-process,+process", ["peer", "srtt_us", "process"]),
    ],
)
def test_a_list_of_columns(spec: str, wanted: list[str]) -> None:
    assert ids(spec) == wanted


def test_all_columns() -> None:
    assert parse_list("all") == OUTPUT


@pytest.mark.parametrize(
    "spec", ["", " , ", "+", "-", "nope", "+nope", "peer,+cwnd", "all,peer", "-process,-peer,-srtt"]
)
def test_a_wrong_list(spec: str) -> None:
    with pytest.raises(Usage) as error:
        ids(spec)
    assert error.value.hint


@pytest.mark.parametrize(
    ("spec", "id", "falling"),
    [
        ("srtt", "srtt_us", True),
        ("srtt:asc", "srtt_us", False),
        ("retrans_segs:desc", "retrans_segs", True),
        ("process", "process", False),
        ("process:desc", "process", True),
        ("retr%:", "retrans_pct", True),
    ],
)
def test_a_sort(spec: str, id: str, falling: bool) -> None:
    assert parse_sort(spec) == (find(id), falling)


@pytest.mark.parametrize("spec", ["", ":asc", "srtt:up", "srtt:asc:desc", "srtt:ASC", "nope:asc"])
def test_a_wrong_sort(spec: str) -> None:
    with pytest.raises(Usage):
        parse_sort(spec)


BORN = BOOT_NS + 500_000_000  # 1.5 s before the instant of flows_of

HAND: list[tuple[str, dict[str, Any], Any]] = [
    ("cookie", {}, 1),
    ("inode", {"inode": 0}, None),
    ("netns", {"netns": 4026531840}, 4026531840),
    ("family", {}, 4),
    ("family", {"family": 10}, 4),
    ("family", {"local": ("::1", 1), "peer": ("::1", 2)}, 6),
    ("family", {"local": ("2001:db8::ffff:7f00:1", 1), "peer": ("2001:db8::ffff:a00:2", 2)}, 6),
    ("family", {"local": ("::", 1), "peer": ("::", 0), "state": State.LISTEN}, 6),
    ("family", LISTENER | {"local": ("0.0.0.0", 80)}, 4),
    ("laddr", {"local": ("192.0.2.7", 5)}, "192.0.2.7"),
    ("laddr", LISTENER | {"local": ("0.0.0.0", 80)}, "0.0.0.0"),
    ("raddr", {"peer": ("::", 0)}, "::"),
    ("raddr", {"peer": ("fe80::1", 9), "ifindex": 3}, "fe80::1%3"),
    ("raddr", {"peer": ("2001:db8::1", 9), "ifindex": 3}, "2001:db8::1"),
    ("lport", {"local": ("192.0.2.7", 5)}, 5),
    ("rport", LISTENER, None),
    ("local", {"local": ("2001:db8::1", 443)}, "[2001:db8::1]:443"),
    ("peer", {"peer": ("192.0.2.9", 65535)}, "192.0.2.9:65535"),
    ("peer", LISTENER, "10.0.0.1:80"),
    ("state", {"state": State.SYN_SENT}, "SYN-SENT"),
    ("state", {"state": State.CLOSE_WAIT}, "CLOSE-WAIT"),
    ("direction", {"direction": Direction.IN}, "in"),
    ("direction", {"direction": Direction.UNKNOWN}, None),
    ("direction", LISTENER, "listen"),
    ("origin", {"origin": Origin.ADOPTED}, "adopted"),
    ("pid", {"pid": 0}, None),
    ("process", {"name": b"caf\xc3\xa9"}, "café"),
    ("process", {"name": b""}, None),
    ("uid", {"uid": 0}, 0),
    ("uid", {"uid": UNKNOWN_U32}, None),
    ("connect_ms", {"connect_us": 1234}, 1.234),
    ("connect_ms", {"connect_us": 0}, None),
    ("srtt_us", {"srtt_us": 0}, None),
    ("min_rtt_us", {"min_rtt_us": UNKNOWN_U32}, None),
    ("min_rtt_us", {"min_rtt_us": 0}, None),
    ("pacing_bytes_per_s", {"pacing_rate": 1_000_000}, 1_000_000),
    ("pacing_bytes_per_s", {"pacing_rate": UNLIMITED_RATE}, None),
    ("pacing_bytes_per_s", {"pacing_rate": 0}, None),
    ("last_rtt_us", {"last_rtt_us": 0}, None),
    ("ssthresh", {"ssthresh": INFINITE_SSTHRESH}, None),
    ("ssthresh", {"ssthresh": 7}, 7),
    ("timer", {"timer": 4}, "persist"),
    ("timer", {"timer": 0}, None),
    ("timer", {"timer": 7}, "delack"),
    ("timer", {"timer": 200}, None),
    ("age_s", {"first_ns": BORN}, 1.5),
    ("age_s", {"first_ns": BORN, "origin": Origin.ADOPTED}, None),
    ("age_s", {"first_ns": BOOT_NS + int(9e9)}, 0),
    ("idle_s", {"last_sent_us": 2_500_000, "last_received_us": 1_500_000}, 1.5),
    ("idle_s", {"last_sent_us": 10_800_000_000, "last_received_us": 86_400_000_000}, 10_800),
    ("idle_s", {"last_sent_us": UNKNOWN_U64, "last_received_us": 1_500_000}, 1.5),
    ("idle_s", {"last_sent_us": UNKNOWN_U64, "last_received_us": UNKNOWN_U64}, None),
    ("idle_s", {"last_sent_us": TOO_LONG, "last_received_us": UNKNOWN_U64}, None),
    ("closed_s", {}, None),
    ("end", {}, None),
    ("retrans_segs", {"retrans_segs": 2**32 - 2}, 2**32 - 2),
    ("rto_events", {"total_rto": 5, "rto_events": 3}, 5),
    ("rto_events", {"total_rto": UNKNOWN_U32, "rto_events": 3}, 3),
    ("bytes_acked", {"bytes_acked": 2**53}, 2**53),
    ("delivery_bytes_per_s", {"rate_delivered": 10, "mss": 1000, "rate_interval_us": 20_000}, 500_000),
    ("delivery_bytes_per_s", {"rate_delivered": 10, "mss": 1000, "rate_interval_us": 0}, None),
    ("drops", {"drops": UNKNOWN_U32}, None),
    ("cc", {"cc": b"bbr"}, "bbr"),
    ("backlog", LISTENER | {"recv_q": 3, "send_q": 128}, 3),
    ("backlog_max", LISTENER | {"recv_q": 3, "send_q": 128}, 128),
    ("backlog", {"recv_q": 3}, None),
    # Born half a second after the first tick, looked at two seconds after it: rates are per tick of two seconds.
    ("tx_bytes_per_s", {"first_ns": BORN, "bytes_acked": 3000}, 1500),
    ("rx_bytes_per_s", {"first_ns": BORN, "bytes_received": 5}, 2),
    ("retrans_per_s", {"first_ns": BORN, "retrans_segs": 3}, 1.5),
    ("retrans_win", {"first_ns": BORN, "retrans_segs": 3}, 3),
    ("retrans_pct", {"first_ns": BORN, "retrans_segs": 3, "data_segs_out": 19}, None),
    ("retrans_pct", {"first_ns": BORN, "retrans_segs": 3, "data_segs_out": 20}, 15),
    ("rto_win", {"first_ns": BORN, "rto_events": 2}, 2),
    ("busy_pct", {"first_ns": BORN, "busy_us": 750_000}, 50),
    ("busy_pct", {"first_ns": BORN, "busy_us": 9_000_000}, 100),
    ("rwnd_limited_pct", {"first_ns": BORN, "busy_us": 800, "rwnd_limited_us": 200}, 25),
    ("sndbuf_limited_pct", {"first_ns": BORN, "busy_us": 800, "sndbuf_limited_us": 600}, 75),
    ("rwnd_limited_pct", {"first_ns": BORN, "busy_us": 0, "rwnd_limited_us": 200}, None),
]


@pytest.mark.parametrize(("name", "fields", "value"), HAND)
def test_by_hand(name: str, fields: dict[str, Any], value: Any) -> None:
    assert plain(name, **fields) == value


def test_names_of_numbers() -> None:
    assert plain("user", uid=33, users={33: "www-data"}) == "www-data"
    assert plain("user", uid=34, users={33: "www-data"}) is None
    assert plain("cgroup", cgroup_id=7, cgroups={7: "/web.slice"}) == "/web.slice"
    assert plain("cgroup", cgroup_id=8, cgroups={7: "/web.slice"}) is None


def test_what_means_nothing_for_a_listener() -> None:
    for name in ("srtt_us", "rto_us", "cwnd", "retrans_segs", "retrans_win", "rto_win", "rto_events", "busy_pct"):
        assert plain(name, **LISTENER, cwnd=10, srtt_us=9, rto_us=9, busy_us=9) is None
    for name in ("tx_bytes_per_s", "rx_bytes_per_s", "retrans_per_s", "idle_s", "bytes_acked", "mss"):
        assert plain(name, **LISTENER, bytes_acked=10, last_sent_us=1, last_received_us=1) is None


def test_rates_need_two_ticks() -> None:
    flows = Tracker().update(snapshot(0, [flow(1)]))
    for name in ("tx_bytes_per_s", "rx_bytes_per_s", "retrans_per_s", "rto_win"):
        column = find(name)
        value = column.plain(flows.column(column.read).tolist()[0])
        assert value == (0 if name == "rto_win" else None)


def test_of_a_closed_one_the_age_stands_still() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    tracker.update(snapshot(1, [], finals([flow(1)], BOOT_NS + 500_000_000)))
    flows = tracker.update(snapshot(3, []))
    assert [find(name).read(flows.closed, flows)[0] for name in ("age_s", "closed_s")] == [0.5, 2.5]


def test_a_number_that_is_a_name_is_never_rounded() -> None:
    assert shown("pid", pid=4_194_303) == "4194303"
    assert shown("uid", uid=2**32 - 2) == "4294967294"
    assert shown("cookie") == "1"


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("srtt_us", {"srtt_us": 42_000}, "42ms"),
        ("srtt_us", {"srtt_us": 0}, "-"),
        ("process", {"name": b""}, "?"),
        ("process", {"name": b"\x1b[2J"}, r"\x1b[2J"),
        ("cc", {"cc": b"\xff\x1b"}, r"\xff\x1b"),
        ("state", {"state": State.SYN_SENT}, "SYN-S"),
        ("state", {"state": 15}, "-"),
        ("peer", {"peer": ("::", 0)}, "*:*"),
        ("connect_ms", {"connect_us": 1_500_000}, "1.50s"),
    ],
)
def test_what_a_cell_shows(name: str, fields: dict[str, Any], text: str) -> None:
    assert shown(name, **fields) == text


def test_levels() -> None:
    column = find("retr%")
    assert [column.level(value) for value in (math.nan, 0.0, 0.4, 0.5, 1.9, 2.0, 50.0)] == [-1, -1, 0, 1, 1, 2, 2]
    assert [find("cwnd").level(value) for value in (math.nan, 0.0, 1e9)] == [-1, -1, 0]
    assert [find("process").level(value) for value in (b"", b"x")] == [-1, 0]


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_any_bits_can_be_shown(seed: int) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(3, seed))
    flows = tracker.update(scrambled(3, seed + 1, 1, users={UNKNOWN_U32: "\x1b\udcff"}, cgroups={0: "/a\nb"}))
    for column in COLUMNS:
        for value in flows.column(column.read).tolist():
            assert re.fullmatch("[ -~]+", column.show(value)), column.id
            assert column.level(value) in (-1, 0, 1, 2)
            json.dumps(column.plain(value), allow_nan=False).encode("ascii")
