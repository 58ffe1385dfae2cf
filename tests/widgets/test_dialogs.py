"""The boxes: what shows a connection elsewhere, copied; the question before one is closed, and what becomes of it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.model.enums import State
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import Poller
from tcptop_ops.sources.base import AnnotatedSource
from tcptop_ops.sources.sock_diag import close_connection, sockid
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.screens.dialogs import CommandsDialog, ConfirmDialog
from tests.support.fakes import BOOT_NS, FakeSource, finals, flow, records, snapshot
from tests.support.leftovers import wait_until
from tests.support.running_app import NEVER_S, app_of, running, top_is
from tests.support.screens import next_tick, text_of, until

ONE = flow(1, name=b"one", pid=1001, local=("10.0.0.1", 4000), peer=("10.2.0.14", 5432))
TWO = flow(2, name=b"two", pid=1002, local=("2001:db8::1", 4001), peer=("2001:db8::2", 5432), family=10)
DOOR = flow(3, name=b"door", state=State.LISTEN, local=("0.0.0.0", 80), peer=("0.0.0.0", 0))
PATIENCE_S = 20


def world(tick: int) -> Snapshot:
    return snapshot(tick, [ONE, TWO, DOOR])


def source() -> FakeSource:
    return FakeSource([world(tick) for tick in range(20)])


def app_with(source: FakeSource, **rest: Any) -> TcptopApp:
    return app_of(source, spec=Spec(sort=find("cookie"), falling=False), **rest)


def screen(app: TcptopApp) -> str:
    """All of it, blanks and the frame of a box taken out: a wrapped line is one again."""
    return " ".join(" ".join(text_of(app)).replace("|", " ").split())


# Elsewhere


async def test_the_box_lists_what_can_be_copied() -> None:
    app = app_with(source())
    async with running(app) as pilot:
        await pilot.press("y")
        assert top_is(app, CommandsDialog)
        shown = screen(app)
        assert "one 1001 10.0.0.1:4000 -> 10.2.0.14:5432" in shown
        assert "1 ss ss -tinH 'src 10.0.0.1:4000 and dst 10.2.0.14:5432'" in shown
        assert "2 tcpdump tcpdump -ni any 'tcp and host 10.0.0.1" in shown
        assert "4 the filter alone local = 10.0.0.1:4000 and peer = 10.2.0.14:5432" in shown
        assert "Enter copies, Esc closes" in shown
        assert {len(line) for line in text_of(app)} == {80}
        await pilot.press("escape")
        assert not top_is(app, CommandsDialog)


@pytest.mark.parametrize(
    ("keys", "copied"),
    [
        (("1",), "ss -tinH 'src 10.0.0.1:4000 and dst 10.2.0.14:5432'"),
        (("enter",), "ss -tinH 'src 10.0.0.1:4000 and dst 10.2.0.14:5432'"),
        (("2",), "tcpdump -ni any 'tcp and host 10.0.0.1 and port 4000 and host 10.2.0.14 and port 5432'"),
        (("j", "j", "k", "j", "enter"), "tcptop-ops -f 'local = 10.0.0.1:4000 and peer = 10.2.0.14:5432'"),
        (("3",), "tcptop-ops -f 'local = 10.0.0.1:4000 and peer = 10.2.0.14:5432'"),
        (("1", "4"), "local = 10.0.0.1:4000 and peer = 10.2.0.14:5432"),
    ],
)
async def test_a_number_or_enter_copies(keys: tuple[str, ...], copied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_with(source())
    async with running(app) as pilot:
        assert app._driver is not None
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        await pilot.press("y", *keys)
        assert app.clipboard == copied
        assert f"\x1b]52;c;{base64.b64encode(copied.encode()).decode()}\a" in written
        assert top_is(app, CommandsDialog)
        assert "copied, if the terminal takes OSC 52" in screen(app)


async def test_the_box_of_the_detail_is_of_its_connection() -> None:
    app = app_with(source())
    async with running(app) as pilot:
        await pilot.press("j", "enter", "y")
        assert top_is(app, CommandsDialog)
        assert "ss -tinH 'src [2001:db8::1]:4001 and dst [2001:db8::2]:5432'" in screen(app)
        await pilot.press("y")
        assert not top_is(app, CommandsDialog)


async def test_without_a_row_there_is_no_box() -> None:
    app = app_of(FakeSource([snapshot(0, [])]), allow_close=True)
    async with running(app) as pilot:
        await pilot.press("y", "K")
        assert len(app.screen_stack) == 1


# Closing


async def told(app: TcptopApp, pilot: Pilot[Any], words: str) -> None:
    """Wait until the line of news says so."""
    await until(pilot, lambda: words in " ".join(text_of(app)[2].split()))


@pytest.mark.parametrize("key", ["K", "f9"])
async def test_a_connection_is_closed_after_a_question(key: str) -> None:
    fake = source()
    app = app_with(fake, allow_close=True)
    async with running(app) as pilot:
        await pilot.press("j", key)
        assert top_is(app, ConfirmDialog)
        shown = screen(app)
        assert "two 1002 [2001:db8::1]:4001 -> [2001:db8::2]:5432" in shown
        assert "ESTAB" in shown
        assert "y closes it, any other key does not" in shown
        assert fake.asked_to_close == []
        assert app.newest is not None
        tick = app.newest.flows.tick
        await pilot.press("y")
        await told(app, pilot, "closed: two 1002 [2001:db8::1]:4001 -> [2001:db8::2]:5432")
        assert fake.asked_to_close == [2]
        await until(pilot, lambda: app.newest is not None and app.newest.flows.tick > tick)


@pytest.mark.parametrize("key", ["n", "Y", "escape", "enter", "space", "q", "K", "down"])
async def test_any_other_key_closes_nothing(key: str) -> None:
    fake = source()
    app = app_with(fake, allow_close=True)
    async with running(app) as pilot:
        await pilot.press("K", key)
        assert len(app.screen_stack) == 1
        await next_tick(pilot)
        assert fake.asked_to_close == []
        assert app.is_running


async def test_without_the_option_the_key_says_how_to_get_it() -> None:
    fake = source()
    app = app_with(fake)
    async with running(app) as pilot:
        await pilot.press("K")
        assert len(app.screen_stack) == 1
        assert "--allow-close" in text_of(app)[2]
        await pilot.press("y")
        await next_tick(pilot)
        assert fake.asked_to_close == []


@pytest.mark.parametrize(
    "refusal", [Failed("it is gone already"), Unsupported("there is no helper that could"), Failed("not allowed", "x")]
)
async def test_why_it_was_not_closed_is_told(refusal: TcptopError) -> None:
    fake = source()
    fake.refusal = refusal
    app = app_with(fake, allow_close=True)
    async with running(app) as pilot:
        await pilot.press("K", "y")
        await told(app, pilot, f"not closed: {refusal.message}")
        await next_tick(pilot)


async def test_the_very_connection_is_closed_that_the_question_was_about() -> None:
    """Another one has taken its place in the table meanwhile, and its row of the arrays."""
    fake = FakeSource([world(0), world(1), *(snapshot(tick, [TWO, DOOR, ONE]) for tick in range(2, 20))])
    app = app_with(fake, allow_close=True)
    async with running(app) as pilot:
        await pilot.press("K")
        app.main.change(app.main.state.looking(Spec(sort=find("cookie"), falling=True)))
        await next_tick(pilot)
        await next_tick(pilot)
        await pilot.press("y")
        await told(app, pilot, "closed: one 1001")
        assert fake.asked_to_close == [1]


async def test_a_listener_and_a_closed_one_are_not_asked_about() -> None:
    closed = finals([TWO], BOOT_NS + int(1.5e9))
    fake = FakeSource([world(0), world(1), *(snapshot(2, [ONE, DOOR], closed) for _ in range(2))])
    app = app_with(fake, allow_close=True)
    async with running(app, ticks=3) as pilot:
        await pilot.press("j", "K")
        assert "closed already" in text_of(app)[2]
        await pilot.press("j", "K")
        assert "a listener is no connection" in text_of(app)[2]
        assert len(app.screen_stack) == 1


async def test_a_group_is_not_closed() -> None:
    app = app_of(source(), spec=Spec(group="process"), allow_close=True)
    async with running(app) as pilot:
        await pilot.press("K")
        assert len(app.screen_stack) == 1
        assert "group" in text_of(app)[2]


# The poller and the source


def test_the_poller_closes_between_two_polls_and_tells() -> None:
    fake = source()
    told: list[TcptopError | None] = []
    poller = Poller(fake, Tracker(), lambda flows: None, delay_s=NEVER_S, fail=lambda error: None)
    sockets = records([ONE, TWO])[0]
    poller.start()
    try:
        poller.close_connection(sockets[1], told.append)
        wait_until(lambda: told == [None], PATIENCE_S)
        polls = fake.polls
        fake.refusal = Failed("no")
        poller.close_connection(sockets[0], told.append)
        wait_until(lambda: told == [None, fake.refusal], PATIENCE_S)
        wait_until(lambda: fake.polls > polls, PATIENCE_S)
    finally:
        poller.stop()
    assert fake.asked_to_close == [2, 1]


def test_a_source_that_stands_in_closes_too() -> None:
    fake = source()
    AnnotatedSource(fake, "why").close_connection(records([TWO])[0][0])
    assert fake.asked_to_close == [2]


def test_without_a_helper_nothing_can_be_closed() -> None:
    with pytest.raises(Unsupported, match="no helper") as refused:
        close_connection(None, records([ONE])[0][0])
    assert "root" in refused.value.hint


def test_which_socket_is_meant() -> None:
    """struct inet_diag_sockid, include/uapi/linux/inet_diag.h: an IPv4 address is in the first word."""
    one, two, mapped = records([ONE, TWO, ONE | {"family": 10, "ifindex": 3, "cookie": 0x1122334455667788}])[0]
    assert len(sockid(one)) == 48
    assert sockid(one)[:20] == bytes([0x0F, 0xA0, 0x15, 0x38, 10, 0, 0, 1]) + b"\0" * 12
    assert sockid(one)[20:36] == bytes([10, 2, 0, 14]) + b"\0" * 12
    assert sockid(two)[4:20] == two["laddr"].tobytes()
    assert sockid(mapped)[20:36] == mapped["raddr"].tobytes()
    assert np.frombuffer(sockid(mapped)[36:], "u4").tolist() == [3, 0x55667788, 0x11223344]
