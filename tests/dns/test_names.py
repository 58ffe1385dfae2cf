"""Names in place of numbers: what a name may look like, on the screen and in the outputs. Never over a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.app import App

from tcptop_ops.cli.arguments import read, resolve
from tcptop_ops.cli.front_ends import _table_formatter
from tcptop_ops.config.settings import Settings
from tcptop_ops.dns.name_book import NOBODY, NameBook, all_keys, harmless, keys, shower
from tcptop_ops.dns.resolver import Resolver, for_outputs
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.outputs.json_lines import json_line
from tcptop_ops.outputs.text_table import table
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.view import Spec, make
from tcptop_ops.widgets.table.cell_text import lines, name_keys
from tcptop_ops.widgets.table.column_fit import fit
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.lookups import HOSTS, PATIENCE_S, Asked, key
from tests.support.running_app import app_of, running
from tests.support.screens import next_tick, text_of, until

# What a name may look like


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("alpha.example.com", "alpha.example.com"),
        ("alpha.example.com.", "alpha.example.com"),
        ("\x1b[2Jevil", "\\x1b[2Jevil"),
        ("a\udcff\u202eb", "a\\xff\\u202eb"),
        ("b\nc", "b\\x0ac"),
        ("10.0.0.1", ""),
        ("10.0.0.1.", ""),
        ("127.1", ""),
        ("12345", ""),
        ("2001:db8::1", ""),
        ("evil:443", ""),
        ("two words", ""),
        ("*", ""),
        ("", ""),
        (".", ""),
        ("x" * 255, "x" * 255),
        ("x" * 256, ""),
    ],
)
def test_a_name_is_harmless_or_none(name: str, shown: str) -> None:
    assert harmless(name) == shown


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("10.2.0.1", True),
        ("2001:db8::9", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1", False),
        ("febf::1", False),
        ("fec0::1", True),
    ],
)
def test_who_has_a_name(address: str, asked: bool) -> None:
    """Nobody does whose address is not specified, or is another host's on another link."""
    rows = Tracker().update(snapshot(0, [flow(1, family=10, peer=(address, 443))]))
    column = find("peer")
    (value,) = rows.column(column.read).tolist()
    assert keys(column, value) == ([key(address)] if asked else []) + [443]


def flows_of(*flows: dict[str, Any]) -> Flows:
    return Tracker().update(snapshot(0, list(flows)))


PEERS = (
    flow(1, peer=("10.2.0.1", 443)),
    flow(2, peer=("10.2.0.77", 22)),
    flow(3, peer=("2001:db8::9", 4711), local=("2001:db8::1", 1), family=10),
    flow(4, peer=("2001:db8::8", 443), local=("2001:db8::1", 2), family=10),
    flow(5, state=State.LISTEN, local=("0.0.0.0", 22), peer=("0.0.0.0", 0)),
    flow(6, peer=("10.2.0.78", 4711)),
)


def column_of(name: str, names: NameBook) -> list[str]:
    column = find(name)
    show = shower(column, names)
    return [show(value) for value in flows_of(*PEERS).column(column.read).tolist()]


def test_numbers_stay_where_no_name_is_known() -> None:
    assert column_of("peer", HOSTS) == [
        "alpha.example.com:https",
        "10.2.0.77:ssh",
        "six.example.com:4711",
        "[2001:db8::8]:https",
        "*:ssh",
        "10.2.0.78:4711",
    ]
    assert column_of("raddr", HOSTS)[:2] == ["alpha.example.com", "10.2.0.77"]
    assert column_of("rport", HOSTS) == ["https", "ssh", "4711", "https", "-", "4711"]
    assert column_of("laddr", HOSTS)[:3] == ["web-3.example.com", "web-3.example.com", "2001:db8::1"]
    for name in ("peer", "local", "laddr", "raddr", "lport", "rport", "process", "srtt_us"):
        assert (
            column_of(name, NOBODY)
            == column_of(name, {})
            == [find(name).show(value) for value in flows_of(*PEERS).column(find(name).read).tolist()]
        )


def cells(names: str, book: NameBook, width: int, *flows: dict[str, Any]) -> list[list[str]]:
    view = make(flows_of(*flows), Spec(columns=parse_list(names)))
    layout = fit(view.spec.columns, view.spec.sort, width)
    return [[cell.rstrip() for cell in line.cells] for line in lines(view, layout, 0, 10, 0, book)]


def test_a_long_name_is_cut_in_the_middle_and_keeps_its_port() -> None:
    long = {key("10.2.0.1"): "a" * 30 + "-last.example.com", 443: "https"}
    ((peer, port),) = cells("peer,rport", long, 40, PEERS[0])
    assert len(peer) <= 40
    assert peer.startswith("aaa")
    assert "~" in peer
    assert peer.endswith("ast.example.com:https")
    assert port == "https"


def test_a_long_name_of_a_port_is_cut_not_made_a_number() -> None:
    assert cells("rport", {443: "very-secure-http"}, 40, PEERS[0]) == [["very~"]]


def test_only_what_could_be_shown_is_asked_for() -> None:
    """The rows in sight, in the columns on the screen; and both ends of the row of the cursor, for the story."""
    view = make(flows_of(*PEERS), Spec(columns=parse_list("process,rport"), sort=find("cookie"), falling=False))
    layout = fit(view.spec.columns, view.spec.sort, 80)
    found = name_keys(view, layout, 0, 2, 5)
    assert set(found) == {443, 22, 4711, key("10.2.0.78"), key("10.0.0.1"), 40006}
    assert len(found) == len(set(found))
    with_peers = replace(view, spec=replace(view.spec, columns=parse_list("peer")))
    found = name_keys(with_peers, fit(with_peers.spec.columns, view.spec.sort, 80), 0, 2, 0)
    assert key("10.2.0.77") in found
    assert key("10.2.0.78") not in found


# The screen


def world(tick: int) -> Snapshot:
    flows = [
        flow(1, name=b"one", peer=("10.2.0.1", 443), retrans_segs=tick),
        flow(2, name=b"two", peer=("10.2.0.2", 22)),
        flow(3, name=b"three", peer=("10.2.0.77", 4711)),
    ]
    return snapshot(tick, flows)


def source() -> FakeSource:
    return FakeSource([world(tick) for tick in range(10)])


def shows(app: App[Any], words: str) -> Callable[[], bool]:
    return lambda: any(words in line for line in text_of(app))


async def test_names_come_and_go_with_a_key() -> None:
    look_up = Asked()
    app = app_of(source(), resolver=Resolver(look_up))
    async with running(app, (120, 30)) as pilot:
        assert look_up.keys == []
        assert any("10.2.0.1:443" in line for line in text_of(app))
        await pilot.press("n")
        await until(pilot, shows(app, "alpha.example.com:https"))
        await until(pilot, shows(app, "beta.example.com:ssh"))
        assert any("10.2.0.77:4711" in line for line in text_of(app))
        assert "web-3.example.com:40001 -> alpha.example.com:https" in text_of(app)[26]
        await next_tick(pilot)
        asked = len(look_up.keys)
        assert asked == len(set(look_up.keys))
        await pilot.press("n")
        assert not any("example.com" in line for line in text_of(app))
        await pilot.press("enter")
        assert any("10.0.0.1:40001 -> 10.2.0.1:443" in line for line in text_of(app))
        await pilot.press("n")
        assert any("web-3.example.com:40001 -> alpha.example.com:https" in line for line in text_of(app))
        assert len(look_up.keys) == asked


async def test_names_from_the_start() -> None:
    app = app_of(source(), resolver=Resolver(Asked()), settings=Settings(names=True))
    async with running(app, (80, 24)) as pilot:
        await until(pilot, shows(app, ".example.com:ssh"))
        assert {len(line) for line in text_of(app)} == {80}


async def test_the_screen_goes_on_and_ends_while_look_ups_hang() -> None:
    look_up = Asked()
    look_up.go_on.clear()
    app = app_of(source(), resolver=Resolver(look_up), settings=Settings(names=True))
    async with running(app) as pilot:
        await until(pilot, lambda: len(look_up.keys) == 4)
        await next_tick(pilot)
        assert any("10.2.0.1:443" in line for line in text_of(app))
        await pilot.press("q")
    assert app.return_value is None
    assert not look_up.go_on.is_set(), "nobody has answered"
    look_up.go_on.set()


async def test_only_rows_in_sight_are_asked_for() -> None:
    crowd = [flow(n, peer=(f"10.3.{n // 200}.{1 + n % 200}", 443)) for n in range(1, 1001)]
    look_up = Asked()
    resolver = Resolver(look_up)
    spec = Spec(sort=find("cookie"), falling=False)
    app = app_of(FakeSource([snapshot(0, crowd)]), spec=spec, resolver=resolver, settings=Settings(names=True))
    async with running(app) as pilot:
        assert resolver.wait(PATIENCE_S)
        first = set(look_up.keys)
        await pilot.press("end")
        assert resolver.wait(PATIENCE_S)
    rows = 24 - 3 - 4 - 2
    assert {k for k in first if isinstance(k, bytes)} == {key(f"10.3.0.{1 + n}") for n in range(1, rows + 1)} | {
        key("10.0.0.1")
    }
    assert key("10.3.5.1") in look_up.keys
    assert len({k for k in look_up.keys if isinstance(k, bytes)}) == 2 * rows + 1


# Outputs


def test_a_table_has_names_and_json_has_none() -> None:
    view = make(flows_of(*PEERS), Spec(columns=parse_list("process,peer,rport"), sort=find("cookie"), falling=False))
    named = for_outputs(Resolver(Asked()))(view)
    lines = [line.split() for line in table(named, None).splitlines()[2:-1]]
    assert [line[1:] for line in lines] == [
        ["alpha.example.com:https", "https"],
        ["10.2.0.77:ssh", "ssh"],
        ["six.example.com:4711", "4711"],
        ["[2001:db8::8]:https", "https"],
        ["*:ssh", "-"],
        ["10.2.0.78:4711", "4711"],
    ]
    host = HostDescription("box", "6.12.0")
    assert json_line(named, host, {}) == json_line(view, host, {})


def test_a_table_does_not_wait_for_ever() -> None:
    look_up = Asked()
    look_up.go_on.clear()
    resolver = Resolver(look_up)
    name = for_outputs(resolver)
    view = make(flows_of(*PEERS), Spec(columns=parse_list("peer")))
    for _ in range(2):
        assert "10.2.0.1:443" in table(name(view), None)
    look_up.go_on.set()
    assert resolver.wait(PATIENCE_S)
    assert "alpha.example.com:https" in table(name(view), None)
    resolver.close()


def test_all_keys_are_told_once() -> None:
    flows = flows_of(*PEERS, *PEERS)
    columns = parse_list("peer,rport,process")
    found = all_keys(columns, lambda column: flows.column(column.read).tolist())
    assert len(found) == len(set(found))
    assert set(found) == {443, 22, 4711, *(key(f["peer"][0]) for f in PEERS if f["peer"][1])}


def test_the_option_beats_the_file_and_json_is_not_asked() -> None:
    for argv, said, wanted in (
        ([], False, False),
        ([], True, True),
        (["--names"], False, True),
        (["--no-names"], True, False),
    ):
        assert resolve(read(argv), Settings(names=said)).settings.names is wanted


def test_batch_names_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcptop_ops.dns.resolver.System", Asked)
    view = make(flows_of(PEERS[0]), Spec(columns=parse_list("peer")))
    assert "10.2.0.1:443" in _table_formatter(with_names=False)(view, {})
    assert "alpha.example.com:https" in _table_formatter(with_names=True)(view, {})


async def test_whether_there_are_names_can_be_saved() -> None:
    app = app_of(source(), resolver=Resolver(Asked()))
    async with running(app) as pilot:
        assert app._chosen()["names"] is False
        await pilot.press("n")
        assert app._chosen()["names"] is True
