"""Groups on the screen: the menu, folding, what is told of the selected group, and the command line."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import OptionList

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.cli.arguments import parse, read, resolve
from tcptop_ops.config.settings import Settings
from tcptop_ops.errors import Usage
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.group_keys import GROUP_KEYS
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.panels.selection import SelectionPanel
from tcptop_ops.widgets.screens.connection_detail import DetailScreen
from tcptop_ops.widgets.screens.group_menu import GroupMenu
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.running_app import app_of, running, top_is
from tests.support.screens import next_tick, text_of


def world(tick: int) -> Snapshot:
    """Three workers of nginx, of which one loses; two clients to one address; a listener."""
    flows = [
        flow(
            cookie,
            name=b"nginx",
            pid=1000 + cookie,
            peer=(f"10.2.0.{cookie}", 50_000),
            local=("10.0.0.1", 443),
            direction=Direction.IN,
            retrans_segs=25 * tick if cookie == 2 else 0,
            data_segs_out=500 * tick,
            bytes_acked=1_000_000 * tick,
        )
        for cookie in (1, 2, 3)
    ]
    clients = [flow(c, name=b"curl", pid=2000, peer=("192.0.2.1", 80), data_segs_out=50 * tick) for c in (4, 5)]
    listener = flow(
        9,
        name=b"nginx",
        pid=1000,
        state=State.LISTEN,
        direction=Direction.LISTEN,
        local=("0.0.0.0", 443),
        peer=("0.0.0.0", 0),
        recv_q=3,
        send_q=511,
    )
    return snapshot(tick, [*flows, *clients, listener])


def grouped_app(key: str = "process", **rest: Any) -> TcptopApp:
    return app_of(FakeSource([world(tick) for tick in range(10)]), spec=Spec(group=key, **rest))


def rows(app: TcptopApp) -> list[str]:
    """The table's rows: marks, and the cell of the group or of what is in it."""
    table = app.screen_stack[0].query_one(ConnectionTable)
    shown = [table.render_line(y).text for y in range(1, table.size.height)]
    return [" ".join(line[:26].split()) for line in shown if line.strip()]


def story(app: TcptopApp) -> list[str]:
    lines = app.screen_stack[0].query_one(SelectionPanel).lines
    return ["".join(span.text for span in line).rstrip() for line in lines]


async def chosen(pilot: Any, key: str) -> None:
    """By the menu."""
    await pilot.press("g")
    menu = pilot.app.screen.query_one(OptionList)
    menu.highlighted = ["none", *GROUP_KEYS].index(key)
    await pilot.press("enter")
    await pilot.pause()


# The menu


@pytest.mark.parametrize("key", ["g", "f5"])
async def test_the_menu_groups_at_once_and_begins_at_what_is_in_force(key: str) -> None:
    app = grouped_app("none")
    async with running(app) as pilot:
        assert len(rows(app)) == 6
        await pilot.press(key)
        assert top_is(app, GroupMenu)
        menu = app.screen.query_one(OptionList)
        assert (menu.option_count, menu.highlighted) == (len(GROUP_KEYS) + 1, 0)
        await pilot.press("j", "enter")
        assert rows(app) == [">![+] nginx 4", "[+] curl 2"]
        await pilot.press("g", "k", "enter")
        assert len(rows(app)) == 6
        assert "BY" not in text_of(app)[3]


@pytest.mark.parametrize("key", ["escape", "q", "g", "f5"])
async def test_the_menu_can_be_left_without_a_choice(key: str) -> None:
    app = grouped_app()
    async with running(app) as pilot:
        await pilot.press("g", "j", key)
        assert not top_is(app, GroupMenu)
        assert rows(app) == [">![+] nginx 4", "[+] curl 2"]


GROUPS_OF_WORLD = {
    "process": [">![+] nginx 4", "[+] curl 2"],
    "command": [">![+] (not known) 6"],
    "remote": [">![+] 10.2.0.2 1", "[+] (listeners) 1", "[+] 10.2.0.1 1", "[+] 10.2.0.3 1", "[+] 192.0.2.1 2"],
    "remote-net": [">![+] 10.2.0.0/24 3", "[+] (listeners) 1", "[+] 192.0.2.0/24 2"],
    "local-port": [">![+] :443 4", "[+] -> :80 2"],
    "cgroup": [">![+] (not known) 6"],
    "state": [">![+] ESTAB 5", "[+] LISTEN 1"],
}


@pytest.mark.parametrize("key", GROUP_KEYS)
async def test_every_key_has_its_groups(key: str) -> None:
    app = grouped_app("none")
    async with running(app) as pilot:
        await chosen(pilot, key)
        assert rows(app) == GROUPS_OF_WORLD[key]
        assert text_of(app)[3].startswith(f"  BY {key.upper()} ")
        assert story(app)[0].endswith(f", by SCR, grouped by {key} --")


# Folding


async def test_enter_unfolds_a_group_and_folds_it_again_and_opens_a_connection() -> None:
    app = grouped_app()
    async with running(app) as pilot:
        await pilot.press("enter")
        unfolded = [">![-] nginx 4", "! pid 1002", "pid 1001", "pid 1003", "pid 1000", "[+] curl 2"]
        assert rows(app) == unfolded
        await next_tick(pilot)
        assert rows(app) == unfolded
        await pilot.press("j", "enter")
        assert top_is(app, DetailScreen)
        assert "nginx 1002" in text_of(app)[0]
        await pilot.press("escape", "k", "enter")
        assert rows(app) == [">![+] nginx 4", "[+] curl 2"]


async def test_arrows_fold_too_and_another_key_folds_all() -> None:
    app = grouped_app()
    async with running(app) as pilot:
        await pilot.press("down", "right")
        assert rows(app) == ["![+] nginx 4", "> [-] curl 2", "pid 2000", "pid 2000"]
        await pilot.press("down", "left")
        assert rows(app)[1] == "> [-] curl 2"
        await pilot.press("left")
        assert rows(app) == ["![+] nginx 4", "> [+] curl 2"]
        await pilot.press("right")
        await chosen(pilot, "state")
        assert all("[-]" not in row for row in rows(app))


async def test_the_cursor_stays_on_the_group_that_was_unfolded_when_others_become_worse() -> None:
    app = grouped_app(sort=find("connections"), falling=False)
    async with running(app) as pilot:
        assert rows(app)[0] == "> [+] curl 2"
        await pilot.press("enter")
        await pilot.press("r")
        assert rows(app) == ["![+] nginx 4", "> [-] curl 2", "pid 2000", "pid 2000"]


async def test_the_cursor_goes_to_the_group_of_its_connection() -> None:
    app = grouped_app("none")
    async with running(app) as pilot:
        await pilot.press("end", "up")
        assert "curl" in story(app)[1]
        await chosen(pilot, "process")
        assert rows(app) == ["![+] nginx 4", "> [+] curl 2"]
        await chosen(pilot, "none")
        assert "curl" in story(app)[1]


async def test_following_the_worst_goes_into_unfolded_groups() -> None:
    app = grouped_app()
    async with running(app) as pilot:
        await pilot.press("F")
        assert rows(app)[0].startswith(">")
        await pilot.press("enter", "F")
        assert rows(app)[1] == ">! pid 1002"


# What is told


async def test_the_story_of_a_group() -> None:
    app = grouped_app()
    async with running(app) as pilot:
        assert story(app)[0].endswith("- 1 of 2, by SCR, grouped by process --")
        assert story(app)[1:3] == [
            "nginx  3 connections  1 listener  3 remote addresses",
            "1 of 4 bad: 1 loss; the worst: nginx -> 10.2.0.2:50000",
        ]
        assert story(app)[3].startswith("queues 3 of 511  SYN-RECV 0  srtt 30ms mean  retr 25 of 25  share 1.7%")
        await pilot.press("down")
        assert story(app)[1:3] == ["curl  2 connections  1 remote address", "healthy: none of the 2 is bad"]


async def test_the_story_of_a_group_of_listeners_has_no_figures_of_connections() -> None:
    app = grouped_app("state")
    async with running(app) as pilot:
        await pilot.press("end")
        assert story(app)[1:] == [
            "LISTEN  1 listener  1 process",
            "healthy: nothing bad here",
            "queues 3 of 511  SYN-RECV 0",
        ]


async def test_a_tall_story_lists_the_worst_and_a_low_one_only_says_who() -> None:
    app = grouped_app("state")
    async with running(app, (100, 40)) as pilot:
        assert story(app)[-1] == " 52 loss  nginx -> 10.2.0.2:50000  retr 25"
        for size in ((40, 10), (60, 15), (80, 19), (160, 50)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            lines = text_of(app)
            assert (len(lines[0]), len(lines)) == size
            assert "ESTAB  5 connections" in " ".join(story(app))


async def test_the_filter_counts_connections() -> None:
    app = grouped_app()
    async with running(app) as pilot:
        await pilot.press("slash", *"nginx", "enter")
        assert rows(app) == [">![+] nginx 4"]
        assert "4 of 6" in story(app)[0]


# Keys that are about one connection


@pytest.mark.parametrize(
    ("key", "pressed", "filter"),
    [
        ("process", "p", "process = nginx"),
        ("process", "a", None),
        ("remote-net", "a", "raddr = 10.2.0.0/24"),
        ("remote", "a", "raddr = 10.2.0.2"),
        ("remote", "p", "pid = 1002"),
        ("remote-net", "p", None),
        ("state", "p", None),
    ],
)
async def test_p_and_a_narrow_to_what_a_group_has_in_common(key: str, pressed: str, filter: str | None) -> None:
    app = grouped_app(key)
    async with running(app) as pilot:
        await pilot.press(pressed)
        assert app.shown is not None
        wanted = app.shown.spec.filter
        assert (wanted.text if wanted else None) == filter
        assert ("in common" in text_of(app)[2]) == (filter is None)


async def test_a_group_of_clients_has_a_process_and_a_remote_address() -> None:
    app = grouped_app("local-port")
    async with running(app) as pilot:
        await pilot.press("end", "a", "p")
        assert app.shown is not None
        assert app.shown.spec.filter is not None
        assert app.shown.spec.filter.text == "raddr = 192.0.2.1 and pid = 2000"


@pytest.mark.parametrize("key", ["y", "K"])
async def test_a_group_is_no_connection(key: str) -> None:
    app = grouped_app()
    async with running(app) as pilot:
        before = len(app.screen_stack)
        await pilot.press(key)
        assert len(app.screen_stack) == before
        assert "a group is no connection" in text_of(app)[2]


async def test_every_other_key_is_harmless_on_a_group() -> None:
    app = grouped_app("remote-net")
    async with running(app, (120, 40)) as pilot:
        for key in (
            "m",
            "f",
            "f",
            "x",
            "r",
            "c",
            "L",
            "n",
            "n",
            "i",
            "space",
            "space",
            "m",
            "T",
            "greater_than_sign",
            "1",
            "9",
        ):
            await pilot.press(key)
            await pilot.pause()
        assert app.return_code is None
        await next_tick(pilot)
        assert any("10.2.0.0/24" in row for row in rows(app))


async def test_the_picture_of_groups_stands_still_while_paused() -> None:
    app = grouped_app()
    async with running(app) as pilot:
        await pilot.press("space")
        before = rows(app), story(app)
        await next_tick(pilot)
        await pilot.press("enter", "enter")
        assert (rows(app), story(app)) == before


# The command line


def test_the_option() -> None:
    for argv in (["-g", "remote-net"], ["--group", "remote-net"], ["-b", "--group=remote-net"]):
        found = parse(argv)
        assert found is not None
        assert found.group == "remote-net"
    found = parse([])
    assert found is not None
    assert found.group == "none"


@pytest.mark.parametrize("argv", [["-g", "proces"], ["-g"], ["--group="]])
def test_a_wrong_word(argv: list[str]) -> None:
    with pytest.raises(Usage) as refused:
        parse(argv)
    assert "--group" in refused.value.message


@pytest.mark.parametrize(
    ("argv", "group"),
    [
        ([], "cgroup"),
        (["-g", "none"], "none"),
        (["--batch"], "none"),
        (["--batch", "-g", "state"], "state"),
        (["--json"], "none"),
        (["--json", "-g", "state"], "none"),
    ],
)
def test_the_file_s_groups_are_the_screen_s_alone_and_json_has_none(argv: list[str], group: str) -> None:
    assert resolve(read(argv), Settings(group="cgroup")).group == group
