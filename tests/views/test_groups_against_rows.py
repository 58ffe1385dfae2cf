"""Groups against their rows, one at a time: values, sums, filters, and the census."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.filters import compiler
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column import Column
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.group_census import census
from tcptop_ops.views.group_keys import GROUP_KEYS
from tcptop_ops.views.groups import group_rows
from tests.support.fakes import flow, scrambled
from tests.support.grouping import LISTENER, cookies, flows_of, grouped


def any_flows(seed: int, count: int = 12) -> Flows:
    """Rows of any bits; a few keys, so that groups have several."""
    rng = np.random.default_rng(seed)
    tracker = Tracker(closed_s=1e9)
    for second in (0, 1):
        made = scrambled(count, seed + second, second, cgroups={1: "/a", 2: "/b.service"})
        for part in (made.sockets, made.closed["socket"]):
            for name in ("raddr", "lport", "rport", "ifindex", "cgroup_id", "netns"):
                part[name] = part[name][rng.integers(0, 3, len(part))]
            part["cookie"] = rng.permutation(len(part)) + 1
        made.owners["name"] = made.owners["name"][rng.integers(0, 3, count)]
        flows = tracker.update(made)
    return flows


def is_null(found: Any) -> bool:
    return found in (b"", 0) if not isinstance(found, float) else math.isnan(found)


def by_rule(column: Column, values: list[Any]) -> Any:
    """In Python; None where this does not know."""
    known = [one for one in values if not is_null(one)]
    rule = column.group
    if rule.how == "same":
        if rule.part is not None:  # what nobody sees of a value may differ
            return values[0] if len({column.show(one) for one in values}) == 1 else b""
        same = all(one == values[0] or (is_null(one) and is_null(values[0])) for one in values)
        return (
            values[0]
            if same
            else b""
            if isinstance(values[0], bytes)
            else 0
            if isinstance(values[0], int)
            else math.nan
        )
    if rule.part is not None or rule.how in ("share", "worst"):
        return None
    if not known:
        return math.nan
    made: dict[str, Callable[[list[Any]], Any]] = {
        "sum": math.fsum,
        "least": min,
        "greatest": max,
        "mean": lambda some: math.fsum(some) / len(some),
    }
    return made[rule.how](known)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), key=st.sampled_from(list(GROUP_KEYS)))
def test_values_are_those_that_the_rows_make(seed: int, key: str) -> None:
    flows = any_flows(seed)
    found = grouped(flows, key)
    assert sorted(found.members.tolist()) == list(range(len(flows)))
    for column in COLUMNS:
        values, of_groups = flows.column(column.read).tolist(), found.column(column).tolist()
        for group, got in enumerate(of_groups):
            rows = [values[row] for row in found.rows(group)]
            wanted = rows[0] if len(rows) == 1 else by_rule(column, rows)
            if isinstance(wanted, float):
                assert got == pytest.approx(wanted, rel=1e-9, nan_ok=True), (column.id, rows)
            elif wanted is not None:
                assert column.show(got) == column.show(wanted), (column.id, rows)
            column.show_of_group(got)
            column.plain(got)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), key=st.sampled_from(list(GROUP_KEYS)))
def test_sums_of_groups_are_the_sums_of_the_rows_that_are_wanted(seed: int, key: str) -> None:
    flows = any_flows(seed)
    which = np.flatnonzero(np.random.default_rng(seed).integers(0, 2, len(flows)))
    found = group_rows(flows, key, which)
    assert int(found.counts.sum()) == len(which)
    for column in COLUMNS:
        if column.group.how == "sum" and column.group.part is None and len(which):
            total = math.fsum(one for one in flows.column(column.read)[which].tolist() if not math.isnan(one))
            assert np.nansum(found.column(column)) == pytest.approx(total, rel=1e-9), column.id


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), key=st.sampled_from(list(GROUP_KEYS)))
def test_a_group_is_known_again_whatever_the_order_of_the_rows(seed: int, key: str) -> None:
    flows = any_flows(seed)
    found = grouped(flows, key)
    assert len(set(found.identities.tolist())) == len(found)
    assert (found.identities < 0).all()
    titles = {int(found.identities[g]): found.title(g) for g in range(len(found))}
    again = group_rows(flows, key, np.random.default_rng(seed).permutation(len(flows)))
    assert {int(again.identities[g]): again.title(g) for g in range(len(again))} == titles
    order = [int(found.identities[g]) for g in found.by_key]
    assert [int(again.identities[g]) for g in again.by_key] == order
    for group in range(len(found)):
        assert found.with_identity(int(found.identities[group])) == group
        assert {found.holding(int(row)) for row in found.rows(group)} == {group}


@pytest.mark.parametrize("key", [name for name, key in GROUP_KEYS.items() if key.narrows])
def test_a_group_s_filter_shows_that_group(key: str) -> None:
    names = (b"nginx", b"a \"b' \\c", b"or", b"kworker/u8:1", b"", b"\xff\xfe", b"x y")
    peers = ("10.2.0.9", "10.2.0.8", "10.2.1.8", "2001:db8::1", "2001:db8:0:1::1", "fe80::1", "::2")
    flows = flows_of(
        *(
            flow(c, name=name, peer=(peer, 80), ifindex=4)
            for c, (name, peer) in enumerate(zip(names, peers, strict=True), 1)
        ),
        *(flow(10 + c, name=name, peer=(peers[-c], 81)) for c, name in enumerate(names)),
    )
    found = grouped(flows, key)
    for group in range(len(found)):
        condition = found.condition(group, GROUP_KEYS[key].narrows)
        matching = np.flatnonzero(flows.column(compiler.compile(condition).mask))
        rows = set(found.rows(group).tolist())
        assert rows <= set(matching.tolist()), condition
        if "fe80" not in condition:
            assert rows == set(matching.tolist()), condition
        assert found.condition(group, "uid") == ""


def test_listeners_have_no_filter_of_a_remote_address() -> None:
    found = grouped(flows_of(flow(1, **LISTENER)), "remote-net")
    assert found.condition(0, "raddr") == ""


def test_the_census() -> None:
    fields: dict[str, Any] = {"name": b"nginx", "data_segs_out": 100}
    flows = flows_of(
        *(flow(c, retrans_segs=10 * c, peer=(f"10.0.0.{c % 2 + 1}", 80), **fields) for c in (1, 2, 3)),
        flow(4, **fields),
        flow(5, name=b"nginx", **LISTENER),
        *(flow(c, name=b"other", data_segs_out=100) for c in range(10, 40)),
        closed=[flow(6, **fields)],
    )
    for key, processes in (("process", 1), ("cgroup", 2)):
        found = grouped(flows, key)
        number = next(g for g in range(len(found)) if found.title(g) in ("nginx", "(not known)"))
        told = census(found, number, 2)
        assert (told.listeners, told.closed, told.bad, told.processes, told.remotes) == (1, 1, 3, processes, 2)
        assert told.causes == (("loss", 3),)
        assert [cookies(flows)[row] for row in told.worst] == [2, 3]
        assert told.connections == (6 if key == "process" else 36)
