"""Groups: what is put together, how their values are made, by hand, and the outputs."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tcptop_ops.config.settings import GROUPS
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.outputs.json_lines import json_object
from tcptop_ops.outputs.text_table import table
from tcptop_ops.views import word_arrays
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.group_keys import GROUP_KEYS
from tcptop_ops.views.view import Spec, make
from tests.support.fakes import flow
from tests.support.grouping import LISTENER, UNTOLD, flows_of, grouped, members, value

# What is put together


def test_the_keys_are_those_of_the_settings() -> None:
    assert ("none", *GROUP_KEYS) == GROUPS


def test_processes_of_one_name() -> None:
    flows = flows_of(
        flow(1, name=b"nginx", pid=10),
        flow(2, name=b"curl"),
        flow(3, name=b"nginx", pid=11),
        flow(4, name=b""),
        closed=[flow(5, name=b"curl")],
    )
    assert members(flows, "process") == {"(not known)": [4], "curl": [2, 5], "nginx": [1, 3]}


def test_remotes_and_listeners() -> None:
    flows = flows_of(
        flow(1, peer=("10.2.0.9", 443)),
        flow(2, peer=("10.2.0.10", 443)),
        flow(3, peer=("10.2.0.9", 80)),
        flow(4, peer=("2001:db8::1", 80)),
        flow(5, **LISTENER),
        flow(6, **LISTENER | {"peer": ("::", 0)}),
        closed=[flow(7, peer=("10.2.0.10", 1))],
    )
    assert members(flows, "remote") == {
        "(listeners)": [5, 6],
        "10.2.0.9": [1, 3],
        "10.2.0.10": [2, 7],
        "2001:db8::1": [4],
    }


def test_networks() -> None:
    peers = {
        7: "::2",
        1: "10.2.0.9",
        2: "10.2.1.9",
        3: "10.2.0.255",
        4: "2001:db8::1",
        5: "2001:db8::ffff:0:0:1",
        6: "2001:db8:0:1::",
    }
    flows = flows_of(*(flow(cookie, peer=(peer, 443)) for cookie, peer in peers.items()), flow(9, **LISTENER))
    assert members(flows, "remote-net") == {
        "(listeners)": [9],
        "::/64": [7],
        "10.2.0.0/24": [1, 3],
        "10.2.1.0/24": [2],
        "2001:db8::/64": [4, 5],
        "2001:db8:0:1::/64": [6],
    }


def test_a_link_local_address_is_another_host_on_each_link() -> None:
    flows = flows_of(
        flow(1, peer=("fe80::1", 80), ifindex=2),
        flow(2, peer=("fe80::1", 80), ifindex=3),
        flow(3, peer=("fe80::1", 81), ifindex=2),
        flow(4, peer=("10.0.0.1", 80), ifindex=2),
        flow(5, peer=("10.0.0.1", 80), ifindex=3),
        devices={2: "eth0"},
    )
    assert members(flows, "remote") == {"10.0.0.1": [4, 5], "fe80::1%eth0": [1, 3], "fe80::1%3": [2]}
    assert members(flows, "remote-net") == {"10.0.0.0/24": [4, 5], "fe80::%eth0/64": [1, 3], "fe80::%3/64": [2]}


def test_ports_of_the_service() -> None:
    flows = flows_of(
        flow(1, local=("10.0.0.1", 443), peer=("10.9.0.1", 50001), direction=Direction.IN),
        flow(2, local=("10.0.0.1", 50002), peer=("10.9.0.1", 443), direction=Direction.OUT),
        flow(3, local=("0.0.0.0", 443), **LISTENER),
        flow(4, local=("10.0.0.1", 443), peer=("10.9.0.2", 50003), **UNTOLD),
        flow(5, local=("10.0.0.1", 50004), peer=("10.9.0.1", 443), **UNTOLD),
        flow(6, local=("10.0.0.1", 443), peer=("10.9.0.2", 50003), netns=7, **UNTOLD),
        flow(7, local=("10.0.0.1", 8080), peer=("10.9.0.1", 1), direction=Direction.IN),
    )
    assert members(flows, "local-port") == {":443": [1, 3, 4], ":8080": [7], "-> :443": [2, 5], "-> :50003": [6]}


def test_services_containers_and_plain_control_groups() -> None:
    paths = {
        1: "/system.slice/nginx.service",
        2: "/system.slice/nginx.service/workers",
        3: "/mine/alone",
        4: "/",
        5: "/system.slice/" + "x" * 60 + "1.service",
        6: "/system.slice/" + "x" * 60 + "2.service",
    }
    flows = flows_of(*(flow(c, cgroup_id=c) for c in paths), flow(7, cgroup_id=99), flow(8), cgroups=paths)
    found = members(flows, "cgroup")
    assert found.pop("(not known)") == [7, 8]
    assert found == {"/": [4], "/mine/alone": [3], "nginx": [1, 2], "x" * 60 + "1": [5], "x" * 60 + "2": [6]}


def test_states() -> None:
    flows = flows_of(flow(1), flow(2, state=State.CLOSE_WAIT), flow(3), flow(4, **LISTENER))
    assert members(flows, "state") == {"ESTAB": [1, 3], "CLOSE-WAIT": [2], "LISTEN": [4]}


def test_titles_are_harmless() -> None:
    flows = flows_of(flow(1, name=b"\x1b[2J", cgroup_id=1), cgroups={1: "/a\nb"})
    assert [*members(flows, "process"), *members(flows, "cgroup")] == ["\\x1b[2J", "/a\\x0ab"]


def test_hashes_that_meet_do_not_put_together_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = flows_of(*(flow(c, name=b"ab"[c % 2 : c % 2 + 1]) for c in range(1, 7)))
    monkeypatch.setattr(word_arrays, "hash_rows", lambda words: np.zeros(len(words), "u8"))
    assert members(flows, "process") == {"a": [2, 4, 6], "b": [1, 3, 5]}


def test_nothing_to_put_together() -> None:
    flows = flows_of()
    for key in GROUP_KEYS:
        found = grouped(flows, key)
        assert len(found) == 0
        for column in COLUMNS:
            assert found.column(column).tolist() == [], column.id
        assert len(make(flows, Spec(group=key))) == 0


# Values by hand


def test_sums_means_shares_and_extremes() -> None:
    fields = ("retrans_segs", "data_segs_out", "srtt_us", "min_rtt_us", "bytes_acked", "cwnd", "mss", "backoff")
    rows = [
        (10, 100, 10_000, 500, 2_000, 10, 1448, 0),
        (5, 300, 30_000, 700, 4_000, 20, 536, 3),
        (0, 0, 0, 900, 0, 3, 9000, 1),
    ]
    flows = flows_of(*(flow(c, **dict(zip(fields, row, strict=True))) for c, row in enumerate(rows, 1)))
    told = {
        "connections": 3,
        "retrans_segs": 15,
        "retrans_win": 15,
        "retrans_per_s": 7.5,
        "retrans_pct": 3.75,  # 15 of 400, not the mean of 10 and 1.7
        "srtt_us": 20_000,  # of the two that have one
        "min_rtt_us": 500,
        "bytes_acked": 6_000,
        "tx_bytes_per_s": 3_000,
        "cwnd": 11,
        "mss": 536,
        "backoff": 3,
        "state": b"ESTAB",
        "pid": 1000,
        "peer": find("peer").read(flows.live, flows)[0],
    }
    assert {name: value(flows, name) for name in told} == told


def test_the_busy_share_is_that_of_all_windows_together() -> None:
    flows = flows_of(flow(1, busy_us=1_000_000, rwnd_limited_us=500_000), flow(2, busy_us=0), flow(3, **LISTENER))
    assert value(flows, "busy_pct") == pytest.approx(25.0)
    assert value(flows, "rwnd_limited_pct") == pytest.approx(50.0)
    assert math.isnan(value(flows_of(flow(1)), "rwnd_limited_pct"))


def test_a_share_of_almost_nothing_is_null() -> None:
    assert math.isnan(value(flows_of(*(flow(c, retrans_segs=1, data_segs_out=9) for c in (1, 2))), "retrans_pct"))
    assert value(flows_of(*(flow(c, retrans_segs=1, data_segs_out=10) for c in (1, 2))), "retrans_pct") == 10.0


def test_what_differs_is_null() -> None:
    flows = flows_of(flow(1, pid=10, peer=("10.0.0.1", 1)), flow(2, pid=11, peer=("10.0.0.1", 2)))
    told = {
        name: find(name).plain(value(flows, name)) for name in ("pid", "peer", "raddr", "cookie", "process", "rport")
    }
    assert told == {"pid": None, "peer": None, "raddr": "10.0.0.1", "cookie": None, "process": "nginx", "rport": None}
    shown = {
        name: find(name).show_of_group(value(flows, name)) for name in ("peer", "process", "pid", "local", "laddr")
    }
    assert shown == {"peer": "-", "process": "nginx", "pid": "-", "local": "-", "laddr": "10.0.0.1"}


def test_queues_of_connections_and_of_listeners_are_not_added_up() -> None:
    connections = [flow(1, recv_q=100, send_q=7), flow(2, recv_q=20, send_q=0)]
    listener = flow(3, recv_q=3, send_q=511, **LISTENER)
    told = flows_of(*connections, listener)
    assert [value(told, name) for name in ("recv_q", "send_q", "backlog", "backlog_max")] == [120, 7, 3, 511]
    assert [value(flows_of(listener), name) for name in ("recv_q", "send_q")] == [3, 511]


def test_handshakes_of_a_shared_port_count_once() -> None:
    from tests.support.fakes import records

    half_open, _, _ = records([flow(90 + n, local=("10.0.0.1", 80), peer=("192.0.2.1", n + 1)) for n in range(9)])
    listeners = [flow(c, local=("0.0.0.0", 80), **LISTENER) for c in (1, 2)]
    flows = flows_of(*listeners, flow(3, local=("0.0.0.0", 81), **LISTENER), half_open=half_open)
    assert flows.column(find("syn_recv").read).tolist() == [9, 9, 0]
    assert value(flows, "syn_recv") == 9


def test_the_cause_is_that_of_the_worst() -> None:
    fine, lossy = flow(1, data_segs_out=100), flow(2, data_segs_out=100, retrans_segs=50)
    assert value(flows_of(fine, lossy), "cause") == b"loss"
    assert value(flows_of(fine, lossy), "score") == 90
    assert value(flows_of(flow(3), fine), "cause") == value(flows_of(fine, flow(3)), "cause") == b"healthy"
    assert value(flows_of(flow(3)), "cause") == b"idle"


def test_what_is_much_for_one_is_not_coloured_for_many() -> None:
    retransmits, share = find("retrans_win"), find("retrans_pct")
    assert [retransmits.level(500.0), retransmits.level_of_group(500.0), retransmits.level_of_group(0.0)] == [2, 0, -1]
    assert [share.level_of_group(5.0), share.level_of_group(1.0, (2, 4))] == [2, 0]


# Outputs


def lines_of(flows: Flows, columns: str, **spec: Any) -> list[list[str]]:
    return [
        line.split() for line in table(make(flows, Spec(columns=parse_list(columns), **spec)), None).splitlines()[1:-1]
    ]


def test_a_batch_prints_a_line_for_each_group() -> None:
    flows = flows_of(
        *(flow(c, name=b"nginx", pid=c, retrans_segs=c, data_segs_out=1000) for c in (1, 2, 3)),
        flow(4, name=b"curl", pid=9),
        flow(5, name=b"curl", pid=9),
    )
    assert lines_of(flows, "process,pid,peer,retr,state", group="process", sort=find("retr")) == [
        ["GROUP", "CONNS", "PROCESS", "PID", "PEER", "RETR", "STATE"],
        ["nginx", "3", "nginx", "-", "10.0.0.2:443", "6", "ESTAB"],
        ["curl", "2", "curl", "9", "10.0.0.2:443", "0", "ESTAB"],
    ]
    assert lines_of(flows, "pid,process", group="state") == [
        ["GROUP", "CONNS", "PID", "PROCESS"],
        ["ESTAB", "5", "-", "-"],
    ]


def test_what_a_source_cannot_tell_is_not_known_of_groups_either() -> None:
    flows = flows_of(flow(1), missing=frozenset({"process"}))
    assert lines_of(flows, "process,state", group="state")[1] == ["ESTAB", "1", "?", "ESTAB"]


def test_json_has_connections_whatever_they_are_grouped_by() -> None:
    flows = flows_of(flow(1), flow(2), flow(3, name=b"curl"))
    view = make(flows, Spec(group="process"))
    plain = make(flows, replace(view.spec, group="none"))
    host = HostDescription("box", "6.12.0")
    assert json_object(view, host, {}) == json_object(plain, host, {})
    assert [row["cookie"] for row in json_object(view, host, {})["connections"]] == [1, 2, 3]


def test_every_column_says_how_it_is_put_together() -> None:
    """A number that nobody thought about would be null for most groups: only those that are names may be."""
    same = {column.id for column in COLUMNS if column.group.how == "same" and column.is_number}
    assert same == {"family", "lport", "rport", "pid", "uid"}
    rules: dict[str, int] = defaultdict(int)
    for column in COLUMNS:
        rules[column.group.how] += 1
    assert set(rules) == {"sum", "mean", "least", "greatest", "same", "worst", "share"}
